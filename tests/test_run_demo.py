"""End to end on the shipped demo: the README's command, `kill -9` and resume, workers, and pictures that bite."""

import json
import os
import signal
import struct
import subprocess
import sys
import time
import zlib
from pathlib import Path

import pytest
from PIL import Image
from run_fakes import comparable, journal_lines

ROOT = Path(__file__).resolve().parents[1]
COMMON = "--model_name_or_path demo --device cpu --max_num_steps 2 --max_new_tokens 48 --verbose 0"

pytestmark = pytest.mark.skipif(
    not (ROOT / "data" / "demo" / "model").is_dir(), reason="the demo model is not in this checkout"
)


def command(folder, *more, dataset="demo"):
    words = [sys.executable, str(ROOT / "main.py"), *COMMON.split(), "--dataset", dataset]
    return [*words, "--output_dir", str(folder), *more]


def execute(folder, *more, dataset="demo", code=0):
    done = subprocess.run(command(folder, *more, dataset=dataset), cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == code, done.stderr[-3000:]
    return done


def entries(folder):
    return comparable(folder)["entries"]


def assert_same_entries(one, other):
    """Equal but for rounding: another batch sums in another order."""
    assert len(one) == len(other)
    for a, b in zip(one, other):
        for key in ("initial_reward", "best_reward"):
            assert a.pop(key) == pytest.approx(b.pop(key), abs=1e-4)
        assert a == b


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """An uninterrupted run over ten rows of the demo, three at a time."""
    folder = tmp_path_factory.mktemp("whole") / "out"
    return folder, execute(folder, "--end_data_idx", "10", "--batch_size", "3")


def test_command_of_the_readme(whole):
    folder, done = whole
    summary = json.loads(done.stdout.splitlines()[-1])
    assert (summary["remaining"], summary["errors"]) == (0, 0)
    found = entries(folder)
    assert [e["data_idx"] for e in found] == list(range(10))
    assert all(e["best_reward"] >= e["initial_reward"] for e in found)
    assert all("<|image_pad|>" in e["prompt"] and e["question"] in e["prompt"] for e in found)
    assert len(list((folder / "reward_logs").iterdir())) == 10


def test_another_batch_size_gives_the_same(whole, tmp_path):
    execute(tmp_path / "out", "--end_data_idx", "10", "--batch_size", "1")
    assert_same_entries(entries(tmp_path / "out"), entries(whole[0]))


def test_kill_and_resume_on_the_demo(whole, tmp_path):
    folder = tmp_path / "out"
    arguments = ("--end_data_idx", "10", "--batch_size", "3")
    process = subprocess.Popen(command(folder, *arguments), cwd=ROOT, stderr=subprocess.DEVNULL)
    journal = folder / "journal.jsonl"
    while process.poll() is None and not (journal.exists() and b'{"entry"' in journal.read_bytes()):
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (folder / "results.json").exists()
    execute(folder, *arguments, "--resume")
    assert_same_entries(entries(folder), entries(whole[0]))
    indices = [line["entry"]["data_idx"] for line in journal_lines(folder) if "entry" in line]
    assert sorted(indices) == list(range(10))


def test_verify_only_loads_no_model(whole, tmp_path):
    code = (
        "import sys; from dmlr.cli import main; code = main(sys.argv[1:]); "
        "print('torch' in sys.modules, file=sys.stderr); sys.exit(code)"
    )
    before = json.loads((whole[0] / "results.json").read_text())
    words = ["run", "--verify_only", "--output_dir", str(whole[0]), "--dataset", "demo"]
    done = subprocess.run([sys.executable, "-c", code, *words], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stderr.strip().endswith("False")
    after = json.loads((whole[0] / "results.json").read_text())
    assert [e["verdict"] for e in after["entries"]] == [e["verdict"] for e in before["entries"]]


def test_one_question():
    row = json.loads((ROOT / "data" / "demo" / "demo.json").read_text())[0]
    words = ["--image", str(ROOT / "data" / "demo" / row["image_path"]), "--question", row["prompt"]]
    command_line = [sys.executable, "main.py", *COMMON.split(), *words]
    done = subprocess.run(command_line, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    summary = json.loads(done.stdout.splitlines()[-1])
    assert summary["answer"].strip()
    assert done.stdout.startswith(summary["answer"].splitlines()[0])


def biting_pictures(folder):
    """A 100 MB corrupt PNG, a 50,000 x 50,000 image in a kilobyte, one pixel, an image of 300:1, a sound one."""

    def chunk(kind, body):
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    def header(width, height):
        return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))

    corrupt = os.urandom(1 << 20) * 100
    (folder / "corrupt.png").write_bytes(header(9000, 9000) + chunk(b"IDAT", corrupt) + chunk(b"IEND", b""))
    (folder / "bomb.png").write_bytes(header(50_000, 50_000) + chunk(b"IDAT", zlib.compress(bytes(1000))))
    Image.new("RGB", (1, 1), "red").save(folder / "pixel.png")
    Image.new("RGB", (3000, 10), "red").save(folder / "long.png")
    Image.new("RGB", (140, 140), "blue").save(folder / "sound.png")
    names = ("corrupt.png", "bomb.png", "pixel.png", "long.png", "sound.png")
    rows = [{"prompt": "How many shapes are there?", "solution": "1", "image_path": name} for name in names]
    (folder / "set.json").write_text(json.dumps(rows))
    return str(folder / "set.json")


def test_pictures_that_bite(tmp_path):
    done = execute(tmp_path / "out", "--skip_bad_rows", dataset=biting_pictures(tmp_path))
    found = entries(tmp_path / "out")
    assert "broken" in found[0]["error"]
    assert "too many pixels" in found[1]["error"]
    assert found[2]["error"] is None
    assert "200:1" in found[3]["error"]
    assert found[4]["error"] is None
    assert json.loads(done.stdout.splitlines()[-1])["errors"] == 3


@pytest.mark.slow
@pytest.mark.parametrize("count", ["2", "4"])
def test_workers_give_the_same(whole, tmp_path, count):
    execute(tmp_path / "out", "--end_data_idx", "10", "--num_workers", count)
    assert_same_entries(entries(tmp_path / "out"), entries(whole[0]))
