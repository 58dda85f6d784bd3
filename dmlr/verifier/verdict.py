"""The outcome of judging one answer: three values, who decided, and why."""

from dataclasses import dataclass
from typing import Literal

VerdictValue = Literal["correct", "wrong", "unjudged"]


@dataclass(frozen=True)
class Verdict:
    """What was decided about one model output (ours; three values so that a failed judge is never a wrong answer).

    `by` is `rules:<type>` (choice, yesno, integer, float, list, interval, open), `judge:<model>`, or `none` when
    nobody could look at it (an empty gold, a judge that failed). `reason` is one readable line. `answer` is the
    part of the output that was judged, empty when no final answer was found.
    """

    verdict: VerdictValue
    by: str
    reason: str
    answer: str = ""

    @property
    def is_correct(self) -> bool | None:
        """True, False, or None when unjudged: the `is_correct` field of a results entry."""
        return {"correct": True, "wrong": False, "unjudged": None}[self.verdict]
