"""`dmlr compare`, `dmlr report`, `dmlr study` and `dmlr analyze`: flags in, files and a few printed lines
out.
"""

import argparse
import json
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
