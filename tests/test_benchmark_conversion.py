"""Every benchmark, from a small file of its exact schema to rows: each trap of the upstream data is met once."""

import csv
import json
import zipfile
from pathlib import Path

import pytest
from benchmark_rows import picture, prepared, upstream

from dmlr.benchmarks.command import main
from dmlr.benchmarks.rationale import answer_in_rationale, split_steps


def test_scienceqa_keeps_gold_zero_and_context(tmp_path: Path) -> None:
    first, second = prepared(
        tmp_path,
        "scienceqa",
        [
            upstream(
                "scienceqa", answer=0, hint="Look at the beak.", choices=["a heron, grey", "an owl", "B. no"]
            ),
            upstream("scienceqa", answer=2, choices=["Berlin", "A town", "Bern"], subject="social science"),
        ],
    )
    assert first["prompt"] == (
        "Context: Look at the beak.\nWhich thing is shown?\n\nOptions:\nA. a heron, grey\nB. an owl\nC. B. no"
    )
    assert (first["solution"], first["answer_letter"], first["answer_text"]) == (
        "A. a heron, grey",
        "A",
        "a heron, grey",
    )
    assert second["prompt"] == "Which thing is shown?\n\nOptions:\nA. Berlin\nB. A town\nC. Bern"
    assert (second["solution"], second["subject"]) == ("C. Bern", "social science")
    assert [row["idx"] for row in (first, second)] == [0, 1]
    assert [row["id"] for row in (first, second)] == ["test-0", "test-1"]
    assert second["source"] == {
        "revision": None,
        "repo": "local",
        "config": "test-00000-of-00001.parquet",
        "split": "test",
    }


def test_scienceqa_training_split_has_steps(tmp_path: Path) -> None:
    rows = [
        upstream(
            "scienceqa", answer=0, lecture="Herons wade. Owls hunt at night.", solution="The bird is a heron."
        ),
        upstream("scienceqa", answer=0, solution="This is not a heron but an owl."),
        upstream("scienceqa", answer=1),
    ]
    agrees, disagrees, empty = prepared(tmp_path, "scienceqa", rows, split="train")
    assert agrees["steps"] == ["Herons wade.", "Owls hunt at night.", "The bird is a heron."]
    assert (agrees["rationale_agrees"], disagrees["rationale_agrees"], empty["rationale_agrees"]) == (
        True,
        False,
        False,
    )
    assert empty["steps"] == []


def test_mathvista_finds_the_letter_by_the_whole_text(tmp_path: Path) -> None:
    def options(answer: str, choices: list[str]) -> dict[str, object]:
        fields = {
            "question_type": "multi_choice",
            "answer_type": "text",
            "answer": answer,
            "choices": choices,
        }
        return upstream(
            "mathvista", pid=answer, query=f"Hint: letter.\nQuestion: {answer}?\r\nAgain?", **fields
        )

    rows = prepared(
        tmp_path,
        "mathvista",
        [
            options("decrease", ["decrease", "increase", "stay", "double"]),
            options("18", ["9", "12", "18", "18"]),
            upstream(
                "mathvista", pid="3", query="q3", answer="1.2", answer_type="float", precision=1.0, unit="g"
            ),
            upstream("mathvista", pid="4", query="q4", answer="0"),
            upstream("mathvista", pid="5", query="q5", answer="[2014, 2016]", answer_type="list"),
        ],
    )
    assert [row["solution"] for row in rows] == [
        "A. decrease",
        "C. 18",
        "\\boxed{1.2}",
        "\\boxed{0}",
        "\\boxed{[2014, 2016]}",
    ]
    assert rows[0]["prompt"] == "Hint: letter.\nQuestion: decrease?\r\nAgain?"
    assert (rows[2]["precision"], rows[2]["unit"]) == (1, "g")
    assert isinstance(rows[2]["precision"], int)
    assert [row["answer_type"] for row in rows] == ["choice", "choice", "float", "integer", "list"]


def test_mathvision_keeps_option_lists_whole(tmp_path: Path) -> None:
    rows = prepared(
        tmp_path,
        "mathvision",
        [
            upstream(
                "mathvision",
                id="9",
                question="Which point?\\n<image1>\\nIf $a \\neq b$ and $\\nu > 0$.",
                options=["(-6, 0)", "(-4, 0)", "B", "1, 2 and 9", "none"],
                answer="D",
            ),
            upstream("mathvision", id="10", question="Which one?", options=list("ABCDE"), answer="B"),
            upstream("mathvision", id="11", question="Angle?", answer="69{degrees}"),
            upstream("mathvision", id="12", question="Area?", answer="$\\boxed{\\frac{16}{7}}$"),
            upstream("mathvision", id="13", question="Ratio?", answer="\x0crac{36}{13}"),
            upstream("mathvision", id="14", question="How many?", answer="11 "),
            upstream("mathvision", id="15", question="Value?", answer="8.0"),
            upstream("mathvision", id="16", question="Which letter?", answer="C"),
        ],
    )
    assert rows[0]["prompt"] == (
        "Which point?\n<image1>\nIf $a \\neq b$ and $\\nu > 0$."
        "\n\nOptions:\nA. (-6, 0)\nB. (-4, 0)\nC. B\nD. 1, 2 and 9\nE. none"
    )
    assert rows[0]["solution"] == "D. 1, 2 and 9"
    assert (rows[1]["prompt"], rows[1]["choices"], rows[1]["solution"]) == (
        "Which one?",
        list("ABCDE"),
        "B. B",
    )
    assert [row["solution"] for row in rows[2:]] == [
        "\\boxed{69}",
        "$\\boxed{\\frac{16}{7}}$",
        "\\boxed{\\frac{36}{13}}",
        "\\boxed{11}",
        "\\boxed{8.0}",
        "\\boxed{C}",
    ]
    assert (rows[2]["unit"], rows[3]["answer_text"]) == ("degrees", "\\frac{16}{7}")
    assert [row["answer_type"] for row in rows[2:]] == ["integer", "free", "free", "integer", "float", "free"]


def write_mm_math(folder: Path, lines: list[dict[str, object]]) -> None:
    folder.mkdir(parents=True)
    (folder / "MM_Math.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    with zipfile.ZipFile(folder / "MM_Math.zip", "w") as archive:
        archive.writestr("__MACOSX/MM_Math/._1.png", b"not a picture")
        for number in (1, 2):
            archive.writestr(f"MM_Math/{number}.png", picture(number))


def test_mm_math_reads_every_box_and_the_archive(tmp_path: Path) -> None:
    def line(name: str, solution: str) -> dict[str, object]:
        fields = {
            "year": "eight",
            "difficult": "easy",
            "knowledge": {"level_1": "Shapes", "level_2": "Angles"},
        }
        return {"question": "In the figure, find $x$.", "file_name": name, "solution": solution, **fields}

    write_mm_math(
        tmp_path / "raw" / "MM_Math",
        [
            line("1.png", "Since $a=b$, $x=5$ or $x=7$. So \\boxed{5} or \\boxed{7}."),
            line("2.png", "Hence \\boxed{\\frac{1}{2}}."),
            line("2.png", "So \\boxed{1<x<3}."),
            line("1.png", "No box at all."),
        ],
    )
    flags = ["mm_math", "--from", str(tmp_path / "raw"), "--out", str(tmp_path / "data"), "--skip_bad_rows"]
    assert main(flags) == 0
    rows = json.loads((tmp_path / "data/mm_math.json").read_text())
    assert [row["solution"] for row in rows] == ["\\boxed{5,7}", "\\boxed{\\frac{1}{2}}", "\\boxed{1<x<3}"]
    assert [row["answer_type"] for row in rows] == ["list", "free", "interval"]
    assert rows[0]["rationale"].endswith("\\boxed{7}.")
    assert rows[0]["difficult"] == "easy"
    assert (tmp_path / "data" / rows[0]["image_path"]).read_bytes() == picture(1)
    assert rows[1]["image_path"] == rows[2]["image_path"]


def test_hallusion_reads_golds_as_strings(tmp_path: Path) -> None:
    rows = prepared(
        tmp_path,
        "hallusion",
        [
            upstream("hallusion", gt_answer="0"),
            upstream(
                "hallusion", gt_answer="1", question_id="1", question="Taller? Please answer yes or no."
            ),
            upstream("hallusion", gt_answer="1", figure_id="2", visual_input="2"),
        ],
    )
    assert [row["solution"] for row in rows] == ["\\boxed{No}", "\\boxed{Yes}", "\\boxed{Yes}"]
    assert rows[0]["prompt"] == "Is the first bar the tallest?\nAnswer yes or no."
    assert rows[1]["prompt"] == "Taller? Please answer yes or no."
    assert [row["group"] for row in rows] == ["VS_chart_0_q0", "VS_chart_0_q1", "VS_chart_0_q0"]
    assert [row["figure_group"] for row in rows] == ["VS_chart_0_f1", "VS_chart_0_f1", "VS_chart_0_f2"]
    assert rows[0]["id"] == "VS-chart-0-1-0"


def test_hallusion_text_questions_need_no_image(tmp_path: Path) -> None:
    rows = prepared(
        tmp_path,
        "hallusion",
        [upstream("hallusion", gt_answer="0", visual_input="0", image=None)],
        split="non_image",
    )
    assert rows[0]["image_path"] is None


def test_mmstar_walks_both_option_styles(tmp_path: Path) -> None:
    questions = [
        "Who is it?\nOptions: A: A man, tall, B: A couple, C: nan, D: B, maybe",
        "Hint: letter.\nQuestion: Let C. be a point.\nChoices:\n(A) 50, (B) too\n(B) 6, 5\n(C) 7",
        "Hint: letter.\nQuestion: No header.\n(A) one\n(B) two",
        "Which code?\nOptions: A: x = 1\\nprint(x), B: y = 2\\nprint(y)\n",
        "Solve_x000D_\nit.\nOptions: A: nan, B: 2",
    ]
    rows = prepared(
        tmp_path,
        "mmstar",
        [upstream("mmstar", index=i, question=text, answer="AABBA"[i]) for i, text in enumerate(questions)],
    )
    assert [row["choices"] for row in rows] == [
        ["A man, tall", "A couple", "nan", "B, maybe"],
        ["50, (B) too", "6, 5", "7"],
        ["one", "two"],
        ["x = 1\\nprint(x)", "y = 2\\nprint(y)"],
        ["nan", "2"],
    ]
    assert [row["solution"] for row in rows] == [
        "A. A man, tall",
        "A. 50, (B) too",
        "B. two",
        "B. y = 2\\nprint(y)",
        "A. nan",
    ]
    assert rows[0]["prompt"] == questions[0]
    assert rows[4]["prompt"] == "Solve\nit.\nOptions: A: nan, B: 2"


def mmvp_rows() -> list[dict[str, object]]:
    def row(index: int, question: str, options: str, gold: str) -> dict[str, object]:
        fields = {"Index": index, "Question": question, "Options": options, "Correct Answer": gold}
        return {**fields, "image": {"bytes": picture(index), "path": None}}

    return [
        row(1, "Is the cup(s) full or empty?", "(a) Full, (a bit) (b) Empty", "(a)"),
        row(2, "Is the cup(s) full or empty?", "(a) Full, (a bit) (b) Empty", "(b)"),
        row(99, "Are the tusks of the elephant long?", "(a) Long (b) Short", "(a)"),
        row(100, "Are the tusks of the elephant long?", "(a) Long (b) Short", "(b)"),
        row(279, "Some other question?", "(a) Yes (b) No", "(a)"),
        row(280, "Some other question?", "(a) Yes (b) No", "(b)"),
    ]


@pytest.mark.parametrize(("labels", "disputed"), [("original", ["A", "B"]), ("corrected", ["B", "A"])])
def test_mmvp_pairs_and_disputed_labels(tmp_path: Path, labels: str, disputed: list[str]) -> None:
    rows = prepared(tmp_path, "mmvp", mmvp_rows(), "--mmvp_labels", labels)
    assert rows[0]["choices"] == ["Full, (a bit)", "Empty"]
    assert rows[0]["solution"] == "A. Full, (a bit)"
    assert rows[0]["prompt"] == "Is the cup(s) full or empty?\nOptions: (a) Full, (a bit) (b) Empty"
    assert [row["group"] for row in rows] == ["1", "1", "50", "50", "140", "140"]
    assert [row["answer_letter"] for row in rows[2:4]] == disputed
    assert [row["answer_letter"] for row in rows[4:]] == ["A", "B"], (
        "another question under a disputed number"
    )


def test_mmvp_original_files_are_joined_by_index(tmp_path: Path) -> None:
    folder = tmp_path / "raw"
    (folder / "MMVP Images").mkdir(parents=True)
    rows = mmvp_rows()[:2]
    rows[1]["Index"] = 10
    with (folder / "Questions.csv").open("w", newline="") as file:
        writer = csv.DictWriter(
            file, ["Index", "Question", "Options", "Correct Answer"], extrasaction="ignore"
        )
        writer.writeheader()
        writer.writerows(reversed(rows))
    for index in (1, 10):
        (folder / f"MMVP Images/{index}.jpg").write_bytes(picture(index, format="JPEG"))
    assert main(["mmvp", "--from", str(folder), "--out", str(tmp_path / "data")]) == 0
    by_id = {row["id"]: row for row in json.loads((tmp_path / "data/mmvp.json").read_text())}
    for index, letter in ((1, "A"), (10, "B")):
        assert by_id[str(index)]["answer_letter"] == letter
        image = tmp_path / "data" / by_id[str(index)]["image_path"]
        assert image.read_bytes() == picture(index, format="JPEG")


def test_m3cot_context_letters_and_rationale(tmp_path: Path) -> None:
    rows = prepared(
        tmp_path,
        "m3cot",
        [
            upstream(
                "m3cot",
                id="mathematics-1",
                choices=["option B in the image", "option A in the image", "Not sure"],
                context="A food web.",
                answer="B",
                rationale="Arrows show food.\nSo it is (B).",
            ),
            upstream(
                "m3cot", id="science-2", answer="A", rationale="The mouse eats corn. So the mouse hunts."
            ),
        ],
    )
    assert rows[0]["prompt"] == (
        "Context: A food web.\nWhich animal hunts?\n\nOptions:\n"
        "A. option B in the image\nB. option A in the image\nC. Not sure"
    )
    assert rows[0]["solution"] == "B. option A in the image"
    assert rows[0]["steps"] == ["Arrows show food.", "So it is (B)."]
    assert [row["rationale_agrees"] for row in rows] == [True, False]
    assert [row["id"] for row in rows] == ["mathematics-1", "science-2"]


def test_pope_repeated_question_ids_and_pictures(tmp_path: Path) -> None:
    same = {"bytes": picture(7), "path": None}
    rows = prepared(
        tmp_path,
        "pope",
        [
            upstream("pope", question_id="1", answer="yes", category=name, image_source="COCO_7", image=same)
            for name in ("random", "popular")
        ]
        + [upstream("pope", question_id="2", answer="no", image_source="COCO_8")],
    )
    assert [row["id"] for row in rows] == ["random-1", "popular-1", "random-2"]
    assert [row["solution"] for row in rows] == ["\\boxed{Yes}", "\\boxed{Yes}", "\\boxed{No}"]
    assert rows[0]["image_path"] == rows[1]["image_path"] == "pope/test/COCO_7.png"
    assert rows[0]["prompt"] == "Is there a kite in the image?\nAnswer yes or no."


def mmbench_rows() -> list[dict[str, object]]:
    two = {"C": "nan", "D": None}
    return [
        upstream("mmbench", index=5, answer="A", A="a kite", B="a ball, red", hint="He plays.", **two),
        upstream("mmbench", index=6, answer="D", A="one", B="two", C="three", D="four"),
        upstream(
            "mmbench", index=1_000_005, answer="B", A="a ball, red", B="a kite", hint="He plays.", **two
        ),
    ]


def test_mmbench_missing_values_and_rotations(tmp_path: Path) -> None:
    rows = prepared(tmp_path, "mmbench", mmbench_rows())
    assert rows[0]["prompt"] == (
        "Context: He plays.\nWhat does the boy hold?\n\nOptions:\nA. a kite\nB. a ball, red"
    )
    assert rows[1]["prompt"].startswith("What does the boy hold?\n\nOptions:\nA. one")
    assert [row["choices"] for row in rows][::2] == [["a kite", "a ball, red"], ["a ball, red", "a kite"]]
    assert [(row["group"], row["rotation"]) for row in rows] == [("5", 0), ("6", 0), ("5", 1)]
    base = prepared(tmp_path, "mmbench", mmbench_rows(), "--base_only")
    assert [row["id"] for row in base] == ["5", "6"]


def test_mmbench_table_file_refers_to_the_picture_of_the_base_row(tmp_path: Path) -> None:
    import base64

    names = ["index", "question", "hint", "answer", "A", "B", "C", "D", "category", "L2-category", "image"]
    folder = tmp_path / "raw"
    folder.mkdir()
    with (folder / "MMBench_DEV_EN.tsv").open("w", newline="") as file:
        writer = csv.DictWriter(file, names, delimiter="\t", extrasaction="ignore")
        writer.writeheader()
        for row in mmbench_rows():
            whole = base64.b64encode(picture(int(str(row["index"])) % 100)).decode()
            writer.writerow({**row, "image": "5" if row["index"] == 1_000_005 else whole})
    assert main(["mmbench", "--from", str(folder), "--out", str(tmp_path / "data")]) == 0
    rows = json.loads((tmp_path / "data/mmbench.json").read_text())
    assert rows[2]["image_path"] == rows[0]["image_path"]
    assert (tmp_path / "data" / rows[0]["image_path"]).read_bytes() == picture(5)


def test_the_authors_own_files_outside_of_parquet(tmp_path: Path) -> None:
    """MathVista as an object of rows with an archive, MATH-Vision as lines, HallusionBench with both of its splits."""
    vista = upstream("mathvista", pid="1", query="q", answer="4") | {"decoded_image": None}
    (tmp_path / "mathvista").mkdir()
    (tmp_path / "mathvista/annot_testmini.json").write_text(json.dumps({"1": vista}))
    with zipfile.ZipFile(tmp_path / "mathvista/images.zip", "w") as archive:
        archive.writestr("images/1.jpg", picture(1))
    vision = upstream("mathvision", id="1", question="q", answer="4") | {"decoded_image": None}
    (tmp_path / "mathvision/images").mkdir(parents=True)
    (tmp_path / "mathvision/test.jsonl").write_text(json.dumps(vision))
    (tmp_path / "mathvision/images/1.jpg").write_bytes(picture(1))
    figures = [
        upstream("hallusion", gt_answer="1", subcategory=kind, filename=f"./VS/{kind}/0_1.png")
        | {"image": None}
        for kind in ("chart", "map")
    ]
    figures.append({**figures[0], "visual_input": "0", "figure_id": "0", "filename": None})
    (tmp_path / "hallusion").mkdir()
    (tmp_path / "hallusion/HallusionBench.json").write_text(json.dumps(figures))
    with zipfile.ZipFile(tmp_path / "hallusion/hallusion_bench.zip", "w") as archive:
        archive.writestr("hallusion_bench/VS/map/0_1.png", picture(3))
        archive.writestr("hallusion_bench/VS/chart/0_1.png", picture(1))
    for name in ("mathvista", "mathvision", "hallusion"):
        assert main([name, "--from", str(tmp_path / name), "--out", str(tmp_path / "data")]) == 0
        rows = json.loads((tmp_path / f"data/{name}.json").read_text())
        assert (tmp_path / "data" / rows[0]["image_path"]).read_bytes() == picture(1)
    assert [(tmp_path / "data" / row["image_path"]).read_bytes() for row in rows] == [picture(1), picture(3)]


def test_steps_end_at_sentences() -> None:
    text = "1. A rate, e.g. 3.5 km, is given. Dr. Ito walks.\n\nSo (B) is right! It is 2.5."
    assert split_steps(text) == [
        "1. A rate, e.g. 3.5 km, is given.",
        "Dr. Ito walks.",
        "So (B) is right!",
        "It is 2.5.",
    ]


@pytest.mark.parametrize(
    ("rationale", "letter"),
    [
        ("It may be (A), but (C) fits.", "C"),
        ("The answer is B.", "B"),
        ("The answer is a northeast wind.", "B"),
        ("Not the north wind.", "A"),
        ("A wind blows.", None),
        ("", None),
    ],
)
def test_the_option_that_a_rationale_ends_on(rationale: str, letter: str | None) -> None:
    assert answer_in_rationale(rationale, ["north", "northeast", "calm"]) == letter
