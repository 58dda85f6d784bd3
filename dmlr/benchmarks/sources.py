"""Upstream rows from local files: parquet, the authors' raw files, or a file in the form of the published repository.

Rows come one at a time, pictures included, so that a benchmark of any size fits in memory.
"""

import csv
import fnmatch
import json
import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dmlr.benchmarks.images import ImageFiles
from dmlr.benchmarks.published import is_published, published_names, published_rows
from dmlr.benchmarks.schema import Benchmark, Split
from dmlr.errors import UserError
from dmlr.files import read_json

logger = logging.getLogger(__name__)

BATCH_ROWS = 16
READ_BUFFER_BYTES = 1 << 20
# A base64 picture in a table cell; the csv module refuses cells above 128 KiB unless told otherwise.
MAX_CELL_BYTES = 1 << 30


@dataclass
class RowSource:
    """Upstream rows of one split, where they come from, and where pictures that they name are found.

    `problems` holds, by row position, why a row of a published file cannot be repaired; `notes` are for the user.
    """

    rows: Iterator[dict[str, Any]]
    provenance: dict[str, Any]
    total: int | None = None
    files: ImageFiles | None = None
    drop_imageless: bool = False
    problems: dict[int, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


def open_local(
    benchmark: Benchmark, split_name: str, place: Path, image_root: Path | None = None
) -> RowSource:
    """Rows of a split from `place`: a folder to search, or one file.

    Folders are searched for parquet of this split (`test-*.parquet`, `test.parquet`, or parquet that names no other
    split), then for the authors' raw files, then for a JSON in published form. `image_root` is where pictures that
    rows name by path lie; by default the folder itself, its parent, and its zip archives. Raises `UserError`.
    """
    split = benchmark.splits[split_name]
    if not place.exists():
        raise UserError(f"--from {place}: no such file or folder")
    folder = place if place.is_dir() else place.parent
    paths = _local_files(benchmark, split, place)
    files = ImageFiles([image_root] if image_root else [folder, folder.parent], sorted(folder.rglob("*.zip")))
    provenance = {"repo": "local", "config": ", ".join(path.name for path in paths), "split": split.upstream}
    logger.info("reading %s", ", ".join(str(path) for path in paths))
    if paths[0].suffix == ".parquet":
        rows, total = parquet_rows(paths)
        return RowSource(rows, provenance, total, files)
    if paths[0].suffix == ".json":
        content = read_json(paths[0], "benchmark file")
        if is_published(content):
            repaired = published_rows(benchmark.name, content)
            rows_of_file = iter(repaired.rows)
            return RowSource(
                rows_of_file,
                provenance,
                len(content),
                files,
                problems=repaired.problems,
                notes=repaired.notes,
            )
        return RowSource(_json_rows(content, paths[0]), provenance, len(content), files)
    return RowSource(_text_rows(paths[0]), provenance, None, files)


def choose_parquet(names: Sequence[str], benchmark: Benchmark, split: Split, config: str) -> list[str]:
    """The parquet files of one split among `names` (paths relative to the repository), in order.

    By the hub's naming: `SPLIT-*.parquet` or `SPLIT.parquet`, inside a folder called like the configuration when
    there is one. Otherwise files that carry the name of no other split.
    """
    parquet = sorted(name for name in names if name.endswith(".parquet"))

    def of_split(name: str, split_name: str) -> bool:
        base = name.rsplit("/", 1)[-1]
        return base == f"{split_name}.parquet" or fnmatch.fnmatch(base, f"{split_name}-*.parquet")

    chosen = [name for name in parquet if of_split(name, split.upstream)]
    if not chosen:
        known = {other.upstream for other in benchmark.splits.values()} | {
            "train",
            "validation",
            "test",
            "dev",
        }
        chosen = [name for name in parquet if not any(of_split(name, other) for other in known)]
    of_config = [name for name in chosen if config in name.split("/")[:-1]]
    return of_config or chosen


def _local_files(benchmark: Benchmark, split: Split, place: Path) -> list[Path]:
    if place.is_file():
        return [place]
    found = {path.relative_to(place).as_posix(): path for path in sorted(place.rglob("*.parquet"))}
    config = split.config or benchmark.sources[0].config
    chosen = choose_parquet(list(found), benchmark, split, config)
    if chosen:
        return [found[name] for name in chosen]
    published = [f"{name}.json" for name in published_names(benchmark.name)]
    for pattern in (*split.raw, *published):
        matches = sorted(place.rglob(pattern))
        if matches:
            return matches[:1]
    wanted = ", ".join([f"{split.upstream}-*.parquet", *split.raw, *published])
    raise UserError(
        f"--from {place}: nothing of {benchmark.name} split {split.upstream} there; looked for {wanted}"
    )


def parquet_rows(paths: Sequence[Path]) -> tuple[Iterator[dict[str, Any]], int]:
    """Rows of parquet files in order, and how many there are. Raises `UserError` for a file that is no parquet.

    Row groups of a thousand pictures are common, so pages are read as they are needed (no pre-buffering) and only a
    few rows are turned into Python objects at a time.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    total = 0
    for path in paths:
        try:
            total += pq.read_metadata(path).num_rows
        except (pa.ArrowInvalid, OSError) as error:
            raise UserError(f"{path}: cannot be read as parquet ({error})") from None

    def rows() -> Iterator[dict[str, Any]]:
        for path in paths:
            with pq.ParquetFile(path, pre_buffer=False, buffer_size=READ_BUFFER_BYTES) as file:
                for batch in file.iter_batches(batch_size=BATCH_ROWS, use_threads=False):
                    yield from batch.to_pylist()

    return rows(), total


def _json_rows(content: Any, path: Path) -> Iterator[dict[str, Any]]:
    rows = list(content.values()) if isinstance(content, dict) else content
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise UserError(f"{path}: a list (or an object) of rows is needed")
    return iter(rows)


def _text_rows(path: Path) -> Iterator[dict[str, Any]]:
    if path.suffix == ".jsonl":
        return _jsonl_rows(path)
    if path.suffix in (".csv", ".tsv"):
        return _table_rows(path, "\t" if path.suffix == ".tsv" else ",")
    raise UserError(f"{path}: .parquet, .jsonl, .json, .csv or .tsv is needed")


def _jsonl_rows(path: Path) -> Iterator[dict[str, Any]]:
    with path.open(encoding="utf-8-sig") as file:
        for number, line in enumerate(file, 1):
            if line.strip():
                try:
                    row = json.loads(line)
                except json.JSONDecodeError as error:
                    raise UserError(f"{path}: line {number} is not JSON: {error.msg}") from None
                if not isinstance(row, dict):
                    raise UserError(f"{path}: line {number} is not a JSON object")
                yield row


def _table_rows(path: Path, delimiter: str) -> Iterator[dict[str, Any]]:
    csv.field_size_limit(MAX_CELL_BYTES)
    with path.open(encoding="utf-8-sig", newline="") as file:
        yield from csv.DictReader(file, delimiter=delimiter)
