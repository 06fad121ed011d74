"""Tool calls through openai-python: chosen, required, named, streamed, and answered."""

import json
import re
from typing import Any

import pytest
from openai import OpenAI
from openai import pydantic_function_tool
from pydantic import BaseModel

from asking import COUNT_TOOL, GREETING, STATUS_TOOL, reply_with, user

ASK: Any = {"model": "demo", "messages": user("Look up the status of order 123."), "temperature": 0}
CALL_ID = re.compile(r"call_[A-Za-z0-9]{24}")


def gathered(chunks: list[Any]) -> list[dict[str, str]]:
    """Puts streamed calls together, and checks the form of every fragment."""
    calls: list[dict[str, str]] = []
    for chunk in chunks:
        for choice in chunk.choices:
            for fragment in choice.delta.tool_calls or []:
                if fragment.index == len(calls):
                    assert CALL_ID.fullmatch(fragment.id)
                    assert fragment.type == "function"
                    assert fragment.function.arguments == ""
                    calls.append({"id": fragment.id, "name": fragment.function.name, "arguments": ""})
                else:
                    assert fragment.index == len(calls) - 1, "indices are dense and in order"
                    assert (fragment.id, fragment.type, fragment.function.name) == (None, None, None)
                    calls[fragment.index]["arguments"] += fragment.function.arguments
    return calls


def test_the_model_calls_a_tool_by_itself(client: OpenAI) -> None:
    choice = client.chat.completions.create(**ASK, tools=[STATUS_TOOL]).choices[0]
    assert choice.finish_reason == "tool_calls"
    assert choice.message.content is None
    (call,) = choice.message.tool_calls or []
    assert call.type == "function"
    assert CALL_ID.fullmatch(call.id)
    assert call.function.name == "get_order_status"
    assert json.loads(call.function.arguments) == {"order_id": "123"}


def test_an_argument_has_the_type_of_its_schema(client: OpenAI) -> None:
    choice = client.chat.completions.create(**ASK, tools=[COUNT_TOOL]).choices[0]
    (call,) = choice.message.tool_calls or []
    assert call.type == "function"
    assert json.loads(call.function.arguments) == {"order": 123}


def test_without_need_the_model_answers_in_words(client: OpenAI) -> None:
    choice = client.chat.completions.create(
        model="demo", messages=reply_with("plain words"), tools=[STATUS_TOOL], temperature=0
    ).choices[0]
    assert choice.finish_reason == "stop"
    assert choice.message.content == "plain words"
    assert choice.message.tool_calls is None


def test_a_streamed_call_is_the_same_call(client: OpenAI) -> None:
    chunks = list(client.chat.completions.create(**ASK, tools=[STATUS_TOOL], stream=True))
    (call,) = gathered(chunks)
    assert call["name"] == "get_order_status"
    assert json.loads(call["arguments"]) == {"order_id": "123"}
    assert chunks[-1].choices[0].finish_reason == "tool_calls"
    assert not any(chunk.choices[0].delta.content for chunk in chunks)


def test_a_streamed_call_comes_in_pieces_and_with_usage(client: OpenAI) -> None:
    *chunks, last = client.chat.completions.create(
        **ASK, tools=[STATUS_TOOL], stream=True, stream_options={"include_usage": True}
    )
    fragments = [fragment for chunk in chunks for fragment in chunk.choices[0].delta.tool_calls or []]
    assert len(fragments) > 3
    # Every token of the call's frame counts, the text of which no client sees.
    assert last.usage is not None
    assert last.usage.completion_tokens > sum(len(fragment.function.arguments) for fragment in fragments)


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
@pytest.mark.parametrize(
    ("choice", "allowed"),
    [
        pytest.param("required", {"get_order_status", "count_items"}, id="required"),
        pytest.param({"type": "function", "function": {"name": "count_items"}}, {"count_items"}, id="named"),
        pytest.param(
            {
                "type": "allowed_tools",
                "allowed_tools": {
                    "mode": "required",
                    "tools": [{"type": "function", "function": {"name": "count_items"}}],
                },
            },
            {"count_items"},
            id="allowed tools",
        ),
    ],
)
def test_a_forced_call_is_made_whatever_is_asked(
    client: OpenAI, choice: Any, allowed: set[str], stream: bool
) -> None:
    asked: Any = {
        "model": "demo", "messages": user("Say hello."), "temperature": 0, "parallel_tool_calls": False,
        "tools": [STATUS_TOOL, COUNT_TOOL], "tool_choice": choice,
    }  # fmt: skip
    if stream:
        chunks = list(client.chat.completions.create(**asked, stream=True))
        (call,) = gathered(chunks)
        name, arguments = call["name"], json.loads(call["arguments"])
        reason = chunks[-1].choices[0].finish_reason
    else:
        answer = client.chat.completions.create(**asked).choices[0]
        (made,) = answer.message.tool_calls or []
        assert made.type == "function"
        name, arguments = made.function.name, json.loads(made.function.arguments)
        reason = answer.finish_reason
    assert name in allowed
    expected = {"get_order_status": ("order_id", str), "count_items": ("order", int)}
    key, kind = expected[name]
    assert list(arguments) == [key] and isinstance(arguments[key], kind)
    assert reason in ("tool_calls", "stop")


def test_a_named_tool_gets_the_number_too(client: OpenAI) -> None:
    choice = client.chat.completions.create(
        **ASK, tools=[STATUS_TOOL], tool_choice={"type": "function", "function": {"name": "get_order_status"}}
    ).choices[0]
    calls = choice.message.tool_calls or []
    assert calls and calls[0].type == "function"
    assert json.loads(calls[0].function.arguments) == {"order_id": "123"}


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
def test_parallel_calls_have_dense_indices_and_ids_of_their_own(client: OpenAI, stream: bool) -> None:
    asked: Any = ASK | {"tools": [STATUS_TOOL, COUNT_TOOL], "tool_choice": "required", "parallel_tool_calls": True}
    # A model that has ended its first call is led on to more: its end tokens are made unlikely.
    asked |= {"logit_bias": {"261": -100, "265": -100}, "max_tokens": 2000}
    if stream:
        calls = gathered(list(client.chat.completions.create(**asked, stream=True)))
    else:
        made = client.chat.completions.create(**asked).choices[0].message.tool_calls or []
        calls = [{"id": call.id, "name": call.function.name, "arguments": call.function.arguments} for call in made]
    assert len(calls) >= 2
    assert len({call["id"] for call in calls}) == len(calls)
    for call in calls[:-1]:
        assert call["name"] in ("get_order_status", "count_items")
        assert isinstance(json.loads(call["arguments"]), dict)


def test_the_model_calls_no_tool_where_none_is_chosen(client: OpenAI) -> None:
    choice = client.chat.completions.create(**ASK, tools=[STATUS_TOOL], tool_choice="none").choices[0]
    assert choice.message.tool_calls is None
    assert choice.finish_reason in ("stop", "length")
    # The model has not seen the tools.
    plain = client.chat.completions.create(**ASK)
    assert choice.message.content == plain.choices[0].message.content


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
def test_the_round_trip_ends_with_the_result_of_the_tool(client: OpenAI, stream: bool) -> None:
    called = client.chat.completions.create(**ASK, tools=[STATUS_TOOL]).choices[0].message
    (call,) = called.tool_calls or []
    messages = [
        *ASK["messages"],
        called.model_dump(exclude_none=True),
        {"role": "tool", "tool_call_id": call.id, "content": "Order ready, in batch 7."},
    ]
    asked: Any = {"model": "demo", "messages": messages, "tools": [STATUS_TOOL], "temperature": 0}
    if stream:
        chunks = client.chat.completions.create(**asked, stream=True)
        content = "".join(chunk.choices[0].delta.content or "" for chunk in chunks)
    else:
        content = client.chat.completions.create(**asked).choices[0].message.content or ""
    assert content == "Order ready, in batch 7."


class GetOrderStatus(BaseModel):
    """A tool as users of the SDK's typed helpers write it."""

    order_id: str


def test_the_sdks_typed_tools_are_parsed(client: OpenAI) -> None:
    answer = client.chat.completions.parse(**ASK, tools=[pydantic_function_tool(GetOrderStatus, name="get_order_status")])
    (call,) = answer.choices[0].message.tool_calls or []
    assert call.function.parsed_arguments == GetOrderStatus(order_id="123")


def test_the_sdks_own_accumulator_agrees(client: OpenAI) -> None:
    with client.chat.completions.stream(**ASK, tools=[STATUS_TOOL]) as stream:
        types = {event.type for event in stream}
        final = stream.get_final_completion()
    assert {"tool_calls.function.arguments.delta", "tool_calls.function.arguments.done"} <= types
    (call,) = final.choices[0].message.tool_calls or []
    assert json.loads(call.function.arguments) == {"order_id": "123"}


def test_tools_of_one_request_do_not_stay_for_the_next(client: OpenAI) -> None:
    client.chat.completions.create(**ASK, tools=[STATUS_TOOL])
    answer = client.chat.completions.create(model="demo", messages=user("Say hello."), temperature=0)
    assert answer.choices[0].message.content == GREETING
