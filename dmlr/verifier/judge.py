"""The LLM judge: any OpenAI-compatible endpoint, many calls at a time, beside the run.

A call that fails leaves the answer unjudged and says why; it never counts as a wrong answer and never ends the run.
The key is in no log, verdict, cache or error message.
"""

import logging
import os
import queue
import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from dmlr.endpoint import (
    DUMMY_KEY,
    EndpointFailure,
    describe_status,
    failures,
    is_key,
    redact,
    without_secrets,
)
from dmlr.errors import UserError
from dmlr.verifier.judge_cache import JudgeCache, cache_key
from dmlr.verifier.judge_protocol import PROMPT_VERSION, RESPONSE_FORMAT, Case, Reply, messages, read_reply
from dmlr.verifier.verdict import Verdict

if TYPE_CHECKING:
    import openai

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class JudgeConfig:
    """Where the judge is and how it is asked.

    `base_url` None is OpenAI's own endpoint. `timeout` is in seconds per attempt; timeouts, 429 (honouring
    Retry-After) and 5xx are tried `max_retries` more times by the client. Prices are in any currency per million
    tokens. After `give_up_after` failed calls in a row the rest fails at once: a dead server must not hold up the
    end of a run for hours.
    """

    model: str
    base_url: str | None = None
    api_key: str = field(default=DUMMY_KEY, repr=False)
    concurrency: int = 16
    timeout: float = 120.0
    max_retries: int = 4
    max_tokens: int = 1024
    cache_path: Path | None = None
    price_in: float | None = None
    price_out: float | None = None
    give_up_after: int = 64

    @classmethod
    def from_environment(cls, environ: Mapping[str, str] = os.environ, **overrides: Any) -> "JudgeConfig":
        """Read `OPENAI_API_KEY`, `OPENAI_API_BASE_URL` and `MODEL_TYPE` (empty is unset).

        A local server needs no key, so with a base URL a missing one is replaced. Raises `UserError` with every
        problem at once.
        """
        key = environ.get("OPENAI_API_KEY", "").strip()
        base_url = environ.get("OPENAI_API_BASE_URL", "").strip() or None
        model = environ.get("MODEL_TYPE", "").strip()
        problems = []
        if not key and not base_url:
            problems.append(
                "the judge needs OPENAI_API_KEY, or OPENAI_API_BASE_URL for a local server (set it or put it in .env)"
            )
        if not model:
            problems.append(
                "the judge needs MODEL_TYPE, the name of the judge model (set it or put it in .env)"
            )
        if base_url and urlsplit(base_url).scheme not in ("http", "https"):
            problems.append("OPENAI_API_BASE_URL must begin with http:// or https://")
        if not is_key(key):
            problems.append("OPENAI_API_KEY holds characters that no key has")
        if problems:
            raise UserError(problems)
        return cls(model=model, base_url=base_url, api_key=key or DUMMY_KEY, **overrides)

    @property
    def endpoint(self) -> str:
        """The base URL without credentials or query, for messages and the cache key."""
        return "openai" if self.base_url is None else without_secrets(self.base_url)


@dataclass(frozen=True)
class Usage:
    """What the judge cost so far. `cost` is None without prices; `failed` counts cases left unjudged."""

    calls: int = 0
    cached: int = 0
    failed: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    max_concurrency: int = 0
    cost: float | None = None


_Job = tuple[Case, str, "Future[Verdict]"]


class Judge:
    """Asks the judge model in `concurrency` threads. `submit` returns at once; `close` ends the threads."""

    def __init__(self, config: JudgeConfig) -> None:
        """Set up the client; no call is made and nothing is written yet."""
        import openai

        self.config = config
        self._cache = JudgeCache(config.cache_path)
        self._client = openai.OpenAI(
            api_key=config.api_key,
            base_url=config.base_url,
            timeout=config.timeout,
            max_retries=config.max_retries,
        )
        self._jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._threads: list[threading.Thread] = []
        self._lock = threading.Lock()
        self._usage = Usage()
        self._in_flight = 0
        self._failures_in_a_row = 0
        self._given_up: str | None = None
        self._closed = False
        # what this server was found not to accept
        self._refused: set[str] = set()

    @property
    def usage(self) -> Usage:
        """Calls, tokens, cost and the highest number of calls in flight so far."""
        with self._lock:
            usage = self._usage
        if self.config.price_in is None or self.config.price_out is None:
            return usage
        cost = usage.prompt_tokens * self.config.price_in + usage.completion_tokens * self.config.price_out
        return replace(usage, cost=cost / 1e6)

    def submit(
        self, question: str, choices: Sequence[str], gold: str, answer: str, output: str
    ) -> "Future[Verdict]":
        """Start judging one answer; from the cache the verdict is there at once. Raises `RuntimeError` when closed."""
        if self._closed:
            raise RuntimeError("the judge is closed")
        future: Future[Verdict] = Future()
        case = Case(question, tuple(choices), gold, answer, output)
        key = cache_key(
            self.config.endpoint,
            self.config.model,
            str(PROMPT_VERSION),
            question,
            *choices,
            gold,
            # without an extracted answer only the output tells two cases apart
            answer or output,
        )
        cached = self._cache.get(key)
        if cached is not None:
            self._count(cached=1)
            future.set_result(self._verdict(cached, answer))
            return future
        self._jobs.put((case, key, future))
        with self._lock:
            if len(self._threads) < self.config.concurrency:
                # daemons: a run that is told to stop does not wait for a judge that hangs
                thread = threading.Thread(target=self._work, name="judge", daemon=True)
                self._threads.append(thread)
                thread.start()
        return future

    def close(self) -> None:
        """Wait for what was submitted, end the threads, close client and cache. Can be called twice."""
        if self._closed:
            return
        self._closed = True
        for _ in self._threads:
            self._jobs.put(None)
        for thread in self._threads:
            thread.join()
        self._client.close()
        self._cache.close()

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None:
            case, key, future = job
            if not future.set_running_or_notify_cancel():
                continue
            try:
                future.set_result(self._judge(case, key))
            except BaseException as error:  # handed to whoever waits for the verdict
                future.set_exception(error)

    def _judge(self, case: Case, key: str) -> Verdict:
        with self._lock:
            given_up = self._given_up
        try:
            if given_up:
                raise EndpointFailure(given_up)
            reply = self._ask(case)
        except EndpointFailure as failure:
            reason = redact(
                f"judge {self.config.model} at {self.config.endpoint}: {failure}", self.config.api_key
            )
            self._failed(reason, failure.fatal)
            return Verdict("unjudged", "none", reason, case.answer)
        with self._lock:
            self._failures_in_a_row = 0
        reply = Reply(reply.equivalent, redact(reply.reason, self.config.api_key))
        self._cache.put(key, reply, self.config.model)
        return self._verdict(reply, case.answer)

    def _verdict(self, reply: Reply, answer: str) -> Verdict:
        value = "correct" if reply.equivalent else "wrong"
        reason = reply.reason or ("equivalent" if reply.equivalent else "not equivalent")
        return Verdict(value, f"judge:{self.config.model}", reason, answer)  # type: ignore[arg-type]

    def _failed(self, reason: str, fatal: bool) -> None:
        with self._lock:
            self._usage = replace(self._usage, failed=self._usage.failed + 1)
            self._failures_in_a_row += 1
            first = self._usage.failed == 1
            in_a_row = self._failures_in_a_row
            give_up = self._given_up is None and (fatal or in_a_row >= self.config.give_up_after)
            if give_up:
                self._given_up = "not asked again " + (
                    "because no call can succeed" if fatal else f"after {in_a_row} failures in a row"
                )
        if first:
            log.warning("an answer stays unjudged: %s", reason)
        if give_up:
            log.warning("the judge is not asked any more: %s", reason)

    def _ask(self, case: Case) -> Reply:
        """One decision: structured output first, plain text when the server or the model has no use for it."""
        structured = "response_format" not in self._refused
        text = self._complete(case, structured)
        reply = read_reply(text)
        if reply is None and structured:
            text = self._complete(case, structured=False)
            reply = read_reply(text)
            if reply is not None:
                self._refused.add("response_format")
        if reply is None:
            raise EndpointFailure(f"the reply is neither yes nor no: {' '.join(text.split())[:120]!r}")
        return reply

    def _complete(self, case: Case, structured: bool) -> str:
        """The text of one completion. Parameters that the server refuses are dropped for this and later calls."""
        import openai

        for _ in range(4):
            options = self._options(structured)
            try:
                with failures(self.config.timeout, self.config.max_retries + 1):
                    return self._call(messages(case, "response_format" in options), options)
            except (openai.BadRequestError, openai.UnprocessableEntityError) as error:
                refused = _refused_parameter(error, options)
                if refused is None:
                    raise EndpointFailure(describe_status(error)) from None
                self._refused.add(refused)
        raise EndpointFailure("the server refuses the request in every form")

    def _options(self, structured: bool) -> dict[str, Any]:
        options: dict[str, Any] = {"temperature": 0, "max_tokens": self.config.max_tokens}
        if structured:
            options["response_format"] = RESPONSE_FORMAT
        if "max_tokens" in self._refused:  # newer OpenAI models know it by this name only
            options["max_completion_tokens"] = self.config.max_tokens
        return {name: value for name, value in options.items() if name not in self._refused}

    def _call(self, chat: list[dict[str, str]], options: dict[str, Any]) -> str:
        with self._lock:
            self._in_flight += 1
            highest = max(self._usage.max_concurrency, self._in_flight)
            self._usage = replace(self._usage, calls=self._usage.calls + 1, max_concurrency=highest)
        try:
            completion = self._client.chat.completions.create(
                model=self.config.model,
                messages=chat,  # type: ignore[arg-type]
                **options,
            )
        finally:
            with self._lock:
                self._in_flight -= 1
        return self._text_of(completion)

    def _text_of(self, completion: Any) -> str:
        """The reply's text. The client does not check what a server sends, so everything is looked at here."""
        from openai.types.chat import ChatCompletion

        if not isinstance(completion, ChatCompletion) or not completion.choices:
            raise EndpointFailure("the response is no chat completion")
        usage = completion.usage
        if usage is not None:
            self._count(
                prompt_tokens=usage.prompt_tokens or 0, completion_tokens=usage.completion_tokens or 0
            )
        choice = completion.choices[0]
        if choice.message is None or not isinstance(choice.message.content, str):
            refusal = choice.message.refusal if choice.message is not None else None
            raise EndpointFailure(f"the reply is empty ({refusal or choice.finish_reason})")
        if choice.finish_reason == "length" and read_reply(choice.message.content) is None:
            raise EndpointFailure(f"the reply was cut off at {self.config.max_tokens} tokens")
        return choice.message.content

    def _count(self, cached: int = 0, prompt_tokens: int = 0, completion_tokens: int = 0) -> None:
        with self._lock:
            self._usage = replace(
                self._usage,
                cached=self._usage.cached + cached,
                prompt_tokens=self._usage.prompt_tokens + prompt_tokens,
                completion_tokens=self._usage.completion_tokens + completion_tokens,
            )


def _refused_parameter(error: "openai.APIStatusError", options: Mapping[str, Any]) -> str | None:
    """Which of the optional parameters a 400 or 422 is about; structured output when it does not say."""
    named = getattr(error, "param", None)
    message = f"{named} {error.message}"
    for name in ("response_format", "temperature", "max_tokens", "max_completion_tokens"):
        if name in options and name in message:
            return name
    return "response_format" if "response_format" in options else None
