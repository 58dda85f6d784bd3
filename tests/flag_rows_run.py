"""Rows of the flag table: data, files, workers, presets. See `test_proof_9_every_flag_acts.py`."""

import functools
import json
import sys
from concurrent.futures import Future
from types import SimpleNamespace

import pytest
import run_fakes
import torch
from chat_server import ChatServer, slowly
from flag_tools import flag

from dmlr import runner
from dmlr.cli import run_main
from dmlr.config import resolve
from dmlr.data import load_dataset
from dmlr.errors import UserError
from dmlr.validation import warnings_of
from dmlr.verifier.verdict import Verdict

# ---- judging ------------------------------------------------------------------------------------------------------

DECIDED = ("so it is \\boxed{3}", {"prompt": "How many?", "solution": "3"})
OPEN = ("\\boxed{the crimson home}", {"prompt": "What is shown?", "solution": "a red house by the sea"})


def asked_judge(tools, *words):
    """Outputs of the two answers above that reach the judge under these flags; its server is not there."""
    judge = pytest.importorskip("dmlr.verifier.judge")
    tools.monkeypatch.setenv("OPENAI_API_BASE_URL", "http://127.0.0.1:9")
    tools.monkeypatch.setenv("MODEL_TYPE", "some-judge")
    asked = []

    def submit(self, question, choices, gold, answer, output):
        asked.append(output)
        future = Future()
        future.set_result(Verdict("correct", "judge:some-judge", "", answer))
        return future

    tools.monkeypatch.setattr(judge.Judge, "submit", submit)
    verifier = runner.make_verifier(resolve(tools.argv(*words)))
    verdicts = [verifier.submit(*case).result(timeout=60) for case in (DECIDED, OPEN)]
    verifier.close()
    return asked, [v.verdict for v in verdicts]


@flag("use_llm_verify")
def _(tools):
    assert asked_judge(tools) == ([], ["correct", "unjudged"])
    assert asked_judge(tools, "--use_llm_verify") == ([OPEN[0]], ["correct", "correct"])
    for name in ("OPENAI_API_BASE_URL", "OPENAI_API_KEY", "MODEL_TYPE"):
        tools.monkeypatch.delenv(name, raising=False)
    with pytest.raises(UserError, match="OPENAI_API_KEY"):
        runner.make_verifier(resolve(tools.argv("--use_llm_verify")))


@flag("judge_all")
def _(tools):
    assert asked_judge(tools, "--use_llm_verify", "--judge_all")[0] == [DECIDED[0], OPEN[0]]
    (line,) = warnings_of(resolve(["--judge_all"]))
    assert "no effect without --use_llm_verify" in line


@flag("judge_concurrency")
def _(tools):
    tools.monkeypatch.setenv("OPENAI_API_BASE_URL", "http://127.0.0.1:9")
    tools.monkeypatch.setenv("MODEL_TYPE", "some-judge")
    verifier = runner.make_verifier(resolve(tools.argv("--use_llm_verify", "--judge_concurrency", "3")))
    assert verifier.judge.config.concurrency == 3
    verifier.close()


@flag("verify_only")
def _(tools):
    """The real rules judge again what the fake verifier judged; nothing is answered."""
    tools.command()
    path = tools.tmp_path / "out" / "results.json"
    before = json.loads(path.read_text())
    tools.monkeypatch.setattr(runner, "run", None)
    assert run_main(tools.argv("--verify_only")) == 0
    after = json.loads(path.read_text())
    assert {e["verdict_by"] for e in before["entries"]} == {"rules:test"}
    assert "rules:test" not in {e["verdict_by"] for e in after["entries"]}
    assert [e["model_output"] for e in after["entries"]] == [e["model_output"] for e in before["entries"]]


# ---- a server instead of a model ----------------------------------------------------------------------------------


def asked_server(tools, behave, *words):
    """The outcome of a run against a server of this test, and what the server was asked."""
    server = ChatServer(behave)
    try:
        engine = ("--engine", "openai", "--method", "vanilla", "--base_url", server.url)
        return tools.command(*engine, "--overwrite", *words, engine=None), server
    finally:
        server.close()


@flag("engine")
def _(tools):
    """The local engine is what `tools.command` is given; the server's answers come over HTTP."""
    assert tools.command().outcome.summary["errors"] == 0
    _, server = asked_server(tools, lambda request, nth: "1")
    assert len(server.requests) == 1 + 3  # the first is to see whether it works
    with pytest.raises(UserError, match="add --method vanilla"):
        resolve(["--engine", "openai", "--base_url", "http://localhost:8000/v1"])


@flag("base_url")
def _(tools):
    _, server = asked_server(tools, lambda request, nth: "1")
    assert server.requests
    with pytest.raises(UserError, match="without --base_url"):
        resolve(["--engine", "openai", "--method", "vanilla"])
    with pytest.raises(UserError, match="--base_url without --engine openai"):
        resolve(["--base_url", "http://localhost:8000/v1"])


@flag("request_timeout")
def _(tools):
    tools.monkeypatch.setattr("dmlr.served.RETRIES", 0)
    slow = functools.partial(slowly, 1.0, "1")
    for seconds, errors in (("0.3", 3), ("600", 0)):
        run, _ = asked_server(
            tools,
            lambda request, nth: "1" if request["max_tokens"] == 1 else slow(),
            "--request_timeout",
            seconds,
        )
        assert run.outcome.summary["errors"] == errors


# ---- the run ------------------------------------------------------------------------------------------------------


def batches(sizes):
    """The fake engine, noting how many samples it is given at a time."""

    def engine(config):
        def answer(samples):
            sizes.append(len(samples))
            return run_fakes.answer(samples)

        return answer

    return engine


@flag("dataset")
def _(tools):
    for name, count in (("a.json", 2), ("b.json", 3)):
        path = run_fakes.write_dataset(tools.tmp_path, count, name)
        assert len(load_dataset(resolve(["--dataset", path]).run).samples) == count


@flag("output_dir")
def _(tools):
    tools.command(
        "--output_dir", str(tools.tmp_path / "elsewhere"), "--output_dir", str(tools.tmp_path / "out")
    )
    assert (tools.tmp_path / "out" / "results.json").is_file()
    assert not (tools.tmp_path / "elsewhere").exists()


def indices(tools, *words):
    return [s.data_idx for s in load_dataset(resolve(tools.argv(*words, questions=6)).run).samples]


@flag("start_data_idx")
def _(tools):
    assert indices(tools, "--start_data_idx", "4") == [4, 5]


@flag("end_data_idx")
def _(tools):
    assert indices(tools, "--end_data_idx", "2") == [0, 1]
    assert indices(tools, "--end_data_idx", "99") == [0, 1, 2, 3, 4, 5]


@flag("seed")
def _(tools):
    zero, one, again = (tools.engine(seed=s, max_num_steps=1).candidates[0] for s in (0, 1, 0))
    assert torch.equal(zero, again)
    assert not torch.equal(zero, one)


@flag("resume")
def _(tools):
    sizes = []
    tools.command()
    with pytest.raises(UserError, match="--resume continues"):
        tools.command()
    tools.command("--resume", engine=batches(sizes))
    assert sizes == []  # everything was answered
    with pytest.raises(UserError, match="--seed: was 42, now 7"):
        tools.command("--resume", "--seed", "7")


@flag("overwrite")
def _(tools):
    sizes = []
    tools.command()
    tools.command("--overwrite", engine=batches(sizes))
    assert sum(sizes) == 3


@flag("verbose")
def _(tools):
    said = [tools.command("--verbose", v, "--overwrite").err for v in ("0", "1", "2")]
    assert ["tokens (eos_token)" in text for text in said] == [False, True, True]
    assert ["step 1: reward" in text for text in said] == [False, False, True]


@flag("batch_size")
def _(tools):
    for size, expected in (("2", [2, 2, 1]), ("5", [5]), ("auto", [5])):
        sizes = []
        tools.command("--batch_size", size, "--overwrite", questions=5, engine=batches(sizes))
        assert sizes == expected


def crew_of(tools, *words):
    """The kind of crew that these flags get; Ray is not started."""
    fake = SimpleNamespace(RayCrew=lambda config, engine, dataset: ("ray", config.run.num_workers))
    config = resolve(tools.argv(*words))
    with tools.monkeypatch.context() as patch:
        patch.setitem(sys.modules, "dmlr.workers", fake)
        return runner.make_crew(config, run_fakes.engine, load_dataset(config.run))


@flag("num_workers")
def _(tools):
    assert isinstance(crew_of(tools), runner.InProcess)
    assert crew_of(tools, "--num_workers", "3") == ("ray", 3)


@flag("ray_address")
def _(tools):
    assert crew_of(tools, "--ray_address", "host:1") == ("ray", 1)
    ray = pytest.importorskip("ray")

    def init(address, **_):
        raise ConnectionError("nobody there")

    tools.monkeypatch.setattr(ray, "init", init)
    config = resolve(tools.argv("--ray_address", "host:1"))
    with pytest.raises(UserError, match="--ray_address host:1: no cluster there"):
        runner.make_crew(config, run_fakes.engine, load_dataset(config.run))


def gpu_share(*words):
    """GPUs that Ray reserves for each of four workers on a machine with two."""
    workers = pytest.importorskip("dmlr.workers")
    options, _ = workers.placement(resolve(["--num_workers", "4", *words]), {"GPU": 2.0, "CPU": 8.0})
    return options["num_gpus"]


@flag("worker_device_round_robin")
def _(tools):
    with pytest.raises(UserError, match="--num_workers 4: 1 GPUs each are more than the 2 here"):
        gpu_share()
    assert gpu_share("--worker_device_round_robin") == 0.5


@flag("gpus_per_worker")
def _(tools):
    assert gpu_share("--gpus_per_worker", "0.25") == 0.25


@flag("limit_seconds")
def _(tools):
    questions = ["sleep:0.2"] * 3
    run = tools.command("--limit_seconds", "0.1", "--batch_size", "1", questions=questions)
    assert "time limit" in run.outcome.stopped
    assert run.outcome.summary["remaining"] == 2


@flag("save_reward_csv")
def _(tools):
    name = "reward_logs/reward_steps_000001.csv"
    assert name in tools.command().files
    assert name not in tools.command("--save_reward_csv", "false", "--overwrite").files


@flag("save_latents")
def _(tools):
    assert tools.engine(save_latents=False, max_num_steps=0).prediction.thoughts is None
    assert tools.engine(save_latents=True, max_num_steps=0).prediction.thoughts.shape == (3, 64)


@flag("ckpt_suffix")
def _(tools):
    assert warnings_of(resolve([])) == []
    (line,) = warnings_of(resolve(["--ckpt_suffix", "last"]))
    assert "--ckpt_suffix has no effect" in line


@flag("disable_save_logistics")
def _(tools):
    assert "journal.jsonl" in tools.command().files
    assert "journal.jsonl" not in tools.command("--disable_save_logistics", "--overwrite").files
    assert any("cannot be resumed" in line for line in warnings_of(resolve(["--disable_save_logistics"])))


def rows_of(tools, *rows):
    path = tools.tmp_path / "rows.json"
    path.write_text(json.dumps(rows))
    return str(path)


@flag("skip_bad_rows")
def _(tools):
    path = rows_of(tools, {"prompt": "a", "solution": "1"}, {"prompt": "b"})
    with pytest.raises(UserError, match='row 1: no "solution"'):
        load_dataset(resolve(["--dataset", path]).run)
    samples = load_dataset(resolve(["--dataset", path, "--skip_bad_rows"]).run).samples
    assert [s.problem for s in samples] == [None, 'no "solution"']


@flag("allow_remote_images")
def _(tools):
    address = "https://example.org/a.png"
    path = rows_of(tools, {"prompt": "a", "solution": "1", "image_path": address})
    with pytest.raises(UserError, match="allow it with --allow_remote_images"):
        load_dataset(resolve(["--dataset", path]).run)
    (sample,) = load_dataset(resolve(["--dataset", path, "--allow_remote_images"]).run).samples
    assert (sample.image, sample.problem) == (address, None)


@flag("preset")
def _(tools):
    assert resolve(["--preset", "paper"]).latent.sigma == 10.0
    assert resolve([]).latent == resolve(["--preset", "reference"]).latent
    assert resolve(["--preset", "tuned"]).latent != resolve([]).latent


@flag("config")
def _(tools):
    file = tools.tmp_path / "flags.yaml"
    file.write_text("seed: 5\n")
    assert resolve(["--config", str(file)]).run.seed == 5


def asked(*words):
    """The sample that the engine is given for one question."""
    given = []

    def engine(config):
        def answer(samples):
            given.extend(samples)
            return run_fakes.answer(samples)

        return answer

    runner.ask(resolve(words), engine)
    (sample,) = given
    return sample


@flag("question")
def _(tools):
    sample = asked("--question", "What is it?")
    assert (sample.question, sample.image) == ("What is it?", None)


@flag("image")
def _(tools):
    path = tools.samples[0].image
    assert asked("--question", "What is it?", "--image", path).image == path
