"""An OpenAI-compatible server in this process that misbehaves on demand."""

import json
import threading
import time
from collections import Counter
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Body = dict[str, Any]


class ChatServer:
    """Serves `/v1/chat/completions`. `behave(request, nth)` decides each reply: `nth` counts requests of one `name`.

    It returns a text (a normal completion), or a tuple (status, headers, raw body), or None to close the connection.
    """

    def __init__(self, behave: Callable[[Body, int], Any]) -> None:
        self.behave = behave
        self.requests: list[Body] = []
        self.headers: list[dict[str, str]] = []
        self.max_in_flight = 0
        self._in_flight = 0
        self._lock = threading.Lock()
        self._seen: Counter[str] = Counter()
        server = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                server._serve(self)

            def log_message(self, *_: Any) -> None:
                pass

        self._http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._http.daemon_threads = True
        threading.Thread(target=self._http.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()

    def read(self, request: Body) -> tuple[str, Body]:
        """The name under which the request is counted, and what `behave` is given."""
        content = request["messages"][-1]["content"]
        text = content if isinstance(content, str) else content[-1]["text"]
        return text, request | {"text": text}

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._http.server_port}/v1"

    def close(self) -> None:
        self._http.shutdown()
        self._http.server_close()

    def _serve(self, handler: BaseHTTPRequestHandler) -> None:
        request = json.loads(handler.rfile.read(int(handler.headers["Content-Length"])))
        name, seen = self.read(request)
        with self._lock:
            self._in_flight += 1
            self.max_in_flight = max(self.max_in_flight, self._in_flight)
            self.requests.append(request)
            self.headers.append(dict(handler.headers))
            nth = self._seen[name]
            self._seen[name] += 1
        try:
            reply = self.behave(seen, nth)
        finally:
            with self._lock:
                self._in_flight -= 1
        if reply is None:
            handler.close_connection = True
            handler.connection.close()
            return
        status, headers, body = reply if isinstance(reply, tuple) else (200, {}, completion(reply))
        try:
            handler.send_response(status)
            for name, value in ({"Content-Type": "application/json"} | headers).items():
                handler.send_header(name, value)
            handler.send_header("Content-Length", str(len(body)))
            handler.end_headers()
            handler.wfile.write(body)
        except OSError:  # a client that timed out has hung up
            pass


def completion(text: str | None, finish_reason: str = "stop", usage: tuple[int, int] = (100, 10)) -> bytes:
    """A chat completion that says `text`; `usage`: tokens of prompt and answer."""
    return json.dumps(
        {
            "id": "1",
            "object": "chat.completion",
            "created": 0,
            "model": "grader",
            "choices": [
                {
                    "index": 0,
                    "finish_reason": finish_reason,
                    "message": {"role": "assistant", "content": text},
                }
            ],
            "usage": {"prompt_tokens": usage[0], "completion_tokens": usage[1], "total_tokens": sum(usage)},
        }
    ).encode()


def problem(status: int, message: str, headers: dict[str, str] | None = None, **fields: Any) -> Any:
    """An error as the API writes it."""
    return status, headers or {}, json.dumps({"error": {"message": message, **fields}}).encode()


def slowly(seconds: float, reply: Any) -> Any:
    """`reply` after a while."""
    time.sleep(seconds)
    return reply
