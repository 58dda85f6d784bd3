"""Shapes world: scenes of coloured shapes on a grid of cells, drawn so that each cell covers 2 x 2 image tokens.

A scene is its content (which shape, which colour, which cell) plus the small jitter with which it is drawn. Questions
are asked about the content only; `scene_key` hashes the content only, so that two splits can be
shown to share no scene.
"""

import hashlib
import math
import random
from dataclasses import dataclass

from PIL import Image, ImageDraw

GRID = 6  # cells per side
CELL = 56  # pixels per cell: 2 image tokens of 28 pixels, the resolution of Qwen2.5-VL
SIDE = GRID * CELL  # 336 pixels, 12 x 12 = 144 image tokens: within the default limits, so nothing is resized

COLOURS: dict[str, tuple[int, int, int]] = {
    "red": (208, 44, 44),
    "blue": (44, 84, 208),
    "green": (40, 148, 64),
    "yellow": (232, 192, 32),
    "purple": (140, 56, 168),
}
SHAPES = ("circle", "square", "triangle", "star", "cross")

_OVERSAMPLE = 3


@dataclass(frozen=True)
class Thing:
    """One drawn object: what it is, its cell (0-based row and column), and where in the cell it sits (pixels)."""

    colour: str
    shape: str
    row: int
    column: int
    size: int  # edge of the square that encloses it, pixels
    dx: int  # offset of that square from the cell's top left corner, pixels
    dy: int
    tint: tuple[int, int, int]  # added to the colour's RGB

    @property
    def name(self) -> str:
        """Colour and shape, such as "red circle"."""
        return f"{self.colour} {self.shape}"

    @property
    def box(self) -> list[int]:
        """Enclosing box [x0, y0, x1, y1] in pixels of the image; x1 and y1 lie just outside."""
        x, y = self.column * CELL + self.dx, self.row * CELL + self.dy
        return [x, y, x + self.size, y + self.size]


@dataclass(frozen=True)
class Scene:
    """Things in reading order, at most one per cell."""

    things: tuple[Thing, ...]

    def at(self, row: int, column: int) -> Thing | None:
        """The thing in that cell (0-based), or None when the cell is empty or outside the grid."""
        return next((t for t in self.things if (t.row, t.column) == (row, column)), None)


def make_scene(rng: random.Random, fewest: int = 4, most: int = 10) -> Scene:
    """Draw a scene of `fewest` to `most` things in distinct cells from `rng`."""
    cells = sorted(rng.sample(range(GRID * GRID), rng.randint(fewest, most)))
    things = []
    for cell in cells:
        size = rng.randint(40, 48)
        things.append(
            Thing(
                colour=rng.choice(list(COLOURS)),
                shape=rng.choice(SHAPES),
                row=cell // GRID,
                column=cell % GRID,
                size=size,
                dx=rng.randint(3, CELL - size - 3),
                dy=rng.randint(3, CELL - size - 3),
                tint=(rng.randint(-14, 14), rng.randint(-14, 14), rng.randint(-14, 14)),
            )
        )
    return Scene(tuple(things))


def scene_key(scene: Scene) -> str:
    """Hash of the content (colour, shape, cell of every thing), blind to the jitter of the drawing."""
    content = ";".join(f"{t.row},{t.column},{t.name}" for t in scene.things)
    return hashlib.sha256(content.encode()).hexdigest()[:16]


def _outline(shape: str, x: float, y: float, size: float) -> list[tuple[float, float]]:
    """Polygon of a shape in the square of edge `size` at (x, y); circles are drawn elsewhere."""
    if shape == "square":
        unit = [(0.05, 0.05), (0.95, 0.05), (0.95, 0.95), (0.05, 0.95)]
    elif shape == "triangle":
        unit = [(0.5, 0.02), (1.0, 0.97), (0.0, 0.97)]
    elif shape == "cross":
        a, b = 0.33, 0.67
        unit = [
            (a, 0),
            (b, 0),
            (b, a),
            (1, a),
            (1, b),
            (b, b),
            (b, 1),
            (a, 1),
            (a, b),
            (0, b),
            (0, a),
            (a, a),
        ]
    elif shape == "star":
        unit = []
        for i in range(10):
            radius = 0.54 if i % 2 == 0 else 0.23
            angle = math.pi * i / 5
            unit.append((0.5 + radius * math.sin(angle), 0.53 - radius * math.cos(angle)))
    else:
        raise ValueError(f"no outline for shape {shape!r}")
    return [(x + u * size, y + v * size) for u, v in unit]


def _background() -> Image.Image:
    """Pale ground with thin cell borders; it gets slightly warmer to the right and cooler downwards.

    The slow shading tells a patch where in the image it lies, so a patch carries its place with it when it is injected
    somewhere else in the sequence (ours; photographs have such cues too).
    """
    image = Image.new("RGB", (SIDE, SIDE))
    draw = ImageDraw.Draw(image)
    for row in range(GRID):
        for column in range(GRID):
            x, y = column * CELL, row * CELL
            shade = (255, 255 - 9 * column, 255 - 9 * row)
            draw.rectangle([x, y, x + CELL - 1, y + CELL - 1], fill=shade, outline=(206, 206, 206))
    return image


def draw_scene(scene: Scene) -> Image.Image:
    """RGB image of `SIDE` x `SIDE` pixels; the same scene gives the same pixels."""
    image = _background()
    for thing in scene.things:
        red, green, blue = (c + t for c, t in zip(COLOURS[thing.colour], thing.tint, strict=True))
        edge = thing.size * _OVERSAMPLE
        mask = Image.new("L", (edge, edge))
        draw = ImageDraw.Draw(mask)
        if thing.shape == "circle":
            draw.ellipse([0, 0, edge - 1, edge - 1], fill=255)
        else:
            draw.polygon(_outline(thing.shape, 0, 0, edge - 1), fill=255)
        mask = mask.reduce(_OVERSAMPLE)
        image.paste((_byte(red), _byte(green), _byte(blue)), (thing.box[0], thing.box[1]), mask)
    return image


def _byte(value: int) -> int:
    return max(0, min(255, value))
