"""`dmlr study`: arms are flags, every run is kept and continued, and the question is the unit of the
statistics."""

import json
from dataclasses import replace

import pytest
from report_runs import make_dataset, make_run

from dmlr import study
from dmlr.errors import UserError
from dmlr.prediction import Prediction
from dmlr.report.command import study_main
from dmlr.report.runs import load_runs
from dmlr.report.statistics import mcnemar_p, sign_flip_p


def _plan(tmp_path, names, seeds=(0, 1), flags=()):
    dataset = tmp_path / "data" / "demo.json"
    return study.plan(
        study.parse_arms(names, None), list(seeds), tmp_path / "s", ["--dataset", str(dataset), *flags]
    )


def test_every_arm_differs_from_dmlr_in_its_own_flags_only(tmp_path):
    base = _plan(tmp_path, ["dmlr"])[0].config.flat()
    for name, overrides in study.ARMS.items():
        flat = _plan(tmp_path, [name])[0].config.flat()
        assert {k: v for k, v in flat.items() if v != base[k]} == overrides | (
            {} if name == "dmlr" else {"output_dir": str(tmp_path / "s" / name / "seed_0")}
        )


def test_arms_without_noise_run_once(tmp_path):
    jobs = _plan(tmp_path, list(study.ARMS), seeds=(0, 1, 2))
    runs = {arm: [job.seed for job in jobs if job.arm == arm] for arm in study.ARMS}
    assert runs["vanilla"] == runs["unoptimised"] == [0]
    assert all(
        runs[arm] == [0, 1, 2] for arm in ("random_thoughts", "no_injection", "random_patches", "dmlr")
    )
    assert all(
        len(_plan(tmp_path, [arm], flags=["--use_auto_grad"])) == 1 for arm in ("dmlr", "no_injection")
    )
    assert len(_plan(tmp_path, ["random_patches"], flags=["--use_auto_grad"])) == 2


def test_own_arms_come_from_yaml_and_bad_ones_are_reported_together(tmp_path):
    file = tmp_path / "arms.yaml"
    file.write_text("long: {max_num_steps: 50, antithetic: true, num_candidates: 4}\nempty:\n")
    arms = study.parse_arms(["vanilla", "long", "empty"], file)
    jobs = study.plan(arms, [3], tmp_path, ["--dataset", "x.json"])
    assert (jobs[1].config.latent.max_num_steps, jobs[1].config.latent.antithetic) == (50, True)
    assert jobs[1].config.run.seed == 3
    file.write_text("bad: {max_num_steps: many, lr: -1}\nworse: {nonsense: 1}\n")
    with pytest.raises(UserError) as caught:
        study.plan(study.parse_arms(["bad", "worse"], file), [0], tmp_path, ["--dataset", "x.json"])
    text = "\n".join(caught.value.problems)
    assert "arm bad: --max_num_steps many" in text
    assert "arm worse: --nonsense" in text
    with pytest.raises(UserError, match="no such arm"):
        study.parse_arms(["dmlr", "dlmr"], None)
    with pytest.raises(UserError, match="given twice"):
        study.parse_arms(["dmlr", "dmlr"], None)
    file.write_text("../up: {}\n")
    with pytest.raises(UserError, match="folder name"):
        study.parse_arms(["dmlr"], file)
    with pytest.raises(UserError, match="the study sets it itself"):
        study_main(["--seed", "3", "--out", str(tmp_path)])


class _Engine:
    """Answers right for a known set of questions per arm and seed; stops dead after `limit` answers."""

    def __init__(self, limit=None):
        self.asked, self.limit = [], limit

    def __call__(self, config):
        def answer(samples):
            predictions = []
            for sample in samples:
                if self.limit is not None and len(self.asked) >= self.limit:
                    raise KeyboardInterrupt
                self.asked.append((config.run.output_dir, sample.data_idx))
                right = config.decoding.method == "dmlr" and (sample.data_idx + config.run.seed) % 2 == 0
                text = f"\\boxed{{{sample.solution if right else 99}}}"
                predictions.append(
                    Prediction(
                        sample.data_idx, model_output=text, stop_reason="eos_token", generated_tokens=3
                    )
                )
            return predictions

        return answer


def test_a_study_continues_where_it_was_interrupted(tmp_path):
    make_dataset(tmp_path / "data", 6)
    jobs = _plan(tmp_path, ["vanilla", "dmlr"], flags=["--batch_size", "1", "--verbose", "0"])
    first = _Engine(limit=8)
    with pytest.raises(KeyboardInterrupt):
        study.run_study(jobs, lambda line: None, first)
    second = _Engine()
    assert study.run_study(jobs, lambda line: None, second)
    assert sorted(first.asked + second.asked) == sorted(
        (job.config.run.output_dir, i) for job in jobs for i in range(6)
    )
    assert study.run_study(jobs, lambda line: None, third := _Engine())
    assert third.asked == []

    results = study.tabulate(study.collect(jobs))
    assert [r.arm for r in results] == ["vanilla", "dmlr"]
    assert results[1].per_seed == [0.5, 0.5]
    # each question is right under exactly one of the two seeds: its average never varies
    assert (results[1].accuracy.value, results[1].accuracy.low) == (0.5, None)
    assert (results[1].gained, results[1].lost) == ([3, 3], [0, 0])
    assert results[1].mcnemar == [0.25, 0.25]
    text = study.write_tables(results, jobs, tmp_path / "s")
    assert "+0.500" in text
    saved = json.loads((tmp_path / "s" / "study.json").read_text())
    assert [run["arm"] for run in saved["runs"]] == ["vanilla", "dmlr", "dmlr"]
    assert (tmp_path / "s" / "study.md").read_text().startswith("| arm |")


def test_seeds_do_not_pretend_to_be_more_questions(tmp_path):
    dataset = make_dataset(tmp_path / "data", 40)
    before = ["correct"] * 20 + ["wrong"] * 20
    after = ["correct"] * 25 + ["wrong"] * 15
    make_run(tmp_path / "v", dataset, before)
    copies = [make_run(tmp_path / f"d{k}", dataset, after, seed=k) for k in range(4)]
    one = study.tabulate({"v": load_runs([tmp_path / "v"]), "d": load_runs(copies[:1])})[1]
    four = study.tabulate({"v": load_runs([tmp_path / "v"]), "d": load_runs(copies)})[1]
    assert replace(four.difference, note="") == replace(one.difference, note="")
    assert four.p_value == one.p_value == pytest.approx(mcnemar_p(0, 5))


def test_sign_flips_agree_with_mcnemar_on_single_runs():
    first, second = [0] * 8 + [1] * 3 + [1] * 20, [1] * 8 + [0] * 3 + [1] * 20
    assert sign_flip_p(first, second) == pytest.approx(mcnemar_p(3, 8))
    assert sign_flip_p([1, 0], [1, 0]) == 1.0
    assert sign_flip_p([0, 0.5], [0, 1]) == 1.0
