"""kill -9 of every part in the middle of its work: nothing is held for ever, nothing is billed twice or not at all."""

import asyncio
import json
import os
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any


from asking import repeat
from books import billed, dead_letters, wait_until_written
from crowd import Answer, Leaving, post
from inferyard import BINARY, Up, wait_idle
from keys import new_key
from metrics import wait_until_told
from resources import api_key, demo, plan, write
from servers import Postgres, Redis

LEASE_S = 4
STREAMS = 200


def stream(max_tokens: int | None = None) -> dict[str, Any]:
    body: dict[str, Any] = {"model": "demo", "messages": repeat("tick tock"), "stream": True, "logprobs": True}
    if max_tokens is not None:
        body |= {"max_tokens": max_tokens, "stream_options": {"include_usage": True}}
    return body


async def next_chunk(stream: asyncio.Task[Answer], reader: Leaving) -> None:
    """Waits until one more chunk of a stream has come, which must go on after it."""
    chunk = asyncio.ensure_future(reader.begun.acquire())
    await asyncio.wait([stream, chunk], return_when=asyncio.FIRST_COMPLETED)
    assert not stream.done(), stream.result().how_it_ended()


def test_a_killed_router_gives_back_what_it_held_and_bills_what_it_told(
    start: Callable[..., Up],
    redis: Callable[..., Redis],
    postgres: Postgres,
    tmp_path: Path,
    measured: Callable[[str, str], None],
) -> None:
    key = new_key()
    path = write(
        tmp_path / "crash.yaml",
        demo(maxRunning=STREAMS + 1, kvTokens=200_000),
        plan("basic", limits={"concurrentRequests": STREAMS, "tokensPerDay": 100_000_000}),
        api_key("test", key, plan="basic"),
    )
    database, server = postgres.database(), redis()
    up = start(path, redis=server.url, postgres=database, routers=2, flags=("--lease-time", f"{LEASE_S}s"))
    victim, other = up.ready["router_pids"][1], up.base_urls[0]

    async def kill_in_the_middle() -> list[Answer]:
        readers = [Leaving() for _ in range(STREAMS)]
        streams = [asyncio.create_task(post(up.base_urls[1], key, stream(), reader)) for reader in readers]
        for one, reader in zip(streams, readers, strict=True):
            await next_chunk(one, reader)
        begun = time.monotonic()
        # Long enough that every router has told the store how far it is, more than once.
        while time.monotonic() < begun + 1.5 * LEASE_S:
            await next_chunk(streams[0], readers[0])
        assert all(not one.done() for one in streams)
        denied = await post(other, key, stream(1))
        assert denied.status == 429, "all places are taken"
        os.kill(victim, signal.SIGKILL)
        killed = time.monotonic()
        while (answer := await post(other, key, stream(1))).status == 429:
            assert time.monotonic() < killed + 10 * LEASE_S, "what it held is lost"
        assert answer.status == 200
        measured(f"lease of {LEASE_S} s, router killed under {STREAMS} streams", f"places free after {time.monotonic() - killed:.1f} s")
        # The sweeps of all leases, not of the first one only.
        while (answer := await post(other, key, stream(1))).headers["x-ratelimit-remaining-concurrent"] != str(STREAMS - 1):
            assert time.monotonic() < killed + 10 * LEASE_S, "what it held is lost"
        return await asyncio.gather(*streams)

    answers = asyncio.run(kill_in_the_middle())
    assert [answer.how_it_ended() for answer in answers if answer.status != 200 or answer.whole] == []
    wait_idle(up.workers())
    wait_until_written(server)
    assert up.stop() == 0

    books = billed(postgres, database)
    lost = {answer.headers["x-request-id"]: answer for answer in answers}
    assert len(lost) == STREAMS
    for request_id in lost:
        assert books[request_id].code == "router_lost"
        assert books[request_id].status == 0
        assert books[request_id].prompt_tokens > 0
        assert books[request_id].completion_tokens > 0
        assert books[request_id].cost == 5_000 * (books[request_id].prompt_tokens + books[request_id].completion_tokens)
    received = sum(answer.tokens_received() for answer in answers)
    told = sum(books[request_id].completion_tokens for request_id in lost)
    measured("router killed", f"{received} tokens received, {told} of them billed")
    assert told <= received + STREAMS, "what was billed had been produced"
    assert not dead_letters(postgres, database)


def test_every_token_is_billed_once_whatever_is_killed(
    start: Callable[..., Up],
    redis: Callable[..., Redis],
    postgres: Postgres,
    tmp_path: Path,
    measured: Callable[[str, str], None],
) -> None:
    """Redis and the ledger are killed in the middle of a burst of which some clients leave early."""
    key = new_key()
    path = write(
        tmp_path / "crash.yaml",
        demo(maxRunning=32, maxQueued=1000),
        plan("basic", limits={"tokensPerDay": 100_000_000, "requestsPerDay": 1_000_000}),
        api_key("test", key, plan="basic"),
    )
    database, server = postgres.database(), redis(durable=True)
    up = start(path, redis=server.url, postgres=database, routers=2)

    async def burst() -> tuple[list[Answer], list[Answer]]:
        first_half = asyncio.Semaphore(0)

        async def client(number: int) -> list[Answer]:
            answers = []
            for turn in range(12):
                base_url = up.base_urls[(number + turn) % 2]
                leaving = Leaving(after=3000) if (number + turn) % 8 == 0 else None
                answers.append(await post(base_url, key, stream(20 + 7 * number % 50), leaving))
                first_half.release()
            return answers

        async def killer() -> None:
            for _ in range(100):
                await first_half.acquire()
            await asyncio.to_thread(server.kill)
            for _ in range(40):
                await first_half.acquire()
            os.kill(up.ledger().pid, signal.SIGKILL)
            server.start()
            for _ in range(60):
                await first_half.acquire()
            os.kill(up.ledger().pid, signal.SIGKILL)

        killing = asyncio.create_task(killer())
        answers = [answer for some in await asyncio.gather(*(client(number) for number in range(32))) for answer in some]
        await killing
        return [answer for answer in answers if answer.whole], [answer for answer in answers if not answer.whole]

    whole, left = asyncio.run(burst())
    wait_idle(up.workers())
    # What could not be told to Redis while it was away has been told now.
    for url in up.ready["metrics_urls"]:
        wait_until_told(url)
    # What a ledger had taken when it was killed, the next one takes over after a while.
    wait_until_written(server)
    workers = [argument for worker in up.ready["workers"] for argument in ("--worker", worker["address"])]
    command = [BINARY, "audit", "--output", "json", "--store", up.store, *workers]
    report = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert report.returncode == 0, report.stdout + report.stderr
    lives = [json.loads(line) for line in report.stdout.splitlines()]
    assert up.stop() == 0
    nothing = {"prompt": 0, "cached": 0, "completion": 0}
    assert len(lives) == len(up.ready["workers"])
    for life in lives:
        # No router was killed: no stream was dropped, and what leavers left is billed to the token.
        assert (life["verdict"], life["difference"], life["dropped"]) == ("equal", nothing, nothing)

    books = billed(postgres, database)
    counted, events = [life["counted"] for life in lives], list(books.values())
    assert sum(event.prompt_tokens for event in events) == sum(each["prompt"] for each in counted)
    assert sum(event.completion_tokens for event in events) == sum(each["completion"] for each in counted)
    assert not dead_letters(postgres, database)
    served = [answer for answer in whole if answer.status == 200]
    assert len(served) > 200
    assert [answer.how_it_ended() for answer in left if answer.status != 200] == []
    assert len(left) > 20
    for answer in served:
        usage, event = answer.usage(), books.pop(answer.headers["x-request-id"])
        assert usage is not None
        assert (event.prompt_tokens, event.completion_tokens) == (usage["prompt_tokens"], usage["completion_tokens"])
    undelivered = 0
    for answer in left:
        event = books.pop(answer.headers["x-request-id"])
        assert event.completion_tokens >= answer.tokens_received()
        undelivered += event.completion_tokens - answer.tokens_received()
    assert not {event for event in books.values() if event.completion_tokens}, "nobody asked for these"
    measured("reconciliation after that", report.stdout.splitlines()[-1])
    measured(
        "Redis and the ledger killed in a burst",
        f"{len(served)} whole answers, {len(left)} left early, each billed once and {undelivered} tokens that nobody received with them",
    )
