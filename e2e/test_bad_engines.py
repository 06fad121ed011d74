"""Engines that say they are up and fail requests, and a request that ends every engine it reaches."""

import concurrent.futures
import contextlib
import json
import os
import select
import subprocess
import sys
from collections.abc import Callable, Iterator
from hashlib import sha256
from pathlib import Path

import pytest
from openai import APIStatusError, BadRequestError, OpenAI

from asking import user
from inferyard import BINARY, MANIFESTS, START_S, STOP_S, Lines, Watch
from keys import new_key
from servers import Server

REQUESTS = 200
CLIENTS = 8


class Engine(Server):
    """A small server of OpenAI's API in a process of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.becomes("good")
        self._run(sys.executable, Path(__file__).parent / "engine.py", str(self.port), self.folder / "mode")

    def becomes(self, mode: str) -> None:
        """How it answers from now on."""
        next_mode = self.folder / "next"
        next_mode.write_text(mode)
        next_mode.rename(self.folder / "mode")

    def pidfd(self) -> int:
        """Tells of the end of its process by becoming readable."""
        assert self.process is not None
        return os.pidfd_open(self.process.pid)


class Fleet:
    """Engines, a worker before each, and a router."""

    def __init__(self, count: int, folder: Path) -> None:
        self.engines = [Engine() for _ in range(count)]
        self.addresses = [f"unix:{folder}/{number}.sock" for number in range(len(self.engines))]
        self._processes = [
            self._run("worker", "--model", "demo", "--engine", "vllm", "--engine-url", f"http://127.0.0.1:{engine.port}", "--listen", address)
            for engine, address in zip(self.engines, self.addresses, strict=True)
        ]  # fmt: skip
        self._key = new_key()
        workers = [flag for address in self.addresses for flag in ("--worker", f"demo={address}")]
        router = self._run(
            "router", "-f", str(MANIFESTS / "demo.yaml"), *workers, "--listen", "127.0.0.1:0",
            "--key-hash", sha256(self._key.encode()).hexdigest(), "--json",
        )  # fmt: skip
        self._processes.append(router)
        self._base_url = f"http://{json.loads(Lines(router).next(within=START_S))['address']}/v1"
        for number in range(count):
            self.until_phase(number, "READY")

    def _run(self, *arguments: str) -> subprocess.Popen[bytes]:
        command = ["setpriv", "--pdeathsig", "KILL", "--", BINARY, *arguments]
        return subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)

    def until_phase(self, worker: int, phase: str) -> dict[str, object]:
        """Waits until a worker says so of itself."""
        while True:
            try:
                with Watch(self.addresses[worker]) as watch:
                    return watch.until(lambda state: state["phase"] == phase, within=START_S)
            except EOFError:
                continue  # It does not listen yet; each try starts a process, which paces the loop.

    def openai(self, **options: int) -> OpenAI:
        """openai-python, with its own retries where nothing else is said."""
        return OpenAI(base_url=self._base_url, api_key=self._key, timeout=300, **options)

    def stop(self) -> None:
        """Ends everything."""
        for process in self._processes:
            process.terminate()
        for process in self._processes:
            process.wait(STOP_S)
        for engine in self.engines:
            engine.close()


@pytest.fixture
def fleet(folder: Path) -> Iterator[Callable[[int], Fleet]]:
    started: list[Fleet] = []

    def start(count: int) -> Fleet:
        started.append(Fleet(count, folder))
        return started[-1]

    yield start
    for fleet in started:
        fleet.stop()


def greet(client: OpenAI, text: str = "Hi") -> str | None:
    return client.chat.completions.create(model="demo", messages=user(text)).choices[0].message.content


def ended(pidfds: set[int], at_least: int) -> int:
    """How many processes have ended. Waits for some: connections break before the kernel tells of the end."""
    alive = set(pidfds)
    while len(pidfds) - len(alive) < at_least:
        ready, _, _ = select.select(alive, [], [], START_S)
        assert ready, "the engine should have ended"
        alive.difference_update(ready)
    ready, _, _ = select.select(alive, [], [], 0)
    return len(pidfds) - len(alive) + len(ready)


def test_a_request_that_ends_engines_ends_two_of_eight(fleet: Callable[[int], Fleet]) -> None:
    running = fleet(8)
    with running.openai() as client, contextlib.ExitStack() as opened:
        pidfds = {engine.pidfd() for engine in running.engines}
        for pidfd in pidfds:
            opened.callback(os.close, pidfd)
        # Over connections that are kept: the worker asks each second whether its engine is up.
        for _ in range(16):
            assert greet(client) == "Hello"
        for _ in range(2):
            with pytest.raises(BadRequestError) as refused:
                greet(client, "POISON")
            assert refused.value.code == "request_crashes_engine"
            assert ended(pidfds, at_least=2) == 2
        for _ in range(16):
            assert greet(client) == "Hello"
        assert ended(pidfds, at_least=2) == 2


def crowd(running: Fleet) -> int:
    """How many requests of several clients fail, where no client tries again by itself."""

    def ask(numbers: range) -> int:
        failed = 0
        with running.openai(max_retries=0) as client:
            for number in numbers:
                try:
                    # Each text is another one: the same request would be taken for the cause, and refused.
                    assert greet(client, f"Hi {number}") == "Hello"
                except APIStatusError:
                    failed += 1
        return failed

    with concurrent.futures.ThreadPoolExecutor(CLIENTS) as pool:
        return sum(pool.map(ask, [range(client, REQUESTS, CLIENTS) for client in range(CLIENTS)]))


@pytest.mark.parametrize("mode", ["fails", "breaks"])
def test_engines_that_fail_requests_are_avoided_and_used_again(fleet: Callable[[int], Fleet], mode: str, measured: Callable[[str, str], None]) -> None:
    running = fleet(3)
    for engine in running.engines[1:]:
        engine.becomes(mode)
    failed = crowd(running)
    measured(f"one good engine, two of which each {mode}", f"{failed} of {REQUESTS} requests failed")
    # Of an engine that fails before its first token another worker takes over.
    assert failed <= (6 if mode == "fails" else 4 * CLIENTS)
    for number in (1, 2):
        state = running.until_phase(number, "UNHEALTHY")
        assert "in a row: the engine" in str(state["note"])
    assert crowd(running) <= 2, "probes of the router"
    for engine in running.engines[1:]:
        engine.becomes("good")
    for number in (1, 2):
        assert running.until_phase(number, "READY").get("note", "") == ""
    assert crowd(running) == 0
