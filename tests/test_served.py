"""`--engine openai`: vanilla answers through a server of this test; every failure is an entry or one clear line."""

import base64
import io
import json
import logging
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import run_fakes
from chat_server import ChatServer, completion, problem, slowly
from PIL import Image
from qwen_vl_utils import fetch_image
from run_fakes import Verifier, comparable, journal_lines

from dmlr import prompts, runner, served
from dmlr.cli import main
from dmlr.config import resolve
from dmlr.errors import UserError
from dmlr.validation import warnings_of

KEY = "sk-engine-0123456789abcdefghij"
ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(autouse=True)
def light(monkeypatch):
    """No benchmark metrics, no key but the test's, no waits between the client's attempts."""
    monkeypatch.setattr(runner, "_metrics", lambda *_: {})
    monkeypatch.setattr(os, "fsync", lambda file: None)
    monkeypatch.setattr("openai._base_client.INITIAL_RETRY_DELAY", 0.01)
    monkeypatch.setattr("openai._base_client.MAX_RETRY_DELAY", 0.01)
    monkeypatch.setenv("ENGINE_API_KEY", KEY)


@pytest.fixture
def serve():
    servers = []

    def start(behave):
        servers.append(
            ChatServer(lambda request, nth: GREETING if is_greeting(request) else behave(request, nth))
        )
        return servers[-1]

    yield start
    for server in servers:
        server.close()


GREETING = (200, {}, completion("Hello", "length"))


def is_greeting(request):
    return request["max_tokens"] == 1


def sent(server):
    """The requests that carried a question."""
    return [request for request in server.requests if not is_greeting(request)]


def flags(tmp_path, server, questions, *more):
    dataset = questions if isinstance(questions, str) else run_fakes.write_dataset(tmp_path, questions)
    argv = [
        "--dataset",
        dataset,
        "--output_dir",
        str(tmp_path / "out"),
        "--verbose",
        "0",
        "--method",
        "vanilla",
    ]
    return [*argv, "--engine", "openai", "--base_url", server.url, "--model_name_or_path", "some-vlm", *more]


def execute(argv, verifier=None):
    return runner.run(resolve(argv), verifier=verifier or Verifier())


def entries(tmp_path):
    return comparable(tmp_path / "out")["entries"]


def number(request):
    """The number in `question N`."""
    return int(request["text"].split()[1])


def test_answers_are_entries_like_any_other(tmp_path, serve):
    server = serve(lambda request, nth: (200, {}, completion(f"it is {number(request) % 3}", usage=(300, 7))))
    outcome = execute(flags(tmp_path, server, 8, "--max_new_tokens", "33", "--solver_prompt_idx", "2"))
    assert (outcome.summary["total"], outcome.summary["errors"], outcome.summary["remaining"]) == (8, 0, 0)
    assert outcome.summary["correct"] == sum(i % 3 == i % 2 for i in range(8))
    for index, entry in enumerate(entries(tmp_path)):
        assert (entry["data_idx"], entry["model_output"]) == (index, f"it is {index % 3}")
        assert (entry["prompt_tokens"], entry["generated_tokens"]) == (300, 7)
        assert (entry["stop_reason"], entry["error"], entry["initial_reward"]) == ("eos_token", None, None)
        assert entry["sys_prompt"] == prompts.SYSTEM_PROMPT
        assert entry["prompt"] == prompts.user_text(f"question {index}", 2, 0)
    (request,) = [r for r in sent(server) if "question 3\n" in r["messages"][1]["content"][-1]["text"]]
    assert request == {
        "model": "some-vlm",
        "temperature": 0,
        "max_tokens": 33,
        "messages": [
            {"role": "system", "content": prompts.SYSTEM_PROMPT},
            {"role": "user", "content": [{"type": "text", "text": prompts.user_text("question 3", 2, 0)}]},
        ],
    }
    assert {"journal", "entry", "verdict"} == {next(iter(line)) for line in journal_lines(tmp_path / "out")}


def test_the_prompt_is_that_of_the_local_path(tmp_path, serve, tiny, samples):
    """The chat template of a checkpoint makes the same text of our request as of the local prompt."""
    rows = [{"prompt": s.question, "solution": "1", "image_path": s.image} for s in samples]
    (tmp_path / "set.json").write_text(json.dumps(rows))
    server = serve(lambda request, nth: "1")
    limits = ("--min_pixels", "4", "--max_pixels", "64", "--batch_size", "1")
    execute(flags(tmp_path, server, str(tmp_path / "set.json"), *limits))
    for sample, request, entry in zip(samples, sent(server), entries(tmp_path), strict=True):
        local = tiny.encode(sample, 0, 0)
        template = tiny.processor.apply_chat_template(
            request["messages"], tokenize=False, add_generation_prompt=True
        )
        assert template == local.text
        assert entry["image_grid"] == (list(local.image_grid) if local.image_grid else None)
        if sample.image is not None:
            url = request["messages"][1]["content"][0]["image_url"]["url"]
            image = Image.open(io.BytesIO(base64.b64decode(url.removeprefix("data:image/png;base64,"))))
            wanted = fetch_image({"image": sample.image, "min_pixels": 4 * 784, "max_pixels": 64 * 784})
            np.testing.assert_array_equal(np.asarray(image), np.asarray(wanted))


@pytest.mark.parametrize("size", [1, 3])
def test_batch_size_is_the_number_of_requests_in_flight(tmp_path, serve, size):
    waiting = threading.Barrier(size)

    def behave(request, nth):
        waiting.wait(20)  # nobody is answered before `size` have arrived
        return "0"

    server = serve(behave)
    assert execute(flags(tmp_path, server, 2 * size, "--batch_size", str(size))).summary["errors"] == 0
    assert server.max_in_flight == size


def test_a_slow_answer_holds_up_nobody(tmp_path, serve):
    others = threading.Semaphore(0)

    def behave(request, nth):
        if number(request) == 0:
            for _ in range(9):
                assert others.acquire(timeout=20)
        else:
            others.release()
        return "0"

    server = serve(behave)
    assert execute(flags(tmp_path, server, 10, "--batch_size", "2")).summary["errors"] == 0


def test_seconds_add_up_to_the_time_of_the_run(tmp_path, serve):
    """Four at a time, 0.3 s each: 0.6 s in all, not 2.4."""
    server = serve(lambda request, nth: slowly(0.3, "0"))
    execute(flags(tmp_path, server, 8, "--batch_size", "4"))
    timing = json.loads((tmp_path / "out" / "results.json").read_text())["timing"]
    assert 0.55 < timing["sample_seconds"] <= timing["wall_seconds"]


def test_an_answer_cut_at_its_limit_is_told_to_the_verifier(tmp_path, serve):
    told = []

    class Asking(Verifier):
        def submit(self, output, row, truncated=False):
            told.append((output, truncated))
            return super().submit(output, row)

    replies = {0: completion("long", "length"), 1: completion(None, "length"), 2: completion("short", "stop")}
    server = serve(lambda request, nth: (200, {}, replies[number(request)]))
    execute(flags(tmp_path, server, 3), Asking())
    assert sorted(told) == [("", True), ("long", True), ("short", False)]
    assert [e["stop_reason"] for e in entries(tmp_path)] == ["length", "length", "eos_token"]


FAILURES = {
    "refused": (
        problem(400, "This model's maximum context length is 10 tokens"),
        "HTTP 400: This model's maximum",
    ),
    "filtered": ((200, {}, completion("I", "content_filter")), "ended the answer with 'content_filter'"),
    "empty": ((200, {}, completion(None)), "the answer is empty (stop)"),
    "no completion": ((200, {}, b'{"object": "list"}'), "no chat completion"),
    "no JSON": ((200, {}, b"<html>"), "the response"),
    "broken": (problem(500, "worker died"), "HTTP 500: worker died"),
    "hung up": (None, "connection failed"),
}


@pytest.mark.parametrize("name", FAILURES)
def test_a_failure_is_an_entry_with_its_reason_and_never_a_wrong_answer(tmp_path, serve, name):
    reply, part = FAILURES[name]
    server = serve(lambda request, nth: reply if number(request) == 1 else "0")
    outcome = execute(flags(tmp_path, server, 4))
    assert (outcome.summary["errors"], outcome.summary["total"]) == (1, 4)
    failed = entries(tmp_path)[1]
    assert part in failed["error"]
    assert server.url in failed["error"]
    assert (failed["stop_reason"], failed["verdict"], failed["is_correct"]) == ("exception", "unjudged", None)
    assert [e["error"] for e in entries(tmp_path) if e["data_idx"] != 1] == [None] * 3


def test_a_timeout_is_a_failure_after_its_attempts(tmp_path, serve, monkeypatch):
    monkeypatch.setattr(served, "RETRIES", 1)
    server = serve(lambda request, nth: slowly(3, "0") if number(request) == 0 else "1")
    execute(flags(tmp_path, server, 2, "--request_timeout", "0.3"))
    assert "no answer within 0.3 s, 2 attempts" in entries(tmp_path)[0]["error"]
    assert sum("question 0" in json.dumps(r) for r in sent(server)) == 2


def test_passing_trouble_is_tried_again(tmp_path, serve):
    troubles = [problem(503, "loading"), problem(429, "slow down", {"Retry-After": "0"}), None]
    server = serve(lambda request, nth: troubles[nth] if nth < 3 else "0")
    assert execute(flags(tmp_path, server, 1)).summary["errors"] == 0
    assert len(sent(server)) == 4


def test_an_image_that_has_gone_fails_alone(tmp_path, serve):
    rows = []
    for name in ("a.png", "b.png"):
        Image.new("RGB", (56, 56), "red").save(tmp_path / name)
        rows.append({"prompt": "question 0", "solution": "0", "image_path": name})
    (tmp_path / "set.json").write_text(json.dumps(rows))
    server = serve(lambda request, nth: (tmp_path / "b.png").unlink(missing_ok=True) or "0")
    execute(flags(tmp_path, server, str(tmp_path / "set.json"), "--batch_size", "1"))
    assert [e["error"] is None for e in entries(tmp_path)] == [True, False]
    assert entries(tmp_path)[1]["error"].startswith("FileNotFoundError")


def test_resume_asks_for_what_failed_and_for_nothing_else(tmp_path, serve):
    server = serve(lambda request, nth: problem(400, "not now") if number(request) == 2 and not nth else "0")
    argv = flags(tmp_path, server, 4)
    assert execute(argv).summary["errors"] == 1
    other = serve(lambda request, nth: "0")  # the server of the next day listens elsewhere
    argv[argv.index("--base_url") + 1] = other.url
    assert execute([*argv, "--resume"]).summary["errors"] == 0
    assert [number({"text": r["messages"][1]["content"][-1]["text"]}) for r in sent(other)] == [2]
    at = argv.index("--engine")
    with pytest.raises(UserError, match="--engine: was openai, now local"):
        execute([*argv[:at], *argv[at + 4 :], "--resume"])


@pytest.mark.parametrize(
    ("reply", "part"),
    [
        (problem(401, f"Incorrect key provided: {KEY}"), "HTTP 401: Incorrect key provided: [key]; set ENGINE_API_KEY"),
        (problem(404, "The model `some-vlm` does not exist."), "is --model_name_or_path the name"),
        (problem(400, "temperature is not supported"), "HTTP 400: temperature"),
        (None, "connection failed"),
    ],
)  # fmt: skip
def test_a_server_that_cannot_be_used_is_one_line_and_nothing_is_written(tmp_path, reply, part):
    server = ChatServer(lambda request, nth: reply)
    try:
        with pytest.raises(UserError) as caught:
            execute(flags(tmp_path, server, 3))
    finally:
        server.close()
    (line,) = caught.value.problems
    assert line.startswith(f"--base_url {server.url}: ")
    assert part in line
    assert KEY not in line
    assert not (tmp_path / "out").exists()


def test_no_server_at_all(tmp_path, serve, capsys):
    server = serve(lambda request, nth: "0")
    argv = flags(tmp_path, server, 3)
    server.close()
    assert main(["run", *argv]) == 2
    assert "connection failed" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_key_that_is_withdrawn_ends_the_run_and_resume_goes_on(tmp_path, serve):
    server = serve(lambda request, nth: "0" if number(request) < 3 else problem(401, "expired"))
    with pytest.raises(UserError, match=r"HTTP 401: expired; mend it and use --resume"):
        execute(flags(tmp_path, server, 50, "--batch_size", "1"))
    assert [e["model_output"] for e in entries(tmp_path)] == ["0"] * 3
    server.behave = lambda request, nth: GREETING if is_greeting(request) else "0"
    assert execute([*flags(tmp_path, server, 50), "--resume"]).summary["errors"] == 0


def test_a_server_that_dies_ends_the_run_soon(tmp_path, serve, monkeypatch):
    monkeypatch.setattr(served, "RETRIES", 0)
    server = serve(lambda request, nth: "0" if number(request) < 3 else None)
    with pytest.raises(UserError, match=r"connection failed .*, 64 times in a row; --resume continues"):
        execute(flags(tmp_path, server, 500, "--batch_size", "2"))
    found = entries(tmp_path)
    assert [e["error"] for e in found[:3]] == [None] * 3
    # Requests in flight beside the last good one may fail before it comes back, and its coming starts the count anew.
    assert 3 + 63 <= len(found) < 100
    # refusals are no sign of a dead server
    server.behave = lambda request, nth: GREETING if is_greeting(request) else problem(400, "too long")
    assert execute([*flags(tmp_path, server, 100), "--overwrite"]).summary["errors"] == 100


def test_newer_servers_get_the_limit_under_its_new_name(tmp_path):
    limits = []

    def behave(request, nth):
        if "max_tokens" in request:
            text = "'max_tokens' is not supported with this model. Use 'max_completion_tokens' instead."
            return problem(400, text, param="max_tokens", code="unsupported_parameter")
        limits.append(request["max_completion_tokens"])
        return "0"

    server = ChatServer(behave)
    try:
        assert execute(flags(tmp_path, server, 2, "--max_new_tokens", "9")).summary["errors"] == 0
    finally:
        server.close()
    assert limits == [1, 9, 9]


def test_a_limit_that_is_too_large_is_never_dropped(tmp_path, serve):
    text = "'max_tokens' or 'max_completion_tokens' is too large: 2048. The context length is 100 tokens"
    server = serve(lambda request, nth: problem(400, text, param="max_tokens"))
    execute(flags(tmp_path, server, 1))
    assert "too large" in entries(tmp_path)[0]["error"]
    assert [r["max_tokens"] for r in sent(server)] == [2048]


def authorization(headers):
    return {name.lower(): value for name, value in headers.items()}["authorization"]


def test_the_key_travels_in_the_header_and_is_in_no_file_or_log(tmp_path, serve, caplog, monkeypatch, capsys):
    """Servers that echo the key included; the judge's key does not travel here at all."""
    monkeypatch.setenv("OPENAI_API_KEY", "sk-judge-key")
    caplog.set_level(logging.DEBUG)
    echoes = (problem(400, f"bad header {KEY}"), f"your key is {KEY}")
    server = serve(lambda request, nth: echoes[number(request) % 2])
    execute(flags(tmp_path, server, 4))
    assert {authorization(headers) for headers in server.headers} == {f"Bearer {KEY}"}
    written = "".join(p.read_text() for p in (tmp_path / "out").rglob("*") if p.is_file())
    output = capsys.readouterr()
    assert "your key is [key]" in written
    assert "bad header [key]" in written
    for text in (written, caplog.text, output.out, output.err):
        assert KEY[3:] not in text
    monkeypatch.delenv("ENGINE_API_KEY")
    execute([*flags(tmp_path, server, 4), "--overwrite"])
    assert authorization(server.headers[-1]) == "Bearer none"


def test_an_interrupt_waits_for_what_is_in_flight(tmp_path, serve):
    server = serve(lambda request, nth: slowly(0.2, "0"))
    threading.Timer(0.5, os.kill, (os.getpid(), signal.SIGINT)).start()
    argv = flags(tmp_path, server, 14, "--batch_size", "2")
    outcome = execute(argv)
    assert outcome.interrupted
    done = entries(tmp_path)
    assert 0 < len(done) < 14
    assert len(done) == len(sent(server))
    assert all(entry["error"] is None for entry in done)
    assert execute([*argv, "--resume"]).summary["remaining"] == 0
    assert len(sent(server)) == 14


def test_a_second_interrupt_does_not_wait(tmp_path, serve):
    release = threading.Event()
    server = serve(lambda request, nth: release.wait(30) and "0")
    for delay in (0.5, 0.8):
        threading.Timer(delay, os.kill, (os.getpid(), signal.SIGINT)).start()
    begun = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        execute(flags(tmp_path, server, 2))
    assert time.monotonic() - begun < 20  # the server alone would take 30 s
    release.set()


OPENAI = ["--engine", "openai", "--method", "vanilla", "--base_url"]


@pytest.mark.parametrize(
    ("argv", "part"),
    [
        (["--engine", "openai", "--base_url", "http://h/v1"], "add --method vanilla"),
        (["--engine", "openai", "--method", "vanilla"], "without --base_url: give the server"),
        (["--base_url", "http://h/v1"], "--base_url without --engine openai"),
        ([*OPENAI, "localhost:8000"], "must begin with http"),
        ([*OPENAI, "https://me:pw@h/v1"], "ENGINE_API_KEY"),
        ([*OPENAI, "https://h/v1?key=pw"], "ENGINE_API_KEY"),
        ([*OPENAI, "http://h/v1", "--num_workers", "2"], "drop them"),
        ([*OPENAI, "http://h/v1", "--request_timeout", "0"], "above 0"),
        (["--engine", "vllm"], "must be one of local, openai"),
    ],
)
def test_impossible_combinations(argv, part, capsys, tmp_path):
    assert main(["run", *argv, "--output_dir", str(tmp_path / "out")]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("dmlr: error: --")
    assert part in line
    assert "pw" not in line
    assert not (tmp_path / "out").exists()


def test_all_wrong_combinations_at_once():
    with pytest.raises(UserError) as caught:
        resolve(["--engine", "openai", "--num_workers", "2"])
    assert len(caught.value.problems) == 3


def test_flags_that_are_the_servers_own_are_said_to_do_nothing():
    argv = [*OPENAI, "http://h/v1"]
    assert warnings_of(resolve(argv)) == []
    lines = warnings_of(resolve([*argv, "--device", "cpu", "--compile", "on"]))
    assert lines == [f"--{name} has no effect with --engine openai" for name in ("device", "compile")]


def test_one_question(serve, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Image.new("RGB", (56, 56), "red").save(tmp_path / "a.png")
    server = serve(
        lambda request, nth: "red" if len(request["messages"][1]["content"]) == 2 else problem(400, "no")
    )
    argv = [
        "--engine",
        "openai",
        "--method",
        "vanilla",
        "--base_url",
        server.url,
        "--question",
        "Which colour?",
    ]
    assert runner.ask(resolve([*argv, "--image", "a.png"])).answer == "red"
    with pytest.raises(UserError, match="HTTP 400: no"):
        runner.ask(resolve(argv))


SCRIPT = """
import json, sys
from dmlr.cli import main
code = main(sys.argv[1:])
print(json.dumps([code, [name for name in ("torch", "transformers", "ray") if name in sys.modules]]))
"""


def test_no_torch_on_the_way_to_a_server(tmp_path, serve):
    """The real command with the real rules, images included, in a process of its own."""
    Image.new("RGB", (56, 56), "red").save(tmp_path / "a.png")
    rows = [{"prompt": "How many?", "solution": "3", "image_path": "a.png"}]
    (tmp_path / "set.json").write_text(json.dumps(rows))
    server = serve(lambda request, nth: "So it is \\boxed{3}.")
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, "run", *flags(tmp_path, server, str(tmp_path / "set.json"))],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
        cwd=ROOT,
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.splitlines()[-1]) == [0, []]
    assert json.loads((tmp_path / "out" / "results.json").read_text())["correct"] == 1
