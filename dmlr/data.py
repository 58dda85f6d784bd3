"""The dataset: a JSON list of rows, checked as a whole before any model loads.

A row is `{"prompt", "solution", "image_path", "idx"}` plus whatever the verifier and the metrics use
(`choices`, `answer_type`, ...). A row without an image is a text-only question.
"""

import contextlib
import hashlib
import json
import os
import re
import warnings
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from PIL import Image, UnidentifiedImageError

from dmlr.config import RunConfig
from dmlr.errors import UserError

# Pillow refuses above this (twice its warning level): a small file can hold an image that fills the memory.
MAX_IMAGE_AREA = 178_956_970
MAX_ASPECT_RATIO = 200  # of the Qwen image processor

_CONTROL_TOKEN = re.compile(
    r"<\|(?:image_pad|video_pad|vision_start|vision_end|vision_pad|im_start|im_end|endoftext|"
    r"object_ref_start|object_ref_end|box_start|box_end|quad_start|quad_end)\|>"
)
_IMAGE_LIKE_KEYS = ("image", "images", "img", "img_path", "image_file", "image_url", "picture")


@dataclass(frozen=True)
class Sample:
    """One question, ready for the engine.

    `data_idx` is the row's index in the whole dataset. `image` is an absolute path, a URL, or None. `problem`
    is set (and nothing else can be relied on) for a row that cannot be used, under --skip_bad_rows.
    """

    data_idx: int
    question: str
    solution: str
    image: str | None
    row: Mapping[str, Any]
    problem: str | None = None


@dataclass(frozen=True)
class Dataset:
    """A dataset and the slice of it that a run asks for.

    `path` is None for a single question from the command line. `sizes` holds (width, height) in pixels of the
    local images of the slice, by `data_idx`.
    """

    path: Path | None
    rows: list[dict[str, Any]]
    samples: list[Sample]
    digest: str = ""  # SHA-256 of the file: the same questions on whatever machine
    sizes: dict[int, tuple[int, int]] = field(default_factory=dict)


def find_dataset(name: str) -> Path:
    """Path of the dataset file `name`: as given, else `data/NAME.json`, else `data/NAME/NAME.json`.

    Relative to the working directory, then to the project folder. Raises `UserError` when there is none.
    """
    roots = [Path(), Path(__file__).resolve().parents[1]]
    places = [Path(name), roots[1] / name]
    places += [root / "data" / tail for root in roots for tail in (f"{name}.json", f"{name}/{name}.json")]
    for place in places:
        if place.is_file():
            return place
    if Path(name).is_dir():
        raise UserError(f"--dataset {name}: is a folder, a JSON file is needed")
    names = f"; data/{name}.json and data/{name}/{name}.json do not exist either" if "/" not in name else ""
    raise UserError(f"--dataset {name}: no such file{names}")


def load_dataset(run: RunConfig) -> Dataset:
    """Rows of `run.dataset` and the samples of the slice `[start_data_idx, end_data_idx)`, every one checked.

    Images are opened and decoded here (cheaply), so that a broken one is known before a model loads.
    Raises `UserError` with one line per bad row of the slice, or, under `run.skip_bad_rows`, keeps them as
    samples with `problem` set.
    """
    path = find_dataset(run.dataset)
    content = path.read_bytes()
    rows = _parse(content, path)
    if run.start_data_idx >= len(rows):
        raise UserError(f"--start_data_idx {run.start_data_idx}: dataset {path} has {len(rows)} rows")
    indices = range(run.start_data_idx, min(run.end_data_idx, len(rows)))
    drafts = [_sample(index, rows[index], path.parent, run.allow_remote_images) for index in indices]
    samples, sizes = _check_images(drafts)
    if not run.skip_bad_rows:
        bad = [f"dataset {path}, row {s.data_idx}: {s.problem}" for s in samples if s.problem]
        if bad:
            raise UserError(
                [*bad, f"{len(bad)} bad rows; mend them, or --skip_bad_rows to record them as failed"]
            )
    usable = [row if isinstance(row, dict) else {} for row in rows]
    return Dataset(path, usable, samples, hashlib.sha256(content).hexdigest(), sizes)


def single_question(question: str, image: str | None, allow_remote_images: bool) -> Dataset:
    """The dataset of one question from the command line. Raises `UserError` when it cannot be asked."""
    row = {"prompt": question, "image_path": image, "solution": ""}
    draft = _sample(0, {**row, "solution": "?"}, Path(), allow_remote_images)
    (sample,), sizes = _check_images([draft])
    if sample.problem:
        raise UserError(f"--question: {sample.problem}")
    return Dataset(None, [row], [Sample(0, sample.question, "", sample.image, row)], "", sizes)


def _parse(content: bytes, path: Path) -> list[Any]:
    try:
        rows = json.loads(content.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        raise UserError(f"dataset {path}: not UTF-8 text (byte {error.start})") from None
    except json.JSONDecodeError as error:
        raise UserError(
            f"dataset {path}: not JSON, line {error.lineno} column {error.colno}: {error.msg}"
        ) from None
    if not isinstance(rows, list):
        raise UserError(f"dataset {path}: must be a JSON list of rows, not {type(rows).__name__}")
    if not rows:
        raise UserError(f"dataset {path}: has no rows")
    return rows


def _sample(index: int, row: Any, folder: Path, allow_remote: bool) -> Sample:
    """Sample of one row; its `problem` lists everything wrong with the row except a broken image."""
    if not isinstance(row, dict):
        return Sample(index, "", "", None, {}, f"must be an object, not {type(row).__name__}")
    problems: list[str] = []
    missing = [key for key in ("prompt", "solution") if key not in row]
    if missing:
        problems.append("no " + " and no ".join(f'"{key}"' for key in missing))
    question = row.get("prompt", "?")
    if not isinstance(question, str) or not question.strip():
        problems.append("prompt is empty" if question in ("", None) else "prompt must be text")
        question = ""
    elif found := _CONTROL_TOKEN.search(question):
        problems.append(f"prompt contains the control token {found.group()}")
    solution = row.get("solution", "?")
    if isinstance(solution, bool | dict | list):
        problems.append(f"solution must be text or a number, not a {type(solution).__name__}")
    elif solution is None or not str(solution).strip():
        problems.append("solution is empty")
    if "choices" in row and not isinstance(row["choices"], list | type(None)):
        problems.append("choices must be a list")
    image = _resolve_image(row, folder, allow_remote, problems)
    return Sample(
        index, question, "" if solution is None else str(solution), image, row, "; ".join(problems) or None
    )


def _resolve_image(
    row: Mapping[str, Any], folder: Path, allow_remote: bool, problems: list[str]
) -> str | None:
    if "image_path" not in row:
        # A misspelt key must not silently turn a picture question into a text-only one.
        other = [key for key in _IMAGE_LIKE_KEYS if row.get(key)]
        if other:
            problems.append(f'has "{other[0]}" but no "image_path" (null for a question without image)')
        return None
    name = row["image_path"]
    if name is None or name == "":
        return None
    if not isinstance(name, str):
        problems.append("image_path must be text or null")
        return None
    if re.match(r"https?://", name, re.IGNORECASE):
        if not allow_remote:
            problems.append(f"image {name} is remote; allow it with --allow_remote_images")
        return name
    for place in (folder / name, Path(name)):
        if place.is_file():
            return os.path.abspath(place)
    problems.append(f"image {name}: no such file")
    return None


@contextlib.contextmanager
def _quiet_pillow() -> Iterator[None]:
    with warnings.catch_warnings():
        # Areas up to MAX_IMAGE_AREA are accepted on purpose, and EXIF oddities do not matter here.
        warnings.simplefilter("ignore")
        yield


def _image_problem(path: str) -> tuple[str | None, tuple[int, int]]:
    """What is wrong with the image file (None: nothing) and its (width, height) in pixels."""
    size = (0, 0)
    try:
        with Image.open(path) as image:
            size = image.size
            width, height = size
            if width * height > MAX_IMAGE_AREA:
                return f"image {path}: {width} x {height} pixels, more than {MAX_IMAGE_AREA}", size
            if max(size) > MAX_ASPECT_RATIO * min(size):
                return f"image {path}: {width} x {height} is longer than {MAX_ASPECT_RATIO}:1", size
            image.draft(
                "RGB", (max(1, width // 8), max(1, height // 8))
            )  # JPEG: decode at an eighth, much cheaper
            image.load()
    except Image.DecompressionBombError:
        return f"image {path}: too many pixels (more than {MAX_IMAGE_AREA})", size
    except UnidentifiedImageError:
        return f"image {path}: not an image", size
    except (OSError, SyntaxError, ValueError, EOFError, MemoryError) as error:
        # SyntaxError is what Pillow raises for a broken PNG.
        return f"image {path}: broken ({' '.join(str(error).split()) or type(error).__name__})", size
    return None, size


def _check_images(drafts: list[Sample]) -> tuple[list[Sample], dict[int, tuple[int, int]]]:
    """The samples with broken images marked, and the sizes of the sound ones; each file is opened once."""
    paths = sorted({s.image for s in drafts if s.image and not s.image.lower().startswith("http")})
    with _quiet_pillow(), ThreadPoolExecutor(os.cpu_count()) as pool:
        found = dict(zip(paths, pool.map(_image_problem, paths)))
    samples, sizes = [], {}
    for sample in drafts:
        problem, size = found.get(sample.image or "", (None, None))
        if problem:
            whole = "; ".join(filter(None, (sample.problem, problem)))
            sample = Sample(
                sample.data_idx, sample.question, sample.solution, sample.image, sample.row, whole
            )
        elif size:
            sizes[sample.data_idx] = size
        samples.append(sample)
    return samples, sizes
