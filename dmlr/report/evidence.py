"""Where image tokens lie in the picture, and how much of them lies inside the boxes that decide the answer.

An image is resized to (columns x side, rows x side) pixels before the model sees it, each axis by its own
factor, so image token (row r, column c) covers the part [c/columns, (c+1)/columns] x [r/rows, (r+1)/rows]
of the *original* picture, whatever its aspect ratio. Tokens are numbered row by row. Ours (the paper shows
heatmaps, no scores).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image

from dmlr.report.runs import Run, dataset_rows, image_file
from dmlr.report.statistics import Estimate, mean

Box = Sequence[float]  # x0, y0, x1, y1 in pixels of the original image
_SAMPLES = 16  # points per side of a cell at which the boxes are looked up


def cell_box(
    token: int, grid: tuple[int, int], size: tuple[float, float]
) -> tuple[float, float, float, float]:
    """Rectangle (x0, y0, x1, y1) of an image token in a picture drawn `size` = (width, height) large."""
    rows, columns = grid
    row, column = divmod(token, columns)
    width, height = size
    return (
        column * width / columns,
        row * height / rows,
        (column + 1) * width / columns,
        (row + 1) * height / rows,
    )


def coverage(image_size: tuple[int, int], grid: tuple[int, int], boxes: Sequence[Box]) -> np.ndarray:
    """(rows, columns) float64: share of each image token's area that lies in the union of `boxes`, in [0, 1].

    `image_size` is (width, height) of the original image, in whose pixels the boxes are given. Exact to
    1/16 of a cell along each axis.
    """
    width, height = image_size
    rows, columns = grid
    x = (np.arange(columns * _SAMPLES) + 0.5) * width / (columns * _SAMPLES)
    y = (np.arange(rows * _SAMPLES) + 0.5) * height / (rows * _SAMPLES)
    inside = np.zeros((len(y), len(x)), dtype=bool)
    for x0, y0, x1, y1 in boxes:
        inside |= ((y >= y0) & (y < y1))[:, None] & ((x >= x0) & (x < x1))[None, :]
    return inside.reshape(rows, _SAMPLES, columns, _SAMPLES).mean(axis=(1, 3))


def patch_share(patches: Sequence[Sequence[int]], cover: np.ndarray) -> float | None:
    """Mean coverage of the injected patches of all thoughts (a token at two thoughts counts twice); None
    without.
    """
    tokens = [token for thought in patches for token in thought]
    if not tokens:
        return None
    return float(cover.reshape(-1)[tokens].mean())


def attention_share(attention: np.ndarray, cover: np.ndarray) -> float | None:
    """Share of the attention on the image that falls into the boxes; `attention` is (..., rows x columns).

    The attention is renormalised over the image, each row by itself, and the rows are averaged.
    """
    rows = np.asarray(attention, dtype=np.float64).reshape(-1, cover.size)
    total = rows.sum(axis=1)
    rows, total = rows[total > 0], total[total > 0]
    if not len(rows):
        return None
    return float((rows @ cover.reshape(-1) / total).mean())


def expected_share(counts: Sequence[int], cover: np.ndarray, draws: int, seed: int) -> np.ndarray:
    """(draws,) float64: `patch_share` of patches drawn at random without repetition within a thought.

    `counts[l]` is the number of patches of thought l. The mean tends to `cover.mean()`, which is chance;
    the spread is what luck alone gives.
    """
    generator = np.random.default_rng(seed)
    flat = cover.reshape(-1)
    total = sum(counts)
    shares = np.zeros(draws)
    for count in counts:
        picked = np.argsort(generator.random((draws, flat.size)), axis=1)[:, :count]
        shares += flat[picked].sum(axis=1)
    return shares / max(1, total)


def lift(observed: Sequence[float], chance: Sequence[float]) -> Estimate:
    """Mean difference of observed and chance share over samples, with a bootstrap interval over the
    samples.
    """
    return mean(np.asarray(observed, dtype=float) - np.asarray(chance, dtype=float))


@dataclass(frozen=True)
class PatchEvidence:
    """How well the injected patches of one answer meet the evidence: shares in [0, 1]."""

    inside: float  # of the patches' area inside the boxes
    chance: float  # of the image inside the boxes: what blind choice tends to
    counts: list[int]  # patches per thought
    cover: np.ndarray  # (rows, columns), see `coverage`


def evidence_cover(run: Run) -> dict[int, np.ndarray]:
    """`coverage` of the samples of a run that have boxes, a local image and a recorded grid, by
    `data_idx`.
    """
    rows = dataset_rows(run)
    covers = {}
    for index, entry in run.entries.items():
        boxes, grid = rows.get(index, {}).get("evidence"), entry.get("image_grid")
        file = image_file(run, entry)
        if boxes and grid and file:
            with Image.open(file) as image:
                covers[index] = coverage(image.size, (int(grid[0]), int(grid[1])), boxes)
    return covers


def patch_evidence(run: Run) -> dict[int, PatchEvidence]:
    """`PatchEvidence` of every answer with injected patches and evidence, by `data_idx`."""
    found = {}
    for index, cover in evidence_cover(run).items():
        patches = run.entries[index].get("patches") or []
        inside = patch_share(patches, cover)
        if inside is not None:
            found[index] = PatchEvidence(inside, float(cover.mean()), [len(p) for p in patches], cover)
    return found
