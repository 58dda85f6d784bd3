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
