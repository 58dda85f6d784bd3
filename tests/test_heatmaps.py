"""Heatmaps show the right tokens at the right place, whatever the aspect ratio; evidence is scored by
area."""

import numpy as np
import pytest
import torch
from PIL import Image

from dmlr.data import Sample
from dmlr.errors import UserError
from dmlr.prediction import Prediction, StepTrace
from dmlr.report.evidence import attention_share, cell_box, coverage, expected_share, patch_share
from dmlr.report.heatmaps import (
    EVIDENCE_COLOUR,
    HEADER,
    LABEL,
    MARGIN,
    PATCH_COLOUR,
    load_maps,
    overlay,
    panel_size,
    save_step_maps,
)


def _prediction(attention, patches, grid):
    trace = [StepTrace(1, 7.0, 20.0, True, 1, 2, 6.9, 0.9)] * len(attention)
    return Prediction(3, image_grid=grid, attention_maps=attention, step_patches=patches, trace=trace)


def _near(picture, box, colour, tolerance=2):
    """Whether `colour` is drawn along all four sides of `box`, give or take two pixels."""
    x0, y0, x1, y1 = (round(v) for v in box)
    middle_x, middle_y = (x0 + x1) // 2, (y0 + y1) // 2
    for x, y in ((x0, middle_y), (x1, middle_y), (middle_x, y0), (middle_x, y1)):
        around = picture[max(0, y - tolerance) : y + tolerance + 1, max(0, x - tolerance) : x + tolerance + 1]
        if not (around == colour).all(axis=-1).any():
            return False
    return True


@pytest.mark.parametrize(("size", "grid"), [((600, 200), (3, 9)), ((150, 400), (8, 3)), ((101, 97), (4, 4))])
def test_patch_and_evidence_are_outlined_where_they_lie(tmp_path, size, grid):
    file = tmp_path / "grey.png"
    Image.new("RGB", size, (120, 120, 120)).save(file)
    rows, columns = grid
    token = (rows - 1) * columns + 1  # last row, second column
    attention = torch.full((1, 1, rows * columns), 1e-4)
    attention[0, 0, token] = 0.5
    evidence = [0, 0, size[0] // 2, size[1] // 3]
    sample = Sample(3, "q", "a", str(file), {"evidence": [evidence]})
    paths = save_step_maps(_prediction(attention, [[[token]]], grid), sample, tmp_path / "viz")

    assert [p.name for p in paths] == ["step_001.png", "maps_000003.npz"]
    panel = panel_size(size)
    assert panel[0] / panel[1] == pytest.approx(size[0] / size[1], rel=0.02)
    page = np.asarray(Image.open(paths[0]))
    picture = page[HEADER + LABEL :, MARGIN:][: panel[1], : panel[0]]
    cell = panel[0] / columns, panel[1] / rows
    assert _near(picture, [cell[0], panel[1] - cell[1], 2 * cell[0], panel[1]], PATCH_COLOUR)
    assert cell_box(token, grid, panel) == pytest.approx((cell[0], panel[1] - cell[1], 2 * cell[0], panel[1]))
    scale = panel[0] / size[0], panel[1] / size[1]
    assert _near(picture, [v * scale[i % 2] for i, v in enumerate(evidence)], EVIDENCE_COLOUR)
    assert not _near(picture, [0, 0, *cell], PATCH_COLOUR)


def test_overlay_colours_exactly_the_attended_cell():
    image = Image.new("RGB", (90, 40), (0, 0, 0))
    values = np.zeros((2, 3))
    values[1, 2] = 1.0
    picture = np.asarray(overlay(image, values, 1.0)).sum(axis=-1)
    hot = picture > 200
    assert hot[20:, 60:].all()
    assert not hot[:20].any()
    assert not hot[:, :60].any()


def test_raw_maps_come_back(tmp_path):
    file = tmp_path / "i.png"
    Image.new("RGB", (56, 28)).save(file)
    attention = torch.rand(2, 3, 2) * 0.1
    sample = Sample(3, "q", "a", str(file), {})
    save_step_maps(_prediction(attention, [[[0], [], [1, 0]], [[0], [1], [1, 0]]], (1, 2)), sample, tmp_path)
    maps = load_maps(tmp_path, 3)
    assert maps.attention.shape == (2, 3, 1, 2)
    assert np.allclose(maps.attention.reshape(2, 3, 2), attention.numpy(), atol=1e-4)
    assert maps.patches[1] == [[0], [1], [1, 0]]
    assert (maps.image_size, maps.evidence) == ((56, 28), [])
    assert load_maps(tmp_path, 4) is None
    (tmp_path / "maps_000005.npz").write_bytes(b"no zip")
    with pytest.raises(UserError, match="maps_000005"):
        load_maps(tmp_path, 5)


def test_samples_without_image_or_maps_write_nothing(tmp_path):
    assert save_step_maps(Prediction(1), Sample(1, "q", "a", None, {}), tmp_path / "v") == []
    assert not (tmp_path / "v").exists()


def test_coverage_is_the_share_of_each_cell_inside_the_union_of_boxes():
    # 3 x 2 cells of 20 x 50 pixels; the boxes overlap, which must not count twice
    cover = coverage((60, 100), (2, 3), [[0, 0, 30, 50], [10, 0, 30, 25]])
    assert cover[0].tolist() == pytest.approx([1.0, 0.5, 0.0])
    assert cover[1].tolist() == [0, 0, 0]
    assert coverage((60, 100), (2, 3), []).sum() == 0


def test_shares_against_chance():
    cover = coverage((40, 40), (4, 4), [[0, 0, 20, 20]])  # a quarter of the picture
    assert patch_share([[0, 1], [5, 15]], cover) == pytest.approx(0.75)
    assert patch_share([[], []], cover) is None
    attention = np.zeros((2, 16))
    attention[0, 0], attention[1, 15] = 0.001, 0.5  # each row counts the same, whatever its mass
    assert attention_share(attention, cover) == pytest.approx(0.5)
    chance = expected_share([2, 3, 0], cover, draws=4000, seed=0)
    assert chance.mean() == pytest.approx(0.25, abs=0.01)
    # without repetition, all patches of the picture are drawn exactly once
    assert expected_share([16], cover, draws=3, seed=0) == pytest.approx([0.25] * 3)
