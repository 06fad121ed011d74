"""Clients that leave: each frees its place within a token, however it goes."""

import asyncio
import json
import time
from collections.abc import Callable

from asking import repeat, reply_with
from inferyard import Up, Watch, idle, wait_idle

CLIENTS = 200
TOKENS = 450


async def begin(
    up: Up, *, messages: list[dict[str, str]] | None = None, wait_for_text: bool = True
) -> asyncio.StreamWriter:
    """Sends a request for an endless answer over a connection of its own; returns in mid-stream."""
    host, port = up.base_url.removeprefix("http://").removesuffix("/v1").rsplit(":", 1)
    reader, writer = await asyncio.open_connection(host, int(port))
    body = {"model": "demo", "messages": messages or repeat("tick"), "stream": True, "max_tokens": TOKENS}
    content = json.dumps(body).encode()
    writer.write(
        b"POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n"
        + f"authorization: Bearer {up.api_key}\r\ncontent-length: {len(content)}\r\n\r\n".encode()
        + content
    )
    await writer.drain()
    if wait_for_text:
        assert (await reader.readline()).startswith(b"HTTP/1.1 200 ")
        while b'"content":"t' not in await reader.readline():
            assert not reader.at_eof()
    return writer


def leave(writers: list[asyncio.StreamWriter]) -> None:
    """Half of them close in good order, half reset the connection."""
    for number, writer in enumerate(writers):
        if number % 2 == 0:
            writer.close()
        else:
            writer.transport.abort()


def test_200_clients_leave_in_mid_stream(start: Callable[..., Up], measured: Callable[[str, str], None]) -> None:
    up = start("wide.yaml")
    (worker,) = up.workers()

    async def come_and_go() -> float:
        writers = await asyncio.gather(*(begin(up) for _ in range(CLIENTS)))
        leave(writers)
        return time.monotonic()

    with Watch(worker) as watch:
        left = asyncio.run(come_and_go())
        # Every client saw text, so states from before that moment may still wait to be read here.
        watch.until(lambda state: state["running"] > 0, within=180)
        state = watch.until(idle, within=180)
        measured("200 clients left in mid-stream, zero running after", f"{time.monotonic() - left:.3f} s (goal: 1 s)")
    assert state["completion_tokens_total"] < CLIENTS * TOKENS / 2, "they were not answered to their ends"
    wait_idle([worker])
    with up.openai() as client:
        answer = client.chat.completions.create(model="demo", messages=reply_with("still here"), temperature=0)
    assert answer.choices[0].message.content == "still here"
    assert up.workers() == [worker]
    assert up.stop() == 0


def test_clients_leave_while_they_wait(start: Callable[..., Up]) -> None:
    up = start("narrow.yaml")
    (worker,) = up.workers()

    async def come_wait_and_go() -> None:
        running = await begin(up)
        waiting = await asyncio.gather(*(begin(up, wait_for_text=False) for _ in range(20)))
        await asyncio.to_thread(watch.until, lambda state: state["queued"] > 0, 60)
        leave([*waiting, running])

    with Watch(worker) as watch:
        asyncio.run(come_wait_and_go())
        watch.until(idle)
    assert up.stop() == 0


def test_a_client_that_waits_for_a_whole_answer_may_leave_too(start: Callable[..., Up]) -> None:
    up = start("narrow.yaml")
    (worker,) = up.workers()

    async def ask_and_go() -> None:
        async with up.async_openai() as client:
            asked = asyncio.create_task(client.chat.completions.create(model="demo", messages=repeat("tick")))
            await asyncio.to_thread(watch.until, lambda state: state["running"] == 1, 60)
            asked.cancel()
            await asyncio.gather(asked, return_exceptions=True)

    with Watch(worker) as watch:
        asyncio.run(ask_and_go())
        watch.until(idle)
    assert up.stop() == 0


def test_clients_that_stop_reading_slow_nobody_else(start: Callable[..., Up]) -> None:
    up = start("demo.yaml")

    async def stall_and_ask() -> str | None:
        stalled = await asyncio.gather(*(begin(up) for _ in range(4)))
        for writer in stalled:
            writer.transport.pause_reading()  # type: ignore[attr-defined]
        async with up.async_openai() as client:
            answers = [
                await client.chat.completions.create(model="demo", messages=reply_with("not slowed"), temperature=0)
                for _ in range(20)
            ]
        leave(list(stalled))
        assert {answer.choices[0].message.content for answer in answers} == {"not slowed"}
        return answers[-1].choices[0].message.content

    assert asyncio.run(stall_and_ask()) == "not slowed"
    wait_idle(up.workers())
    assert up.stop() == 0


def test_nothing_is_computed_for_long_prompts_whose_clients_left(start: Callable[..., Up]) -> None:
    """A prompt that cannot fit is refused before it is tokenized, and work ends when its client leaves."""
    up = start("narrow.yaml")
    (worker,) = up.workers()
    messages = [{"role": "user", "content": "a"}] * 8_000

    async def leave_at_once() -> None:
        writers = [await begin(up, messages=messages, wait_for_text=False) for _ in range(20)]
        leave(writers)

    asyncio.run(leave_at_once())
    wait_idle([worker])
    before = -1
    with Watch(worker) as watch:
        for _ in range(30):
            watch.next()  # At the latest its next sign of life, after 0.9 s.
            now = worker.cpu_ticks()
            if now == before:
                break
            before = now
        else:
            raise AssertionError("the worker still computes")
    wait_idle([worker])
    with up.http() as http:
        refused = http.post("/v1/chat/completions", json={"model": "demo", "messages": messages})
    assert (refused.status_code, refused.json()["error"]["code"]) == (400, "context_length_exceeded")
    assert "at least" in refused.json()["error"]["message"]
    assert up.stop() == 0
