"""`inferyard fetch` in front of a hub that speaks Hugging Face's API, and a worker with what it brought."""

import hashlib
import http.server
import json
import os
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from asking import GREETING
from inferyard import BINARY, START_S, STOP_S, Up, Watch

REPOSITORY = Path(__file__).parent.parent
MODEL = (REPOSITORY / "models/demo/demo.gguf").read_bytes()
COMMIT = "0123456789abcdef0123456789abcdef01234567"
TOKEN = "hf_of_the_test"
# Of what a slow server sends before it waits for the test.
FIRST = 600_000


class Hub:
    """The part of the hub's API that a download needs: the list of a revision, and files by commit."""

    def __init__(self) -> None:
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

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def answer(self, request: http.server.BaseHTTPRequestHandler) -> None:
        """One request."""
        self.asked.append((request.path, request.headers.get("Range")))
        if request.headers.get("Authorization") != f"Bearer {TOKEN}":
            self._reply(request, 401, b"", {"X-Error-Message": "Invalid credentials in Authorization header"})
        elif request.path == "/api/models/acme/demo-GGUF/revision/main?blobs=true":
            siblings = [self._sibling(name) for name in self.files]
            self._reply(request, 200, json.dumps({"id": "acme/demo-GGUF", "sha": COMMIT, "siblings": siblings}).encode())
        elif (name := request.path.removeprefix(f"/acme/demo-GGUF/resolve/{COMMIT}/")) in self.files:
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


@pytest.fixture
def hub() -> Iterator[Hub]:
    """A hub of the test's own."""
    hub = Hub()
    yield hub
    hub.close()


def start(hub: Hub, folder: Path, *flags: str, token: str = TOKEN) -> subprocess.Popen[bytes]:
    """Starts a fetch of the demo model."""
    environment = os.environ | {"HF_ENDPOINT": hub.url, "HF_TOKEN": token}
    source = ["--hugging-face", "acme/demo-GGUF", "--include", "*Q8*", "--include", "*.json"]
    return subprocess.Popen(
        ["setpriv", "--pdeathsig", "KILL", "--", BINARY, "fetch", "--to", folder, *source, *flags],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment,
    )


def finish(process: subprocess.Popen[bytes]) -> tuple[int, str, str]:
    """Its exit status, and what it said."""
    out, err = process.communicate(timeout=STOP_S)
    return process.returncode, out.decode(), err.decode()


def test_what_was_fetched_is_served(hub: Hub, tmp_path: Path) -> None:
    weights = tmp_path / "weights"
    status, out, err = finish(start(hub, weights))
    assert status == 0, err
    assert out == f"2 files, {len(MODEL) + 3} bytes in {weights}, commit {COMMIT}; {len(MODEL) + 3} bytes fetched\n"
    assert TOKEN not in err
    assert (weights / "demo-Q8.gguf").read_bytes() == MODEL
    assert not (weights / "other-Q4.gguf").exists()

    asked = len(hub.asked)
    status, out, _ = finish(start(hub, weights))
    assert (status, out.endswith("; 0 bytes fetched\n"), len(hub.asked)) == (0, True, asked)

    # The folder is what a manifest names.
    manifest = tmp_path / "model.yaml"
    manifest.write_text(
        "apiVersion: inferyard.dev/v1alpha1\nkind: ModelDeployment\nmetadata: {name: fetched}\n"
        f"spec: {{model: {{source: {{file: {{path: {weights}}}}}}}}}\n"
    )
    up = Up(manifest)
    try:
        with up.openai() as client:
            answer = client.chat.completions.create(model="fetched", messages=[{"role": "user", "content": GREETING}])
        assert answer.choices[0].message.content
        assert up.stop() == 0
    finally:
        up.kill()
        up.cleanup()


def test_killed_midway_it_asks_for_the_missing_bytes_only(hub: Hub, tmp_path: Path) -> None:
    hub.flows.clear()
    socket = f"unix:{tmp_path}/s"
    first = start(hub, tmp_path / "w", "--listen", socket)
    wait_for(tmp_path / "s")
    with Watch(socket) as watch:
        state = watch.until(lambda state: state["fetch"]["bytes_done"] >= FIRST, within=START_S)
        assert state["phase"] == "LOADING"
        assert state["fetch"]["bytes_total"] == len(MODEL) + 3
        assert 0 < state["load_progress"] < 1
    first.send_signal(signal.SIGKILL)
    finish(first)
    hub.flows.set()
    status, out, err = finish(start(hub, tmp_path / "w"))
    assert status == 0, err
    (_, asked) = hub.asked[-1]
    assert asked is not None, hub.asked
    there = int(asked.removeprefix("bytes=").removesuffix("-"))
    assert FIRST <= there < len(MODEL)
    assert out.endswith(f"; {len(MODEL) - there} bytes fetched\n")
    assert (tmp_path / "w/demo-Q8.gguf").read_bytes() == MODEL


def test_a_signal_keeps_what_is_here(hub: Hub, tmp_path: Path) -> None:
    hub.flows.clear()
    socket = f"unix:{tmp_path}/s"
    fetch = start(hub, tmp_path / "w", "--listen", socket)
    wait_for(tmp_path / "s")
    with Watch(socket) as watch:
        watch.until(lambda state: state["fetch"]["bytes_done"] >= FIRST, within=START_S)
    fetch.send_signal(signal.SIGTERM)
    status, _, err = finish(fetch)
    assert status == 1
    assert "are here and are kept" in err


def test_while_nobody_answers_it_says_so_and_goes_on(hub: Hub, tmp_path: Path) -> None:
    hub.server.shutdown()
    hub.server.server_close()
    socket = f"unix:{tmp_path}/s"
    fetch = start(hub, tmp_path / "w", "--listen", socket)
    try:
        wait_for(tmp_path / "s")
        with Watch(socket) as watch:
            state = watch.until(lambda state: "retrying" in state.get("note", ""), within=START_S)
        assert "Connection refused" in state["note"]
        assert fetch.poll() is None
    finally:
        fetch.terminate()
        finish(fetch)


def test_a_wrong_token_and_a_wrong_choice_are_told(hub: Hub, tmp_path: Path) -> None:
    status, _, err = finish(start(hub, tmp_path / "w", token="hf_wrong"))
    assert status == 1
    assert "the token in HF_TOKEN does not open acme/demo-GGUF at main" in err
    assert "Invalid credentials" in err
    assert "hf_wrong" not in err
    command = [BINARY, "fetch", "--to", tmp_path / "w", "--hugging-face", "acme/demo-GGUF", "--endpoint", hub.url]
    choice = subprocess.run(command, capture_output=True, env=os.environ | {"HF_TOKEN": TOKEN}, check=False)
    assert choice.returncode == 1
    assert b"2 GGUF models: choose one with --include" in choice.stderr
    wrong = subprocess.run([*command, "--url", hub.url], capture_output=True, check=False)
    assert wrong.returncode == 2


def test_a_folder_with_several_models_is_refused_by_a_worker(tmp_path: Path) -> None:
    for name in ("a.gguf", "b.gguf"):
        (tmp_path / name).write_bytes(b"")
    command = [BINARY, "worker", "--model", "m", "--gguf", tmp_path, "--listen", f"unix:{tmp_path}/s"]
    worker = subprocess.run(command, capture_output=True, check=False)
    assert worker.returncode == 1
    assert b"there are 2 models in this folder" in worker.stderr


def wait_for(path: Path) -> None:
    """Until a socket is there."""
    deadline = time.monotonic() + START_S
    while not path.exists():
        assert time.monotonic() < deadline, f"{path} does not appear"
        time.sleep(0.01)
