"""`kill -9` at random moments: the resumed run ends with the files of an uninterrupted one."""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
import run_fakes
from run_fakes import comparable, journal_lines, write_dataset

ROOT = Path(run_fakes.__file__).resolve().parents[1]
SAMPLES = 60


def start(tmp_path, folder, *more):
    """`dmlr run` with the fake model as a process of its own."""
    command = [sys.executable, run_fakes.__file__, "--dataset", str(tmp_path / "set.json")]
    command += ["--output_dir", str(folder), "--verbose", "0", "--batch_size", "3", *more]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])}
    return subprocess.Popen(
        command, env=environment, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )


def finish(process):
    out, err = process.communicate(timeout=200)
    assert process.returncode == 0, err[-2000:]
    return out


def files(folder):
    """Every result file, so that a missing or half-written one shows."""
    logs = {path.name: path.read_text() for path in sorted((folder / "reward_logs").iterdir())}
    names = {path.name for path in folder.iterdir()}
    return comparable(folder), logs, names


def entries(folder):
    path = folder / "journal.jsonl"
    return path.read_bytes().count(b'{"entry"') if path.exists() else 0


def wait_for(process, folder, count):
    """Until the journal holds `count` entries (True), or the process has ended (False)."""
    while process.poll() is None:
        if entries(folder) >= count:
            return True
        time.sleep(0.005)
    return False


@pytest.fixture(scope="module")
def reference(tmp_path_factory):
    """Dataset and the files of an uninterrupted run."""
    tmp_path = tmp_path_factory.mktemp("whole")
    write_dataset(tmp_path, [f"sleep:0.01 question {i}" for i in range(SAMPLES)])
    finish(start(tmp_path, tmp_path / "out"))
    return tmp_path, files(tmp_path / "out")


def assert_same(folder, expected):
    assert files(folder) == expected
    indices = [line["entry"]["data_idx"] for line in journal_lines(folder) if "entry" in line]
    assert sorted(indices) == list(range(SAMPLES))


def test_killed_again_and_again(reference, tmp_path):
    whole, expected = reference
    folder, moments = tmp_path / "out", random.Random(7)
    kills = 0
    while entries(folder) < SAMPLES:
        process = start(whole, folder, "--resume")
        if wait_for(process, folder, entries(folder) + moments.randint(1, 15)):
            time.sleep(moments.random() * 0.03)
            process.kill()
            kills += 1
        process.communicate()
    finish(start(whole, folder, "--resume"))
    assert kills >= 3
    assert_same(folder, expected)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_parent_or_worker_killed_at_twenty_random_moments(reference, tmp_path):
    """Two Ray workers; each time the parent or one of its workers, at random, is killed, then the run resumed."""
    whole, expected = reference
    moments = random.Random(20)
    struck = {"parent": 0, "worker": 0}
    for turn in range(20):
        folder = tmp_path / f"out-{turn}"
        process = start(whole, folder, "--num_workers", "2", "--device", "cpu")
        if wait_for(process, folder, moments.randint(0, SAMPLES - 6)):
            time.sleep(moments.random() * 0.05)
            children = psutil.Process(process.pid).children(recursive=True)
            models = [child for child in children if "Worker" in " ".join(child.cmdline())]
            if moments.random() < 0.5 and models:
                os.kill(moments.choice(models).pid, signal.SIGKILL)
                struck["worker"] += 1
            else:
                process.kill()
                struck["parent"] += 1
        process.communicate(timeout=300)
        finish(start(whole, folder, "--resume"))
        assert_same(folder, expected)
    assert min(struck.values()) >= 3
