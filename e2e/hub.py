"""A hub of models that speaks the part of Hugging Face's API that a download needs."""

import hashlib
import http.server
import json
import threading
from pathlib import Path
from typing import Any

MODEL = (Path(__file__).parent.parent / "crates" / "demo-model" / "demo.gguf").read_bytes()
REPOSITORY = "acme/demo-GGUF"
COMMIT = "0123456789abcdef0123456789abcdef01234567"
TOKEN = "hf_of_the_test"
# Of what a slow server sends before it waits for the test.
FIRST = 600_000


class Hub:
    """The list of a revision, and files by commit, for who has the token."""

    def __init__(self, host: str = "127.0.0.1") -> None:
        self.files = {"demo-Q8.gguf": MODEL, "config.json": b"{}\n", "other-Q4.gguf": b"GGUF, not really"}
        self.asked: list[tuple[str, str | None]] = []
        self.sent = 0
        # Cleared: a file stops after its first bytes until it is set.
        self.flows = threading.Event()
        self.flows.set()
        hub = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                hub.answer(self)

            def log_message(self, *_: Any) -> None:
                pass

        self.server = http.server.ThreadingHTTPServer((host, 0), Handler)
        self.server.daemon_threads = True
        self.url = f"http://{host}:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def answer(self, request: http.server.BaseHTTPRequestHandler) -> None:
        """One request."""
        self.asked.append((request.path, request.headers.get("Range")))
        if request.headers.get("Authorization") != f"Bearer {TOKEN}":
            self._reply(request, 401, b"", {"X-Error-Message": "Invalid credentials in Authorization header"})
        elif request.path == f"/api/models/{REPOSITORY}/revision/main?blobs=true":
            siblings = [self._sibling(name) for name in self.files]
            self._reply(request, 200, json.dumps({"id": REPOSITORY, "sha": COMMIT, "siblings": siblings}).encode())
        elif (name := request.path.removeprefix(f"/{REPOSITORY}/resolve/{COMMIT}/")) in self.files:
            self._file(request, self.files[name])
        else:
            self._reply(request, 404, b"", {"X-Error-Code": "EntryNotFound"})

    def _sibling(self, name: str) -> dict[str, Any]:
        content = self.files[name]
        blob = hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
        sibling: dict[str, Any] = {"rfilename": name, "size": len(content), "blobId": blob}
        if name.endswith(".gguf"):
            digest = hashlib.sha256(content).hexdigest()
            sibling["lfs"] = {"sha256": digest, "size": len(content), "pointerSize": 132}
        return sibling

    def _file(self, request: http.server.BaseHTTPRequestHandler, content: bytes) -> None:
        asked = request.headers.get("Range")
        start = int(asked.removeprefix("bytes=").removesuffix("-")) if asked else 0
        headers = {"ETag": '"' + hashlib.sha256(content).hexdigest() + '"'}
        if asked:
            headers["Content-Range"] = f"bytes {start}-{len(content) - 1}/{len(content)}"
        self._reply(request, 206 if asked else 200, content[start:], headers)

    def _reply(
        self, request: http.server.BaseHTTPRequestHandler, status: int, body: bytes, headers: dict[str, str] | None = None
    ) -> None:
        request.send_response(status)
        for name, value in (headers or {}).items():
            request.send_header(name, value)
        request.send_header("Content-Length", str(len(body)))
        request.end_headers()
        try:
            request.wfile.write(body[:FIRST])
            request.wfile.flush()
            self.sent += len(body[:FIRST])
            if len(body) > FIRST:
                self.flows.wait()
                request.wfile.write(body[FIRST:])
                self.sent += len(body[FIRST:])
        except OSError:
            request.close_connection = True

    def close(self) -> None:
        """No request is served any more."""
        self.flows.set()
        self.server.shutdown()
        self.server.server_close()
