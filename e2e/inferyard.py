"""The binary as a user runs it: `inferyard up` with everything that it starts, and `inferyard watch`."""

import contextlib
import json
import os
import queue
import shutil
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import httpx2
from openai import AsyncOpenAI, OpenAI

import processes
from processes import Process

BINARY = os.environ.get("INFERYARD_BIN", "")
MANIFESTS = Path(__file__).parent / "manifests"
EXAMPLES = Path(__file__).parent.parent / "examples"

# Patience with a loaded machine. No test asserts a speed by them.
START_S = 180
STOP_S = 180


class Up:
    """One running `inferyard up` on a free port of the loopback interface, ready to serve."""

    def __init__(
        self,
        *manifests: Path,
        log: str | None = None,
        redis: str | None = None,
        postgres: str | None = None,
        routers: int = 1,
        flags: tuple[str, ...] = (),
    ) -> None:
        # A short path, because the path of a Unix socket has at most 107 bytes.
        self.folder = Path(tempfile.mkdtemp(prefix="iy-"))
        self.state = self.folder / "state"
        self._log_path = self.folder / "log"
        runtime = self.folder / "run"
        runtime.mkdir(mode=0o700)
        # It dies with the tests, however they end, and its children with it.
        command = ["setpriv", "--pdeathsig", "KILL", "--"]
        command += [BINARY, "up", "--output", "json", "--state", str(self.state)]
        command += ["--listen", "127.0.0.1:0", "--metrics-listen", "127.0.0.1:0"]
        for manifest in manifests:
            command += ["-f", str(manifest)]
        if redis is not None:
            command += ["--redis", redis]
        if postgres is not None:
            command += ["--postgres", postgres]
        if routers != 1:
            command += ["--routers", str(routers)]
        command += flags
        environment = os.environ | {"XDG_RUNTIME_DIR": str(runtime), "TMPDIR": str(runtime)}
        if log is not None:
            environment["RUST_LOG"] = log
        with self._log_path.open("wb") as log_file:
            self.process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=log_file,
                env=environment,
                start_new_session=True,
            )
        self._stdout = Lines(self.process)
        try:
            ready = json.loads(self._stdout.next(within=START_S))
        except BaseException:
            self.kill()
            raise
        self.ready: dict[str, Any] = ready
        self.base_url: str = ready["base_url"]
        self.base_urls: list[str] = ready["base_urls"]
        # None where the manifests declare the keys.
        self.api_key: str = ready["api_key"]
        self.admin_key: str = ready["admin_key"]
        self.store: str = ready["store"]
        self.models: list[str] = ready["models"]
        self.metrics_url: str = ready["metrics_url"]

    # Clients

    def openai(self, **options: Any) -> OpenAI:
        """openai-python, without its own retries, which would hide what the server does."""
        return OpenAI(**self._options(options))

    def async_openai(self, **options: Any) -> AsyncOpenAI:
        """The same for asyncio, with connections enough for every test."""
        limits = httpx2.Limits(max_connections=1000, max_keepalive_connections=1000)
        options.setdefault("http_client", httpx2.AsyncClient(limits=limits, timeout=300))
        return AsyncOpenAI(**self._options(options))

    def http(self, **options: Any) -> httpx2.Client:
        """A plain HTTP client that sends the key; paths are relative to the host, not to /v1."""
        host = self.base_url.removesuffix("/v1")
        headers = {"Authorization": f"Bearer {self.api_key}"}
        return httpx2.Client(**{"base_url": host, "headers": headers, "timeout": 300} | options)

    def _options(self, options: dict[str, Any]) -> dict[str, Any]:
        given = {"base_url": self.base_url, "api_key": self.api_key, "max_retries": 0, "timeout": 300}
        return given | options

    # What runs

    def children(self) -> list[Process]:
        """Its routers, its workers and its ledger."""
        return processes.children(self.process.pid)

    def routers(self) -> list[Process]:
        """Its routers, in the order in which they were started."""
        return [child for child in self.children() if child.role == "router"]

    def ledger(self) -> Process:
        """Its ledger; with Redis only."""
        (ledger,) = (child for child in self.children() if child.role == "ledger")
        return ledger

    def workers(self) -> list[Process]:
        """Its workers, one process per replica."""
        return [child for child in self.children() if child.role == "worker"]

    def log(self) -> str:
        """What it and its children have written to stderr so far."""
        return self._log_path.read_text(errors="replace")

    def log_of(self, words: Iterable[str]) -> str:
        """The lines of the log that have one of these words in them."""
        wanted = {word for word in words if word}
        found = [line for line in self.log().splitlines() if any(word in line for word in wanted)]
        return "\n".join(found[:200] or ["(nothing)"])

    # The end

    def signal(self, number: signal.Signals) -> None:
        """Sends a signal to `up` alone, as `kill` does."""
        self.process.send_signal(number)

    def wait(self) -> int:
        """Waits for `up` to end and gives its exit status."""
        return self.process.wait(STOP_S)

    def stop(self) -> int:
        """Ctrl-C, and no process of it may outlive it."""
        running = self.children()
        self.signal(signal.SIGINT)
        status = self.wait()
        processes.wait_until_gone(running, within=STOP_S)
        return status

    def kill(self) -> None:
        """Ends everything at once, whatever state it is in."""
        if self.process.poll() is not None:
            return
        for child in self.children():
            with contextlib.suppress(ProcessLookupError):
                os.kill(child.pid, signal.SIGKILL)
        self.process.kill()
        self.process.wait(STOP_S)

    def cleanup(self) -> None:
        """Removes its folder."""
        shutil.rmtree(self.folder, ignore_errors=True)


class Watch:
    """The state stream of one worker, by `inferyard watch`."""

    def __init__(self, worker: Process | str) -> None:
        address = worker if isinstance(worker, str) else worker.option("--listen")
        assert address, f"no --listen on the command line of {worker}"
        self._process = subprocess.Popen(
            [BINARY, "watch", address],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
        self._lines = Lines(self._process)

    def __enter__(self) -> "Watch":
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait()

    def next(self, within: float = START_S) -> dict[str, Any]:
        """The next state that the worker pushes."""
        return json.loads(self._lines.next(within))

    def until(self, condition: Callable[[dict[str, Any]], bool], within: float = START_S) -> dict[str, Any]:
        """The first state that meets the condition."""
        deadline = time.monotonic() + within
        last: dict[str, Any] | None = None
        while (remaining := deadline - time.monotonic()) > 0:
            try:
                last = self.next(remaining)
            except queue.Empty:
                break
            if condition(last):
                return last
        raise AssertionError(f"the awaited state did not come within {within} s; last: {last}")


def idle(state: dict[str, Any]) -> bool:
    """Nothing runs and nothing waits."""
    return state["running"] == 0 and state["queued"] == 0


def wait_idle(workers: list[Process], within: float = 180) -> None:
    """Every worker says by itself that nothing runs and nothing waits: no slot has leaked."""
    for worker in workers:
        with Watch(worker) as watch:
            watch.until(idle, within)


def listening(worker: subprocess.Popen[bytes], address: str) -> "Lines":
    """The lines of a worker's stdout after the one that says that it listens: from now on it can be watched."""
    lines = Lines(worker)
    assert lines.next(within=START_S).strip() == f"listening on {address}"
    return lines


class Lines:
    """The lines of a process's stdout, read by a thread, so that waiting for one has an end."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self._process = process
        self._queue: queue.Queue[str | None] = queue.Queue()
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._queue.put(line.decode())
        self._queue.put(None)

    def next(self, within: float) -> str:
        """The next line; `EOFError` at the end, `queue.Empty` if none comes in time."""
        line = self._queue.get(timeout=within)
        if line is None:
            self._queue.put(None)
            raise EOFError(f"{self._process.args} ended with status {self._process.wait()}")
        return line

    def rest(self, within: float) -> list[str]:
        """All lines up to the end of the process."""
        return list(self._until_end(within))

    def _until_end(self, within: float) -> Iterator[str]:
        while True:
            try:
                yield self.next(within)
            except EOFError:
                return
