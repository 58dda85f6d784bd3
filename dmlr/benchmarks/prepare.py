"""From upstream rows to a dataset file: convert, store the picture, report every bad row, write once at the end."""

import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tqdm import tqdm

from dmlr.benchmarks.counts import differences
from dmlr.benchmarks.images import ImageStore, image_bytes
from dmlr.benchmarks.schema import BadRow, Benchmark, Row, upstream_id
from dmlr.benchmarks.sources import RowSource
from dmlr.errors import UserError
from dmlr.files import write_json_atomic

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Prepared:
    """What was written: the dataset file, its rows, the pictures, the rows left out, and unexpected counts."""

    path: Path
    rows: int
    images: int
    images_written: int
    skipped: list[str]
    differences: list[str]


def dataset_name(benchmark: Benchmark, split_name: str) -> str:
    """File name without .json: the benchmark's, with the split's appended unless it is the default one."""
    return benchmark.name if split_name == benchmark.default_split else f"{benchmark.name}_{split_name}"


def prepare(
    benchmark: Benchmark,
    split_name: str,
    source: RowSource,
    out: Path,
    limit: int | None = None,
    skip_bad_rows: bool = False,
) -> Prepared:
    """Write `out/NAME.json` and its pictures below `out/NAME/SPLIT/`.

    Interrupted work is picked up by running again: pictures that are in place are not written a second time, and the
    JSON file appears only when everything is done. Raises `UserError` with one line per kind of bad row, each naming
    the upstream ids, unless `skip_bad_rows`; then they are left out and `Prepared.skipped` has the lines.
    """
    name = dataset_name(benchmark, split_name)
    store = ImageStore(out / benchmark.name / split_name, out)
    rows, bad = _convert_all(benchmark, split_name, source, store, limit)
    lines = _problem_lines(f"{benchmark.name} {split_name}", bad)
    if lines and not skip_bad_rows:
        total = sum(len(ids) for ids in bad.values())
        advice = f"{name}: {total} of {total + len(rows)} rows are bad; --skip_bad_rows prepares the others"
        raise UserError([*lines, advice])
    if not rows:
        raise UserError([*lines, f"{name}: no usable row, nothing written"])
    path = out / f"{name}.json"
    write_json_atomic(path, rows)
    unexpected: list[str] = []
    if limit is None:
        unexpected = differences(rows, _expected(benchmark, split_name))
        if benchmark.structure:
            unexpected += benchmark.structure(rows)
    images = len({row["image_path"] for row in rows if row["image_path"]})
    return Prepared(path, len(rows), images, store.written, lines, unexpected)


def _expected(benchmark: Benchmark, split_name: str) -> Mapping[str, int]:
    # With a filter (`--base_only`) the split's own counts cannot hold.
    return {} if benchmark.keep else benchmark.splits[split_name].expected


def _convert_all(
    benchmark: Benchmark, split_name: str, source: RowSource, store: ImageStore, limit: int | None
) -> tuple[list[Row], dict[str, list[str]]]:
    """Rows, and for each problem the ids of the rows that have it."""
    rows: list[Row] = []
    bad: dict[str, list[str]] = {}
    ids: set[str] = set()
    paths_by_id: dict[str, str] = {}
    split = benchmark.splits[split_name]
    progress = tqdm(
        source.rows, total=source.total, desc=f"{benchmark.name} {split_name}", unit="row", disable=None
    )
    for position, upstream in enumerate(progress):
        if limit is not None and len(rows) >= limit:
            break
        row_id = upstream_id(benchmark, upstream, f"{split_name}-{position}")
        try:
            if position in source.problems:
                raise BadRow(source.problems[position])
            if not rows:
                _check_columns(benchmark, upstream)
            if any(chosen and not chosen(upstream) for chosen in (split.select, benchmark.keep)):
                continue
            cell = None if split.text_only else benchmark.image(upstream)
            if source.drop_imageless and cell is None:
                continue
            fields = benchmark.convert(upstream)
            if row_id in ids:
                raise BadRow("duplicate id")
            image_name = fields.pop("image_name", "") or row_id
            image_path = None
            if not split.text_only:
                image_path = paths_by_id.get(cell) if isinstance(cell, str) else None
                if image_path is None:
                    image_path = store.add(image_name, image_bytes(cell, source.files))
        except BadRow as problem:
            bad.setdefault(str(problem), []).append(row_id)
            continue
        ids.add(row_id)
        if image_path:
            paths_by_id[row_id] = image_path
        head = {"image_path": image_path, "idx": len(rows), "id": row_id}
        rows.append(_row(benchmark, split_name, head, fields, source.provenance))
    return rows, bad


def _row(benchmark: Benchmark, split_name: str, head: Row, fields: Row, provenance: Mapping[str, Any]) -> Row:
    """The row in the order in which people read it: what the model sees, the gold, the identity, the rest."""
    fields = dict(fields)
    return {
        "prompt": fields.pop("prompt"),
        "solution": fields.pop("solution"),
        **head,
        "benchmark": benchmark.name,
        "split": split_name,
        **fields,
        "source": {"revision": None, **provenance},
    }


def _check_columns(benchmark: Benchmark, upstream: Mapping[str, Any]) -> None:
    missing = [column for column in benchmark.columns if column not in upstream]
    if missing:
        raise UserError(
            f"{benchmark.name}: the source has no column {', '.join(missing)} (it has {', '.join(upstream)}); "
            "is it another benchmark, or another version of this one?"
        )


def _problem_lines(where: str, bad: Mapping[str, Iterable[str]]) -> list[str]:
    return [f"{where}: {problem} (id {', '.join(ids)})" for problem, ids in bad.items()]
