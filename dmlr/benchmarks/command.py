"""`dmlr prepare NAME`: download or read a public benchmark and write it as a dataset; `--check FILE`: validate one."""

import argparse
import dataclasses
import functools
import json
import logging
import sys
from pathlib import Path

from dmlr.benchmarks import BENCHMARKS, mmbench, mmvp
from dmlr.benchmarks.check import check_file
from dmlr.benchmarks.hub import open_hub
from dmlr.benchmarks.prepare import prepare
from dmlr.benchmarks.schema import Benchmark
from dmlr.benchmarks.sources import open_local
from dmlr.errors import UserError

logger = logging.getLogger(__name__)


def build_parser() -> argparse.ArgumentParser:
    """The flags of `dmlr prepare`."""
    parser = argparse.ArgumentParser(
        prog="dmlr prepare",
        description="Prepare a public benchmark as a dataset file with its images, or check a dataset file.",
        epilog="Reads the Hugging Face hub (HF_ENDPOINT names a mirror) unless --from is given.",
    )
    parser.add_argument(
        "name", nargs="?", choices=sorted(BENCHMARKS), metavar="NAME", help=", ".join(BENCHMARKS)
    )
    parser.add_argument("--out", type=Path, default=Path("data"), help="folder to write to (default: data)")
    parser.add_argument("--split", help="split to prepare (default: the one that is evaluated)")
    parser.add_argument(
        "--limit", type=int, help="stop after this many rows; the counts are then not compared"
    )
    parser.add_argument(
        "--revision", help="commit, branch or tag of the hub repository (default: its main branch)"
    )
    parser.add_argument(
        "--from",
        dest="place",
        type=Path,
        metavar="DIR",
        help="read local files instead of the hub: parquet, the authors' raw files, or the published DMLR json",
    )
    parser.add_argument(
        "--images", type=Path, metavar="DIR", help="with --from: where pictures lie that rows name by path"
    )
    parser.add_argument(
        "--skip_bad_rows",
        "--skip-bad-rows",
        action="store_true",
        help="leave bad rows out instead of failing",
    )
    parser.add_argument(
        "--mmvp_labels",
        "--mmvp-labels",
        choices=("original", "corrected"),
        help="mmvp: the four disputed golds",
    )
    rotations = parser.add_mutually_exclusive_group()
    rotations.add_argument("--circular", action="store_true", help="mmbench: all rotations (the default)")
    rotations.add_argument(
        "--base_only", "--base-only", action="store_true", help="mmbench: unrotated rows only"
    )
    parser.add_argument("--check", type=Path, metavar="FILE", help="validate any dataset file and exit")
    return parser


def main(argv: list[str]) -> int:
    """Run `dmlr prepare` with `argv` (without the program's name); the last line on stdout is one JSON document.

    Returns 0, or 2 when `--check` found errors. Raises `UserError` for everything the user has to mend; nothing is
    then written but images.
    """
    args = build_parser().parse_args(argv)
    if args.check is not None:
        return _check(args.check)
    benchmark, split_name = _chosen(args)
    if args.place is not None:
        source = open_local(benchmark, split_name, args.place, args.images)
    else:
        source = open_hub(benchmark, split_name, args.revision)
    for note in source.notes:
        print(f"note: {note}", file=sys.stderr)
    result = prepare(benchmark, split_name, source, args.out, args.limit, args.skip_bad_rows)
    for line in result.skipped:
        print(f"left out: {line}", file=sys.stderr)
    for line in result.differences:
        print(f"warning: {benchmark.name} {split_name}: {line}", file=sys.stderr)
    print(
        f"{result.path}: {result.rows} rows, {result.images} images ({result.images_written} newly written)"
    )
    print(json.dumps({**dataclasses.asdict(result), "path": str(result.path), "licence": benchmark.licence}))
    return 0


def _chosen(args: argparse.Namespace) -> tuple[Benchmark, str]:
    """The benchmark with the options of this run, and the split; all wrong flags at once as `UserError`."""
    if args.name is None:
        raise UserError(f"prepare: name a benchmark ({', '.join(BENCHMARKS)}) or give --check FILE")
    benchmark = BENCHMARKS[args.name]
    split_name = args.split or benchmark.default_split
    problems = []
    if split_name not in benchmark.splits:
        problems.append(f"--split {split_name}: {args.name} has {', '.join(benchmark.splits)}")
    elif benchmark.splits[split_name].answers_hidden:
        problems.append(
            f"--split {split_name}: the authors of {args.name} keep its answers secret; nothing to score"
        )
    if args.limit is not None and args.limit < 1:
        problems.append(f"--limit {args.limit}: at least 1")
    if args.mmvp_labels and args.name != "mmvp":
        problems.append(f"--mmvp_labels: only for mmvp, not for {args.name}")
    if (args.circular or args.base_only) and args.name != "mmbench":
        problems.append(f"--circular and --base_only: only for mmbench, not for {args.name}")
    if args.revision and args.place:
        problems.append("--revision: names a hub commit, which local files (--from) do not have")
    if args.images and not args.place:
        problems.append("--images: only with --from")
    if problems:
        raise UserError(problems)
    if args.mmvp_labels:
        benchmark = dataclasses.replace(
            benchmark, convert=functools.partial(mmvp.convert, labels=args.mmvp_labels)
        )
    if args.base_only:
        benchmark = dataclasses.replace(benchmark, keep=mmbench.is_base)
    return benchmark, split_name


def _check(path: Path) -> int:
    report = check_file(path)
    for line in report.lines():
        print(line)
    print(json.dumps(report.summary()))
    return 2 if report.errors else 0
