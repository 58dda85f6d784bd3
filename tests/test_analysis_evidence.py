"""Patches inside the boxes score above chance, blind ones at chance, and a control run is compared sample
by sample."""

import json

import numpy as np
import pytest
from report_runs import make_dataset, make_run

from dmlr.analysis.evidence import evidence
from dmlr.errors import UserError
from dmlr.report.heatmaps import StepMaps, maps_file, save_maps
from dmlr.report.runs import load_runs

COUNT = 30


def _with_patches(folder, dataset, choose):
    make_run(folder, dataset, ["correct"] * COUNT)
    file = folder / "results.json"
    results = json.loads(file.read_text())
    for entry in results["entries"]:
        entry["patches"] = choose(entry["data_idx"])
    file.write_text(json.dumps(results))
    return load_runs([folder])[0]


@pytest.fixture
def dataset(tmp_path):
    return make_dataset(tmp_path / "data", COUNT)  # 4 x 3 tokens, the box covers token 1: chance 1 / 12


def test_right_patches_beat_chance_and_blind_ones_do_not(tmp_path, dataset):
    rng = np.random.default_rng(0)
    good = _with_patches(tmp_path / "good", dataset, lambda i: [[1, 2], [1]])
    blind = _with_patches(tmp_path / "blind", dataset, lambda i: [rng.permutation(12)[:3].tolist()])
    result = evidence(good, against=blind)
    patches = result["patches"]
    assert patches["inside"]["value"] == pytest.approx(2 / 3)
    assert patches["chance"] == pytest.approx(1 / 12)
    assert patches["p_against_luck"] < 0.001
    assert result["against"]["samples"] == COUNT
    assert result["against"]["difference"]["low"] > 0.4
    alone = evidence(blind)["patches"]
    assert alone["lift"]["low"] < 0 < alone["lift"]["high"]
    assert alone["p_against_luck"] > 0.05


def test_attention_is_read_from_the_maps(tmp_path, dataset):
    run = _with_patches(tmp_path / "run", dataset, lambda i: [])
    first, last = np.full((1, 2, 3, 4), 0.001), np.full((1, 2, 3, 4), 0.001)
    last[0, :, 0, 1] = 0.1
    maps = StepMaps(np.concatenate([first, last]), [[[], []]] * 2, [], (112, 84))
    for i in range(COUNT):
        save_maps(maps, maps_file(run.folder / "visual_token_viz", i))
    attention = evidence(run)["attention"]
    assert attention["first_step"]["value"] == pytest.approx(1 / 12, abs=1e-3)
    assert attention["last_step"]["value"] == pytest.approx(0.1 / 0.111, abs=1e-3)
    assert evidence(run)["patches"] is None


def test_a_dataset_without_boxes_is_refused(tmp_path, dataset):
    rows = json.loads(dataset.read_text())
    dataset.write_text(json.dumps([{k: v for k, v in row.items() if k != "evidence"} for row in rows]))
    run = _with_patches(tmp_path / "run", dataset, lambda i: [[1]])
    with pytest.raises(UserError, match="no sample with evidence boxes"):
        evidence(run)
