"""Ctrl-C and the rest: what runs is finished, and no process stays behind."""

import asyncio
import os
import signal
import socket
import subprocess
from collections.abc import Callable
from typing import Any

import pytest

from asking import repeat, reply_with
from inferyard import BINARY, MANIFESTS, STOP_S, Up
from processes import wait_until_gone

TOKENS = 400


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_running_stream_finishes_whole_before_the_end(start: Callable[..., Up], number: signal.Signals) -> None:
    up = start("demo.yaml")
    running = up.children()

    async def stream_through_the_end() -> tuple[int, Any]:
        async with up.async_openai() as client:
            stream = await client.chat.completions.create(
                model="demo",
                messages=repeat("tick"),
                max_tokens=TOKENS,
                stream=True,
                stream_options={"include_usage": True},
            )
            pieces, last = 0, None
            async for chunk in stream:
                if pieces == 0:
                    up.signal(number)
                pieces += 1
                last = chunk
            return pieces, last

    pieces, last = asyncio.run(stream_through_the_end())
    assert pieces > 10
    assert last.usage.completion_tokens == TOKENS
    assert up.wait() == 0
    wait_until_gone(running, within=STOP_S)


def test_after_the_end_nobody_listens(start: Callable[..., Up]) -> None:
    up = start("demo.yaml")
    assert up.stop() == 0
    host, port = up.base_url.removeprefix("http://").removesuffix("/v1").rsplit(":", 1)
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection((host, int(port)), timeout=5)


def test_a_second_signal_ends_at_once(start: Callable[..., Up]) -> None:
    up = start("demo.yaml")
    running = up.children()

    async def two_signals() -> None:
        async with up.async_openai() as client:
            # Nobody reads this stream, so a drain would take long.
            streams = [
                await client.chat.completions.create(model="demo", messages=repeat("tick"), stream=True)
                for _ in range(8)
            ]
            up.signal(signal.SIGINT)
            await asyncio.to_thread(refused, up)
            up.signal(signal.SIGINT)
            await asyncio.to_thread(up.wait)
            for stream in streams:
                await stream.close()

    asyncio.run(two_signals())
    wait_until_gone(running, within=180)


def refused(up: Up) -> None:
    """Returns once the router has stopped accepting, which tells that the first signal has arrived."""
    host, port = up.base_url.removeprefix("http://").removesuffix("/v1").rsplit(":", 1)
    for _ in range(10_000):
        try:
            socket.create_connection((host, int(port)), timeout=5).close()
        except OSError:
            return
    raise AssertionError("the router goes on accepting after the signal")


def test_no_child_outlives_an_up_that_is_killed(start: Callable[..., Up]) -> None:
    up = start("two-replicas.yaml")
    running = up.children()
    assert len(running) == 3
    os.kill(up.process.pid, signal.SIGKILL)
    up.wait()
    wait_until_gone(running, within=180)


def test_a_busy_port_is_a_clear_error(start: Callable[..., Up]) -> None:
    up = start("demo.yaml")
    address = up.base_url.removeprefix("http://").removesuffix("/v1")
    second = subprocess.run(
        [BINARY, "up", "-f", str(MANIFESTS / "demo.yaml"), "--listen", address, "--state", str(up.folder / "second")],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert second.returncode == 1
    assert address in second.stderr
    assert "in use" in second.stderr
    with up.openai() as client:
        answer = client.chat.completions.create(model="demo", messages=reply_with("unharmed"), temperature=0)
    assert answer.choices[0].message.content == "unharmed"
    assert up.stop() == 0


def test_several_can_run_side_by_side(start: Callable[..., Up]) -> None:
    ups = [start("demo.yaml") for _ in range(2)]
    assert len({up.base_url for up in ups}) == 2
    for up in ups:
        with up.openai() as client:
            answer = client.chat.completions.create(model="demo", messages=reply_with("side by side"), temperature=0)
        assert answer.choices[0].message.content == "side by side"
    for up in ups:
        assert up.stop() == 0
