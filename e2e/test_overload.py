"""Who finds the line full is told so at once, and requests are taken again as soon as there is room."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from openai import AsyncOpenAI, InternalServerError

from asking import repeat, reply_with
from inferyard import Up, wait_idle

REQUESTS = 12


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
def test_who_finds_no_room_is_told_to_come_again(start: Callable[..., Up], stream: bool) -> None:
    up = start("full.yaml")

    async def ask(client: AsyncOpenAI) -> Any:
        asked: Any = {"model": "demo", "messages": repeat("tick"), "max_tokens": 300, "stream": stream}
        answer = await client.chat.completions.create(**asked)
        return [chunk async for chunk in answer][-1] if stream else answer

    async def ask_all() -> list[Any]:
        async with up.async_openai() as client:
            return await asyncio.gather(*(ask(client) for _ in range(REQUESTS)), return_exceptions=True)

    outcomes = asyncio.run(ask_all())
    refused = [outcome for outcome in outcomes if isinstance(outcome, BaseException)]
    assert 1 <= len(refused) <= REQUESTS - 4, "two are with the worker, two wait"
    for error in refused:
        assert isinstance(error, InternalServerError), repr(error)
        assert error.status_code == 503
        assert (error.type, error.code, error.param) == ("service_unavailable_error", "server_is_overloaded", None)
        assert int(error.response.headers["retry-after"]) > 0
    for answer in outcomes:
        if not isinstance(answer, BaseException):
            assert answer.choices[0].finish_reason == "length"
    wait_idle(up.workers())
    with up.openai() as client:
        answer = client.chat.completions.create(model="demo", messages=reply_with("room again"), temperature=0)
    assert answer.choices[0].message.content == "room again"
    assert up.stop() == 0
