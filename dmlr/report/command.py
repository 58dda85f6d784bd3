"""`dmlr compare`, `dmlr report`, `dmlr study` and `dmlr analyze`: flags in, files and a few printed lines
out.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from dmlr.errors import UserError
from dmlr.files import write_bytes_atomic
from dmlr.report.compare import compare
from dmlr.report.html import IMAGE_SIDE, info_text, write_report
from dmlr.report.runs import load_runs
from dmlr.report.tables import comparison_markdown, comparison_text


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise UserError(f"{self.prog}: {message}")


def compare_main(argv: Sequence[str]) -> int:
    """`dmlr compare RUN RUN ...`: statistics of finished runs over the same questions, the first one the
    baseline.
    """
    parser = _Parser(prog="dmlr compare", description="Compare finished runs over the same questions.")
    parser.add_argument("runs", nargs="+", metavar="RUN", help="run folders; the first one is the baseline")
    parser.add_argument(
        "--format", choices=("text", "markdown", "json"), default="text", help="what to print [text]"
    )
    parser.add_argument("--out", type=Path, help="write it to this file as well")
    flags = parser.parse_args(argv)
    if len(flags.runs) < 2:
        raise UserError("dmlr compare: give two or more run folders; the first one is the baseline")
    comparison = compare(load_runs(flags.runs))
    if flags.format == "json":
        text = json.dumps(comparison.as_dict(), indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    elif flags.format == "markdown":
        text = comparison_markdown(comparison)
    else:
        text = comparison_text(comparison) + "\n"
    print(text, end="")
    if flags.out:
        write_bytes_atomic(flags.out, text.encode())
    return 0


def report_main(argv: Sequence[str]) -> int:
    """`dmlr report OUT [OUT ...]`: one self-contained HTML file about one run, or several over the same
    questions.
    """
    parser = _Parser(
        prog="dmlr report", description="Write one self-contained HTML file about finished runs."
    )
    parser.add_argument("runs", nargs="+", metavar="OUT", help="run folders; the first one is the baseline")
    parser.add_argument("--out", type=Path, help="file to write [report.html in the first folder]")
    parser.add_argument(
        "--image_side",
        type=int,
        default=IMAGE_SIDE,
        metavar="PIXELS",
        help=f"longer side of the embedded images, 0: none [{IMAGE_SIDE}]",
    )
    flags = parser.parse_args(argv)
    if flags.image_side < 0:
        raise UserError(f"--image_side {flags.image_side}: must be 0 or more pixels")
    runs = load_runs(flags.runs)
    print(info_text(write_report(runs, flags.out or runs[0].folder / "report.html", flags.image_side)))
    return 0


def study_main(argv: Sequence[str]) -> int:
    """`dmlr study`: run arms and seeds, then write one table. All other flags are those of `dmlr run`."""
    from dmlr import study

    parser = _Parser(
        prog="dmlr study",
        description="Run named arms over several seeds and tabulate them against the first one. "
        "Every other flag is one of `dmlr run` and holds for all arms. Run it again to continue.",
        allow_abbrev=False,
    )
    parser.add_argument(
        "--arms", default=",".join(study.ARMS), help="names, the first is the baseline [%(default)s]"
    )
    parser.add_argument(
        "--arms_file", type=Path, metavar="FILE.yaml", help="more arms: `name: {flag: value}`"
    )
    parser.add_argument("--seeds", default="0,1,2", help="seeds, for the arms that draw noise [%(default)s]")
    parser.add_argument("--model", metavar="MODEL", help="short for --model_name_or_path")
    parser.add_argument("--out", type=Path, default=Path("study"), metavar="DIR", help="folder [%(default)s]")
    known, rest = parser.parse_known_args(argv)
    if known.model:
        rest += ["--model_name_or_path", known.model]
    reserved = [f"--{name}" for name in ("seed", "output_dir", "overwrite", "resume") if f"--{name}" in rest]
    if reserved:
        raise UserError([f"{flag}: the study sets it itself; use --seeds and --out" for flag in reserved])
    arms = study.parse_arms([name.strip() for name in known.arms.split(",") if name.strip()], known.arms_file)
    jobs = study.plan(arms, _seeds(known.seeds), known.out, rest)
    if not study.run_study(jobs, lambda line: print(line, file=sys.stderr)):
        print(f"stopped; the same command continues {known.out}", file=sys.stderr)
        return 130
    results = study.tabulate(study.collect(jobs))
    print(study.write_tables(results, jobs, known.out))
    print(f"\n{study.NOTES}\n\nwritten: {known.out / 'study.md'}, {known.out / 'study.json'}")
    return 0


def _seeds(text: str) -> list[int]:
    try:
        seeds = [int(word) for word in text.split(",") if word.strip()]
    except ValueError:
        raise UserError(f"--seeds {text}: needs whole numbers with commas between them") from None
    if not seeds or len(set(seeds)) != len(seeds) or min(seeds) < 0:
        raise UserError(f"--seeds {text}: needs at least one, each 0 or more and only once")
    return seeds


def analyze_main(argv: Sequence[str]) -> int:
    """`dmlr analyze ...`: see `dmlr/analysis/command.py`."""
    from dmlr.analysis.command import analyze_main as main

    return main(argv)
