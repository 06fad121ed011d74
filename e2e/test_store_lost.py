"""The database of a router's own ledger takes nothing for a while: no answer hangs, and no usage is lost."""

import asyncio
import json
import os
import signal
import sqlite3
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any

import httpx2
import pytest

from asking import user
from by_hand import Run
from crowd import Answer, post
from inferyard import BINARY, MANIFESTS, START_S, STOP_S, Lines, listening
from keys import new_key

ASK = {"model": "demo", "messages": user("Hello."), "max_tokens": 4}
STREAM = ASK | {"stream": True}


class Router:
    """A router that keeps its books in a SQLite file, before a worker in which nothing takes time."""

    def __init__(self, folder: Path, worker: str, *flags: str) -> None:
        self.books = folder / "ledger.sqlite"
        self.key = new_key()
        command = [
            BINARY, "router", "-f", str(MANIFESTS / "demo.yaml"), "--worker", f"demo={worker}", "--listen", "127.0.0.1:0",
            "--metrics-listen", "127.0.0.1:0", "--key-hash", sha256(self.key.encode()).hexdigest(), "--json",
            "--sqlite", str(self.books), "--drain-timeout", "1s", *flags,
        ]  # fmt: skip
        # A write beyond the limit on the size of files is an error where the signal is ignored, else the end.
        ignoring = ["setpriv", "--pdeathsig", "KILL", "--", "sh", "-c", "trap '' XFSZ; exec \"$0\" \"$@\""]
        pipe = subprocess.PIPE
        self.process = subprocess.Popen(ignoring + command, stdin=subprocess.DEVNULL, stdout=pipe, stderr=pipe)
        self.failures = threading.Semaphore(0)
        threading.Thread(target=self._read_log, daemon=True).start()
        addresses = json.loads(Lines(self.process).next(within=START_S))
        self.base_url = f"http://{addresses['address']}/v1"
        self.metrics = f"http://{addresses['metrics_address']}"
        self.until_ready(200)

    def _read_log(self) -> None:
        """Counts the writes that failed."""
        assert self.process.stderr is not None
        for line in self.process.stderr:
            if b"events cannot be stored" in line:
                self.failures.release()

    def until_failed(self, times: int) -> None:
        for _ in range(times):
            assert self.failures.acquire(timeout=30), "no write fails"

    def ask(self, *bodies: dict[str, Any]) -> list[Answer]:
        """All at once, each to its end."""

        async def all_at_once() -> list[Answer]:
            return await asyncio.gather(*(post(self.base_url, self.key, body) for body in bodies))

        return asyncio.run(all_at_once())

    def ready(self) -> httpx2.Response:
        return httpx2.get(f"{self.metrics}/readyz", timeout=20)

    def until_ready(self, status: int) -> None:
        deadline = time.monotonic() + 30
        while self.ready().status_code != status:
            assert time.monotonic() < deadline, f"it never says {status}"

    def rows(self) -> int:
        """What is committed, read by another process."""
        with sqlite3.connect(f"file:{self.books}?mode=ro", uri=True, timeout=20) as books:
            (count,) = books.execute("SELECT count(*) FROM events").fetchone()
        return count

    def until_stored(self, rows: int) -> None:
        deadline = time.monotonic() + 30
        while (stored := self.rows()) != rows:
            assert time.monotonic() < deadline, f"{stored} of {rows} events are stored"

    def set_full(self, full: bool) -> None:
        """From now on it cannot write to files, or can again."""
        limit = "0" if full else "unlimited"
        subprocess.run(["prlimit", f"--fsize={limit}:", "--pid", str(self.process.pid)], check=True)

    def stop(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(STOP_S)


@pytest.fixture
def router(run: Run, folder: Path) -> Iterator[Callable[..., Router]]:
    address = f"unix:{folder}/worker.sock"
    worker = run("worker", "--model", "demo", "--engine", "simulated", "--simulated-instant", "--listen", address)
    listening(worker, address)
    started: list[Router] = []

    def router(*flags: str) -> Router:
        started.append(Router(folder, address, *flags))
        return started[-1]

    yield router
    for one in started:
        one.process.kill()
        one.process.wait()


def is_whole(answer: Answer) -> bool:
    return answer.whole and answer.status == 200 and (answer.body.endswith((b"data: [DONE]\n\n", b"}}", b"}")))


def test_a_disk_that_was_full_costs_nothing(router: Callable[..., Router]) -> None:
    one = router()
    assert all(map(is_whole, one.ask(*[ASK] * 10)))
    one.until_stored(10)
    one.set_full(True)
    assert all(map(is_whole, one.ask(*[ASK, STREAM] * 20)))
    # From the second failure on a connection that goes on shows it.
    one.until_failed(3)
    assert one.rows() == 10
    one.set_full(False)
    one.until_stored(50)
    assert all(map(is_whole, one.ask(*[ASK] * 10)))
    one.until_stored(60)
    assert one.stop() == 0
    assert one.rows() == 60


def test_a_database_that_stays_locked_hangs_nothing_and_loses_nothing(router: Callable[..., Router]) -> None:
    """The end takes the ten seconds in which the router still hopes."""
    one = router("--max-unstored-events", "8")
    with sqlite3.connect(one.books, isolation_level=None) as locking:
        locking.execute("BEGIN IMMEDIATE")
        served = 0
        for _ in range(200):
            answers = one.ask(ASK, STREAM)
            assert all(is_whole(answer) or answer.status == 503 for answer in answers)
            served += sum(map(is_whole, answers))
            if refused := [answer for answer in answers if answer.status == 503]:
                break
        assert refused[0].error["code"] == "server_is_overloaded"
        assert "the ledger's database" in refused[0].error["message"]
        assert refused[0].headers["retry-after"] == "5"
        ready = one.ready()
        assert ready.status_code == 503
        assert "the ledger's database" in ready.json()["message"]
        assert one.stop() == 0
        locking.execute("ROLLBACK")
    assert one.rows() == 0
    left = one.books.with_name("ledger.sqlite.unstored")
    assert os.stat(left).st_mode & 0o777 == 0o600

    again = router()
    again.until_stored(served)
    assert all(map(is_whole, again.ask(ASK)))
    assert again.stop() == 0
    assert again.rows() == served + 1
    assert not left.exists()
