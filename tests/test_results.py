"""The output folder: what is refused before a model loads, the journal, full disks, latents."""

import errno
import json
import os
import shutil
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
import run_fakes
from filelock import FileLock
from run_fakes import Verifier, comparable, journal_lines, write_dataset

from dmlr import journal, results, runner
from dmlr.config import FLAGS, resolve
from dmlr.data import load_dataset
from dmlr.errors import UserError
from dmlr.journal import Journal, encode, read_journal
from dmlr.results import FREE_SETTINGS, Results, model_identity


@pytest.fixture(autouse=True)
def light(monkeypatch):
    """No benchmark metrics, and no waiting for a busy disk: what fsync promises cannot be tested here."""
    monkeypatch.setattr(runner, "_metrics", lambda *_: {})
    monkeypatch.setattr(os, "fsync", lambda file: None)


def flags(tmp_path, *more, count=4):
    dataset = write_dataset(tmp_path, count)
    return resolve(["--dataset", dataset, "--output_dir", str(tmp_path / "out"), "--verbose", "0", *more])


def execute(config, engine=run_fakes.engine):
    return runner.run(config, engine, Verifier())


def never_loads(config):
    raise AssertionError("the model must not be loaded")


def snapshot(folder):
    return {p.relative_to(folder): p.read_bytes() for p in Path(folder).rglob("*") if p.is_file()}


def test_existing_results_need_resume_or_overwrite(tmp_path):
    execute(flags(tmp_path))
    before = snapshot(tmp_path / "out")
    with pytest.raises(UserError, match="--resume continues them, --overwrite deletes"):
        execute(flags(tmp_path), never_loads)
    assert snapshot(tmp_path / "out") == before


def test_overwrite_deletes_only_results(tmp_path):
    execute(flags(tmp_path, count=4))
    (tmp_path / "out" / "notes.txt").write_text("mine")
    execute(flags(tmp_path, "--overwrite", "--end_data_idx", "2"))
    assert len(comparable(tmp_path / "out")["entries"]) == 2
    assert len(list((tmp_path / "out" / "reward_logs").iterdir())) == 2
    assert (tmp_path / "out" / "notes.txt").read_text() == "mine"


def test_overwrite_deletes_nothing_when_the_model_does_not_load(tmp_path):
    execute(flags(tmp_path))
    before = snapshot(tmp_path / "out")

    def engine(config):
        raise UserError("no model")

    with pytest.raises(UserError, match="no model"):
        execute(flags(tmp_path, "--overwrite"), engine)
    assert snapshot(tmp_path / "out") == before


def test_resume_names_every_setting_that_differs(tmp_path):
    execute(flags(tmp_path))
    before = snapshot(tmp_path / "out")
    write_dataset(tmp_path, ["another question"])
    argv = ["--dataset", str(tmp_path / "set.json"), "--output_dir", str(tmp_path / "out"), "--resume"]
    with pytest.raises(UserError) as caught:
        execute(resolve([*argv, "--seed", "7", "--sigma", "1", "--model_name_or_path", "other"]), never_loads)
    text = str(caught.value)
    for part in (
        "--seed: was 42, now 7",
        "--sigma: was 20.0, now 1.0",
        "--dataset: its content",
        "now other",
    ):
        assert part in text
    assert snapshot(tmp_path / "out") == before


def test_free_settings_are_flags_and_may_differ(tmp_path):
    assert set(FLAGS) >= FREE_SETTINGS
    execute(flags(tmp_path))
    more = ["--resume", "--batch_size", "3", "--verbose", "1", "--device", "cpu", "--limit_seconds", "100"]
    assert execute(flags(tmp_path, *more), never_loads).summary["remaining"] == 0


def test_a_flag_younger_than_the_run_counts_as_its_default(tmp_path):
    execute(flags(tmp_path))
    path = tmp_path / "out" / "journal.jsonl"
    lines = journal_lines(tmp_path / "out")
    assert lines[0]["settings"].pop("engine") == "local"
    path.write_bytes(b"".join(encode(line) for line in lines))
    execute(flags(tmp_path, "--resume"), never_loads)
    server = ("--engine", "openai", "--method", "vanilla", "--base_url", "http://127.0.0.1:9/v1")
    with pytest.raises(UserError, match="--engine: was local, now openai"):
        execute(flags(tmp_path, "--resume", *server), never_loads)


def test_resume_of_an_empty_folder_starts(tmp_path):
    assert execute(flags(tmp_path, "--resume")).summary["total"] == 4


def test_resume_without_journal_is_refused(tmp_path):
    execute(flags(tmp_path, "--disable_save_logistics"))
    with pytest.raises(UserError, match="no journal"):
        execute(flags(tmp_path, "--resume"), never_loads)


def test_failed_entries_are_tried_again(tmp_path):
    def engine(config):
        def answer(samples):
            raise ValueError("bad day")

        return answer

    assert execute(flags(tmp_path), engine).summary["errors"] == 4
    assert execute(flags(tmp_path, "--resume")).summary["errors"] == 0
    execute(flags(tmp_path, "--resume"), never_loads)


def test_moved_run_resumes_with_dataset_and_model_elsewhere(tmp_path):
    here, there = tmp_path / "here", tmp_path / "there"
    (here / "model").mkdir(parents=True)
    (here / "model" / "config.json").write_text("{}")
    argv = ["--model_name_or_path", str(here / "model")]
    execute(flags(here, *argv))
    shutil.move(here, there)
    assert str(here) not in json.dumps(journal_lines(there / "out")[1:])
    execute(flags(there, "--resume", "--model_name_or_path", str(there / "model")), never_loads)
    (there / "model" / "config.json").write_text('{"other": 1}')
    with pytest.raises(UserError, match="model_name_or_path"):
        execute(flags(there, "--resume", "--model_name_or_path", str(there / "model")), never_loads)


def test_model_identity_of_a_hub_id_is_the_id():
    assert model_identity("Qwen/Qwen2.5-VL-7B-Instruct") == "Qwen/Qwen2.5-VL-7B-Instruct"


def test_second_run_on_the_folder_is_refused(tmp_path):
    (tmp_path / "out").mkdir()
    with FileLock(tmp_path / "out" / ".lock"), pytest.raises(UserError, match="another run is writing"):
        execute(flags(tmp_path), never_loads)


def test_folder_taken_while_the_model_loads_is_refused(tmp_path):
    def engine(config):
        execute(flags(tmp_path))  # another run is faster
        return run_fakes.engine(config)

    with pytest.raises(UserError, match="while this one was loading"):
        execute(flags(tmp_path), engine)
    assert len(comparable(tmp_path / "out")["entries"]) == 4


def test_output_dir_that_is_a_file(tmp_path):
    (tmp_path / "out").write_text("x")
    with pytest.raises(UserError, match="is a file"):
        execute(flags(tmp_path), never_loads)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_read_only_parent(tmp_path):
    config = flags(tmp_path)
    tmp_path.chmod(0o500)
    try:
        with pytest.raises(UserError, match="cannot be written"):
            execute(config, never_loads)
    finally:
        tmp_path.chmod(0o700)


@pytest.mark.parametrize("cut", [1, 7, 100])
def test_torn_last_line_is_cut_off(tmp_path, cut):
    execute(flags(tmp_path))
    whole = comparable(tmp_path / "out")
    path = tmp_path / "out" / "journal.jsonl"
    path.write_bytes(path.read_bytes()[:-cut])
    (tmp_path / "out" / "results.json").unlink()
    (tmp_path / "out" / ".results.json.abc").write_text("half")
    execute(flags(tmp_path, "--resume"))
    assert comparable(tmp_path / "out") == whole
    assert not (tmp_path / "out" / ".results.json.abc").exists()
    read_journal(path)


def test_torn_tail_longer_than_what_follows_leaves_nothing(tmp_path):
    path = tmp_path / "journal.jsonl"
    header = encode({"journal": 1})
    path.write_bytes(header + b'{"entry": ' + b"x" * 5000)
    store = Journal(path, read_journal(path).length)
    store.append([{"entry": {"data_idx": 3}}])
    store.close()
    assert path.read_bytes() == header + encode({"entry": {"data_idx": 3}})


def test_journal_cut_anywhere_resumes_to_the_same_results(tmp_path):
    execute(flags(tmp_path))
    whole, path = comparable(tmp_path / "out"), tmp_path / "out" / "journal.jsonl"
    content = path.read_bytes()
    for length in range(0, len(content), 797):
        path.write_bytes(content[:length])
        execute(flags(tmp_path, "--resume"))
        assert comparable(tmp_path / "out") == whole
        entries = [line["entry"]["data_idx"] for line in journal_lines(tmp_path / "out") if "entry" in line]
        assert sorted(entries) == [0, 1, 2, 3]


def test_damage_inside_the_journal_is_reported(tmp_path):
    execute(flags(tmp_path))
    path = tmp_path / "out" / "journal.jsonl"
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join([*lines[:2], b"#" + lines[2], *lines[3:]]))
    with pytest.raises(UserError, match="line 3 is damaged"):
        execute(flags(tmp_path, "--resume"), never_loads)


def test_lost_verdicts_are_judged_again(tmp_path):
    execute(flags(tmp_path))
    whole, path = comparable(tmp_path / "out"), tmp_path / "out" / "journal.jsonl"
    kept = [line for line in journal_lines(tmp_path / "out") if "verdict" not in line]
    path.write_bytes(b"".join(map(encode, kept)))
    verifier = Verifier()
    runner.run(flags(tmp_path, "--resume"), never_loads, verifier)
    assert len(verifier.calls) == 4
    assert comparable(tmp_path / "out") == whole


def test_failed_write_leaves_a_valid_journal(tmp_path, monkeypatch):
    config, real = flags(tmp_path, count=6), os.pwrite
    room = [2500]

    def short_disk(file, data, offset):
        if room[0] < len(data):
            if room[0] == 0:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            data, room[0] = data[: room[0]], 0  # a full disk takes a part first
        else:
            room[0] -= len(data)
        return real(file, data, offset)

    monkeypatch.setattr(journal.os, "pwrite", short_disk)
    with pytest.raises(UserError, match=r"No space left on device.*--resume"):
        execute(config.replace(batch_size=1))
    path = tmp_path / "out" / "journal.jsonl"
    assert path.read_bytes().endswith(b"}\n")
    survived = read_journal(path).entries
    assert 0 <= len(survived) < 6
    room[0] = 10**9
    assert execute(config.replace(resume=True)).summary["remaining"] == 0
    indices = [line["entry"]["data_idx"] for line in journal_lines(tmp_path / "out") if "entry" in line]
    assert sorted(indices) == list(range(6))


def _can_mount():
    try:
        done = subprocess.run(["unshare", "-rm", "mount", "-t", "tmpfs", "none", "/mnt"], capture_output=True)
    except FileNotFoundError:
        return False
    return done.returncode == 0


@pytest.mark.skipif(not _can_mount(), reason="needs permission to mount a tmpfs in a namespace")
def test_a_real_full_disk(tmp_path):
    """A 96 kB tmpfs fills up in mid-run; after enlarging it the run is resumed to its end."""
    dataset = write_dataset(tmp_path, ["q" * 1500] * 30)
    disk = tmp_path / "disk"
    disk.mkdir()
    command = (
        f"{sys.executable} {Path(run_fakes.__file__)} --dataset {dataset} --output_dir {disk}/out --verbose 0"
    )
    script = f"""
        mount -t tmpfs -o size=96k none {disk}
        {command}; echo first=$?
        tail -c 2 {disk}/out/journal.jsonl | od -c
        mount -o remount,size=8m {disk}
        {command} --resume; echo second=$?
        cp -r {disk}/out {tmp_path}/copy
    """
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join([str(Path.cwd()), os.environ.get("PYTHONPATH", "")])
    }
    done = subprocess.run(
        ["unshare", "-rm", "sh", "-c", script], capture_output=True, text=True, env=environment
    )
    assert "No space left on device" in done.stderr
    assert "first=1" in done.stdout
    assert "second=0" in done.stdout
    entries = comparable(tmp_path / "copy")["entries"]
    assert [entry["data_idx"] for entry in entries] == list(range(30))


def test_latents_are_saved_in_the_documented_form(tmp_path):
    torch = pytest.importorskip("torch")
    from safetensors.torch import load_file

    def engine(config):
        return lambda samples: [replace(p, thoughts=torch.ones(2, 5)) for p in run_fakes.answer(samples)]

    execute(flags(tmp_path, "--save_latents"), engine)
    saved = load_file(tmp_path / "out" / "latents" / "000003.safetensors")
    assert saved["thoughts"].shape == (2, 5)
    assert saved["thoughts"].dtype == torch.float32
    assert saved["patches"].tolist() == [[0, 3], [0, 4]]
    assert saved["patches"].dtype == torch.int64


def test_rewards_that_are_not_numbers_become_null(tmp_path):
    def engine(config):
        return lambda samples: [replace(p, best_reward=float("nan")) for p in run_fakes.answer(samples)]

    execute(flags(tmp_path), engine)
    assert comparable(tmp_path / "out")["entries"][0]["best_reward"] is None


def test_rewriting_results_json_keeps_to_its_share_of_the_time(tmp_path, monkeypatch):
    config = flags(tmp_path, count=150)
    now = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    store = Results(config, load_dataset(config.run))
    store.prepare()
    store.open()
    written, spent = [], 0.0
    real = Results.write

    def write(self, metrics=None):
        nonlocal spent
        cost = 0.5 + len(self.entries) * 0.05  # an ever larger file
        now[0] += cost
        spent += cost
        written.append(len(self.entries))
        real(self, metrics)

    monkeypatch.setattr(results.Results, "write", write)
    data = load_dataset(config.run)
    for sample in data.samples:
        now[0] += 5.0
        store.add([(sample, run_fakes.predict(sample))])
        store.write_now_and_then()
    store.close()
    assert len(written) > 3
    assert spent < 0.1 * now[0]
