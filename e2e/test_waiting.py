"""Where all workers are full, requests wait in the router: by priority, then fairly, alive, and not for ever."""

import asyncio
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from openai import AsyncOpenAI, InternalServerError

from asking import user
from by_hand import Run, wait_ready
from crowd import post
from inferyard import START_S, Lines
from keys import new_key

RUNNING = 2
FLOOD = 48
COMMENT = b": waiting\n\n"

Narrow = Callable[..., str]


@dataclass
class Caller:
    """An account with a plan of its own."""

    name: str
    plan: dict[str, Any]
    key: str = field(default_factory=new_key)

    def resources(self) -> list[dict[str, Any]]:
        digest = sha256(self.key.encode()).hexdigest()
        key = resource("ApiKey", self.name, {"plan": self.name, "hash": digest})
        return [resource("Plan", self.name, self.plan), key]


def resource(kind: str, name: str, spec: dict[str, Any]) -> dict[str, Any]:
    return {"apiVersion": "inferyard.dev/v1alpha1", "kind": kind, "metadata": {"name": name}, "spec": spec}


@pytest.fixture
def narrow(run: Run, folder: Path) -> Narrow:
    """Starts a worker that runs two answers at a time, a token each per step, and a router; returns its base URL."""

    def start(step: str, *callers: Caller, flags: tuple[str, ...] = ()) -> str:
        model = resource("ModelDeployment", "demo", {"model": {"source": {"builtin": {"name": "demo"}}}})
        resources = [model, *(resource for caller in callers for resource in caller.resources())]
        manifest = folder / "narrow.yaml"
        # Every JSON document is one of YAML.
        manifest.write_text("\n---\n".join(json.dumps(resource) for resource in resources))
        address = f"unix:{folder}/worker.sock"
        engine = ("--engine", "simulated", "--simulated-step", step, "--max-running", str(RUNNING))
        run("worker", "--model", "demo", *engine, "--listen", address)
        wait_ready(address)
        where = ("--worker", f"demo={address}", "--listen", "127.0.0.1:0", "--json")
        router = run("router", "-f", str(manifest), *where, *flags)
        return f"http://{json.loads(Lines(router).next(within=START_S))['address']}/v1"

    return start


def client(base_url: str, caller: Caller) -> AsyncOpenAI:
    return AsyncOpenAI(base_url=base_url, api_key=caller.key, max_retries=0, timeout=300)


def asked(tokens: int, *, stream: bool = False) -> dict[str, Any]:
    return {"model": "demo", "messages": user("Hello"), "max_tokens": tokens, "stream": stream}


def test_a_flood_does_not_hold_up_a_higher_plan(narrow: Narrow) -> None:
    free = Caller("free", {"priority": 0, "queue": {"maxWait": "5m"}})
    team = Caller("team", {"priority": 100})
    base_url = narrow("10ms", free, team)
    done: list[str] = []
    begun, over = asyncio.Event(), asyncio.Event()

    async def flood(many: AsyncOpenAI) -> None:
        while not over.is_set():
            await many.chat.completions.create(**asked(16))
            done.append("free")
            begun.set()

    async def talk() -> list[int]:
        """How many of the flood were answered while each request of the team was not."""
        overtaken: list[int] = []
        async with client(base_url, free) as many, client(base_url, team) as few:
            tasks = [asyncio.create_task(flood(many)) for _ in range(FLOOD)]
            await begun.wait()
            for _ in range(3):
                before = len(done)
                await few.chat.completions.create(**asked(16))
                overtaken.append(len(done) - before)
            over.set()
            await asyncio.gather(*tasks)
        return overtaken

    overtaken = asyncio.run(talk())
    # Those that the worker had already, and as many as run beside it to its end: 7. The others are those that this process
    # was late to hear of. In the order of arrival it would be the whole flood.
    assert max(overtaken) < FLOOD / 2, overtaken


def test_accounts_share_a_full_worker_by_their_weights(narrow: Narrow) -> None:
    callers = [Caller("light", {"weight": 100}), Caller("heavy", {"weight": 300})]
    base_url = narrow("10ms", *callers)
    done: list[str] = []

    async def flood(name: str, many: AsyncOpenAI) -> None:
        await many.chat.completions.create(**asked(8))
        done.append(name)

    async def talk() -> None:
        clients = {caller.name: client(base_url, caller) for caller in callers}
        tasks = [flood(name, many) for _ in range(FLOOD) for name, many in clients.items()]
        await asyncio.gather(*tasks)
        for many in clients.values():
            await many.close()

    asyncio.run(talk())
    # While both wait: the first ones come before there is a line.
    first = done[8 : FLOOD + 8]
    share = first.count("heavy") / len(first)
    assert 0.65 < share < 0.85, (share, done)
    assert len(done) == 2 * FLOOD


def test_who_waits_hears_that_it_goes_on(narrow: Narrow) -> None:
    caller = Caller("patient", {"queue": {"maxWait": "5m"}})
    base_url = narrow("50ms", caller, flags=("--keep-alive", "50ms"))

    async def talk() -> tuple[int, bytes]:
        async with client(base_url, caller) as mine:
            busy = [await mine.chat.completions.create(**asked(20, stream=True)) for _ in range(RUNNING)]
            rest = [asyncio.create_task(post(base_url, caller.key, asked(4, stream=True))) for _ in range(2)]
            # The SDK gets its stream at once, and its tokens once there is room.
            stream = await mine.chat.completions.create(**asked(4, stream=True))
            tokens = len([chunk async for chunk in stream if chunk.choices and chunk.choices[0].delta.content])
            for answer in busy:
                async for _ in answer:
                    pass
            bodies = [(await answer).body for answer in rest]
            return tokens, max(bodies, key=lambda body: body.count(COMMENT))

    tokens, body = asyncio.run(talk())
    assert tokens == 4
    assert body.startswith(COMMENT * 2), body[:200]
    frames = body.replace(COMMENT, b"")
    assert frames.startswith(b"data: {") and frames.endswith(b"data: [DONE]\n\n")
    assert b"error" not in frames


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
def test_a_wait_that_takes_too_long_ends_with_when_to_come_back(narrow: Narrow, stream: bool) -> None:
    caller = Caller("hasty", {"queue": {"maxWait": "1s"}})
    base_url = narrow("1s", caller)

    async def talk() -> InternalServerError:
        async with client(base_url, caller) as mine:
            busy = [await mine.chat.completions.create(**asked(100, stream=True)) for _ in range(RUNNING)]
            # One of them is with the worker, and runs when one of those that run is over.
            others = [asyncio.create_task(mine.chat.completions.create(**asked(2, stream=stream))) for _ in range(2)]
            over, [patient] = await asyncio.wait(others, return_when=asyncio.FIRST_COMPLETED)
            for answer in busy:
                await answer.close()
            served: Any = await patient
            if stream:
                assert [chunk async for chunk in served]
            [refused] = over
            error = refused.exception()
            assert isinstance(error, InternalServerError), repr(error)
            return error

    error = asyncio.run(talk())
    assert (error.status_code, error.code) == (503, "server_is_overloaded")
    assert 1 <= int(error.response.headers["retry-after"]) <= 60
    assert "for 1 seconds" in error.message
