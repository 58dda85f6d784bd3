"""Attention of every thought over the image, step by step: PNG files to look at, and the raw maps for the
report.

One PNG per optimisation step shows one panel per thought: the image, the attention of that thought's row on
each image token (one flat colour per token, the resolution there is), the injected patches outlined, and
the evidence boxes of the dataset when it has them. Colours share one scale within a sample, so steps and
thoughts compare.
"""

import json
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import matplotlib
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from dmlr.errors import UserError
from dmlr.report.evidence import cell_box

if TYPE_CHECKING:
    from dmlr.data import Sample
    from dmlr.prediction import Prediction

log = logging.getLogger(__name__)

PANEL = 240  # longer side of a panel in pixels
COLUMNS = 4  # panels side by side
MARGIN, HEADER, LABEL = 10, 26, 20  # pixels
BACKGROUND, INK, FAINT = (255, 255, 255), (28, 32, 38), (96, 104, 114)
PATCH_COLOUR, EVIDENCE_COLOUR = (0, 229, 255), (57, 255, 20)


@dataclass(frozen=True)
class StepMaps:
    """The raw maps of one sample.

    `attention`: (steps, L, rows, columns) float32, share of the thought's whole attention row that goes to
    each image token (a row sums to less than 1: the rest goes to text). `patches[step][l]`: image tokens
    accepted at thought l after that step. `evidence`: boxes in pixels of the original image of `image_size`
    = (width, height).
    """

    attention: np.ndarray
    patches: list[list[list[int]]]
    evidence: list[list[float]]
    image_size: tuple[int, int]

    @property
    def grid(self) -> tuple[int, int]:
        """(rows, columns) of image tokens."""
        return int(self.attention.shape[2]), int(self.attention.shape[3])


def maps_file(folder: Path, data_idx: int) -> Path:
    """Where the raw maps of a sample lie inside the heatmap folder."""
    return folder / f"maps_{data_idx:06d}.npz"


def save_step_maps(prediction: "Prediction", sample: "Sample", folder: Path) -> list[Path]:
    """Write the PNG of every step (`{data_idx:06d}/step_{step:03d}.png`) and the raw maps; returns all paths.

    Samples without an image or without maps (no thoughts, no steps, a failed sample) write nothing.
    """
    maps = prediction.attention_maps
    if maps is None or prediction.image_grid is None or sample.image is None or maps.numel() == 0:
        return []
    if "://" in sample.image:
        log.warning("sample %d: no heatmaps, its image is not a local file", prediction.data_idx)
        return []
    with Image.open(sample.image) as opened:
        image = opened.convert("RGB")
    steps, thoughts = maps.shape[:2]
    attention = maps.float().cpu().numpy().reshape(steps, thoughts, *prediction.image_grid)
    found = StepMaps(
        attention=attention,
        patches=prediction.step_patches,
        evidence=[list(map(float, box)) for box in sample.row.get("evidence") or []],
        image_size=image.size,
    )
    titles = []
    for step in range(steps):
        title = f"sample {prediction.data_idx}   step {step + 1}/{steps}"
        if step < len(prediction.trace):
            trace = prediction.trace[step]
            title += f"   reward {trace.reward:.3f}{' (new best)' if trace.is_new_best else ''}"
            title += f"   patches {trace.patch_count}, budget {trace.patch_budget}"
        titles.append(title)
    paths = _write_pngs(found, image, titles, folder / f"{prediction.data_idx:06d}")
    raw = maps_file(folder, prediction.data_idx)
    save_maps(found, raw)
    return [*paths, raw]


def _write_pngs(maps: StepMaps, image: Image.Image, titles: Sequence[str], folder: Path) -> list[Path]:
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for step, title in enumerate(titles):
        paths.append(folder / f"step_{step + 1:03d}.png")
        draw_step(maps, step, image, title).save(paths[-1], compress_level=3)
    return paths


def save_maps(maps: StepMaps, file: Path) -> None:
    """Write the raw maps as a compressed npz without pickles (attention as float16: it is drawn in 256
    colours).
    """
    file.parent.mkdir(parents=True, exist_ok=True)
    extra = {"patches": maps.patches, "evidence": maps.evidence, "image_size": list(maps.image_size)}
    with file.open("wb") as handle:
        np.savez_compressed(
            handle, attention=maps.attention.astype(np.float16), extra=np.array(json.dumps(extra))
        )


def load_maps(folder: Path, data_idx: int) -> StepMaps | None:
    """The raw maps of a sample, None when there are none. Raises `UserError` when the file is damaged."""
    file = maps_file(folder, data_idx)
    if not file.is_file():
        return None
    try:
        with np.load(file, allow_pickle=False) as content:
            extra = json.loads(str(content["extra"]))
            return StepMaps(
                content["attention"].astype(np.float32),
                extra["patches"],
                extra["evidence"],
                tuple(extra["image_size"]),
            )
    except (OSError, ValueError, KeyError, EOFError) as error:
        raise UserError(f"heatmap data {file}: cannot be read ({error})") from None


def overlay(image: Image.Image, values: np.ndarray, top: float) -> Image.Image:
    """`image` with one colour per image token laid over it; `values` (rows, columns), `top` is the end of
    the scale.

    The more attention, the more opaque: tokens without any leave the picture visible.
    """
    rows, columns = values.shape
    level = (
        np.clip(values / max(top, 1e-12), 0, 1) ** 0.5
    )  # square root: attention is peaked, most of it near zero
    colours = (matplotlib.colormaps["inferno"](level)[..., :3] * 255).astype(np.uint8)
    opacity = (255 * (0.12 + 0.68 * level)).astype(np.uint8)
    height_of, width_of = image.size[1], image.size[0]
    row = np.minimum((np.arange(height_of) + 0.5) * rows / height_of, rows - 1).astype(int)
    column = np.minimum((np.arange(width_of) + 0.5) * columns / width_of, columns - 1).astype(int)
    heat = Image.fromarray(np.ascontiguousarray(colours[row][:, column]))
    mask = Image.fromarray(np.ascontiguousarray(opacity[row][:, column]))
    return Image.composite(heat, image, mask)


def _rectangle(
    draw: ImageDraw.ImageDraw, box: Sequence[float], colour: tuple[int, int, int], width: int
) -> None:
    x0, y0, x1, y1 = (round(v) for v in box)
    draw.rectangle((x0 - 1, y0 - 1, x1, y1), outline=(0, 0, 0), width=width + 1)
    draw.rectangle((x0, y0, x1 - 1, y1 - 1), outline=colour, width=width)


def _panel(maps: StepMaps, step: int, thought: int, image: Image.Image, top: float) -> Image.Image:
    drawn = overlay(image, maps.attention[step, thought], top)
    draw = ImageDraw.Draw(drawn)
    scale_x, scale_y = image.size[0] / maps.image_size[0], image.size[1] / maps.image_size[1]
    for x0, y0, x1, y1 in maps.evidence:
        _rectangle(draw, (x0 * scale_x, y0 * scale_y, x1 * scale_x, y1 * scale_y), EVIDENCE_COLOUR, 2)
    for token in maps.patches[step][thought] if step < len(maps.patches) else []:
        _rectangle(draw, cell_box(token, maps.grid, image.size), PATCH_COLOUR, 2)
    return drawn


def panel_size(image_size: tuple[int, int], longest: int = PANEL) -> tuple[int, int]:
    """Size of `image_size` scaled so that its longer side is `longest`; the aspect ratio is kept."""
    factor = longest / max(image_size)
    return max(1, round(image_size[0] * factor)), max(1, round(image_size[1] * factor))


def draw_step(maps: StepMaps, step: int, image: Image.Image, title: str) -> Image.Image:
    """One picture of one step: a titled panel per thought, at most four side by side."""
    size = panel_size(maps.image_size)
    small = image.convert("RGB").resize(size, Image.Resampling.LANCZOS)
    top = float(maps.attention.max())
    thoughts = maps.attention.shape[1]
    columns = min(COLUMNS, thoughts)
    rows = -(-thoughts // columns)
    cell = (size[0] + MARGIN, size[1] + LABEL + MARGIN)
    page_width = max(columns * cell[0] + MARGIN, 460)
    page = Image.new("RGB", (page_width, HEADER + rows * cell[1] + HEADER), BACKGROUND)
    draw = ImageDraw.Draw(page)
    font, small_font = ImageFont.load_default(14), ImageFont.load_default(12)
    draw.text((MARGIN, 6), title, fill=INK, font=font)
    for thought in range(thoughts):
        row, column = divmod(thought, columns)
        x, y = MARGIN + column * cell[0], HEADER + row * cell[1]
        share = float(maps.attention[step, thought].sum())
        draw.text((x, y + 3), f"thought {thought + 1}: {share:.1%} on image", fill=FAINT, font=small_font)
        page.paste(_panel(maps, step, thought, small, top), (x, y + LABEL))
    legend = f"brightest = {top:.4f} of a thought's attention;  cyan: injected patch"
    legend += ";  green: evidence" if maps.evidence else ""
    draw.text((MARGIN, page.size[1] - HEADER + 4), legend, fill=FAINT, font=small_font)
    return page
