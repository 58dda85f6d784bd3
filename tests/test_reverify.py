"""`--verify_only`: new verdicts for old answers, everything else untouched."""

import json
from concurrent.futures import Future

import pytest
from filelock import FileLock

from dmlr.errors import UserError
from dmlr.journal import Journal, read_journal
from dmlr.verifier import Verdict, Verifier
from dmlr.verifier.joining import join_entries
from dmlr.verifier.reverify import judge_entries, load_results, reverify

ROWS = [
    {"prompt": "How many?\nOptions: A: 1, B: 2", "solution": "B: 2", "image_path": "img/0.png"},
    {"prompt": "Is it open?", "solution": "\\boxed{No}", "image_path": "img/1.png"},
    {"prompt": "Find x.", "solution": "\\boxed{\\frac{1}{2}}", "image_path": "img/2.png"},
    {"prompt": "Name it.", "solution": "olives", "image_path": "img/3.png"},
]


def make_entry(index, row, output, **fields):
    base = {
        "data_idx": index,
        "question": row["prompt"],
        "image_path": row["image_path"],
        "prompt": "<chat>",
        "model_output": output,
        "answer": "?",
        "ground_truth": row["solution"],
        "ground_truth_text": row["solution"],
        "is_correct": False,
        "best_reward": 1.5,
        "best_reward_step": 3,
        "stop_reason": "eos_token",
        "extra": {"kept": [1, 2]},
    }
    return base | fields


@pytest.fixture
def run(tmp_path):
    """Write a run of the given entries; returns the output folder."""

    def write(entries, rows=ROWS, **head):
        dataset = tmp_path / "rows.json"
        dataset.write_text(json.dumps(rows))
        out = tmp_path / "out"
        out.mkdir(exist_ok=True)
        top = {
            "model": "m",
            "dataset": str(dataset),
            "accuracy": 0.0,
            "args": {"start_data_idx": 0},
            "mine": "kept",
        }
        (out / "results.json").write_text(json.dumps(top | head | {"entries": entries}))
        return out

    return write


@pytest.fixture
def verifier():
    verifier = Verifier()
    yield verifier
    verifier.close()


def standard():
    return [
        make_entry(0, ROWS[0], "\\boxed{2}"),
        make_entry(1, ROWS[1], "Yes.", is_correct=True),
        make_entry(2, ROWS[2], "\\boxed{0.5}", is_correct=True),
        make_entry(3, ROWS[3], "grapes, I think", is_correct=None),
    ]


def test_verdicts_are_new_and_every_other_field_stays(run, verifier):
    out = run(standard())
    before = (out / "results.json").read_bytes()
    summary = reverify(out, None, verifier)
    written = json.loads((out / "results.json").read_text())
    assert (out / "results.json.bak").read_bytes() == before
    assert [entry["is_correct"] for entry in written["entries"]] == [True, False, True, None]
    assert [entry["verdict"] for entry in written["entries"]] == ["correct", "wrong", "correct", "unjudged"]
    assert [entry["verdict_by"] for entry in written["entries"]] == [
        "rules:choice",
        "rules:yesno",
        "rules:open",
        "rules:open",
    ]
    assert written["entries"][2]["answer"] == "0.5"
    judged = {"answer", "is_correct", "verdict", "verdict_by", "verdict_reason", "error"}
    for old, new in zip(standard(), written["entries"]):
        assert {k: v for k, v in old.items() if k not in judged} == {
            k: v for k, v in new.items() if k not in judged
        }
    assert written["mine"] == "kept"
    assert written["model"] == "m"
    assert (written["correct"], written["total"], written["unjudged"], written["errors"]) == (2, 4, 1, 0)
    assert written["accuracy"] == pytest.approx(2 / 3)
    assert summary["accuracy"] == written["accuracy"]


def test_the_changes_are_reported_by_direction(run, verifier):
    summary = reverify(run(standard()), None, verifier)
    assert summary["accuracy_before"] == pytest.approx(2 / 3)
    assert summary["changes"] == {"correct -> wrong": 1, "wrong -> correct": 1}
    assert [(c["data_idx"], c["before"], c["after"]) for c in summary["changed"]] == [
        (0, "wrong", "correct"),
        (1, "correct", "wrong"),
    ]
    assert all(change["reason"] for change in summary["changed"])


def test_a_second_time_changes_nothing(run, verifier):
    out = run(standard())
    reverify(out, None, verifier)
    first = json.loads((out / "results.json").read_text())
    summary = reverify(out, None, verifier)
    second = json.loads((out / "results.json").read_text())
    assert summary["changes"] == {}
    assert second["entries"] == first["entries"]


def test_a_repaired_gold_is_used_and_recorded(run, verifier):
    out = run(
        [make_entry(1, ROWS[1], "\\boxed{Yes}")], rows=[ROWS[0], ROWS[1] | {"solution": "\\boxed{Yes}"}]
    )
    reverify(out, None, verifier)
    entry = json.loads((out / "results.json").read_text())["entries"][0]
    assert entry["is_correct"] is True
    assert entry["ground_truth"] == "\\boxed{Yes}"


def test_failed_samples_stay_failed(run, verifier):
    entries = [
        make_entry(0, ROWS[0], "", is_correct=None, error="no such image"),
        make_entry(1, ROWS[1], "", stop_reason="exception"),  # as the published code leaves it
        make_entry(2, ROWS[2], "\\boxed{0.5}"),
    ]
    out = run(entries)
    summary = reverify(out, None, verifier)
    written = json.loads((out / "results.json").read_text())["entries"]
    assert (summary["errors"], summary["unjudged"], summary["correct"], summary["accuracy"]) == (2, 0, 1, 1.0)
    assert [entry["is_correct"] for entry in written] == [None, None, True]
    assert written[0]["error"] == "no such image"


def test_a_cut_off_output_is_known_by_its_stop_reason(run, verifier):
    out = run(
        [
            make_entry(0, ROWS[0], "B", stop_reason="length"),
            make_entry(1, ROWS[1], "No", stop_reason="length"),
        ]
    )
    reverify(out, None, verifier)
    written = json.loads((out / "results.json").read_text())["entries"]
    assert [entry["is_correct"] for entry in written] == [False, False]


def test_entries_without_a_row_and_rows_without_an_entry_are_named(run, verifier):
    out = run([make_entry(2, ROWS[2], "\\boxed{0.5}"), make_entry(9, ROWS[0], "\\boxed{2}")])
    summary = reverify(out, None, verifier)
    assert summary["entries_without_row"] == [9]
    assert summary["rows_without_entry"] == [0, 1, 3]
    written = json.loads((out / "results.json").read_text())["entries"]
    assert written[1] == make_entry(9, ROWS[0], "\\boxed{2}")
    sliced = run([make_entry(2, ROWS[2], "\\boxed{0.5}")], args={"start_data_idx": 2, "end_data_idx": 3})
    assert reverify(sliced, None, verifier)["rows_without_entry"] == []


def test_official_metrics_are_computed_again(run, verifier):
    rows = [row | {"benchmark": "mmvp", "group": "1"} for row in ROWS[:2]]
    out = run([make_entry(0, ROWS[0], "\\boxed{B}"), make_entry(1, ROWS[1], "\\boxed{No}")], rows=rows)
    reverify(out, None, verifier)
    metrics = json.loads((out / "results.json").read_text())["metrics"]
    assert metrics["benchmark"] == "mmvp"
    assert metrics["accuracy"] == 1.0


def test_the_journal_gets_the_new_verdicts(run, verifier):
    out = run(standard())
    journal = Journal(out / "journal.jsonl")
    journal.append([{"journal": 1, "settings": {}}] + [{"entry": entry} for entry in standard()])
    journal.close()
    reverify(out, None, verifier)
    entries = read_journal(out / "journal.jsonl").entries
    assert [entries[i]["is_correct"] for i in range(4)] == [True, False, True, None]
    assert entries[0]["best_reward"] == 1.5


def test_a_folder_in_use_is_left_alone(run, verifier):
    out = run(standard())
    before = (out / "results.json").read_bytes()
    with FileLock(out / ".lock"), pytest.raises(UserError, match="a run is writing there"):
        reverify(out, None, verifier)
    assert (out / "results.json").read_bytes() == before


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("[]", "no list of entries"),
        ('{"entries": {}}', "no list of entries"),
        ('{"entries": [1]}', "not an object"),
        ('{"entries": []}', "names no dataset"),
        ('{"entries": [], "dataset": "nowhere/at_all.json"}', "is not there; give it with --dataset"),
        ("{", "not JSON"),
    ],
)
def test_a_file_that_is_no_results_file_is_refused(tmp_path, verifier, content, message):
    (tmp_path / "results.json").write_text(content)
    with pytest.raises(UserError, match=message):
        reverify(tmp_path, None, verifier)
    assert (tmp_path / "results.json").read_text() == content
    assert not (tmp_path / "results.json.bak").exists()


def test_a_missing_file_is_refused(tmp_path, verifier):
    for path in (tmp_path, tmp_path / "no" / "results.json"):
        with pytest.raises(UserError, match="no such file"):
            reverify(path, None, verifier)


def test_verdicts_are_asked_for_all_at_once(run):
    class Slow:
        """Answers only when everything was submitted."""

        def __init__(self):
            self.waiting = []

        def submit(self, output, row, truncated=False):
            self.waiting.append(Future())
            if len(self.waiting) == 4:
                for future in self.waiting:
                    future.set_result(Verdict("correct", "judge:m", "same"))
            return self.waiting[-1]

    verdicts = judge_entries(load_results(run(standard()), None), Slow())
    assert [verdict.verdict for verdict in verdicts] == ["correct"] * 4


# Results files of the published code: data_idx counts from the start of the slice in one of its modes.


def local(entries, start):
    return [entry | {"data_idx": entry["data_idx"] - start} for entry in entries]


def test_local_indices_are_recognised_by_the_questions(run, verifier):
    out = run(local(standard()[2:], 2), args={"start_data_idx": 2, "end_data_idx": 4})
    summary = reverify(out, None, verifier)
    written = json.loads((out / "results.json").read_text())["entries"]
    assert summary["indices"] == "local"
    assert [entry["data_idx"] for entry in written] == [2, 3]
    assert written[0]["is_correct"] is True
    assert reverify(out, None, verifier)["indices"] == "global"  # they are whole-dataset indices now


def test_global_indices_are_recognised_in_a_slice(run, verifier):
    out = run(standard()[2:], args={"start_data_idx": 2, "end_data_idx": 4})
    assert reverify(out, None, verifier)["indices"] == "global"


def test_the_slice_decides_where_all_questions_are_the_same():
    rows = [{"prompt": "Same?", "solution": "1"}] * 10
    arguments = {"start_data_idx": 4, "end_data_idx": 8}
    entries = [{"data_idx": index, "question": "Same?"} for index in range(4, 8)]
    assert join_entries(entries, rows, arguments).rows == (4, 5, 6, 7)
    counted = [{"data_idx": index, "question": "Same?"} for index in range(4)]
    assert join_entries(counted, rows, arguments).rows == (4, 5, 6, 7)


def test_what_cannot_be_told_is_refused_with_the_reason():
    rows = [{"prompt": "Same?", "solution": "1"}] * 20
    arguments = {"start_data_idx": 5, "end_data_idx": 20}
    entries = [{"data_idx": index, "question": "Same?"} for index in range(5, 10)]
    with pytest.raises(UserError, match="the questions of both readings are the same"):
        join_entries(entries, rows, arguments)
    with pytest.raises(UserError, match="no question to compare"):
        join_entries([{"data_idx": 6}], rows, arguments)


def test_another_dataset_is_refused():
    entries = [{"data_idx": 0, "question": "What else?"}, {"data_idx": 1, "question": ROWS[1]["prompt"]}]
    with pytest.raises(UserError, match=r"1 of 2 entries hold other questions .*\(data_idx 0\)"):
        join_entries(entries, ROWS, {})


def test_indices_that_repeat_are_refused():
    entries = [{"data_idx": 0, "question": ROWS[0]["prompt"]}] * 2
    with pytest.raises(UserError, match="data_idx 0 occurs more than once"):
        join_entries(entries, ROWS, {})
    with pytest.raises(UserError, match="an integer is needed"):
        join_entries([{"data_idx": "0"}], ROWS, {})


def test_the_published_wrapping_of_a_question_is_seen_through():
    entry = {"data_idx": 0, "question": "['Solve this: " + ROWS[0]["prompt"].replace("\n", "\\n") + "']"}
    assert join_entries([entry], ROWS[:1], {}).rows == (0,)
