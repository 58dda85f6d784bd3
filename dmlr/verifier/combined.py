"""Rules first, then the judge: what a run and a re-verification use."""

import queue
import threading
from collections.abc import Mapping
from concurrent.futures import Future
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dmlr.verifier.extract import drop_thinking
from dmlr.verifier.options import parse_options
from dmlr.verifier.rules import verify
from dmlr.verifier.verdict import Verdict

if TYPE_CHECKING:
    from dmlr.config import Config
    from dmlr.verifier.judge import Judge

_ROW_FIELDS = ("answer_letter", "answer_text", "answer_type", "unit")
_Job = tuple[str, Mapping[str, Any], bool, "Future[Verdict]"]


class Verifier:
    """Judges outputs against dataset rows, in the background: `submit` never waits.

    The rules decide first; what they leave open, and with `judge_all` every answer, goes to the judge. An output
    that holds no answer (empty, cut off, thinking without an end) is never sent to it: a judge that calls nothing
    "equivalent" is asked nothing.
    """

    def __init__(self, judge: "Judge | None" = None, judge_all: bool = False) -> None:
        self.judge = judge
        self.judge_all = judge_all and judge is not None
        self._jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None

    def submit(self, output: str, row: Mapping[str, Any], truncated: bool = False) -> "Future[Verdict]":
        """Start judging `output` against `row` (prompt, solution, optional fields).

        `truncated`: the output was cut off at its token limit. Any text of any size is taken.
        """
        future: Future[Verdict] = Future()
        self._jobs.put((output, row, truncated, future))
        if self._thread is None:
            # One thread: most verdicts take a fraction of a millisecond, and a symbolic comparison that takes
            # seconds must not stop the caller, who drives the GPU.
            self._thread = threading.Thread(target=self._work, name="verifier", daemon=True)
            self._thread.start()
        return future

    def close(self) -> None:
        """Wait for the verdicts in flight and close the judge. Can be called twice."""
        if self._thread is not None:
            self._jobs.put(None)
            self._thread.join()
            self._thread = None
        if self.judge is not None:
            self.judge.close()

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None:
            output, row, truncated, future = job
            if not future.set_running_or_notify_cancel():
                continue
            try:
                verdict = verify_row(output, row, truncated)
                if self.judge is None or not self._is_for_judge(verdict, output, truncated):
                    future.set_result(verdict)
                    continue
                asked = self.judge.submit(**judge_case(output, row, verdict.answer))
                asked.add_done_callback(partial(_pass_on, future))
            except BaseException as error:  # handed to whoever waits for the verdict
                future.set_exception(error)

    def _is_for_judge(self, verdict: Verdict, output: str, truncated: bool) -> bool:
        return needs_judge(verdict, self.judge_all) and has_answer(verdict, output, truncated)


def needs_judge(verdict: Verdict, judge_all: bool) -> bool:
    """Whether the rules leave the answer open (or everything is asked); never for a row without a gold."""
    return verdict.by != "none" and (judge_all or verdict.verdict == "unjudged")


def has_answer(verdict: Verdict, output: str, truncated: bool) -> bool:
    """Whether there is an answer to judge: one was extracted, or the output is whole and not only thinking."""
    return bool(verdict.answer) or (not truncated and bool(drop_thinking(output).strip()))


def verify_row(output: str, row: Mapping[str, Any], truncated: bool = False) -> Verdict:
    """`verify` with the fields of a dataset row; fields of another type than the rules know are ignored."""
    fields: dict[str, Any] = {
        name: str(row[name]) for name in _ROW_FIELDS if isinstance(row.get(name), str | int | float)
    }
    choices = row.get("choices")
    if isinstance(choices, list | tuple) and choices:
        fields["choices"] = [str(choice) for choice in choices]
    precision = row.get("precision")
    if isinstance(precision, int | float) and not isinstance(precision, bool):
        fields["precision"] = precision
    solution = row.get("solution")
    gold = "" if solution is None else str(solution)
    return verify(output, gold, str(row.get("prompt") or ""), truncated=truncated, **fields)


def judge_case(output: str, row: Mapping[str, Any], answer: str) -> dict[str, Any]:
    """Arguments of `Judge.submit` for a dataset row."""
    prompt = str(row.get("prompt") or "")
    choices = row.get("choices")
    listed = isinstance(choices, list | tuple) and choices
    return {
        "question": prompt,
        "choices": tuple(str(choice) for choice in choices) if listed else parse_options(prompt).texts,  # type: ignore[union-attr]
        "gold": str(row.get("solution")),
        "answer": answer,
        "output": output,
    }


def _pass_on(future: "Future[Verdict]", asked: "Future[Verdict]") -> None:
    error = asked.exception()
    if error is not None:
        future.set_exception(error)
    else:
        future.set_result(asked.result())


def make_verifier(config: "Config") -> Verifier:
    """The verifier that the flags of a run ask for; the judge's cache lies in the output folder.

    Raises `UserError` (a missing key or model name) before anything is loaded.
    """
    verify_flags = config.verify
    if not verify_flags.use_llm_verify:
        return Verifier()
    from dmlr.verifier.judge import Judge, JudgeConfig
    from dmlr.verifier.judge_cache import CACHE_NAME

    judge = JudgeConfig.from_environment(
        concurrency=verify_flags.judge_concurrency, cache_path=Path(config.run.output_dir) / CACHE_NAME
    )
    return Verifier(Judge(judge), verify_flags.judge_all)
