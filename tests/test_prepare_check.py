"""`dmlr prepare --check` finds what the audit of the published files found, and stays silent on sound files."""

import json
from pathlib import Path
from typing import Any

import pytest
from benchmark_rows import picture, prepared, upstream

from dmlr.benchmarks.check import check_file
from dmlr.benchmarks.command import main
from dmlr.errors import UserError


def row(**fields: Any) -> dict[str, Any]:
    sound = {"prompt": "Which?\n\nOptions:\nA. red\nB. blue", "solution": "A. red", "image_path": "a.png"}
    return {**sound, **fields}


def write(tmp_path: Path, rows: list[Any]) -> Path:
    (tmp_path / "a.png").write_bytes(picture(1))
    path = tmp_path / "mine.json"
    path.write_text(
        json.dumps([{"idx": i, **each} if isinstance(each, dict) else each for i, each in enumerate(rows)])
    )
    return path


def test_a_sound_file_has_no_findings(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [
        row(),
        row(prompt="How many?", solution="\\boxed{3}"),
        row(prompt="Is it? $a \\neq b$, $\\nu$", solution="\\boxed{Yes}", image_path=None),
        row(prompt="Expand", solution="\\boxed{x^2}", answer_type="free"),
    ]
    path = write(tmp_path, rows)
    assert main(["--check", str(path)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == f"{path}: 4 rows (choice 1, integer 1, yesno 1, free 1)"
    report = json.loads(lines[-1])
    assert (report["errors"], report["warnings"]) == ({}, {})


ERRORS: list[tuple[Any, str]] = [
    ({"prompt": "Which?"}, 'no "solution"'),
    (row(solution=""), "solution is empty"),
    (row(image_path="none.png"), "image: no such file"),
    (row(prompt="What <|endoftext|> is it?"), "prompt contains the control token <|endoftext|>"),
    (row(solution="D. red"), "gold D is outside the options A-B"),
    (row(solution="A. blue"), "gold text is not the text of the option with the gold letter"),
    (
        row(choices=["red", "blue"], answer_letter="C", answer_type="choice"),
        "gold C is outside the options A-B",
    ),
    (row(answer_type="number"), "answer_type 'number' is none of choice, yesno"),
    (row(idx="7"), "idx '7' is not a row number"),
    (row(idx=0), "idx is used twice"),
    ("no object", "must be an object"),
]


@pytest.mark.parametrize(("bad", "message"), ERRORS)
def test_errors_are_found_with_their_row(tmp_path: Path, bad: Any, message: str) -> None:
    report = check_file(write(tmp_path, [row(), bad]))
    found = {what: rows for what, rows in report.errors.items() if message in what}
    assert list(found.values()) == [[1]]
    assert main(["--check", str(report.path)]) == 2


WARNINGS: list[tuple[dict[str, Any], str]] = [
    (row(prompt="Look. \\n Question: which?\n\nOptions:\nA. red\nB. blue"), "literal backslash-n"),
    (row(prompt="Which_x000D_?\n\nOptions:\nA. red\nB. blue"), "spreadsheet escape"),
    (row(prompt="Which?\nOptions: A: red, B: nan"), 'an option is "nan"'),
    (row(prompt="Which?\nOptions: A: nan, B: red", solution="A: nan"), 'the gold option is "nan"'),
    (row(prompt="Which?\nOptions: A: red, B: red"), "two options have the same text"),
    (row(prompt="Which?\nOptions: A: red, B: (4", solution="A"), "gold is a letter without"),
    (row(prompt="Which?\nOptions: A: red, B: (4"), "unbalanced brackets"),
    (row(prompt="Which?\n Options: A. red, $7$, 8"), "announces options, but none can be read"),
    (row(solution="B. blue"), "has different golds"),
]


@pytest.mark.parametrize(("odd", "message"), WARNINGS)
def test_warnings_are_found_and_do_not_fail(tmp_path: Path, odd: dict[str, Any], message: str) -> None:
    report = check_file(write(tmp_path, [row(), odd]))
    assert report.errors == {}
    assert [rows[-1] for what, rows in report.warnings.items() if message in what] == [1]


def test_rows_without_idx_and_cut_option_lists(tmp_path: Path) -> None:
    rows = [row(prompt=f"Which {i}?\n\nOptions:\nA. red\nB. blue") for i in range(12)]
    rows.append(row(prompt="Which point?\nOptions: A. red, B. 0, C. 2, D. 0", solution="A. red"))
    path = write(tmp_path, rows)
    path.write_text(json.dumps(rows))
    report = check_file(path)
    assert report.warnings["no idx (the row's number will be used)"] == list(range(13))
    assert report.warnings["4 options, more than usual here (was the list cut at its commas?)"] == [12]
    assert "warning: no idx (the row's number will be used): 13 rows (0-12)" in report.lines()


def test_prepared_files_pass_their_own_check(tmp_path: Path) -> None:
    prepared(
        tmp_path, "scienceqa", [upstream("scienceqa", answer=0, hint="h"), upstream("scienceqa", answer=1)]
    )
    report = check_file(tmp_path / "data/scienceqa.json")
    assert (report.errors, report.warnings) == ({}, {})
    assert report.types == {"choice": 2}


@pytest.mark.parametrize("content", ["{", "{}", "[]"])
def test_what_is_no_dataset_is_a_user_error(tmp_path: Path, content: str) -> None:
    path = tmp_path / "mine.json"
    path.write_text(content)
    with pytest.raises(UserError):
        main(["--check", str(path)])
