"""Files in the form of the published repository: sound golds kept, provable ones repaired, the others reported."""

import json
from pathlib import Path
from typing import Any

import pytest
from benchmark_rows import picture

from dmlr.benchmarks.command import main
from dmlr.benchmarks.published import is_published, join_cut_options, published_rows
from dmlr.errors import UserError


def migrate(
    tmp_path: Path, name: str, file: str, rows: list[tuple[str, str, str]], *flags: str
) -> list[dict[str, Any]]:
    """Lay out a repository (data/FILE.json and its pictures), prepare from it, return the rows."""
    for number, (_, _, image) in enumerate(rows):
        path = tmp_path / "repo" / image
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(picture(number))
    data = tmp_path / "repo/data"
    data.mkdir(exist_ok=True)
    content = [
        {"prompt": prompt, "solution": solution, "image_path": image, "idx": i}
        for i, (prompt, solution, image) in enumerate(rows)
    ]
    (data / f"{file}.json").write_text(json.dumps(content))
    assert main([name, "--from", str(data), "--out", str(tmp_path / "out"), *flags]) == 0
    return json.loads((tmp_path / f"out/{name}.json").read_text())


SCIENCE = "Which is it?\n\nOptions:\nA. iron\nB. a ball, red"


def test_scienceqa_golds_are_kept_and_empty_ones_reported(tmp_path: Path) -> None:
    rows = [(SCIENCE, "B. a ball, red", "dataset/x/1.png"), (SCIENCE, "", "dataset/x/2.png")]
    with pytest.raises(UserError, match=r"gold is empty in the published file.*test-1"):
        migrate(tmp_path, "scienceqa", "scienceqa", rows)
    (row,) = migrate(tmp_path, "scienceqa", "scienceqa", rows, "--skip_bad_rows")
    assert (row["prompt"], row["solution"]) == (SCIENCE, "B. a ball, red")
    assert (tmp_path / "out" / row["image_path"]).read_bytes() == picture(0)


def test_mathvista_types_are_read_from_the_hint(tmp_path: Path) -> None:
    letter = "Hint: Give the correct option letter.\nQuestion: q\nChoices:\n(A) increase\n(B) decrease"
    one = "Hint: Answer with a floating-point number with one decimal place.\nQuestion: How heavy? (Unit: kg)"
    rows = [
        (letter, "B. decrease", "images/1.jpg"),
        (one, "1.5", "images/2.jpg"),
        ("Hint: an integer answer.\nQuestion: q", "4", "images/3.jpg"),
        ("Hint: a Python list.\nQuestion: q", "[1, 2]", "images/4.jpg"),
        (letter, "A. increase", "images/15.jpg"),
    ]
    with pytest.raises(UserError, match=r"another option than the authors.*id 15"):
        migrate(tmp_path, "mathvista", "math_vista", rows)
    done = migrate(tmp_path, "mathvista", "math_vista", rows, "--skip_bad_rows")
    assert [row["solution"] for row in done] == [
        "B. decrease",
        "\\boxed{1.5}",
        "\\boxed{4}",
        "\\boxed{[1, 2]}",
    ]
    assert [row["answer_type"] for row in done] == ["choice", "float", "integer", "list"]
    assert (done[1]["precision"], done[1]["unit"], done[1]["prompt"]) == (1, "kg", one)


def test_mathvision_repairs_texts_and_bracketed_options(tmp_path: Path) -> None:
    head = "Solve it in \\boxed{your answer}.\\n Question: "
    rows = [
        (f"{head}Which?\\n Options: A. 1, B. 2, C. 3, D. 4, E. $5, 6$", "\\boxed{E}", "i/7.png"),
        (
            f"{head}Where?\\n Options: A. (-6, B. 0), C. (-4, D. 0), E. (2, F. 0), G. (4, H. 0), I. (6, J. 0)",
            "B. 0)",
            "i/8.png",
        ),
        (f"{head}How many?", "\\boxed{12}", "i/9.png"),
        (f"{head}Price?\\n Options: A. 1, B. 30, C. 1, D. 35, E. 2, F. 50", "C. 1", "i/10.png"),
    ]
    with pytest.raises(UserError, match=r"cannot be put together again \(id 10\)"):
        migrate(tmp_path, "mathvision", "math_vision", rows)
    done = migrate(tmp_path, "mathvision", "math_vision", rows, "--skip_bad_rows")
    assert [row["solution"] for row in done] == ["E. $5, 6$", "B. (-4,0)", "\\boxed{12}"]
    assert done[2]["prompt"] == "How many?"
    assert [row["id"] for row in done] == ["7", "8", "9"]


def test_mmstar_lone_and_corrupted_golds_are_repaired(tmp_path: Path) -> None:
    question = "Hint: letter.\nQuestion: Draw line C. Then?\nChoices:\n(A) 1\n(B) 2\n(C) 3"
    rows = [(question, "B", "val/0.jpg"), (question, "C. Then?\nChoices:\n(A) 1\n(B) 2\n(C) 3", "val/1.jpg")]
    done = migrate(tmp_path, "mmstar", "mmstar", rows)
    assert [row["solution"] for row in done] == ["B. 2", "C. 3"]


def test_mmvp_and_hallusion_groups_are_restored(tmp_path: Path) -> None:
    head = "Give the FINAL CHOICE inside \\boxed{}. \\n Question: "
    prompt = f"{head}Open or closed?\nOptions: (a) Open (b) Closed\n"
    rows = [(prompt, "(a) Open", "MMVP Images/1.jpg"), (prompt, "(b) Closed", "MMVP Images/2.jpg")]
    done = migrate(tmp_path, "mmvp", "mmvp", rows)
    assert [(row["id"], row["group"], row["solution"]) for row in done] == [
        ("1", "1", "A. Open"),
        ("2", "1", "B. Closed"),
    ]
    rows = [
        (f"{head}Tallest?\n", "\\boxed{No}", "h/VS/chart/0_1.png"),
        (f"{head}Shortest?\n", "\\boxed{Yes}", "h/VS/chart/0_1.png"),
        (f"{head}Tallest?\n", "\\boxed{Yes}", "h/VS/chart/0_2.png"),
    ]
    done = migrate(tmp_path, "hallusion", "hallusion", rows)
    assert [row["answer_text"] for row in done] == ["No", "Yes", "Yes"]
    assert [row["group"] for row in done] == ["VS_chart_0_q0", "VS_chart_0_q1", "VS_chart_0_q0"]


def test_pictures_may_lie_elsewhere_and_missing_ones_are_reported(tmp_path: Path) -> None:
    folder = tmp_path / "repo/data"
    folder.mkdir(parents=True)
    row = {"prompt": SCIENCE, "solution": "A. iron", "image_path": "dataset/x/1.png", "idx": 0}
    (folder / "scienceqa.json").write_text(json.dumps([row]))
    arguments = ["scienceqa", "--from", str(folder / "scienceqa.json"), "--out", str(tmp_path / "out")]
    with pytest.raises(UserError, match="image file is missing"):
        main(arguments)
    (tmp_path / "elsewhere/dataset/x").mkdir(parents=True)
    (tmp_path / "elsewhere/dataset/x/1.png").write_bytes(picture(1))
    assert main([*arguments, "--images", str(tmp_path / "elsewhere")]) == 0


def test_a_benchmark_that_was_never_published_is_told() -> None:
    with pytest.raises(UserError, match="no usable file"):
        published_rows("pope", [{"prompt": "q", "solution": "a", "image_path": "x"}])


def test_our_own_files_are_not_taken_for_published_ones() -> None:
    row = {"prompt": "q", "solution": "a", "image_path": "x"}
    assert is_published([row])
    assert not is_published([{**row, "benchmark": "mmvp"}])
    assert not is_published([])


@pytest.mark.parametrize(
    ("pieces", "count", "joined"),
    [
        (["(-6", "0)", "(2", "0)"], 2, ["(-6,0)", "(2,0)"]),
        (["65{", "}000", "75{", "}000"], 2, ["65{,}000", "75{,}000"]),
        (["1", "30", "1", "35"], 2, ["1", "30", "1", "35"]),
        (["a", "b"], 2, ["a", "b"]),
    ],
)
def test_cut_options_are_joined_only_by_brackets(pieces: list[str], count: int, joined: list[str]) -> None:
    assert join_cut_options(pieces, count) == joined
