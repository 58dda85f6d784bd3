"""`dmlr analyze visual-dependency|confidence|evidence OUT`: results go to `OUT/analysis/` and into the
report.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

from tqdm import tqdm

from dmlr.analysis.perturb import KINDS
from dmlr.errors import UserError
from dmlr.files import write_json_atomic
from dmlr.report.runs import Run, load_analysis, load_runs


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise UserError(f"{self.prog}: {message}")


def analyze_main(argv: Sequence[str]) -> int:
    """Run one analysis on a finished run. The last line on standard output is one JSON document."""
    flags = _parser().parse_args(argv)
    run = load_runs([flags.out])[0]
    result = _ANALYSES[flags.analysis](run, flags)
    file = run.folder / "analysis" / f"{flags.analysis.replace('-', '_')}.json"
    write_json_atomic(file, result, indent=None)
    for reason, indices in result.get("skipped", {}).items():
        print(f"left out, {reason}: {len(indices)} ({', '.join(map(str, indices[:10]))})", file=sys.stderr)
    for line in result["lines"]:
        print(f"{line['label']}: {line['text']}")
    print(json.dumps({key: value for key, value in result.items() if key not in ("samples", "lines")}))
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="dmlr analyze", description="Look into a finished run; results go to OUT/analysis/."
    )
    kinds = parser.add_subparsers(dest="analysis", required=True, parser_class=_Parser)
    visual = kinds.add_parser(
        "visual-dependency", help="how much likelier the image makes each token (Eq. 1)"
    )
    visual.add_argument(
        "--perturb", choices=KINDS, default="gaussian", help="how the image is spoilt [gaussian]"
    )
    visual.add_argument(
        "--strength", type=float, default=1.0, help="1 destroys all that the kind can destroy [1]"
    )
    visual.add_argument("--threshold", type=float, default=1.0, help="nats that make a token dependent [1]")
    visual.add_argument(
        "--words", type=Path, metavar="FILE.yaml", help="lists `content` and `function` to compare"
    )
    visual.add_argument("--seed", type=int, default=0, help="seed of the noise [0]")
    confidence = kinds.add_parser("confidence", help="confidence, correctness and reasoning steps (Eq. 2)")
    confidence.add_argument(
        "--gold", action="store_true", help="score the gold answer instead of the model's own"
    )
    confidence.add_argument("--no_model", action="store_true", help="rewards only; loads no model")
    for with_model in (visual, confidence):
        with_model.add_argument("--model", dest="model_name_or_path", help="where the run's model is now")
        with_model.add_argument("--device", help="auto, cpu, cuda or cuda:N [as in the run]")
        with_model.add_argument("--batch_size", type=int, default=8, help="entries per forward [8]")
        with_model.add_argument("--limit", type=int, help="first N entries only")
    evidence = kinds.add_parser("evidence", help="patches and attention against the dataset's evidence boxes")
    evidence.add_argument("--against", metavar="RUN", help="a control run, such as one with random patches")
    for each in (visual, confidence, evidence):
        each.add_argument("out", metavar="OUT", help="run folder")
    return parser


def _check_counts(flags: argparse.Namespace) -> None:
    problems = [
        f"--{name} {value}: must be 1 or more"
        for name, value in (("batch_size", flags.batch_size), ("limit", flags.limit))
        if value is not None and value < 1
    ]
    if problems:
        raise UserError(problems)


def _replay(run: Run, flags: argparse.Namespace) -> Any:
    from dmlr.analysis.replay import Replay

    _check_counts(flags)
    return Replay(run, flags.limit, model_name_or_path=flags.model_name_or_path, device=flags.device)


def _visual(run: Run, flags: argparse.Namespace) -> dict[str, Any]:
    from dmlr.analysis.visual import VisualOptions, visual_dependency
    from dmlr.analysis.words import default_words, read_words

    if flags.strength <= 0:
        raise UserError(
            f"--strength {flags.strength}: must be above 0, or both versions of the image are the same"
        )
    words = read_words(flags.words) if flags.words else default_words()
    replay = _replay(run, flags)
    options = VisualOptions(flags.perturb, flags.strength, flags.threshold, flags.seed, flags.batch_size)
    with tqdm(total=len(run.entries), unit="answer", disable=None) as bar:
        return visual_dependency(replay, options, words, lambda done: bar.update(done - bar.n))


def _confidence(run: Run, flags: argparse.Namespace) -> dict[str, Any]:
    from dmlr.analysis import confidence

    reward = confidence.reward_and_correctness(run)
    if flags.no_model:
        return {"reward": reward, "summary": None, "samples": [], "lines": confidence.lines(reward, None)}
    replay = _replay(run, flags)
    with tqdm(total=len(run.entries), unit="answer", disable=None) as bar:
        rows = confidence.answer_gains(
            replay, flags.gold, flags.batch_size, lambda done: bar.update(done - bar.n)
        )
    confidence.with_dependency(rows, run, load_analysis(run, "visual_dependency"))
    summary = confidence.summarise(rows)
    return {
        "settings": {"answer": "gold" if flags.gold else "predicted", "thoughts": replay.thoughts_from},
        "reward": reward,
        "summary": summary,
        "lines": confidence.lines(reward, summary),
        "skipped": replay.skipped,
        "samples": rows,
    }


def _evidence(run: Run, flags: argparse.Namespace) -> dict[str, Any]:
    from dmlr.analysis.evidence import evidence

    if not flags.against:
        return evidence(run)
    run, other = load_runs([flags.out, flags.against])  # together, so that their names tell them apart
    return evidence(run, other)


_ANALYSES = {"visual-dependency": _visual, "confidence": _confidence, "evidence": _evidence}
