"""Rows of our own writing in the exact schema of each benchmark, and helpers to write and prepare them."""

import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from dmlr.benchmarks.command import main

IMAGE = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
TEXTS = pa.list_(pa.string())


def schema(picture_column: str = "image", /, **types: pa.DataType) -> pa.Schema:
    return pa.schema([*types.items(), (picture_column, IMAGE)])


def strings(*names: str) -> dict[str, pa.DataType]:
    return dict.fromkeys(names, pa.string())


METADATA = pa.struct(
    [
        *strings("category", "context", "grade", "language", "source", "split", "task").items(),
        ("img_height", pa.int64()),
        ("img_width", pa.int64()),
        ("skills", TEXTS),
    ]
)
SCHEMAS = {
    "scienceqa": schema(
        **strings("question"),
        choices=TEXTS,
        answer=pa.int8(),
        **strings("hint", "task", "grade", "subject", "topic", "category", "skill", "lecture", "solution"),
    ),
    "mathvista": schema(
        "decoded_image",
        **strings("pid", "question", "image"),
        choices=TEXTS,
        unit=pa.string(),
        precision=pa.float64(),
        **strings("answer", "question_type", "answer_type"),
        metadata=METADATA,
        query=pa.string(),
    ),
    "mathvision": schema(
        "decoded_image",
        **strings("id", "question"),
        options=TEXTS,
        **strings("image", "answer", "solution"),
        level=pa.int64(),
        subject=pa.string(),
    ),
    "hallusion": schema(
        **strings(
            "category", "subcategory", "visual_input", "set_id", "figure_id", "sample_note", "question_id"
        ),
        **strings("question", "gt_answer_details", "gt_answer", "filename"),
    ),
    "mmstar": schema(
        index=pa.int64(),
        **strings("question", "answer", "category", "l2_category"),
        meta_info=pa.struct(list(strings("source", "split", "image_path").items())),
    ),
    "mmvp": schema(Index=pa.int32(), **strings("Question", "Options", "Correct Answer")),
    "m3cot": schema(
        **strings("id", "category", "image_id", "question"),
        choices=TEXTS,
        **strings("context", "answer", "rationale", "split", "domain", "topic"),
    ),
    "pope": schema(**strings("id", "question_id", "question", "answer", "image_source", "category")),
    "mmbench": schema(
        index=pa.int64(),
        **strings("question", "hint", "answer", "A", "B", "C", "D", "category", "source", "L2-category"),
        **strings("comment", "split"),
    ),
}
SPLITS = {
    "scienceqa": "test",
    "mathvista": "testmini",
    "mathvision": "test",
    "hallusion": "image",
    "mmstar": "val",
    "mmvp": "train",
    "m3cot": "test",
    "pope": "test",
    "mmbench": "dev",
}
DEFAULTS: dict[str, dict[str, Any]] = {
    "scienceqa": {
        "question": "Which thing is shown?",
        "choices": ["a heron", "an owl"],
        "hint": "",
        "task": "closed choice",
        "grade": "grade4",
        "subject": "natural science",
        "topic": "biology",
        "category": "Animals",
        "skill": "Name birds",
        "lecture": "",
        "solution": "",
    },
    "mathvista": {
        "question": "q",
        "image": "images/1.jpg",
        "choices": None,
        "unit": None,
        "precision": None,
        "question_type": "free_form",
        "answer_type": "integer",
        "metadata": {"category": "general-vqa", "task": "figure question answering", "skills": ["counting"]},
    },
    "mathvision": {"options": [], "image": "images/1.jpg", "level": 2, "subject": "algebra"},
    "hallusion": {
        "category": "VS",
        "subcategory": "chart",
        "visual_input": "1",
        "set_id": "0",
        "figure_id": "1",
        "sample_note": "note",
        "question_id": "0",
        "question": "Is the first bar the tallest?",
        "gt_answer_details": "The second bar is.",
        "filename": "./VS/chart/0_1.png",
    },
    "mmstar": {
        "category": "math",
        "l2_category": "geometry",
        "meta_info": {"source": "s", "split": "val", "image_path": "images/0.jpg"},
    },
    "mmvp": {},
    "m3cot": {
        "category": "natural-science",
        "image_id": "picture-1",
        "question": "Which animal hunts?",
        "choices": ["snake", "mouse"],
        "context": "",
        "rationale": "",
        "split": "test",
        "domain": "science",
        "topic": "natural-science",
    },
    "pope": {"id": "0", "question": "Is there a kite in the image?", "category": "random"},
    "mmbench": {
        "question": "What does the boy hold?",
        "hint": "nan",
        "category": "object_localization",
        "source": "s",
        "L2-category": "perception",
        "comment": "nan",
        "split": "dev",
    },
}


def picture(shade: int = 0, mode: str = "RGB", format: str = "PNG") -> bytes:
    """A small picture in a mode and file format, its content decided by `shade`."""
    image = Image.new("RGB", (6, 5), (shade % 256, 10, 20)).convert("L" if mode == "I;16" else mode)
    if mode == "I;16":
        image = Image.new("I;16", (6, 5), 1000 + shade)
    buffer = io.BytesIO()
    image.save(buffer, format)
    return buffer.getvalue()


def upstream(name: str, **fields: Any) -> dict[str, Any]:
    """One upstream row: the defaults of the benchmark with `fields` on top and a picture of its own."""
    image = "decoded_image" if name in ("mathvista", "mathvision") else "image"
    drawn = {"bytes": picture(sum(map(ord, repr(sorted(fields.items()))))), "path": None}
    return {**DEFAULTS[name], image: drawn, **fields}


def write_parquet(
    folder: Path, name: str, rows: Sequence[Mapping[str, Any]], split: str | None = None
) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{split or SPLITS[name]}-00000-of-00001.parquet"
    pq.write_table(pa.Table.from_pylist([dict(row) for row in rows], SCHEMAS[name]), path)
    return path


def prepared(
    tmp_path: Path, name: str, rows: Sequence[Mapping[str, Any]], *flags: str, split: str | None = None
) -> list[dict[str, Any]]:
    """Write `rows` as parquet, run `dmlr prepare NAME --from DIR`, return the rows of the JSON file."""
    write_parquet(tmp_path / "upstream", name, rows, split)
    out = tmp_path / "data"
    arguments = [name, "--from", str(tmp_path / "upstream"), "--out", str(out), *flags]
    assert main([*arguments, "--split", split] if split else arguments) == 0
    suffix = f"_{split}" if split else ""
    return json.loads((out / f"{name}{suffix}.json").read_text())
