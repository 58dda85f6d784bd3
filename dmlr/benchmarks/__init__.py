"""The ten public benchmarks: one module each, `dmlr prepare` to get them, `official_metrics` to score them.

Importing this package loads neither torch, datasets nor pyarrow.
"""

from collections.abc import Sequence
from typing import Any

from dmlr.benchmarks import (
    hallusion,
    m3cot,
    mathvision,
    mathvista,
    mm_math,
    mmbench,
    mmstar,
    mmvp,
    pope,
    scienceqa,
)
from dmlr.benchmarks.schema import Benchmark
from dmlr.benchmarks.scores import accuracy, join

__all__ = ["BENCHMARKS", "official_metrics"]

BENCHMARKS: dict[str, Benchmark] = {
    module.BENCHMARK.name: module.BENCHMARK
    for module in (
        scienceqa,
        mathvista,
        mathvision,
        mm_math,
        hallusion,
        mmstar,
        mmvp,
        m3cot,
        pope,
        mmbench,
    )
}


def official_metrics(rows: Sequence[dict[str, Any]], entries: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Scores as the benchmark's authors report them, from our verdicts; {} for any other dataset.

    `rows`: the whole dataset file as `dmlr prepare` wrote it (the benchmark is read from `row["benchmark"]`);
    `entries`: results entries, of which `data_idx` (index of the row in `rows`), `verdict`, `error` and `answer` are
    read. Rows may be missing from `entries` (a slice was run).

    Returns `benchmark`, `accuracy` with `correct`, `judged`, `unjudged` and `missing`, and what the benchmark's own
    `metrics` adds. An entry with an error or without a verdict is *unjudged*, a row without an entry *missing*: both
    stay out of every rate, and out of every group score (MMVP pairs, HallusionBench qAcc and fAcc, MMBench circular)
    together with their group, which is counted as `undecided`. Rates over nothing are None.
    """
    names = {row.get("benchmark") for row in rows}
    name = names.pop() if len(names) == 1 else None
    if name not in BENCHMARKS:
        return {}
    scored = join(rows, entries)
    metrics = BENCHMARKS[name].metrics
    return {"benchmark": name, **accuracy(scored), **(metrics(scored) if metrics else {})}
