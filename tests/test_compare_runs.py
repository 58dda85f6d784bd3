"""`dmlr compare`: right numbers, flips by name, refusals and warnings."""

import json

import pytest
from report_runs import make_dataset, make_run

from dmlr.errors import UserError
from dmlr.report.command import compare_main
from dmlr.report.compare import compare
from dmlr.report.runs import load_runs, outcome, short_names


def _flip(verdicts, *indices):
    other = {"correct": "wrong", "wrong": "correct"}
    return [other[v] if i in indices else v for i, v in enumerate(verdicts)]


@pytest.fixture
def dataset(tmp_path):
    return make_dataset(tmp_path / "data", 20)


BASE = ["correct"] * 12 + ["wrong"] * 8


def test_counts_difference_and_flips(tmp_path, dataset):
    a = make_run(tmp_path / "a", dataset, BASE)
    b = make_run(tmp_path / "b", dataset, _flip(BASE, 3, 13, 14, 19), seed=1)
    comparison = compare(load_runs([a, b]))
    pair = comparison.pairs[0]
    assert (pair.gained, pair.lost) == ([13, 14, 19], [3])
    assert pair.difference.value == pytest.approx(2 / 20)
    assert pair.p_value == pytest.approx(0.625)  # 3 against 1: 2 * (1 + 4) / 16
    assert comparison.runs[0].accuracy.value == 0.6
    assert comparison.runs[0].reward_gain.value > 0
    assert comparison.runs[0].seconds.value == 0.25


def test_unjudged_and_failed_samples_are_counted_and_left_out_of_the_pairs(tmp_path, dataset):
    a = make_run(tmp_path / "a", dataset, BASE)
    b = make_run(tmp_path / "b", dataset, ["unjudged", "error", *BASE[2:]])
    comparison = compare(load_runs([a, b]))
    assert comparison.runs[1].outcomes == {"correct": 10, "wrong": 8, "unjudged": 1, "error": 1}
    assert comparison.runs[1].accuracy.value == pytest.approx(10 / 18)
    assert (comparison.pairs[0].samples, comparison.pairs[0].left_out) == (18, 2)
    assert comparison.pairs[0].difference.value == 0.0


def test_other_slices_and_other_questions_are_refused_together(tmp_path, dataset):
    other = make_dataset(tmp_path / "other", 20)
    rows = json.loads(other.read_text())
    rows[4]["solution"] = "77"
    other.write_text(json.dumps(rows))
    runs = [
        make_run(tmp_path / "a", dataset, BASE),
        make_run(tmp_path / "short", dataset, BASE[:15]),
        make_run(tmp_path / "other_run", other, BASE),
    ]
    with pytest.raises(UserError) as caught:
        compare(load_runs(runs))
    assert len(caught.value.problems) == 2
    assert "5 only in the first (15, 16, 17, 18, 19)" in caught.value.problems[0]
    assert "1 rows (4)" in caught.value.problems[1]


def test_settings_that_move_accuracy_are_warned_about(tmp_path, dataset):
    a = make_run(tmp_path / "a", dataset, BASE)
    changed = {"max_pixels": 512, "solver_prompt_idx": 2, "use_llm_verify": True}
    b = make_run(tmp_path / "b", dataset, BASE, args=changed)
    results = json.loads((b / "results.json").read_text())
    results["versions"]["transformers"] = "5.20.0"
    (b / "results.json").write_text(json.dumps(results))
    text = "\n".join(compare(load_runs([a, b])).warnings)
    for expected in ("image size differs, max_pixels: a: 256; b: 512", "prompt differs", "judge differs"):
        assert expected in text
    assert "version of transformers" in text
    assert "min_pixels" not in text
    assert compare(load_runs([a, a])).warnings == []


def test_published_results_without_verdicts_are_read():
    assert outcome({"is_correct": True}) == "correct"
    assert outcome({"is_correct": False}) == "wrong"
    assert outcome({}) == "unjudged"
    assert outcome({"is_correct": True, "verdict": "unjudged", "error": "cuda"}) == "error"


def test_bad_folders_are_reported_together(tmp_path, dataset, capsys):
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "results.json").write_text("{")
    (tmp_path / "list").mkdir()
    (tmp_path / "list" / "results.json").write_text("[]")
    run = make_run(tmp_path / "twice", dataset, BASE)
    results = json.loads((run / "results.json").read_text())
    results["entries"].append(results["entries"][0])
    (run / "results.json").write_text(json.dumps(results))
    with pytest.raises(UserError) as caught:
        load_runs([tmp_path / "none", tmp_path / "broken", tmp_path / "list", run])
    assert len(caught.value.problems) == 4
    assert "occurs twice" in caught.value.problems[3]


def test_names_are_as_short_as_they_can_be(tmp_path):
    folders = [tmp_path / "x" / "seed_0", tmp_path / "y" / "seed_0", tmp_path / "x" / "seed_0"]
    assert short_names(folders) == ["x/seed_0", "y/seed_0", "x/seed_0#2"]


def test_command_prints_text_markdown_and_json(tmp_path, dataset, capsys):
    a = make_run(tmp_path / "a", dataset, BASE)
    b = make_run(tmp_path / "b", dataset, _flip(BASE, 3, 13, 14, 19), seed=1)
    target = tmp_path / "out" / "c.json"
    assert compare_main([str(a), str(b)]) == 0
    text = capsys.readouterr().out
    assert "0.600 [0.387, 0.781]" in text  # Wilson, 12 of 20
    assert "wrong to right (3): 13, 14, 19" in text
    assert compare_main([str(a), str(b), "--format", "json", "--out", str(target)]) == 0
    assert json.loads(target.read_text())["pairs"][0]["gained"] == [13, 14, 19]
    assert compare_main([str(a), str(b), "--format", "markdown"]) == 0
    assert "| a | 0.600 [0.387, 0.781] |" in capsys.readouterr().out
    with pytest.raises(UserError, match="two or more"):
        compare_main([str(a)])
