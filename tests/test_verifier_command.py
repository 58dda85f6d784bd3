"""`dmlr judge`, `dmlr verify`, and the judge beside a verifier."""

import json
import logging
import time

import pytest
from judge_server import NO, YES, JudgeServer, problem, slowly

from dmlr.cli import main
from dmlr.config import resolve
from dmlr.verifier import Verifier, make_verifier
from dmlr.verifier.judge import Judge, JudgeConfig

ROWS = [
    {"prompt": "What is it?\nOptions: A: a hill, B: a mill", "solution": "B: a mill"},
    {"prompt": "Name the fruit.", "solution": "olives"},
    {"prompt": "How many?", "solution": "\\boxed{4}"},
    {"prompt": "Which colour?", "solution": "dark red"},
    {"prompt": "How long?", "solution": "\\boxed{7}"},
]
OUTPUTS = ["\\boxed{B}", "a small oval fruit", "\\boxed{5}", "crimson", "<think>for ever"]


def behave(request, nth):
    """The judge of these tests finds crimson dark red, and disagrees with the rules about the mill."""
    return YES if request["case"]["extracted_answer"] == "crimson" else NO


@pytest.fixture
def server(monkeypatch):
    server = JudgeServer(behave)
    monkeypatch.setenv("OPENAI_API_BASE_URL", server.url)
    monkeypatch.setenv("OPENAI_API_KEY", "")
    monkeypatch.setenv("MODEL_TYPE", "grader")
    yield server
    server.close()


@pytest.fixture
def no_judge(monkeypatch, tmp_path):
    for name in ("OPENAI_API_BASE_URL", "OPENAI_API_KEY", "MODEL_TYPE"):
        monkeypatch.setenv(name, "")


@pytest.fixture
def out(tmp_path):
    (tmp_path / "rows.json").write_text(json.dumps(ROWS))
    entries = [
        {"data_idx": i, "question": row["prompt"], "model_output": output, "is_correct": None}
        for i, (row, output) in enumerate(zip(ROWS, OUTPUTS))
    ]
    folder = tmp_path / "out"
    folder.mkdir()
    (folder / "results.json").write_text(
        json.dumps({"dataset": str(tmp_path / "rows.json"), "entries": entries})
    )
    return folder


def verdicts(out):
    return [
        (e["verdict"], e["verdict_by"]) for e in json.loads((out / "results.json").read_text())["entries"]
    ]


def test_judge_shows_how_the_verdict_came_about(capsys):
    prompt = "What is it?\nOptions: A: a hill, B: a mill"
    assert (
        main(["judge", "--output", "It is \\boxed{a mill}", "--solution", "B: a mill", "--prompt", prompt])
        == 0
    )
    shown = capsys.readouterr().out
    for part in (
        "a mill",
        "box",
        "choice",
        "option B   a mill",
        "gold       B",
        "correct (rules:choice)",
        "reason",
    ):
        assert part in shown


def test_judge_reads_standard_input_and_row_fields(capsys, monkeypatch):
    monkeypatch.setattr("sys.stdin", __import__("io").StringIO("\\boxed{2.449}"))
    assert (
        main(["judge", "--output", "-", "--solution", "2.4", "--answer_type", "float", "--precision", "1"])
        == 0
    )
    assert "correct (rules:float)" in capsys.readouterr().out


def test_judge_asks_the_judge_when_told_to(capsys, server):
    arguments = ["judge", "--output", "crimson", "--solution", "dark red", "--prompt", "Which colour?"]
    assert main(arguments) == 0
    assert "unjudged" in capsys.readouterr().out
    assert main([*arguments, "--use_llm_verify"]) == 0
    assert "correct (judge:grader)" in capsys.readouterr().out


def test_verify_by_rules_alone(out, capsys, no_judge):
    assert main(["verify", str(out)]) == 0
    printed = capsys.readouterr().out
    assert verdicts(out) == [
        ("correct", "rules:choice"),
        ("unjudged", "rules:open"),
        ("wrong", "rules:integer"),
        ("unjudged", "rules:open"),
        ("wrong", "rules:integer"),
    ]
    last = json.loads(printed.strip().splitlines()[-1])
    assert (last["correct"], last["unjudged"]) == (1, 2)
    assert "unjudged -> correct 1, unjudged -> wrong 2" in printed


def test_verify_asks_the_judge_only_what_the_rules_leave_open(out, server, capsys):
    assert (
        main(["verify", str(out), "--use_llm_verify", "--judge_price_in", "1", "--judge_price_out", "1"]) == 0
    )
    assert verdicts(out) == [
        ("correct", "rules:choice"),
        ("wrong", "judge:grader"),
        ("wrong", "rules:integer"),
        ("correct", "judge:grader"),
        ("wrong", "rules:integer"),
    ]
    assert len(server.requests) == 2
    usage = json.loads((out / "results.json").read_text())["verification"]["judge"]
    assert (usage["model"], usage["calls"], usage["prompt_tokens"]) == ("grader", 2, 200)
    assert usage["cost"] == pytest.approx(220e-6)
    assert main(["verify", str(out), "--use_llm_verify"]) == 0
    assert len(server.requests) == 2  # the second time everything comes from the cache in the output folder


def test_judge_all_asks_about_everything_but_answers_that_are_none(out, server):
    assert main(["verify", str(out), "--use_llm_verify", "--judge_all"]) == 0
    assert [by for _, by in verdicts(out)] == ["judge:grader"] * 4 + ["rules:integer"]
    assert verdicts(out)[0][0] == "wrong"
    assert len(server.requests) == 4


def test_the_agreement_report_counts_and_lists(out, server, capsys):
    before = (out / "results.json").read_bytes()
    assert main(["verify", str(out), "--compare_judges"]) == 0
    printed = capsys.readouterr().out
    last = json.loads(printed.strip().splitlines()[-1])
    assert last["table"] == {
        "correct": {"correct": 0, "wrong": 1, "unjudged": 0},
        "wrong": {"correct": 0, "wrong": 1, "unjudged": 0},
        "unjudged": {"correct": 1, "wrong": 1, "unjudged": 0},
    }
    assert last["disagreements"] == [0]
    assert last["left_out"] == 1
    assert "both decided: 2, agree: 1 (50.0%), disagree: 1" in printed
    assert "data_idx 0: gold 'B: a mill', answer 'B'" in printed
    assert (out / "results.json").read_bytes() == before


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--use_llm_verify"], "OPENAI_API_KEY"),
        (["--compare_judges"], "MODEL_TYPE"),
        (["--judge_all"], "--judge_all"),
        (["--dataset", "no_such_dataset"], "no_such_dataset"),
    ],
)
def test_bad_input_is_refused_before_anything_is_written(out, no_judge, capsys, arguments, message):
    before = (out / "results.json").read_bytes()
    assert main(["verify", str(out), *arguments]) == 2
    assert message in capsys.readouterr().err
    assert (out / "results.json").read_bytes() == before
    assert sorted(path.name for path in out.iterdir() if path.name != ".lock") == ["results.json"]


def test_the_verifier_of_a_run_follows_its_flags(server, no_judge, monkeypatch, tmp_path):
    assert make_verifier(resolve([])).judge is None
    from dmlr.errors import UserError

    with pytest.raises(UserError, match="OPENAI_API_KEY"):
        make_verifier(resolve(["--use_llm_verify"]))
    monkeypatch.setenv("OPENAI_API_BASE_URL", server.url)
    monkeypatch.setenv("MODEL_TYPE", "grader")
    flags = [
        "--use_llm_verify",
        "--judge_all",
        "--judge_concurrency",
        "3",
        "--output_dir",
        str(tmp_path / "o"),
    ]
    verifier = make_verifier(resolve(flags))
    assert verifier.judge_all
    assert verifier.judge.config.concurrency == 3
    assert verifier.judge.config.cache_path.parent == tmp_path / "o"
    assert not (tmp_path / "o").exists()  # nothing is written before there is a verdict
    verifier.close()


def test_submitting_to_a_verifier_never_waits_for_the_judge():
    server = JudgeServer(lambda request, nth: slowly(0.5, YES))
    verifier = Verifier(Judge(JudgeConfig("m", base_url=server.url, concurrency=4)))
    try:
        begun = time.monotonic()
        waiting = [verifier.submit("crimson", {"prompt": f"Q{i}?", "solution": "dark red"}) for i in range(4)]
        certain = verifier.submit(
            "\\boxed{4}", {"prompt": "How many?", "solution": 4, "precision": None, "choices": []}
        )
        assert time.monotonic() - begun < 0.4
        assert certain.result(timeout=30).by == "rules:integer"
        assert [future.result(timeout=30).verdict for future in waiting] == ["correct"] * 4
    finally:
        verifier.close()
        server.close()


@pytest.mark.parametrize(
    ("output", "truncated"),
    [
        ("", False),
        ("   ", False),
        ("<think>so it is dark red", False),
        ("It is dark", True),
        ("\\boxed{dark", True),
    ],
)
def test_a_judge_is_never_asked_about_no_answer(output, truncated):
    server = JudgeServer(lambda request, nth: YES)
    verifier = Verifier(Judge(JudgeConfig("m", base_url=server.url)), judge_all=True)
    try:
        verdict = verifier.submit(
            output, {"prompt": "Q?", "solution": "dark red"}, truncated=truncated
        ).result(30)
        assert verdict.verdict == "wrong"
        assert not server.requests
        empty_gold = verifier.submit("dark red", {"prompt": "Q?", "solution": ""}).result(30)
        assert (empty_gold.verdict, empty_gold.by) == ("unjudged", "none")
        assert not server.requests
    finally:
        verifier.close()
        server.close()


def test_no_key_in_anything_that_a_verification_writes_or_prints(out, server, capsys, caplog, monkeypatch):
    key = "sk-command-0123456789abcdefghij"
    monkeypatch.setenv("OPENAI_API_KEY", key)
    echo = json.dumps({"reason": f"I was asked with {key}", "equivalent": False})
    first = ROWS[0]["prompt"]
    server.behave = lambda request, nth: (
        echo if request["case"]["question"] == first else problem(401, f"wrong key {key} or {key[:12]}...")
    )
    with caplog.at_level(logging.DEBUG):
        assert main(["verify", str(out), "--use_llm_verify", "--judge_all", "--judge_concurrency", "1"]) == 0
    assert f"Bearer {key}" in server.headers[0].values()
    assert (out / "judge_cache.sqlite").exists()
    printed = capsys.readouterr()
    written = [path.read_bytes().decode("latin-1") for path in out.iterdir()]
    for text in (printed.out, printed.err, caplog.text, *written):
        assert key[:8] not in text
