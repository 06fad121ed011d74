"""A steady load: so many streams at any time, each client asking again as soon as it is answered."""

import asyncio
import contextlib
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import crowd
from asking import repeat

TOKENS = 200
PATIENCE_S = 120


@dataclass
class Window:
    """What became of the requests that ran while something happened."""

    name: str
    requests: int = 0
    # Refused, or broken before the first piece of an answer.
    failed: list[str] = field(default_factory=list)
    # Begun, and not brought to its end; the text is the last error frame, empty where there was none.
    ended_early: list[str] = field(default_factory=list)
    seconds: float = 0

    def row(self) -> str:
        return (
            f"{self.requests} requests, {len(self.failed)} failed, {len(self.ended_early)} ended early, "
            f"{self.seconds:.0f} s"
        )


class Steady:
    """Clients in a thread of their own, which lives in the network of who makes it."""

    def __init__(self, base_url: str, key: str, clients: int = 20) -> None:
        self._base_url, self._key = base_url, key
        self._changed = threading.Condition()
        self._running: dict[int, float] = {}
        self._whole = 0
        self._windows: list[Window] = []
        self._stopping = False
        self._broken: BaseException | None = None
        self._thread = threading.Thread(target=self._run, args=(clients,))
        self._thread.start()

    def close(self) -> None:
        """Lets every client finish its last answer."""
        self._stopping = True
        self._thread.join()
        if self._broken is not None:
            raise self._broken

    @contextlib.contextmanager
    def during(self, name: str) -> Iterator[Window]:
        """Counts what runs inside the block: all requests that end in it or that had begun before its end."""
        window = Window(name)
        begun = time.monotonic()
        with self._changed:
            self._windows.append(window)
        try:
            yield window
            end = time.monotonic()
            window.seconds = end - begun
            self._until(lambda: all(since > end for since in self._running.values()))
        finally:
            with self._changed:
                self._windows.remove(window)

    def answers(self, count: int) -> None:
        """Returns when so many more requests were answered to their end."""
        with self._changed:
            wanted = self._whole + count
        self._until(lambda: self._whole >= wanted)

    def for_seconds(self, seconds: float) -> None:
        """Returns after that time, which is for how long a fault lasts."""
        end = time.monotonic() + seconds
        with self._changed:
            while (left := end - time.monotonic()) > 0:
                self._changed.wait(left)

    def _until(self, holds: Any) -> None:
        with self._changed:
            assert self._changed.wait_for(lambda: self._broken or holds(), PATIENCE_S), "the clients get no answers"
        if self._broken is not None:
            raise self._broken

    def _run(self, clients: int) -> None:
        try:
            asyncio.run(self._all(clients))
        except BaseException as error:
            with self._changed:
                self._broken = error
                self._changed.notify_all()

    async def _all(self, clients: int) -> None:
        await asyncio.gather(*(self._client(number) for number in range(clients)))

    async def _client(self, number: int) -> None:
        body = {"model": "demo", "messages": repeat("tick tock"), "max_tokens": TOKENS, "stream": True}
        while not self._stopping:
            with self._changed:
                self._running[number] = time.monotonic()
            try:
                answer = await crowd.post(self._base_url, self._key, body)
            except OSError as error:
                answer = crowd.Answer(body=str(error).encode())
            with self._changed:
                self._note(number, answer)
                self._changed.notify_all()
            if answer.status != 200:
                # A client that is refused does not hammer.
                await asyncio.sleep(0.2)

    def _note(self, number: int, answer: crowd.Answer) -> None:
        del self._running[number]
        frames = answer.frames() if answer.status == 200 else []
        errors = [frame["error"]["message"] for frame in frames if "error" in frame]
        whole = answer.whole and answer.body.endswith(b"data: [DONE]\n\n") and not errors
        self._whole += whole
        for window in self._windows:
            window.requests += 1
            if answer.status != 200 or not frames:
                window.failed.append(f"{answer.status}: {answer.body[:300].decode(errors='replace')}")
            elif not whole:
                window.ended_early.append(errors[-1] if errors else "")
