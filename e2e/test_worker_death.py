"""A worker is killed with -9 under load: what has begun ends with an error, the rest goes elsewhere."""

import asyncio
import os
import signal
from collections.abc import Callable
from dataclasses import dataclass

from openai import APIError, AsyncOpenAI

from asking import repeat, reply_with
from inferyard import Up, Watch, wait_idle
from metrics import samples
from processes import Process

STREAMS = 64
TOKENS = 100
LONG = 1500
MOST_KILLS = 5
ROOM = 4  # maxRunning of manifests/two-replicas.yaml


@dataclass
class Outcome:
    """How one stream went."""

    request_id: str = ""
    pieces: int = 0
    reason: str | None = None
    error: APIError | None = None


async def consume(client: AsyncOpenAI, tokens: int, begun: asyncio.Semaphore) -> Outcome:
    """Reads one stream to its end, and notes the moment of its first piece of text."""
    outcome = Outcome()
    try:
        stream = await client.chat.completions.create(
            model="demo", messages=repeat("tick tock"), max_tokens=tokens, stream=True
        )
        outcome.request_id = stream.response.headers.get("x-request-id", "")
        async for chunk in stream:
            choice = chunk.choices[0]
            if choice.delta.content:
                if outcome.pieces == 0:
                    begun.release()
                outcome.pieces += 1
            outcome.reason = choice.finish_reason or outcome.reason
    except APIError as error:
        outcome.error = error
        outcome.request_id = outcome.request_id or getattr(error, "request_id", None) or ""
    return outcome


async def kill_in_the_middle(up: Up, victim: Process) -> list[Outcome]:
    """Fills every place of both workers with long answers, and kills the victim as soon as others wait."""
    begun = asyncio.Semaphore(0)
    async with up.async_openai() as client:
        streams = [asyncio.create_task(consume(client, LONG, begun)) for _ in range(2 * ROOM)]
        for _ in streams[:]:
            await begun.acquire()
        streams += [asyncio.create_task(consume(client, TOKENS, begun)) for _ in range(STREAMS - len(streams))]
        # In a thread: the loop here has all these streams to read, and on a busy machine it is late.
        await asyncio.to_thread(kill_when_others_wait, up, victim, streams)
        return await asyncio.gather(*streams)


def told(up: Up, outcome: Outcome) -> str:
    """How a stream ended, and what the router logged of it."""
    return f"{outcome}\n{up.log_of([outcome.request_id])}"


def kill_when_others_wait(up: Up, victim: Process, streams: list[asyncio.Task[Outcome]]) -> None:
    # Once a stream has ended, the others may have waited between two looks.
    while not waiting(up) and not any(stream.done() for stream in streams):
        continue  # Each look is a request, which paces the loop.
    os.kill(victim.pid, signal.SIGKILL)


def waiting(up: Up) -> float:
    """How many requests wait in the router."""
    return sum(samples(up.metrics_url, "inferyard_router_waiting_requests"))


def test_one_of_two_workers_is_killed_under_64_streams(
    start: Callable[..., Up], measured: Callable[[str, str], None]
) -> None:
    up = start("two-replicas.yaml")
    # On a busy machine all answers may be complete before their reader here has asked for the kill: then once more.
    for _ in range(MOST_KILLS):
        victim, survivor = up.workers()
        with Watch(victim) as watch:
            first_life = watch.next(within=60)
        outcomes = asyncio.run(kill_in_the_middle(up, victim))
        if any(outcome.error is not None for outcome in outcomes):
            break
        next_life(victim, first_life["boot_id"])

    complete = [outcome for outcome in outcomes if outcome.error is None]
    broken = [outcome for outcome in outcomes if outcome.error is not None]
    measured("worker killed under 64 streams", f"{len(complete)} complete, {len(broken)} ended with an error frame")
    for outcome in complete:
        assert outcome.reason is not None, f"a stream without an error is a whole answer: {told(up, outcome)}"
    for outcome in broken:
        assert outcome.pieces > 0, f"without a first token it must finish elsewhere, not fail: {told(up, outcome)}"
        assert outcome.reason is None, told(up, outcome)
        assert isinstance(outcome.error.body, dict)
        assert set(outcome.error.body) == {"message", "type", "param", "code"}
    # No more can have begun on it than it has room for.
    assert 1 <= len(broken) <= ROOM

    second_life = next_life(victim, first_life["boot_id"])
    assert second_life["running"] == 0
    (_, returned) = sorted(up.workers(), key=lambda worker: worker.pid == survivor.pid, reverse=True)
    assert returned.pid != victim.pid
    assert returned.option("--listen") == victim.option("--listen")
    wait_idle(up.workers())
    with up.openai() as client:
        answer = client.chat.completions.create(model="demo", messages=reply_with("recovered"), temperature=0)
    assert answer.choices[0].message.content == "recovered"
    assert up.stop() == 0


def next_life(worker: Process, boot_id: object) -> dict[str, object]:
    """Waits until another process answers at the worker's address and is ready."""
    for _ in range(200):
        try:
            with Watch(worker) as watch:
                return watch.until(lambda state: state["boot_id"] != boot_id and state["phase"] == "READY", within=60)
        except EOFError:
            continue  # Nobody answers there yet; each try starts a process, which paces the loop.
    raise AssertionError("the worker did not come back")


def test_a_single_worker_that_dies_comes_back(start: Callable[..., Up]) -> None:
    up = start("demo.yaml")
    (worker,) = up.workers()
    with Watch(worker) as watch:
        boot_id = watch.next(within=60)["boot_id"]
    for _ in range(2):
        os.kill(up.workers()[0].pid, signal.SIGKILL)
        boot_id = next_life(worker, boot_id)["boot_id"]
    with up.openai(max_retries=5) as client:
        answer = client.chat.completions.create(model="demo", messages=reply_with("back again"), temperature=0)
    assert answer.choices[0].message.content == "back again"
    assert up.stop() == 0


def test_the_router_dies_and_comes_back_at_the_same_address(start: Callable[..., Up]) -> None:
    up = start("demo.yaml")
    (router,) = (child for child in up.children() if child.role == "router")
    workers = up.workers()
    os.kill(router.pid, signal.SIGKILL)
    with up.openai(max_retries=10) as client:
        answer = client.chat.completions.create(model="demo", messages=reply_with("same place"), temperature=0)
    assert answer.choices[0].message.content == "same place"
    assert up.workers() == workers, "the workers live on"
    assert up.stop() == 0
