"""`dmlr judge` (one answer, with the reason) and `dmlr verify` (a finished run again)."""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from dmlr.errors import UserError
from dmlr.verifier.combined import Verifier, verify_row
from dmlr.verifier.extract import extract
from dmlr.verifier.judge import Judge, JudgeConfig
from dmlr.verifier.judge_cache import CACHE_NAME
from dmlr.verifier.options import LETTERS, Options, find_gold, parse_options
from dmlr.verifier.verdict import Verdict

SHOWN_CHANGES = 20


def judge_main(argv: Sequence[str]) -> int:
    """`dmlr judge`: print the verdict on one answer and how it came about."""
    parser = argparse.ArgumentParser(prog="dmlr judge", description="Judge one answer and say why.")
    parser.add_argument("--output", required=True, help="what the model said; - reads it from standard input")
    parser.add_argument("--solution", required=True, help="the gold, as in the dataset")
    parser.add_argument("--prompt", default="", help="the question as in the dataset, with its options")
    parser.add_argument(
        "--choices", nargs="+", help="the option texts in order, when the prompt does not list them"
    )
    parser.add_argument(
        "--answer_type", choices=["choice", "yesno", "integer", "float", "list", "interval", "free"]
    )
    parser.add_argument("--precision", type=int, help="decimals that a float is rounded to")
    parser.add_argument("--unit", help="the unit that the question asks for")
    parser.add_argument("--truncated", action="store_true", help="the output was cut off at its token limit")
    _judge_flags(parser)
    arguments = parser.parse_args(argv)
    output = sys.stdin.read() if arguments.output == "-" else arguments.output
    row = {
        name: value
        for name in ("solution", "prompt", "choices", "answer_type", "precision", "unit")
        if (value := getattr(arguments, name)) is not None
    }
    for line in explain(output, row, arguments.truncated):
        print(line)
    verifier = _verifier(arguments, None)
    try:
        verdict = verifier.submit(output, row, truncated=arguments.truncated).result()
    finally:
        verifier.close()
    print(f"verdict    {verdict.verdict} ({verdict.by})")
    print(f"reason     {verdict.reason}")
    return 0


def explain(output: str, row: dict[str, Any], truncated: bool) -> list[str]:
    """How the rules read an answer: what was extracted and from where, the type, the gold and the options."""
    extraction = extract(output, truncated)
    verdict = verify_row(output, row, truncated)
    lines = [f"answer     {extraction.answer or '(none)'}", f"found in   {extraction.source}"]
    if verdict.by == "none":
        return lines
    lines.append(f"type       {verdict.by.removeprefix('rules:')}")
    if verdict.by == "rules:choice":
        options = (
            Options(tuple(row["choices"])) if row.get("choices") else parse_options(row.get("prompt", ""))
        )
        gold = find_gold(row["solution"], options)
        lines += [f"option {LETTERS[i]}   {text}" for i, text in enumerate(options.texts) if i < len(LETTERS)]
        if gold is not None:
            lines.append(f"gold       {gold.letter} {gold.text}".rstrip())
    else:
        lines.append(f"gold       {row['solution']}")
    return lines


def verify_main(argv: Sequence[str]) -> int:
    """`dmlr verify OUT`: judge the answers of a results.json again, or compare rules and judge on it."""
    parser = argparse.ArgumentParser(
        prog="dmlr verify", description="Judge the answers of a finished run again; loads no model."
    )
    parser.add_argument("out", type=Path, help="output folder of a run, or its results.json")
    parser.add_argument("--dataset", help="dataset file or name (default: the one that the results name)")
    parser.add_argument(
        "--compare_judges",
        action="store_true",
        help="judge every answer by rules and by the judge, print where they agree; changes no file",
    )
    _judge_flags(parser)
    arguments = parser.parse_args(argv)
    # after the parser, so that --help does not wait for it
    from dmlr.verifier.reverify import reverify

    dataset = _dataset(arguments.dataset)
    folder = arguments.out if arguments.out.is_dir() else arguments.out.parent
    if arguments.compare_judges:
        return _compare(arguments, dataset, folder)
    verifier = _verifier(arguments, folder)
    try:
        summary = reverify(arguments.out, dataset, verifier)
    finally:
        verifier.close()
    for line in describe(summary):
        print(line)
    print(json.dumps(summary, ensure_ascii=False))
    return 0


def _dataset(name: str | None) -> Path | None:
    if name is None:
        return None
    from dmlr.data import find_dataset

    return find_dataset(name)


def _compare(arguments: argparse.Namespace, dataset: Path | None, folder: Path) -> int:
    from dmlr.verifier.agreement import compare_judges, report, table
    from dmlr.verifier.reverify import load_results

    judge = _judge(arguments, folder)
    try:
        compared, left_out = compare_judges(load_results(arguments.out, dataset), judge)
    finally:
        judge.close()
    print(report(compared, left_out, judge.config.model))
    disagreements = [item.data_idx for item in compared if item.disagree]
    print(json.dumps({"table": table(compared), "left_out": left_out, "disagreements": disagreements}))
    return 0


def describe(summary: dict[str, Any]) -> list[str]:
    """The summary of a re-verification for people."""
    accuracy, before = summary["accuracy"], summary["accuracy_before"]
    lines = []
    if accuracy is None:
        lines.append("accuracy: nothing judged")
    else:
        low, high = summary["ci95"]
        was = f", was {before:.4f}" if before is not None else ""
        judged = summary["total"] - summary["unjudged"] - summary["errors"]
        lines.append(
            f"accuracy: {accuracy:.4f} [{low:.4f}, {high:.4f}] ({summary['correct']} of {judged} judged{was})"
        )
    lines.append(f"unjudged: {summary['unjudged']}, failed: {summary['errors']}, entries: {summary['total']}")
    lines.append("changed: " + (", ".join(f"{k} {v}" for k, v in summary["changes"].items()) or "nothing"))
    for change in summary["changed"][:SHOWN_CHANGES]:
        lines.append(
            f"  data_idx {change['data_idx']}: {change['before']} -> {change['after']}, {change['reason']}"
        )
    if len(summary["changed"]) > SHOWN_CHANGES:
        lines.append(f"  and {len(summary['changed']) - SHOWN_CHANGES} more")
    if summary["indices"] == "local":
        lines.append(
            "indices: counted from the start of the slice; written back as indices of the whole dataset"
        )
    for name, text in (
        ("entries_without_row", "entries without a dataset row (left as they were)"),
        ("rows_without_entry", "dataset rows without an entry"),
    ):
        if summary[name]:
            shown = ", ".join(map(str, summary[name][:SHOWN_CHANGES]))
            more = ", ..." if len(summary[name]) > SHOWN_CHANGES else ""
            lines.append(f"{text}: {len(summary[name])} ({shown}{more})")
    return lines


def _judge_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--use_llm_verify", action="store_true", help="ask the judge where the rules cannot decide"
    )
    parser.add_argument("--judge_all", action="store_true", help="ask the judge about every answer")
    parser.add_argument(
        "--judge_concurrency", type=int, default=16, help="judge calls in flight (default 16)"
    )
    parser.add_argument("--judge_price_in", type=float, help="price per million prompt tokens, for the cost")
    parser.add_argument(
        "--judge_price_out", type=float, help="price per million completion tokens, for the cost"
    )


def _judge(arguments: argparse.Namespace, folder: Path | None) -> Judge:
    if arguments.judge_concurrency < 1:
        raise UserError(f"--judge_concurrency {arguments.judge_concurrency}: must be at least 1")
    return Judge(
        JudgeConfig.from_environment(
            concurrency=arguments.judge_concurrency,
            cache_path=folder / CACHE_NAME if folder else None,
            price_in=arguments.judge_price_in,
            price_out=arguments.judge_price_out,
        )
    )


def _verifier(arguments: argparse.Namespace, folder: Path | None) -> Verifier:
    if arguments.judge_all and not arguments.use_llm_verify:
        raise UserError("--judge_all: has no effect without --use_llm_verify")
    if not arguments.use_llm_verify:
        return Verifier()
    return Verifier(_judge(arguments, folder), arguments.judge_all)


__all__ = ["Verdict", "describe", "explain", "judge_main", "verify_main"]
