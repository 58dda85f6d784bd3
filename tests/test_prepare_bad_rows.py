"""Bad upstream rows are reported by id, stop the command, and are left out only on request; so are bad flags."""

import json
from pathlib import Path
from typing import Any

import pytest
from benchmark_rows import picture, prepared, upstream, write_parquet

from dmlr.benchmarks import BENCHMARKS, hallusion, mmbench, mmvp, pope
from dmlr.benchmarks.command import main
from dmlr.benchmarks.counts import differences
from dmlr.benchmarks.images import ImageStore
from dmlr.benchmarks.prepare import prepare
from dmlr.benchmarks.schema import BadRow, choice_fields, free_fields, indexed_choice_fields
from dmlr.benchmarks.sources import RowSource
from dmlr.errors import UserError

BAD = [
    upstream("m3cot", id="fine", answer="A"),
    upstream("m3cot", id="empty-1", answer=""),
    upstream("m3cot", id="empty-2", answer=None),
    upstream("m3cot", id="outside", answer="C"),
    upstream("m3cot", id="no-picture", answer="A", image=None),
    upstream("m3cot", id="no-bytes", answer="A", image={"bytes": b"", "path": None}),
    upstream("m3cot", id="broken-picture", answer="A", image={"bytes": b"\x89PNG\r\n\x1a\nxx", "path": None}),
    upstream("m3cot", id="fine", answer="B"),
    upstream("m3cot", id="no-question", answer="A", question=" "),
    upstream("m3cot", id="no-options", answer="A", choices=None),
]


def test_every_bad_row_is_named_and_nothing_is_written(tmp_path: Path) -> None:
    write_parquet(tmp_path / "upstream", "m3cot", BAD)
    old = tmp_path / "data/m3cot.json"
    old.parent.mkdir()
    old.write_text("old")
    with pytest.raises(UserError) as caught:
        main(["m3cot", "--from", str(tmp_path / "upstream"), "--out", str(tmp_path / "data")])
    lines = caught.value.problems
    assert "m3cot test: gold is empty (id empty-1, empty-2)" in lines
    assert "m3cot test: gold 'C' is outside the options A-B (id outside)" in lines
    assert "m3cot test: image is missing (id no-picture, no-bytes)" in lines
    assert "m3cot test: image bytes cannot be opened as an image (id broken-picture)" in lines
    assert "m3cot test: duplicate id (id fine)" in lines
    assert "m3cot test: question is empty (id no-question)" in lines
    assert "m3cot test: 0 options, 2 to 10 are needed (id no-options)" in lines
    assert lines[-1] == "m3cot: 9 of 10 rows are bad; --skip_bad_rows prepares the others"
    assert old.read_text() == "old"


def test_bad_rows_are_left_out_on_request(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = prepared(tmp_path, "m3cot", BAD, "--skip_bad_rows")
    assert [(row["id"], row["idx"]) for row in rows] == [("fine", 0)]
    captured = capsys.readouterr()
    assert "left out: m3cot test: gold is empty (id empty-1, empty-2)" in captured.err
    summary = json.loads(captured.out.splitlines()[-1])
    assert len(summary["skipped"]) == 7
    assert "rows: 1, the published split has 2318" in summary["differences"]


def test_a_source_of_mixed_questions_loses_those_without_a_picture(tmp_path: Path) -> None:
    """derek-thomas/ScienceQA holds text questions too; they are no bad rows of the image benchmark."""
    rows = [upstream("scienceqa", answer=1), upstream("scienceqa", answer=0, image=None)]
    source = RowSource(iter(rows), {"repo": "r"}, drop_imageless=True)
    result = prepare(BENCHMARKS["scienceqa"], "test", source, tmp_path)
    assert (result.rows, result.skipped) == (1, [])
    with pytest.raises(UserError, match=r"image is missing \(id test-1\)"):
        prepare(BENCHMARKS["scienceqa"], "test", RowSource(iter(rows), {"repo": "r"}), tmp_path)


def test_nothing_usable_is_an_error_even_then(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no usable row"):
        prepared(tmp_path, "m3cot", BAD[1:3], "--skip_bad_rows")


@pytest.mark.parametrize("index", [None, -1, 2, 0.5, True, ""])
def test_an_index_outside_the_options_is_bad(index: Any) -> None:
    with pytest.raises(BadRow, match="gold"):
        indexed_choice_fields(["a", "b"], index)


def test_index_zero_is_the_first_option() -> None:
    assert indexed_choice_fields(["a", "b"], 0)["solution"] == "A. a"
    assert indexed_choice_fields(["a", "b"], "1")["solution"] == "B. b"


@pytest.mark.parametrize("gold", ["", None, float("nan"), "  ", "\\boxed{}"])
def test_an_empty_free_form_gold_is_bad(gold: Any) -> None:
    with pytest.raises(BadRow, match="gold is empty"):
        free_fields(gold)


def test_a_gold_option_without_text_is_bad() -> None:
    with pytest.raises(BadRow, match="no text"):
        choice_fields(["a", " "], "B")


@pytest.mark.parametrize(
    ("convert", "row", "message"),
    [
        (hallusion.convert, upstream("hallusion", gt_answer="2"), "neither"),
        (hallusion.convert, upstream("hallusion", gt_answer=""), "gold is empty"),
        (pope.convert, upstream("pope", question_id="1", answer="maybe"), "neither"),
        (mmbench.convert, upstream("mmbench", index=1, answer="A", A="x", B=None, C="z"), "gap"),
        (mmbench.convert, upstream("mmbench", index="x", answer="A", A="x", B="y"), "whole number"),
        (
            mmvp.convert,
            {"Index": 1, "Question": "q", "Options": "(a) x (b) y", "Correct Answer": ""},
            "gold is empty",
        ),
    ],
)
def test_golds_of_no_known_form_are_bad(convert: Any, row: dict[str, Any], message: str) -> None:
    with pytest.raises(BadRow, match=message):
        convert(row)


def test_a_gold_text_that_is_no_option_is_bad(tmp_path: Path) -> None:
    fields = {"question_type": "multi_choice", "answer_type": "text", "choices": ["x", "y"], "answer": "z"}
    with pytest.raises(UserError, match=r"none of the options \(id 8\)"):
        prepared(tmp_path, "mathvista", [upstream("mathvista", pid="8", query="q", **fields)])


def test_broken_pairs_are_reported(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def row(index: int, gold: str) -> dict[str, Any]:
        fields = {"Question": "q", "Options": "(a) x (b) y", "Correct Answer": gold}
        return {"Index": index, **fields, "image": {"bytes": picture(index), "path": None}}

    prepared(tmp_path, "mmvp", [row(1, "(a)"), row(2, "(a)"), row(3, "(b)")])
    errors = capsys.readouterr().err
    assert "pair 1 is not one question with opposite answers" in errors
    assert "pair 2 has 1 rows, not 2" in errors


def test_counts_are_compared_by_name() -> None:
    rows = [{"a": "x", "b": 1}, {"a": "x", "b": 2}, {"a": "y", "b": 1}]
    expected = {"rows": 3, "a=x": 2, "a=x,b=1": 1, "distinct a": 2}
    assert differences(rows, expected) == []
    assert differences(rows[:2], {"rows": 3, "distinct a": 2}) == [
        "rows: 2, the published split has 3",
        "distinct a: 1, the published split has 2",
    ]


def test_limit_stops_early_and_compares_no_counts(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [upstream("m3cot", id=str(i), answer="A") for i in range(5)]
    assert len(prepared(tmp_path, "m3cot", rows, "--limit", "2")) == 2
    assert "warning" not in capsys.readouterr().err
    assert len(list((tmp_path / "data/m3cot/test").iterdir())) == 2


def test_an_interrupted_run_is_picked_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [upstream("m3cot", id=str(i), image_id=str(i), answer="A") for i in range(4)]
    real = ImageStore.add

    def interrupted(store: ImageStore, name: str, data: bytes) -> str:
        if store.written == 2:
            raise KeyboardInterrupt
        return real(store, name, data)

    monkeypatch.setattr(ImageStore, "add", interrupted)
    with pytest.raises(KeyboardInterrupt):
        prepared(tmp_path, "m3cot", rows)
    assert not (tmp_path / "data/m3cot.json").exists()
    monkeypatch.undo()
    assert [row["id"] for row in prepared(tmp_path, "m3cot", rows)] == ["0", "1", "2", "3"]
    assert len(list((tmp_path / "data/m3cot/test").iterdir())) == 4


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "name a benchmark"),
        (["mathvista", "--split", "test"], "keep its answers secret"),
        (["mmstar", "--split", "train"], "mmstar has val"),
        (["mmstar", "--limit", "0"], "at least 1"),
        (["mmstar", "--mmvp_labels", "original"], "only for mmvp"),
        (["mmstar", "--base_only"], "only for mmbench"),
        (["mmstar", "--from", "x", "--revision", "main"], "hub commit"),
        (["mmstar", "--images", "x"], "only with --from"),
        (["mmstar", "--from", "does-not-exist"], "no such file"),
    ],
)
def test_wrong_flags_are_explained(arguments: list[str], message: str) -> None:
    with pytest.raises(UserError, match=message):
        main(arguments)


def test_all_wrong_flags_are_told_at_once() -> None:
    with pytest.raises(UserError) as caught:
        main(["pope", "--limit", "-1", "--base_only", "--mmvp_labels", "original", "--split", "none"])
    assert len(caught.value.problems) == 4


def test_a_folder_without_the_benchmark_says_what_was_looked_for(tmp_path: Path) -> None:
    (tmp_path / "train-0.parquet").write_bytes(b"")
    with pytest.raises(UserError, match=r"looked for val-\*.parquet, MMStar.tsv, mmstar.json"):
        main(["mmstar", "--from", str(tmp_path)])


def test_a_file_of_another_benchmark_or_no_parquet_is_told(tmp_path: Path) -> None:
    path = write_parquet(tmp_path, "pope", [upstream("pope", question_id="1", answer="yes")], "dev")
    with pytest.raises(UserError, match="the source has no column index, hint, A, B"):
        main(["mmbench", "--from", str(path), "--out", str(tmp_path / "data")])
    path.write_bytes(b"no parquet at all")
    with pytest.raises(UserError, match="cannot be read as parquet"):
        main(["mmbench", "--from", str(path), "--out", str(tmp_path / "data")])


def test_the_split_and_the_configuration_choose_the_files(tmp_path: Path) -> None:
    def one(index: int) -> list[dict[str, Any]]:
        return [upstream("mmbench", index=index, answer="A", A="x", B="y")]

    folder = tmp_path / "upstream"
    write_parquet(folder / "cn", "mmbench", one(1))
    write_parquet(folder / "en", "mmbench", one(2))
    write_parquet(folder / "en", "mmbench", one(3), "test")
    assert main(["mmbench", "--from", str(folder), "--out", str(tmp_path / "data")]) == 0
    assert [row["id"] for row in json.loads((tmp_path / "data/mmbench.json").read_text())] == ["2"]
