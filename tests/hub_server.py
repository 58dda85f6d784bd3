"""A small Hugging Face hub on localhost, for tests: dataset repositories from folders, one commit each."""

import hashlib
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlsplit

COMMIT = "c0ffee" + "0" * 34


class HubServer:
    """Serves `folders` (repository id -> folder). `requests` records what was asked for, as "METHOD path"."""

    def __init__(self, folders: dict[str, Path]) -> None:
        self.folders = folders
        self.requests: list[str] = []
        hub = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *args: object) -> None:
                pass

            def do_GET(self) -> None:
                hub.answer(self, body=True)

            def do_HEAD(self) -> None:
                hub.answer(self, body=False)

            def do_POST(self) -> None:
                hub.answer(self, body=True)

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        self.thread = threading.Thread(target=self.server.serve_forever, daemon=True)

    def __enter__(self) -> "HubServer":
        self.thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()

    def answer(self, handler: BaseHTTPRequestHandler, body: bool) -> None:
        path = unquote(urlsplit(handler.path).path).strip("/")
        sent = handler.rfile.read(int(handler.headers.get("Content-Length") or 0))
        self.requests.append(f"{handler.command} {path}")
        parts = path.split("/")
        api = parts[:2] == ["api", "datasets"]
        repo = "/".join(parts[2:4] if api else parts[1:3])
        rest = parts[4:] if api else parts[3:]
        if repo not in self.folders:
            self._send(
                handler, 404, b'{"error": "Repository not found"}', {"X-Error-Code": "RepoNotFound"}, body
            )
        elif api and rest[:1] in ([], ["revision"]):
            if rest[1:] and rest[1] not in ("main", COMMIT):
                self._send(handler, 404, b"{}", {"X-Error-Code": "RevisionNotFound"}, body)
                return
            names = [{"rfilename": name} for name in self._names(repo)]
            info = {
                "id": repo,
                "sha": COMMIT,
                "siblings": names,
                "private": False,
                "tags": [],
                "downloads": 0,
            }
            self._json(handler, info, body)
        elif api and rest[0] in ("tree", "paths-info"):
            wanted = json.loads(sent)["paths"] if rest[0] == "paths-info" and sent[:1] == b"{" else None
            self._json(handler, self._tree(repo, "/".join(rest[2:]), wanted), body)
        elif not api and rest[:1] == ["resolve"]:
            self._file(handler, repo, "/".join(rest[2:]), body)
        else:
            self._send(handler, 404, b"{}", {}, body)

    def _names(self, repo: str) -> list[str]:
        folder = self.folders[repo]
        return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())

    def _tree(self, repo: str, below: str, wanted: list[str] | None) -> list[dict[str, object]]:
        entries: dict[str, dict[str, object]] = {}
        for name in self._names(repo):
            content = (self.folders[repo] / name).read_bytes()
            entries[name] = {
                "type": "file",
                "path": name,
                "size": len(content),
                "oid": hashlib.sha1(content).hexdigest(),
            }
            for parent in list(Path(name).parents)[:-1]:
                entries[parent.as_posix()] = {
                    "type": "directory",
                    "path": parent.as_posix(),
                    "size": 0,
                    "oid": "0" * 40,
                }
        if wanted is not None:
            return [entries[name] for name in wanted if name in entries]
        return [entry for name, entry in sorted(entries.items()) if not below or name.startswith(f"{below}/")]

    def _file(self, handler: BaseHTTPRequestHandler, repo: str, name: str, body: bool) -> None:
        path = self.folders[repo] / name
        if not path.is_file():
            self._send(handler, 404, b"{}", {"X-Error-Code": "EntryNotFound", "X-Repo-Commit": COMMIT}, body)
            return
        content = path.read_bytes()
        etag = f'"{hashlib.sha1(content).hexdigest()}"'
        self._send(handler, 200, content, {"ETag": etag, "X-Repo-Commit": COMMIT}, body)

    def _json(self, handler: BaseHTTPRequestHandler, value: object, body: bool) -> None:
        self._send(handler, 200, json.dumps(value).encode(), {"Content-Type": "application/json"}, body)

    def _send(
        self,
        handler: BaseHTTPRequestHandler,
        status: int,
        content: bytes,
        headers: dict[str, str],
        body: bool,
    ) -> None:
        handler.send_response(status)
        for name, value in headers.items():
            handler.send_header(name, value)
        handler.send_header("Content-Length", str(len(content)))
        handler.end_headers()
        if body:
            handler.wfile.write(content)
