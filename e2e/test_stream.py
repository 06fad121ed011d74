"""Streamed chat completions: through openai-python, and the bytes themselves."""

import asyncio
import json
from typing import Any

import httpx2
import pytest
from openai import OpenAI

from asking import repeat, reply_with
from inferyard import Up, wait_idle
from sse import events, frames

URL = "/v1/chat/completions"


def text_of(chunks: list[Any], index: int = 0) -> str:
    """The text of one choice, put together."""
    return "".join(
        choice.delta.content or "" for chunk in chunks for choice in chunk.choices if choice.index == index
    )


def raw(http: httpx2.Client, **fields: object) -> bytes:
    response = http.post(URL, json={"model": "demo", "stream": True, "temperature": 0} | fields)
    assert response.status_code == 200
    return response.content


def test_the_pieces_are_the_answer(client: OpenAI) -> None:
    asked: Any = {"model": "demo", "messages": reply_with("payload verified."), "temperature": 0}
    whole = client.chat.completions.create(**asked)
    chunks = list(client.chat.completions.create(**asked, stream=True))

    assert text_of(chunks) == whole.choices[0].message.content == "payload verified."
    assert {chunk.object for chunk in chunks} == {"chat.completion.chunk"}
    assert {chunk.model for chunk in chunks} == {"demo"}
    assert len({(chunk.id, chunk.created) for chunk in chunks}) == 1
    first, last = chunks[0].choices[0], chunks[-1].choices[0]
    assert (first.delta.role, first.delta.content, first.finish_reason) == ("assistant", "", None)
    assert (last.delta.content, last.finish_reason) == (None, "stop")
    assert [chunk.choices[0].finish_reason for chunk in chunks[:-1]] == [None] * (len(chunks) - 1)
    assert all(chunk.choices[0].delta.role is None for chunk in chunks[1:])


def test_without_include_usage_no_chunk_has_usage(http: httpx2.Client) -> None:
    for event in events(raw(http, messages=reply_with("ok"))):
        assert "usage" not in event
        assert len(event["choices"]) == 1


def test_with_include_usage_the_last_chunk_has_it(http: httpx2.Client) -> None:
    *chunks, last = events(raw(http, messages=reply_with("ok"), stream_options={"include_usage": True}))
    for chunk in chunks:
        assert chunk["usage"] is None
        assert len(chunk["choices"]) == 1
    assert last["choices"] == []
    assert last["usage"]["prompt_tokens"] == len("Reply with: ok") + 4
    assert last["usage"]["completion_tokens"] == len("ok") + 1


def test_streamed_usage_equals_that_of_the_whole_answer(client: OpenAI) -> None:
    asked: Any = {"model": "demo", "messages": reply_with("the very same"), "temperature": 0}
    whole = client.chat.completions.create(**asked).usage
    *_, last = client.chat.completions.create(**asked, stream=True, stream_options={"include_usage": True})
    assert whole is not None and last.usage is not None
    assert last.usage.prompt_tokens == whole.prompt_tokens
    assert last.usage.completion_tokens == whole.completion_tokens


def test_the_keys_stand_in_the_order_of_openai(http: httpx2.Client) -> None:
    body = raw(http, messages=reply_with("ok"), stream_options={"include_usage": True})
    for frame in frames(body)[:-1]:
        keys = [key for key in json.loads(frame) if key != "obfuscation"]
        assert keys == ["id", "object", "created", "model", "service_tier", "system_fingerprint", "choices", "usage"]
    assert '"delta":{"role":"assistant","content":"","refusal":null}' in frames(body)[0]
    assert '"delta":{},' in frames(body)[-3]


@pytest.mark.parametrize("text", ["größer", "日本", "Ωμ", "ok 😀"])
def test_no_piece_is_cut_within_a_character(client: OpenAI, text: str) -> None:
    chunks = list(client.chat.completions.create(model="demo", messages=reply_with(text), temperature=0, stream=True))
    pieces = [chunk.choices[0].delta.content or "" for chunk in chunks]
    assert all("\ufffd" not in piece for piece in pieces)
    assert "".join(pieces) == text


def test_choices_of_one_stream_are_told_apart_by_index(client: OpenAI) -> None:
    chunks = list(
        client.chat.completions.create(model="demo", messages=reply_with("three"), temperature=0, n=3, stream=True)
    )
    assert [text_of(chunks, index) for index in range(3)] == ["three"] * 3
    for index in range(3):
        own = [choice for chunk in chunks for choice in chunk.choices if choice.index == index]
        assert own[0].delta.role == "assistant"
        assert [choice.finish_reason for choice in own].count("stop") == 1


def test_a_limit_ends_a_stream_with_length(client: OpenAI) -> None:
    chunks = list(
        client.chat.completions.create(
            model="demo", messages=repeat("tick"), max_tokens=20, stream=True, stream_options={"include_usage": True}
        )
    )
    assert chunks[-2].choices[0].finish_reason == "length"
    assert chunks[-1].usage is not None
    assert chunks[-1].usage.completion_tokens == 20


def test_the_first_piece_comes_before_the_answer_is_complete(client: OpenAI) -> None:
    with client.chat.completions.create(model="demo", messages=repeat("tick"), stream=True) as stream:
        pieces = [next(stream) for _ in range(5)]
    assert all(piece.choices[0].finish_reason is None for piece in pieces)


def test_a_stream_that_is_left_frees_its_place(server: Up, client: OpenAI) -> None:
    for _ in range(5):
        with client.chat.completions.create(model="demo", messages=repeat("tick"), stream=True) as stream:
            next(stream)
    wait_idle(server.workers())


def test_the_sdks_own_accumulator_agrees(client: OpenAI) -> None:
    with client.chat.completions.stream(model="demo", messages=reply_with("gathered"), temperature=0) as stream:
        types = [event.type for event in stream]
        final = stream.get_final_completion()
    assert final.choices[0].message.content == "gathered"
    assert "content.delta" in types and types[-1] in ("chunk", "content.done")


def test_many_streams_at_once_are_each_their_own(server: Up) -> None:
    async def stream_all() -> list[str]:
        async with server.async_openai() as client:
            return await asyncio.gather(*(one(client, f"stream {number}") for number in range(48)))

    async def one(client, text: str) -> str:
        chunks = [
            chunk
            async for chunk in await client.chat.completions.create(
                model="demo", messages=reply_with(text), temperature=0, stream=True
            )
        ]
        return text_of(chunks)

    assert asyncio.run(stream_all()) == [f"stream {number}" for number in range(48)]
