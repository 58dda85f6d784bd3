"""Workers on Ray: the same results as one process, and dead workers, poisoned samples and lost nodes survived."""

import json
import os
import signal
import threading
import time

import pytest
import run_fakes
from run_fakes import Verifier, comparable, journal_lines, write_dataset

from dmlr import runner
from dmlr.config import Config, resolve
from dmlr.data import Sample
from dmlr.errors import UserError

ray = pytest.importorskip("ray")
from ray import cloudpickle  # noqa: E402

from dmlr import workers  # noqa: E402
from dmlr.workers import Work, common_size, placement  # noqa: E402

cloudpickle.register_pickle_by_value(run_fakes)


@pytest.fixture(autouse=True)
def light(monkeypatch):
    """No benchmark metrics, and no waiting for a busy disk."""
    monkeypatch.setattr(runner, "_metrics", lambda *_: {})
    monkeypatch.setattr(os, "fsync", lambda file: None)


@pytest.fixture(scope="module")
def cluster():
    """One Ray for all tests of this file: starting it takes seconds."""
    ray.init(address="local", num_cpus=4, include_dashboard=False, log_to_driver=False)
    yield
    ray.shutdown()


def flags(tmp_path, questions, *more):
    dataset = write_dataset(tmp_path, questions)
    argv = ["--dataset", dataset, "--output_dir", str(tmp_path / "out"), "--verbose", "0", "--device", "cpu"]
    return resolve([*argv, "--num_workers", "2", *more])


def execute(config, engine=run_fakes.engine):
    return runner.run(config, engine, Verifier())


def entries_written(tmp_path):
    return [line["entry"]["data_idx"] for line in journal_lines(tmp_path / "out") if "entry" in line]


@pytest.mark.parametrize(("count", "size"), [("2", "1"), ("2", "5"), ("4", "auto")])
def test_number_of_workers_changes_nothing(tmp_path, cluster, count, size):
    execute(flags(tmp_path, 13, "--num_workers", "1"))
    alone = comparable(tmp_path / "out")
    execute(flags(tmp_path, 13, "--num_workers", count, "--batch_size", size, "--overwrite"))
    assert comparable(tmp_path / "out") == alone


def test_one_process_may_start_and_several_finish(tmp_path, cluster):
    config = flags(tmp_path, ["sleep:0.2"] * 8, "--num_workers", "1", "--batch_size", "1")
    assert execute(config.replace(limit_seconds=0.5)).summary["remaining"] > 0
    execute(config.replace(resume=True, num_workers=2, batch_size=3))
    assert sorted(entries_written(tmp_path)) == list(range(8))


def test_a_poisoned_sample_never_kills_the_run(tmp_path, cluster):
    questions = ["exit" if i == 3 else f"question {i}" for i in range(8)]
    outcome = execute(flags(tmp_path, questions, "--batch_size", "4"))
    entries = comparable(tmp_path / "out")["entries"]
    assert [e["data_idx"] for e in entries if e["error"]] == [3]
    assert "worker died 2 times" in entries[3]["error"]
    assert outcome.summary["remaining"] == 0
    assert sorted(entries_written(tmp_path)) == list(range(8))


def test_failing_and_memory_hungry_samples_do_not_kill_workers(tmp_path, cluster):
    outcome = execute(flags(tmp_path, ["raise", "memory:1", "memory:1", "x"], "--batch_size", "4"))
    assert outcome.summary["errors"] == 1
    assert comparable(tmp_path / "out")["entries"][0]["error"].startswith("ValueError")


def test_a_worker_killed_from_outside_is_replaced(tmp_path, cluster):
    pid_file = tmp_path / "pids"

    def engine(config):
        with pid_file.open("a") as file:
            file.write(f"{os.getpid()}\n")
        return run_fakes.answer

    def kill_first():
        for _ in range(600):
            if pid_file.exists() and len(entries_written(tmp_path)) > 2:
                os.kill(int(pid_file.read_text().split()[0]), signal.SIGKILL)
                return
            time.sleep(0.05)

    config = flags(tmp_path, ["sleep:0.2"] * 24, "--batch_size", "2")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "journal.jsonl").touch()
    killer = threading.Thread(target=kill_first)
    killer.start()
    outcome = execute(config.replace(resume=True), engine)
    killer.join()
    assert len(pid_file.read_text().split()) == 3
    assert outcome.summary["errors"] == 0
    assert sorted(entries_written(tmp_path)) == list(range(24))


def test_workers_are_told_what_they_get_next(tmp_path, cluster):
    """Whatever is announced is answered by that worker next, except where another one ran out of work."""

    def engine(config):
        path = tmp_path / f"events-{os.getpid()}"

        class Logged(run_fakes.Foresighted):
            def __call__(self, samples):
                predictions = super().__call__(samples)
                path.write_text(json.dumps(self.events))
                return predictions

        return Logged(size=2)

    execute(flags(tmp_path, ["sleep:0.05"] * 24), engine)
    assert sorted(entries_written(tmp_path)) == list(range(24))
    kept = stolen = 0
    for path in tmp_path.glob("events-*"):
        events = json.loads(path.read_text())
        for (_, announced), (_, now), (_, then) in zip(events[::2], events[1::2], events[3::2], strict=False):
            assert announced[: len(now)] == now
            ahead = announced[len(now) :]
            kept += then == ahead
            stolen += then != ahead
        assert all(len(announced) <= 4 for _, announced in events[::2])
    assert kept >= 8
    assert stolen <= 2


def test_what_kills_a_worker_while_it_is_prepared_harms_no_other_sample(tmp_path, cluster):
    """An image that takes the process down in a loading thread is given up; the batch beside it is answered."""

    def engine(config):
        def prepare(samples):
            if any("poison" in sample.question for sample in samples):
                os._exit(3)

        return run_fakes.Foresighted(2, prepare)

    questions = ["poison" if i == 9 else f"question {i}" for i in range(16)]
    outcome = execute(flags(tmp_path, questions), engine)
    entries = comparable(tmp_path / "out")["entries"]
    assert [e["data_idx"] for e in entries if e["error"]] == [9]
    assert "worker died 2 times" in entries[9]["error"]
    assert outcome.summary["remaining"] == 0
    assert sorted(entries_written(tmp_path)) == list(range(16))


def test_auto_batch_size_is_what_the_workers_say(tmp_path, cluster):
    sizes = tmp_path / "sizes"

    def engine(config):
        class Logged(run_fakes.Foresighted):
            def __call__(self, samples):
                with sizes.open("a") as file:
                    file.write(f"{len(samples)}\n")
                return super().__call__(samples)

        return Logged(size=3)

    execute(flags(tmp_path, 48), engine)
    assert sorted(map(int, sizes.read_text().split())) == [3] * 16


def test_wrong_model_is_the_users_error_and_writes_nothing(tmp_path, cluster):
    def engine(config):
        raise UserError(["no such model", "nor that"])

    with pytest.raises(UserError) as caught:
        execute(flags(tmp_path, 4), engine)
    assert caught.value.problems == ["no such model", "nor that"]
    assert not (tmp_path / "out").exists()


def test_a_model_that_never_loads_ends_the_run(tmp_path, cluster):
    def engine(config):
        raise RuntimeError("broken")

    with pytest.raises(UserError, match="no worker could load"):
        execute(flags(tmp_path, 4), engine)


def test_interrupt_drains_the_workers(tmp_path, cluster):
    config = flags(tmp_path, ["sleep:0.3"] * 30, "--batch_size", "1")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "journal.jsonl").touch()

    def interrupt():
        while len(entries_written(tmp_path)) < 2:
            time.sleep(0.05)
        os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=interrupt).start()
    outcome = execute(config.replace(resume=True))
    assert outcome.interrupted
    done = entries_written(tmp_path)
    assert 0 < len(done) < 30
    assert len(done) == len(set(done))
    assert outcome.summary["remaining"] == 30 - len(done)


def sample(index):
    return Sample(index, "q", "1", None, {})


def test_samples_of_a_dead_worker_come_back_one_by_one_and_twice_at_most():
    work = Work(workers.collections.deque())
    assert work.crashed([sample(0), sample(1)]) == []
    assert [[s.data_idx for s in batch] for batch in work.batches] == [[0], [1]]
    (given_up,) = work.crashed([sample(0)])
    assert given_up.data_idx == 0
    assert "2 times" in given_up.error
    work = Work(workers.collections.deque())
    assert work.crashed([sample(5)]) == []
    assert len(work.crashed([sample(5)])) == 1


def test_a_batch_is_prepared_ahead_unless_it_may_kill():
    work = Work(workers.collections.deque([[sample(1)], [sample(2)], [sample(3)]]))
    assert work.ahead_of([sample(0)]) == [sample(1)]
    work.give_back([sample(1)])  # its worker died
    assert work.crashed([sample(0)]) == []
    assert work.batches == workers.collections.deque([[sample(n)] for n in (1, 2, 3, 0)])
    assert work.ahead_of([sample(5)]) is None  # 1 is asked alone,
    work.batches.popleft()
    assert work.ahead_of([sample(1)]) is None  # with nothing beside it,
    assert work.ahead_of([sample(0)]) is None
    assert work.ahead_of([sample(5)]) == [sample(2)]
    assert work.crashes == {0: 1}  # and is not blamed


@pytest.mark.parametrize(
    ("flags_given", "resources", "share", "device"),
    [
        ({}, {"CPU": 8}, 0, "cpu"),
        ({}, {"CPU": 8, "GPU": 4}, 1, "cuda"),
        ({"worker_device_round_robin": True}, {"CPU": 8, "GPU": 2}, 0.5, "cuda"),
        ({"worker_device_round_robin": True}, {"CPU": 8, "GPU": 8}, 1, "cuda"),
        ({"worker_device_round_robin": True}, {"CPU": 8, "GPU": 3}, 0.5, "cuda"),
        ({"gpus_per_worker": 0.25}, {"CPU": 8, "GPU": 1}, 0.25, "cuda"),
        ({"device": "cpu"}, {"CPU": 8, "GPU": 4}, 0, "cpu"),
    ],
)
def test_placement(flags_given, resources, share, device):
    options, config = placement(Config().replace(num_workers=4, **flags_given), resources)
    assert options["num_gpus"] == share
    assert config.model.device == device
    assert options["num_cpus"] == (1 if share else 2)


@pytest.mark.parametrize(
    ("flags_given", "resources", "part"),
    [
        ({"device": "cuda:1"}, {"GPU": 2}, "Ray deals the GPUs out"),
        ({"device": "cuda"}, {"CPU": 2}, "no GPU in this Ray cluster"),
        ({}, {"CPU": 8, "GPU": 2}, "share GPUs with"),
        ({"gpus_per_worker": 0.5}, {"CPU": 2}, "0 GPUs"),
    ],
)
def test_impossible_placement(flags_given, resources, part):
    with pytest.raises(UserError, match=part):
        placement(Config().replace(num_workers=4, **flags_given), resources)


@pytest.mark.parametrize(
    ("sizes", "share", "samples", "workers", "expected"),
    [
        ([32, 16], 1.0, 10_000, 2, 16),  # two kinds of GPU
        ([32, 32], 0.5, 10_000, 2, 16),  # two workers on one
        ([8], 0.0, 10_000, 2, 8),  # no GPU
        ([2], 0.25, 10_000, 4, 1),
        ([32], 1.0, 33, 2, 5),  # four batches each, so that none waits long for the last
        ([32], 1.0, 1, 2, 1),
    ],
)
def test_size_of_the_batches_of_a_crew(sizes, share, samples, workers, expected):
    assert common_size(sizes, share, samples, workers) == expected


def test_thirds_of_a_gpu_fit_for_ray():
    options, _ = placement(
        Config().replace(num_workers=3, worker_device_round_robin=True), {"GPU": 1, "CPU": 4}
    )
    assert options["num_gpus"] * 3 <= 1


@pytest.mark.slow
def test_a_node_is_lost_in_mid_run(tmp_path):
    from ray.cluster_utils import Cluster

    ray.shutdown()
    nodes = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
    second = nodes.add_node(num_cpus=1)
    try:
        nodes.wait_for_nodes()
        ray.init(address=nodes.address, log_to_driver=False)
        homes = tmp_path / "homes"

        def engine(config):
            with homes.open("a") as file:
                file.write(ray.get_runtime_context().get_node_id() + "\n")
            return run_fakes.answer

        (tmp_path / "out").mkdir()
        (tmp_path / "out" / "journal.jsonl").touch()

        def lose():
            while len(entries_written(tmp_path)) < 6 or len(homes.read_text().split()) < 2:
                time.sleep(0.05)
            nodes.remove_node(second, allow_graceful=False)

        thread = threading.Thread(target=lose)
        thread.start()
        outcome = execute(flags(tmp_path, ["sleep:0.3"] * 60, "--batch_size", "2", "--resume"), engine)
        thread.join()
        assert len(set(homes.read_text().split())) == 2  # a worker ran on each node
        assert outcome.summary["errors"] == 0
        assert sorted(entries_written(tmp_path)) == list(range(60))
        assert len(json.loads((tmp_path / "out" / "results.json").read_text())["entries"]) == 60
    finally:
        ray.shutdown()
        nodes.shutdown()
