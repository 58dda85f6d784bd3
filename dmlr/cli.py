"""The command line: `dmlr NAME ...`. A sub-command's module is imported when it is asked for."""

import importlib
import json
import logging
import os
import select
import sys
from collections.abc import Callable, Sequence
from typing import Any

from dotenv import find_dotenv, load_dotenv
from tqdm import tqdm

from dmlr import __version__
from dmlr.errors import UserError

COMMANDS: dict[str, tuple[str, str]] = {
    "run": ("dmlr.cli:run_main", "answer a dataset and judge the answers"),
    "judge": ("dmlr.verifier.command:judge_main", "judge one answer"),
    "verify": ("dmlr.verifier.command:verify_main", "judge the answers of a results.json again"),
    "prepare": ("dmlr.benchmarks.command:main", "fetch a public benchmark and convert it"),
    "compare": ("dmlr.report.command:compare_main", "compare runs on the samples they share"),
    "report": ("dmlr.report.command:report_main", "write the HTML report of runs"),
    "study": ("dmlr.report.command:study_main", "run and tabulate a set of settings"),
    "analyze": ("dmlr.report.command:analyze_main", "look into the rewards and patches of a run"),
}
INTERRUPTED = 130
NOBODY_READS = 141  # what a shell reports for a program that SIGPIPE ended
USER_ERROR = 2


class _AboveTheBar(logging.Handler):
    """Log lines on standard error, above a progress bar instead of through it."""

    def emit(self, record: logging.LogRecord) -> None:
        tqdm.write(self.format(record), file=sys.stderr)


def console() -> None:
    """Entry point of the `dmlr` console script and of `python -m dmlr`."""
    sys.exit(main())


def main(argv: Sequence[str] | None = None) -> int:
    """Run the sub-command that `argv` names (default: the words of this process); returns its exit code.

    0 done, 2 the user's error (one line each on standard error, no traceback), 130 interrupted, 141 when nobody reads
    standard output any more (`dmlr ... | head`).
    """
    words = list(sys.argv[1:] if argv is None else argv)
    if not words or words[0] in ("-h", "--help"):
        print(_help())
        return 0 if words else USER_ERROR
    if words[0] == "--version":
        print(f"dmlr {__version__}")
        return 0
    try:
        set_up_environment()
        code = _command(words[0])(words[1:])
        sys.stdout.flush()
        return code
    except BrokenPipeError:
        if not _nobody_reads():
            raise
        return NOBODY_READS
    except UserError as error:
        for problem in error.problems:
            print(f"dmlr: error: {problem}", file=sys.stderr)
        return USER_ERROR
    except KeyboardInterrupt:
        print("dmlr: interrupted", file=sys.stderr)
        return INTERRUPTED


def _nobody_reads() -> bool:
    """Whether standard output was closed; it then leads nowhere, so that the interpreter's last flush does not fail."""
    pipe = select.poll()
    pipe.register(sys.stdout.fileno(), select.POLLOUT)
    if not any(event & select.POLLERR for _, event in pipe.poll(0)):
        return False
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return True


def set_up_environment() -> None:
    """Read `.env` (set variables win), pass the hub token on under the hub's own name, set up logging.

    Raises `UserError` for an unknown LOG_LEVEL.
    """
    load_dotenv(find_dotenv(usecwd=True), override=False)
    token = os.environ.get("HUGGING_FACE_TOKEN")
    if token:
        os.environ.setdefault("HF_TOKEN", token)
    level = os.environ.get("LOG_LEVEL", "WARNING").upper()
    if level not in logging.getLevelNamesMapping():
        raise UserError(f"LOG_LEVEL {level}: must be one of DEBUG, INFO, WARNING, ERROR")
    handler = _AboveTheBar()
    handler.setFormatter(logging.Formatter("%(levelname)s %(name)s: %(message)s"))
    logging.basicConfig(level=level, handlers=[handler])


def run_main(argv: Sequence[str]) -> int:
    """`dmlr run`: see `dmlr run --help`. The last line on standard output is one JSON document."""
    from dmlr import runner
    from dmlr.config import resolve
    from dmlr.validation import warnings_of

    config = resolve(argv)
    for line in warnings_of(config):
        print(f"dmlr: warning: {line}", file=sys.stderr)
    if config.run.question is not None:
        outcome = runner.ask(config)
        print(outcome.answer)
        print(json.dumps(outcome.summary, ensure_ascii=False))
        return 0
    if config.verify.verify_only:
        print(json.dumps(runner.verify_only(config), ensure_ascii=False))
        return 0
    outcome = runner.run(config)
    for line in describe(outcome.summary):
        print(line)
    print(json.dumps(outcome.summary, ensure_ascii=False))
    return INTERRUPTED if outcome.interrupted else 0


def describe(summary: dict[str, Any]) -> list[str]:
    """The summary of a run for people."""
    judged = summary["total"] - summary["unjudged"] - summary["errors"]
    if summary["accuracy"] is None:
        lines = ["accuracy: nothing judged yet"]
    else:
        low, high = summary["ci95"]
        lines = [
            f"accuracy: {summary['accuracy']:.4f} [{low:.4f}, {high:.4f}] ({summary['correct']} of {judged} judged)"
        ]
    lines.append(f"unjudged: {summary['unjudged']}, failed: {summary['errors']}")
    if summary["stopped"]:
        left = f"{summary['remaining']} samples and the missing verdicts are left"
        lines.append(f"stopped by {summary['stopped']}: {left}; the same command with --resume goes on")
    lines.append(f"results: {summary['output']}")
    return lines


def _command(name: str) -> Callable[[Sequence[str]], int]:
    if name not in COMMANDS:
        raise UserError(f"{name}: unknown command; one of {', '.join(COMMANDS)}")
    module, function = COMMANDS[name][0].split(":")
    command: Callable[[Sequence[str]], int] = getattr(importlib.import_module(module), function)
    return command


def _help() -> str:
    width = max(map(len, COMMANDS))
    lines = [f"  {name:<{width}}  {text}" for name, (_, text) in COMMANDS.items()]
    return "\n".join(["usage: dmlr COMMAND ...", "", *lines, "", "dmlr COMMAND --help tells more."])
