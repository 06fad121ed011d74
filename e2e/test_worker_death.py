"""A worker is killed with -9 under load: what has begun ends with an error, the rest goes elsewhere."""

import asyncio
import os
import signal
import threading
from collections.abc import Callable

from asking import repeat, reply_with
from crowd import Answer, Leaving, post
from inferyard import Up, Watch, wait_idle
from metrics import samples
from processes import Process

STREAMS = 64
TOKENS = 100
LONG = 1500
MOST_KILLS = 5
ROOM = 4  # maxRunning of manifests/two-replicas.yaml


async def kill_in_the_middle(up: Up, victim: Process) -> list[Answer]:
    """Fills every place of both workers with long answers, and kills the victim as soon as others wait."""

    def ask(tokens: int, begun: Leaving | None = None) -> asyncio.Task[Answer]:
        body = {"model": "demo", "messages": repeat("tick tock"), "max_tokens": tokens, "stream": True}
        return asyncio.create_task(post(up.base_url, up.api_key, body, begun))

    fillers = [Leaving() for _ in range(2 * ROOM)]
    streams = [ask(LONG, begun) for begun in fillers]
    for filler in fillers:
        # The first piece names the role, the second one has text.
        await filler.begun.acquire()
        await filler.begun.acquire()
    streams += [ask(TOKENS) for _ in range(STREAMS - len(streams))]
    ended = threading.Event()
    for stream in streams:
        stream.add_done_callback(lambda _: ended.set())
    # In a thread: the loop here has all these streams to read, and on a busy machine it is late.
    await asyncio.to_thread(kill_when_others_wait, up, victim, ended)
    return await asyncio.gather(*streams)


def told(up: Up, answer: Answer) -> str:
    """How a stream ended, and what the router logged of it."""
    return f"{answer.how_it_ended()}\n{up.log_of([answer.request_id])}"


def finish_reasons(answer: Answer) -> list[str]:
    """What ended the choices of a stream."""
    choices = [choice for frame in answer.frames() for choice in frame.get("choices", ())]
    return [choice["finish_reason"] for choice in choices if choice["finish_reason"]]


def has_text(answer: Answer) -> bool:
    """A piece of the answer came."""
    choices = [choice for frame in answer.frames() for choice in frame.get("choices", ())]
    return any(choice["delta"].get("content") for choice in choices)


def kill_when_others_wait(up: Up, victim: Process, ended: threading.Event) -> None:
    # Once a stream has ended, the others may have waited between two looks. Looks without a pause would keep the
    # loop from sending its requests within the time that the router gives a new connection.
    while not waiting(up) and not ended.wait(0.05):
        continue
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
            first_life = watch.next(within=180)
        answers = asyncio.run(kill_in_the_middle(up, victim))
        if not all(answer.is_complete_stream() for answer in answers):
            break
        next_life(victim, first_life["instance_id"])

    complete = [answer for answer in answers if answer.is_complete_stream()]
    broken = [answer for answer in answers if not answer.is_complete_stream()]
    measured("worker killed under 64 streams", f"{len(complete)} complete, {len(broken)} ended with an error frame")
    for answer in complete:
        assert finish_reasons(answer), f"a stream without an error is a whole answer: {told(up, answer)}"
    for answer in broken:
        assert has_text(answer), f"without a first token it must finish elsewhere, not fail: {told(up, answer)}"
        assert not finish_reasons(answer), told(up, answer)
        (error,) = [frame["error"] for frame in answer.frames() if "error" in frame]
        assert set(error) == {"message", "type", "param", "code"}
    # No more can have begun on it than it has room for.
    assert 1 <= len(broken) <= ROOM

    second_life = next_life(victim, first_life["instance_id"])
    assert second_life["running"] == 0
    (_, returned) = sorted(up.workers(), key=lambda worker: worker.pid == survivor.pid, reverse=True)
    assert returned.pid != victim.pid
    assert returned.option("--listen") == victim.option("--listen")
    wait_idle(up.workers())
    with up.openai() as client:
        answer = client.chat.completions.create(model="demo", messages=reply_with("recovered"), temperature=0)
    assert answer.choices[0].message.content == "recovered"
    assert up.stop() == 0


def next_life(worker: Process, instance_id: object) -> dict[str, object]:
    """Waits until another process answers at the worker's address and is ready."""
    for _ in range(200):
        try:
            with Watch(worker) as watch:
                return watch.until(lambda state: state["instance_id"] != instance_id and state["phase"] == "READY", within=180)
        except EOFError:
            continue  # Nobody answers there yet; each try starts a process, which paces the loop.
    raise AssertionError("the worker did not come back")


def test_a_single_worker_that_dies_comes_back(start: Callable[..., Up]) -> None:
    up = start("demo.yaml")
    (worker,) = up.workers()
    with Watch(worker) as watch:
        instance_id = watch.next(within=180)["instance_id"]
    for _ in range(2):
        os.kill(up.workers()[0].pid, signal.SIGKILL)
        instance_id = next_life(worker, instance_id)["instance_id"]
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
