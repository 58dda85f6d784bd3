"""The command line: bad input gives one clear line each and exit code 2, and writes nothing; `.env`; the summary."""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import run_fakes
from PIL import Image
from run_fakes import Verifier, write_dataset

from dmlr import cli, runner
from dmlr.errors import UserError

torch = pytest.importorskip("torch")


def snapshot(folder):
    return {p.relative_to(folder): p.read_bytes() for p in Path(folder).rglob("*") if p.is_file()}


def rows(**changes):
    return [{"prompt": "How many?", "solution": "2", "image_path": None} | changes]


def make(folder):
    """Datasets, images and an output folder with the results of another configuration."""
    (folder / "not.json").write_text("{'a': 1}")
    (folder / "object.json").write_text("{}")
    (folder / "keys.json").write_text(json.dumps([{"question": "?"}, {"prompt": "x"}]))
    (folder / "empty.json").write_text(json.dumps(rows(solution="") + rows() + rows(solution=" ")))
    Image.new("RGB", (50, 50)).save(folder / "good.png")
    (folder / "broken.png").write_bytes((folder / "good.png").read_bytes()[:60])
    images = [rows(image_path=name)[0] for name in ("good.png", "none.png", "broken.png", "good.png")]
    (folder / "images.json").write_text(json.dumps(images))
    write_dataset(folder, 2, "good.json")
    (folder / "empty_model").mkdir()
    argv = ["--dataset", str(folder / "good.json"), "--output_dir", str(folder / "used"), "--verbose", "0"]
    runner.run(cli_config(argv), run_fakes.engine, Verifier())


def cli_config(argv):
    from dmlr.config import resolve

    return resolve(argv)


# name: flags (beside --output_dir out), what every error line must hold, in order
CASES = {
    "missing dataset": ("--dataset none.json", ["none.json: no such file"]),
    "not JSON": ("--dataset not.json", ["not.json: not JSON, line 1 column 2"]),
    "not a list": ("--dataset object.json", ["object.json: must be a JSON list"]),
    "rows without keys": (
        "--dataset keys.json",
        ['row 0: no "prompt" and no "solution"', 'row 1: no "solution"', "2 bad"],
    ),
    "empty solutions": (
        "--dataset empty.json",
        ["row 0: solution is empty", "row 2: solution is empty", "2 bad"],
    ),
    "bad images": (
        "--dataset images.json",
        ["row 1: image none.png: no such", "broken.png: broken", "2 bad rows"],
    ),
    "unknown flag": ("--dataset good.json --sigmma 3", ["--sigmma: unknown flag; did you mean --sigma?"]),
    "impossible value": (
        "--dataset good.json --top_k 0 --lr x",
        ["--lr x: needs a number", "--top_k 0: must be 1"],
    ),
    "pixels": ("--dataset good.json --max_pixels 200704", ["this can only be pixels; give 256"]),
    "wrong model": ("--dataset good.json --model_name_or_path ./none/model", ["./none/model"]),
    "folder without a model": ("--dataset good.json --model_name_or_path empty_model", ["empty_model"]),
    "cuda without CUDA": ("--dataset good.json --model_name_or_path demo --device cuda", ["no CUDA device"]),
    "other configuration": (
        "--dataset good.json --output_dir used --resume --seed 3",
        ["--seed: was 42, now 3", "give the old settings"],
    ),
    "existing folder": (
        "--dataset good.json --output_dir used",
        ["--resume continues them, --overwrite deletes"],
    ),
    "no question": ("--image good.png", ["--image without --question"]),
    "missing image": ("--image none.png --question what?", ["image none.png: no such file"]),
}


@pytest.mark.parametrize("name", CASES)
def test_bad_input(tmp_path, monkeypatch, capsys, name):
    if name == "cuda without CUDA" and torch.cuda.is_available():
        pytest.skip("this machine has CUDA")
    monkeypatch.setattr(os, "fsync", lambda file: None)
    monkeypatch.setattr(runner, "_metrics", lambda *_: {})
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.chdir(tmp_path)
    make(tmp_path)
    before = snapshot(tmp_path)
    line, parts = CASES[name]
    capsys.readouterr()
    output = [] if "--output_dir" in line or "--image" in line else ["--output_dir", "out"]
    assert cli.main(["run", *line.split(), *output]) == 2
    shown = capsys.readouterr()
    errors = [text for text in shown.err.splitlines() if text.startswith("dmlr: error: ")]
    assert len(errors) == len(parts), shown.err
    for text, part in zip(errors, parts):
        assert part in text
    assert "Traceback" not in shown.err
    assert shown.out == ""
    assert snapshot(tmp_path) == before


def test_last_line_is_one_json_document(tmp_path, monkeypatch, capsys):
    real = runner.run
    monkeypatch.setattr(runner, "run", lambda config: real(config, run_fakes.engine, Verifier()))
    monkeypatch.setattr(runner, "_metrics", lambda *_: {})
    argv = ["--dataset", write_dataset(tmp_path, 4), "--output_dir", str(tmp_path / "out")]
    assert cli.main(["run", *argv]) == 0
    lines = capsys.readouterr().out.splitlines()
    summary = json.loads(lines[-1])
    assert (summary["total"], summary["remaining"], summary["errors"]) == (4, 0, 0)
    assert any(text.startswith("accuracy: 0.5") for text in lines)


def test_interrupt_exits_130(monkeypatch, capsys):
    def interrupted(argv):
        raise KeyboardInterrupt

    monkeypatch.setattr(cli, "run_main", interrupted)
    assert cli.main(["run"]) == 130
    assert "interrupted" in capsys.readouterr().err


def test_a_reader_that_goes_away_is_no_error():
    """`dmlr judge ... | head -0`: no traceback, and the exit code of a program that SIGPIPE ended."""
    words = [sys.executable, "-m", "dmlr", "judge", "--output", "1", "--solution", "1"]
    read, write = os.pipe()
    os.close(read)
    done = subprocess.run(words, stdout=write, stderr=subprocess.PIPE, text=True, timeout=120, check=False)
    os.close(write)
    assert done.returncode == cli.NOBODY_READS
    assert done.stderr == ""


def test_another_broken_pipe_is_not_hidden(monkeypatch):
    def lost(argv):
        raise BrokenPipeError("a worker's pipe")

    monkeypatch.setattr(cli, "_command", lambda name: lost)
    with pytest.raises(BrokenPipeError, match="worker"):
        cli.main(["judge"])


def test_every_command_is_listed_and_exists(capsys):
    assert cli.main(["--help"]) == 0
    shown = capsys.readouterr().out
    for name, (target, _) in cli.COMMANDS.items():
        assert name in shown
        assert importlib.util.find_spec(target.split(":")[0]), f"{name}: {target}"
    assert cli.main(["nonsense"]) == 2
    assert "unknown command" in capsys.readouterr().err
    assert cli.main([]) == 2


def test_env_file_never_overrides(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / ".env").write_text(
        "MODEL_TYPE=from-file\nOPENAI_API_BASE_URL=http://file\nHUGGING_FACE_TOKEN=t\n"
    )
    monkeypatch.setenv("MODEL_TYPE", "from-shell")
    for name in ("OPENAI_API_BASE_URL", "HUGGING_FACE_TOKEN", "HF_TOKEN"):
        monkeypatch.setenv(name, "")  # so that what is set below is put back
        monkeypatch.delenv(name)
    cli.set_up_environment()
    assert os.environ["MODEL_TYPE"] == "from-shell"
    assert os.environ["OPENAI_API_BASE_URL"] == "http://file"
    assert os.environ["HF_TOKEN"] == "t"


def test_unknown_log_level(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LOG_LEVEL", "LOUD")
    with pytest.raises(UserError, match="LOUD"):
        cli.set_up_environment()


def test_the_shipped_env_example_names_what_is_read():
    text = (Path(cli.__file__).parents[1] / ".env.example").read_text()
    for name in ("OPENAI_API_KEY", "OPENAI_API_BASE_URL", "MODEL_TYPE", "HUGGING_FACE_TOKEN", "LOG_LEVEL"):
        assert f"{name}=" in text
