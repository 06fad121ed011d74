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
from logs import RouterLog

TOKENS = 200
PATIENCE_S = 120
# How many of the answers that were silent longest are kept.
SLOWEST = 3


@dataclass
class Window:
    """What became of the requests that ran while something happened."""

    name: str
    log: RouterLog
    requests: int = 0
    # Refused, or broken before the first piece of an answer.
    failed: list[crowd.Answer] = field(default_factory=list)
    # Begun, and not brought to its end.
    ended_early: list[crowd.Answer] = field(default_factory=list)
    # The answers with the longest silence before or between their pieces, the longest first.
    slowest: list[crowd.Answer] = field(default_factory=list)
    seconds: float = 0
    begun: float = field(default_factory=time.monotonic)
    # What was reached after how many seconds.
    reached: list[tuple[str, float]] = field(default_factory=list)

    def row(self) -> str:
        return (
            f"{self.requests} requests, {len(self.failed)} failed, {len(self.ended_early)} ended early, "
            f"{self.seconds:.0f} s, longest silence {max(map(_silence, self.slowest), default=0):.1f} s"
            + "".join(f"; {what} after {seconds:.1f} s" for what, seconds in self.reached)
        )

    def reach(self, what: str) -> None:
        """Notes the time at which something was reached, so that a standstill can be told from a broken stream."""
        self.reached.append((what, time.monotonic() - self.begun))

    def take(self, answer: crowd.Answer) -> None:
        """Notes an answer, and keeps what it was where it is not whole."""
        self.requests += 1
        self.slowest = sorted([*self.slowest, answer], key=_silence, reverse=True)[:SLOWEST]
        if answer.status != 200 or not answer.frames():
            self.failed.append(answer)
        elif not answer.is_complete_stream():
            self.ended_early.append(answer)

    def story(self) -> str:
        """How each request ended that was not answered whole, and which were silent longest, with the log of these."""
        bad = [*self.failed, *self.ended_early]
        ids = {answer.request_id for answer in (*bad, *self.slowest) if answer.request_id}
        return "\n".join(
            [
                f"--- {self.name}: {self.row()}",
                *(f"not whole: {answer.how_it_ended()}" for answer in bad),
                *(f"silent longest: {answer.how_it_ended()}" for answer in self.slowest),
                "--- what the routers logged of these requests",
                self.log.lines(ids),
            ]
        )


def _silence(answer: crowd.Answer) -> float:
    return max(answer.head_after, answer.longest_pause)


@dataclass
class Running:
    """A request that has no end yet."""

    since: float = field(default_factory=time.monotonic)
    pieces: crowd.Leaving = field(default_factory=crowd.Leaving)

    @property
    def begun(self) -> bool:
        """Whether a piece of its answer has arrived."""
        return not self.pieces.begun.locked()


class Steady:
    """Clients in a thread of their own, which lives in the network of who makes it."""

    def __init__(self, base_url: str, key: str, log: RouterLog, clients: int = 20) -> None:
        self._base_url, self._key, self._log = base_url, key, log
        self._changed = threading.Condition()
        self._running: dict[int, Running] = {}
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
        self._log.close()
        if self._broken is not None:
            raise self._broken

    @contextlib.contextmanager
    def during(self, name: str) -> Iterator[Window]:
        """Counts what runs inside the block: all requests that end in it or that had begun before its end."""
        window = Window(name, self._log)
        self._log.follow()
        window.begun = time.monotonic()
        with self._changed:
            self._windows.append(window)
        try:
            yield window
            end = time.monotonic()
            window.seconds = end - window.begun
            self._until(lambda: all(running.since > end for running in self._running.values()))
            self._log.follow()
        finally:
            with self._changed:
                self._windows.remove(window)

    def answers(self, count: int) -> None:
        """Returns when so many more requests were answered to their end."""
        with self._changed:
            wanted = self._whole + count
        self._until(lambda: self._whole >= wanted)

    def midway(self, since: float) -> int:
        """How many answers stand in their middle of those that were asked for before that time."""
        with self._changed:
            return sum(running.since < since and running.begun for running in self._running.values())

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
            running = Running()
            with self._changed:
                self._running[number] = running
            try:
                answer = await crowd.post(self._base_url, self._key, body, running.pieces)
            except OSError as error:
                answer = crowd.Answer(broke=repr(error))
            with self._changed:
                self._note(number, answer)
                self._changed.notify_all()
            if answer.status != 200:
                # A client that is refused does not hammer.
                await asyncio.sleep(0.2)

    def _note(self, number: int, answer: crowd.Answer) -> None:
        del self._running[number]
        self._whole += answer.is_complete_stream()
        for window in self._windows:
            window.take(answer)
