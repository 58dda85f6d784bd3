"""The report as a file: self-contained, escaped, complete, and quick to write."""

import base64
import hashlib
import json
import re
import shutil
import subprocess
import sys

import numpy as np
import pytest
from report_runs import make_dataset, make_run

from dmlr.errors import UserError
from dmlr.prediction import StepTrace
from dmlr.report.command import report_main
from dmlr.report.curves import Line, line_chart
from dmlr.report.heatmaps import StepMaps, maps_file, save_maps
from dmlr.report.runs import load_runs
from dmlr.report.summary_charts import best_so_far

VERDICTS = ["correct", "wrong", "unjudged", "error", "correct", "wrong"]
HOSTILE = "</pre><script>alert(1)</script>{{ 7 * 7 }}"


@pytest.fixture
def dataset(tmp_path):
    return make_dataset(tmp_path / "data", len(VERDICTS))


def _write(tmp_path, *runs, **flags):
    target = tmp_path / "report.html"
    report_main([*map(str, runs), "--out", str(target), *(f"--{k}={v}" for k, v in flags.items())])
    return target.read_text()


def test_page_is_self_contained_and_its_policy_matches_its_own_assets(tmp_path, dataset):
    text = _write(tmp_path, make_run(tmp_path / "a", dataset, VERDICTS))
    assert not re.findall(r"""(?:src|href)\s*=\s*["'](?!#|data:)""", text)
    assert "http://" not in text
    assert "https://" not in text
    policy = re.search(r'http-equiv="Content-Security-Policy" content="([^"]+)"', text).group(1)
    assert policy.startswith("default-src 'none'")
    for tag in ("style", "script"):
        body = re.search(rf"<{tag}>(.*?)</{tag}>", text, re.DOTALL).group(1)
        digest = base64.b64encode(hashlib.sha256(body.encode()).digest()).decode()
        assert f"{tag}-src 'sha256-{digest}'" in policy
    assert "unsafe" not in policy
    assert " style=" not in text


def test_everything_from_a_model_or_a_dataset_is_escaped(tmp_path, dataset):
    rows = json.loads(dataset.read_text())
    rows[0] |= {"prompt": f"Q {HOSTILE}", "category": HOSTILE}
    dataset.write_text(json.dumps(rows))
    run = make_run(tmp_path / "a", dataset, VERDICTS, outputs={0: HOSTILE, 1: HOSTILE})
    results = json.loads((run / "results.json").read_text())
    for key in (
        "answer",
        "verdict_reason",
        "error",
        "stop_reason",
        "ground_truth_text",
        "image_path",
        "prompt",
    ):
        results["entries"][1][key] = HOSTILE
    results["metrics"] = {HOSTILE: HOSTILE}
    results["model"] = results["dataset"] = HOSTILE
    (run / "results.json").write_text(json.dumps(results))
    text = _write(tmp_path, run)
    assert "<script>alert" not in text
    assert "49" not in re.findall(r"</pre>(\d+)", text)
    assert text.count("&lt;script&gt;alert(1)") > 10


def test_report_without_images_rewards_or_dataset_still_says_what_it_lacks(tmp_path, dataset, capsys):
    run = make_run(tmp_path / "a", dataset, VERDICTS, rewards=False)
    (tmp_path / "data" / "images" / "0000.png").write_bytes(b"broken")
    text = _write(tmp_path, run)
    assert "2 samples are shown without their image" in text
    assert "nothing was optimised" in text
    assert "data:image" in text
    dataset.unlink()
    text = _write(tmp_path, run, image_side=0)
    assert "the dataset file is not on this machine" in text
    assert "data:image" not in text
    assert "6 samples" in capsys.readouterr().out
    with pytest.raises(UserError, match="image_side"):
        _write(tmp_path, run, image_side=-1)


def test_shared_images_are_embedded_once(tmp_path, dataset):
    a, b = (make_run(tmp_path / name, dataset, VERDICTS) for name in "ab")
    text = _write(tmp_path, a, b)
    assert len(re.findall(r'id="p-\d+"', text)) == 3  # six samples over three images, in two runs


def test_other_questions_cannot_share_a_report(tmp_path, dataset):
    a = make_run(tmp_path / "a", dataset, VERDICTS)
    b = make_run(tmp_path / "b", dataset, VERDICTS[:3])
    with pytest.raises(UserError, match="cover different rows"):
        _write(tmp_path, a, b)
    assert not (tmp_path / "report.html").exists()


def test_tokens_are_coloured_by_visual_dependency(tmp_path, dataset):
    run = make_run(tmp_path / "a", dataset, VERDICTS)
    (run / "analysis").mkdir()
    samples = [{"data_idx": 0, "tokens": ["red", " <b>", " of"], "s": [4.0, -4.0, 0.01], "mean": 0.01}]
    content = {"lines": [{"label": "tokens above 0.5", "text": "33 %"}], "samples": samples}
    (run / "analysis" / "visual_dependency.json").write_text(json.dumps(content))
    text = _write(tmp_path, run)
    assert '<span class="t7" title="S = +4.00">red</span>' in text
    assert '<span class="t1" title="S = -4.00"> &lt;b&gt;</span>' in text
    assert '<span class="t4" title="S = +0.01"> of</span>' in text
    assert "tokens above 0.5" in text


def test_best_so_far_starts_at_the_start_and_never_falls(tmp_path, dataset):
    run = load_runs([make_run(tmp_path / "a", dataset, VERDICTS)])[0]

    def log(*rewards):
        return [StepTrace(t, r, 20.0, False, 0, 0, r, 0.9) for t, r in enumerate(rewards, 1)]

    run.entries[0]["initial_reward"], run.entries[1]["initial_reward"] = 5.0, 6.0
    best = best_so_far(run, {0: log(4.0, 7.0, 6.5), 1: log(8.0), 2: []})
    assert best.tolist() == [[5.0, 5.0, 7.0, 7.0], [6.0, 8.0, 8.0, 8.0]]


def test_charts_put_points_where_the_axes_say():
    svg = str(line_chart([Line("a<b", [(0, 0.0), (10, 1.0)])], "t", "x", "y"))
    assert "a&lt;b" in svg
    (x0, y0), (x1, y1) = (
        map(float, p.split()) for p in re.search(r'line c0" d="M([^"]+)"', svg)[1].split("L")
    )
    ticks = {t: float(y) for y, t in re.findall(r'class="tick end" x="[\d.]+" y="([\d.]+)">([\d.]+)<', svg)}
    assert ticks["0.0"] - 4 == pytest.approx(y0, abs=0.2)
    assert ticks["1.0"] - 4 == pytest.approx(y1, abs=0.2)
    assert x0 < x1
    assert str(line_chart([], "t", "x", "y")) == ""
    constant = str(line_chart([Line("c", [(0, 3.0), (1, 3.0)])], "t", "x", "y"))
    assert "nan" not in constant


@pytest.mark.slow
def test_a_thousand_samples_stay_within_a_gigabyte(tmp_path):
    """Figures in docs/REPORTS.md come from here; only the memory is asserted, time depends on the machine."""
    count = 1000
    dataset = make_dataset(tmp_path / "data", count, (336, 252))
    run = make_run(tmp_path / "a", dataset, (VERDICTS * 200)[:count], steps=15)
    maps = StepMaps(np.random.default_rng(0).random((15, 8, 9, 12)), [[[]] * 8] * 15, [], (336, 252))
    first = maps_file(run / "visual_token_viz", 0)
    save_maps(maps, first)
    for index in range(1, count):
        shutil.copy(first, maps_file(run / "visual_token_viz", index))
    # VmHWM, not ru_maxrss: that one starts from what the parent of the process held.
    code = (
        "import sys; from pathlib import Path; from dmlr.report.command import report_main; report_main(sys.argv[1:]); "
        "print([l for l in Path('/proc/self/status').read_text().splitlines() if l.startswith('VmHWM')][0].split()[1])"
    )
    done = subprocess.run([sys.executable, "-c", code, str(run)], check=True, capture_output=True, text=True)
    assert (run / "report.html").stat().st_size > 15e6
    assert int(done.stdout.split()[-1]) < 1e6  # kilobytes
