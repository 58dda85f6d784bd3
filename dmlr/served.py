"""Plain generation through an OpenAI-compatible server (vLLM, SGLang, `transformers serve`): `--engine openai`.

The same questions, images, prompts and limits as the vanilla baseline of this project, answered by whatever a user
would really run. Nothing here imports torch: the model lives in the server.
"""

import collections
import logging
import os
import queue
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from dmlr.batching import describe
from dmlr.config import Config
from dmlr.data import Sample
from dmlr.endpoint import (
    DUMMY_KEY,
    EndpointFailure,
    describe_status,
    failures,
    is_key,
    redact,
    without_secrets,
)
from dmlr.entries import failed
from dmlr.errors import UserError
from dmlr.prediction import Prediction
from dmlr.prompts import SYSTEM_PROMPT, user_text
from dmlr.resizing import SIDE, data_url, load_resized
from dmlr.stopping import Stop

log = logging.getLogger(__name__)

KEY_VARIABLE = "ENGINE_API_KEY"  # not the judge's: its key must not travel to another server
AUTO_IN_FLIGHT = 32  # requests, for --batch_size auto: a server batches what it is given, and queues the rest
RETRIES = 4  # after timeouts, 429 (honouring Retry-After), 5xx and lost connections, by the client
GIVE_UP_AFTER = 64  # requests in a row that did not reach the server: it is gone, the rest is for --resume
TICK_SECONDS = 0.5  # how often the parent looks at signals, verdicts and the clock
_TOO_NEW_FOR_MAX_TOKENS = "max_completion_tokens"  # the only name of the limit that newer OpenAI models know


class ServedModel:
    """A model behind a server. Answers one sample per call, from any number of threads."""

    def __init__(self, config: Config, environ: Mapping[str, str] = os.environ) -> None:
        """Ask the server for one token, so that a wrong address, key or model shows before anything is written.

        A server that loads models on demand loads it then. Raises `UserError`.
        """
        import openai

        key = environ.get(KEY_VARIABLE, "").strip()
        if not is_key(key):
            raise UserError(f"{KEY_VARIABLE} holds characters that no key has")
        if config.decoding.base_url is None:
            raise UserError("--engine openai needs --base_url")
        self._config = config
        self._key = key or DUMMY_KEY
        self._shares = _Shares()
        self._limit_name = "max_tokens"
        self._client = openai.OpenAI(
            api_key=self._key,
            base_url=config.decoding.base_url,
            timeout=config.decoding.request_timeout,
            max_retries=RETRIES,
        )
        self._greet()

    def __call__(self, samples: Sequence[Sample]) -> list[Prediction]:
        """One `Prediction` per sample, one request after the other. Raises `UserError` when a request fails."""
        try:
            return [self.answer(sample) for sample in samples]
        except EndpointFailure as failure:
            raise self.user_error(str(failure)) from None

    def answer(self, sample: Sample) -> Prediction:
        """Greedy answer of the server.

        `prompt` is the text of the user turn as it was sent (the server applies its own chat template), tokens are as
        the server counts them (its count of an answer that ended holds the end token, ours does not), `seconds` are
        shared out (see `_Shares`). Raises `EndpointFailure`, and `OSError` or
        `ValueError` for an image that cannot be loaded.
        """
        begun = self._shares.begin()
        try:
            text = user_text(sample.question, self._config.decoding.solver_prompt_idx, 0)
            content: list[dict[str, Any]] = [{"type": "text", "text": text}]
            grid = None
            if sample.image is not None:
                model = self._config.model
                image = load_resized(sample.image, model.min_pixels, model.max_pixels)
                grid = (image.height // SIDE, image.width // SIDE)
                content.insert(0, {"type": "image_url", "image_url": {"url": data_url(image)}})
            output, finish, usage = self._complete(content, self._config.decoding.max_new_tokens, RETRIES)
        finally:
            seconds = self._shares.end(begun)
        return Prediction(
            sample.data_idx,
            prompt=text,
            sys_prompt=SYSTEM_PROMPT,
            model_output=output,
            stop_reason="length" if finish == "length" else "eos_token",
            generated_tokens=(usage and usage.completion_tokens) or 0,
            image_grid=grid,
            prompt_tokens=(usage and usage.prompt_tokens) or 0,
            seconds=seconds,
        )

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def user_error(self, reason: str) -> UserError:
        """`reason` as the user's error, with the address and without the key."""
        place = f"--base_url {without_secrets(self._config.decoding.base_url or '')}"
        return UserError(f"{place}: {redact(reason, self._key)}")

    def _greet(self) -> None:
        try:
            self._complete([{"type": "text", "text": "Say one word."}], 1, retries=1)
        except EndpointFailure as failure:
            self.close()
            raise self.user_error(f"{failure}{_advice(str(failure))}") from None

    def _complete(self, content: list[dict[str, Any]], limit: int, retries: int) -> tuple[str, str, Any]:
        """Text, finish reason and usage (None: the server does not tell) of one greedy completion."""
        import openai

        chat = [{"role": "system", "content": SYSTEM_PROMPT}, {"role": "user", "content": content}]
        request: dict[str, Any] = {
            "model": self._config.model.model_name_or_path,
            "messages": chat,
            "temperature": 0,
        }
        completions = self._client.with_options(max_retries=retries).chat.completions
        while True:
            name = self._limit_name
            try:
                with failures(self._config.decoding.request_timeout, retries + 1):
                    return self._read(completions.create(**(request | {name: limit})))
            except (openai.BadRequestError, openai.UnprocessableEntityError) as error:
                if name == "max_tokens" and _wants_other_limit(error):
                    self._limit_name = _TOO_NEW_FOR_MAX_TOKENS
                    continue
                raise EndpointFailure(describe_status(error)) from None

    def _read(self, completion: Any) -> tuple[str, str, Any]:
        """The client does not check what a server sends, so everything is looked at here."""
        from openai.types.chat import ChatCompletion

        if not isinstance(completion, ChatCompletion) or not completion.choices:
            raise EndpointFailure("the response is no chat completion")
        choice = completion.choices[0]
        text = choice.message.content if choice.message is not None else None
        if choice.finish_reason not in ("stop", "length"):
            raise EndpointFailure(f"the server ended the answer with {choice.finish_reason!r}")
        if text is None and choice.finish_reason == "length":
            text = ""  # cut off before the first visible character
        if not isinstance(text, str):
            refusal = choice.message.refusal if choice.message is not None else None
            raise EndpointFailure(f"the answer is empty ({refusal or choice.finish_reason})")
        # an echoed key must not reach the results; short ones are common words and left alone
        return (
            redact(text, self._key) if len(self._key) >= 16 else text,
            choice.finish_reason,
            completion.usage,
        )


class ServedCrew:
    """A crew of requests: `--batch_size` of them are in flight at any time. See `dmlr.runner.Crew`."""

    def __init__(self, config: Config) -> None:
        """Raises `UserError` when the server cannot be used."""
        size = config.run.batch_size
        self._most = AUTO_IN_FLIGHT if isinstance(size, str) else size
        self._model = ServedModel(config)
        self._jobs: queue.SimpleQueue[Sample | None] = queue.SimpleQueue()
        self._done: queue.SimpleQueue[tuple[Sample, Prediction | Exception]] = queue.SimpleQueue()
        self._threads: list[threading.Thread] = []
        self._in_flight = 0

    def predictions(self, samples: Sequence[Sample], stop: Stop) -> Iterator[list[Prediction]]:
        """See `Crew`. Raises `UserError` when no further request can succeed."""
        waiting = collections.deque(samples)
        unreached = 0
        while True:
            while waiting and self._in_flight < self._most and not stop.reason():
                self._send(waiting.popleft())
            if not self._in_flight:
                return
            try:
                sample, found = self._done.get(timeout=TICK_SECONDS)
            except queue.Empty:
                yield []
                continue
            self._in_flight -= 1
            if isinstance(found, EndpointFailure):
                unreached = unreached + 1 if found.unreachable else 0
                if found.fatal:
                    raise self._model.user_error(f"{found}; mend it and use --resume")
                if unreached >= GIVE_UP_AFTER:
                    raise self._model.user_error(f"{found}, {unreached} times in a row; --resume continues")
            elif isinstance(found, Prediction):
                unreached = 0
            yield [self._failed(sample, found) if isinstance(found, Exception) else found]

    def _send(self, sample: Sample) -> None:
        self._jobs.put(sample)
        self._in_flight += 1
        if len(self._threads) < self._in_flight:
            # daemons: a second Ctrl-C does not wait for a server that hangs
            thread = threading.Thread(target=self._work, name="request", daemon=True)
            self._threads.append(thread)
            thread.start()

    def _work(self) -> None:
        while (sample := self._jobs.get()) is not None:
            try:
                self._done.put((sample, self._model.answer(sample)))
            except EndpointFailure as failure:  # without its traceback in the log: servers echo the key
                self._done.put((sample, failure))
            except Exception as error:  # handed to the parent, which records it
                log.debug("traceback", exc_info=True)
                self._done.put((sample, error))

    def _failed(self, sample: Sample, error: Exception) -> Prediction:
        reason = str(
            self._model.user_error(str(error)) if isinstance(error, EndpointFailure) else describe(error)
        )
        log.warning("sample %d failed: %s", sample.data_idx, reason)
        return failed(sample, reason)

    def state(self) -> str:
        """Like `12 requests in flight`."""
        return f"{self._in_flight} requests in flight"

    def close(self) -> None:
        """End the threads; those whose request is still in flight end with it or with the process."""
        for _ in self._threads:
            self._jobs.put(None)
        if not self._in_flight:
            for thread in self._threads:
                thread.join()
            self._model.close()


class _Shares:
    """Wall time dealt out to the requests in flight, so that the seconds of all samples add up to the run's.

    While n requests are in flight each is charged one n-th of the time: what a batch of the local engine does by
    dividing its time by its size.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._running = 0
        self._now = time.perf_counter()
        self._charged = 0.0  # what a request would have been charged that was in flight from the start

    def _advance(self) -> None:
        now = time.perf_counter()
        if self._running:
            self._charged += (now - self._now) / self._running
        self._now = now

    def begin(self) -> float:
        """A request begins; `end` takes what this returns."""
        with self._lock:
            self._advance()
            self._running += 1
            return self._charged

    def end(self, begun: float) -> float:
        """Seconds charged to the request that ends."""
        with self._lock:
            self._advance()
            self._running -= 1
            return self._charged - begun


def _wants_other_limit(error: Any) -> bool:
    """A refusal of the parameter `max_tokens` itself; one of its value (a prompt too long) names no other."""
    return (
        error.param == "max_tokens"
        and _TOO_NEW_FOR_MAX_TOKENS in error.message
        and "instead" in error.message
    )


def _advice(reason: str) -> str:
    if reason.startswith("HTTP 404"):
        return "; is --model_name_or_path the name it is served under, and does the URL end in /v1?"
    if reason.startswith(("HTTP 401", "HTTP 403")):
        return f"; set {KEY_VARIABLE} (or put it in .env)"
    return "; is the server up?" if reason.startswith("connection failed") else ""
