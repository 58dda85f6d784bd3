"""Where the rules and the judge agree on a run, and every case where they do not."""

from collections import Counter
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any

from dmlr.verifier.combined import has_answer, judge_case, verify_row
from dmlr.verifier.extract import short
from dmlr.verifier.judge import Judge
from dmlr.verifier.reverify import Loaded, failure_of
from dmlr.verifier.verdict import Verdict

VALUES = ("correct", "wrong", "unjudged")


@dataclass(frozen=True)
class Compared:
    """One answer as judged by the rules and by the judge."""

    data_idx: int
    gold: str
    answer: str
    rules: Verdict
    judge: Verdict

    @property
    def disagree(self) -> bool:
        """Whether both decided, and differently."""
        return {self.rules.verdict, self.judge.verdict} == {"correct", "wrong"}


def compare_judges(loaded: Loaded, judge: Judge) -> tuple[list[Compared], int]:
    """Both verdicts for every answered entry, and how many were left out (failed, no row, or no answer to judge).

    An output without an answer is wrong by rules and never shown to the judge, so it says nothing about agreement.
    """
    waiting: list[tuple[int, dict[str, Any], Verdict, Future[Verdict]]] = []
    left_out = 0
    for (entry, row), index in zip(loaded.pairs(), loaded.joined.rows):
        output = entry.get("model_output")
        if row is None or index is None or failure_of(entry) or not isinstance(output, str):
            left_out += 1
            continue
        truncated = entry.get("stop_reason") == "length"
        rules = verify_row(output, row, truncated)
        if rules.by == "none" or not has_answer(rules, output, truncated):
            left_out += 1
            continue
        waiting.append((index, row, rules, judge.submit(**judge_case(output, row, rules.answer))))
    compared = [
        Compared(index, str(row.get("solution")), rules.answer, rules, future.result())
        for index, row, rules, future in waiting
    ]
    return compared, left_out


def table(compared: Sequence[Compared]) -> dict[str, dict[str, int]]:
    """Counts by the verdict of the rules (outer key) and of the judge (inner key)."""
    counts: Counter[tuple[str, str]] = Counter((item.rules.verdict, item.judge.verdict) for item in compared)
    return {rules: {judge: counts[rules, judge] for judge in VALUES} for rules in VALUES}


def report(compared: Sequence[Compared], left_out: int, model: str) -> str:
    """The table and the disagreements as text."""
    counts = table(compared)
    lines = [f"rules (rows) against judge {model} (columns)", ""]
    lines.append(f"{'':>10}" + "".join(f"{value:>10}" for value in VALUES))
    lines += [f"{rules:>10}" + "".join(f"{counts[rules][judge]:>10}" for judge in VALUES) for rules in VALUES]
    both = sum(counts[a][b] for a in VALUES[:2] for b in VALUES[:2])
    same = counts["correct"]["correct"] + counts["wrong"]["wrong"]
    share = f" ({same / both:.1%})" if both else ""
    lines += ["", f"both decided: {both}, agree: {same}{share}, disagree: {both - same}"]
    lines.append(f"undecided: {len(compared) - both}, left out (failed or no answer): {left_out}")
    for item in compared:
        if item.disagree:
            lines += [
                "",
                f"data_idx {item.data_idx}: gold {short(item.gold)!r}, answer {short(item.answer)!r}",
                f"  rules say {item.rules.verdict}: {item.rules.reason}",
                f"  judge says {item.judge.verdict}: {item.judge.reason}",
            ]
    return "\n".join(lines)
