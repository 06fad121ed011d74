"""Every failure as the SDK's own exception: class, status, code, param, and the request id."""

import re
from collections.abc import Callable
from typing import Any

import pytest
from openai import (
    APIStatusError,
    AuthenticationError,
    BadRequestError,
    NotFoundError,
    Omit,
    OpenAI,
)

from asking import reply_with, user
from inferyard import Up


def ask(client: OpenAI, **fields: Any) -> Any:
    asked: dict[str, Any] = {"model": "demo", "messages": reply_with("ok")}
    return client.chat.completions.create(**asked | fields)


def function(**parameters: Any) -> dict[str, Any]:
    return {"type": "function", "function": {"name": "f", "parameters": {"type": "object"} | parameters}}


def checked(error: APIStatusError) -> dict[str, Any]:
    """The four keys are always there, and the request has an id."""
    assert error.request_id is not None
    assert re.fullmatch(r"req_[0-9a-f]{32}", error.request_id)
    body = error.body
    assert isinstance(body, dict)
    assert set(body) == {"message", "type", "param", "code"}
    assert isinstance(body["message"], str) and body["message"]
    return body


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
@pytest.mark.parametrize(
    ("fields", "code", "param"),
    [
        ({"model": "unheard-of"}, "model_not_found", "model"),
        ({"model": ""}, None, "model"),
        ({"messages": []}, "empty_array", "messages"),
        ({"messages": "hello"}, "invalid_type", "messages"),
        ({"messages": [{"role": "wizard", "content": "a"}]}, "invalid_value", "messages[0].role"),
        ({"messages": [{"role": "user"}]}, "missing_required_parameter", "messages[0].content"),
        ({"messages": [{"role": "user", "content": 7}]}, "invalid_type", "messages[0].content"),
        ({"messages": [{"role": "tool", "content": "a"}]}, "missing_required_parameter", "messages[0].tool_call_id"),
        ({"messages": user([{"type": "image_url", "image_url": {"url": "data:,"}}])}, None, "messages[0].content[0].type"),
        ({"max_tokens": -1}, "integer_below_min_value", "max_tokens"),
        ({"temperature": 3}, "decimal_above_max_value", "temperature"),
        ({"temperature": -0.1}, "decimal_below_min_value", "temperature"),
        ({"temperature": "hot"}, "invalid_type", "temperature"),
        ({"top_p": 2}, "decimal_above_max_value", "top_p"),
        ({"n": 0}, "integer_below_min_value", "n"),
        ({"n": 129}, "integer_above_max_value", "n"),
        ({"stop": ["a", "b", "c", "d", "e"]}, "array_above_max_length", "stop"),
        ({"seed": "x"}, "invalid_type", "seed"),
        ({"logit_bias": {"a": 1}}, None, "logit_bias"),
        ({"tools": [{"type": "function"}]}, "missing_required_parameter", "tools[0].function"),
        ({"tool_choice": "required"}, None, "tool_choice"),
        ({"tools": [function(properties=None)]}, "invalid_type", "tools[0].function.parameters.properties"),
        ({"tools": [function(properties=[])]}, "invalid_type", "tools[0].function.parameters.properties"),
        (
            {"tools": [function(properties={"a": {"type": "string"}}, required=None)], "tool_choice": "none"},
            "invalid_type",
            "tools[0].function.parameters.required",
        ),
        ({"max_tokens": 10.0}, "invalid_type", "max_tokens"),
        ({"response_format": {"type": "yaml"}}, "invalid_value", "response_format.type"),
        (
            {"response_format": {"type": "json_schema", "json_schema": {"name": "a", "schema": {"type": "wrong"}}}},
            None,
            "response_format.json_schema.schema.type",
        ),
        ({"messages": user("x" * 5000)}, "context_length_exceeded", "messages"),
    ],
    ids=lambda value: str(value)[:60] if isinstance(value, dict) else "",
)
def test_a_bad_request_is_a_bad_request_error(
    client: OpenAI, fields: dict[str, Any], code: str | None, param: str, stream: bool
) -> None:
    with pytest.raises(BadRequestError) as caught:
        ask(client, **fields, stream=stream)
    body = checked(caught.value)
    assert caught.value.status_code == 400
    assert caught.value.type == "invalid_request_error"
    assert caught.value.param == body["param"] == param
    # The table names only the codes that OpenAI is known to send.
    if code is not None:
        assert caught.value.code == code


def test_no_parts_are_an_empty_text(client: OpenAI) -> None:
    without = ask(client, messages=[{"role": "system", "content": []}, *reply_with("ok")])
    empty = ask(client, messages=[{"role": "system", "content": ""}, *reply_with("ok")])
    assert without.usage.prompt_tokens == empty.usage.prompt_tokens


def test_an_empty_prompt_begins_a_document(client: OpenAI) -> None:
    answer = client.completions.create(model="demo", prompt="", max_tokens=3)
    assert answer.usage is not None
    assert answer.usage.prompt_tokens == 1


def test_a_wrong_key_is_an_authentication_error(server: Up) -> None:
    with server.openai(api_key="iy-" + "A" * 43) as client, pytest.raises(AuthenticationError) as caught:
        ask(client)
    checked(caught.value)
    assert caught.value.code == "invalid_api_key"
    assert "A" * 20 not in caught.value.message, "an answer never shows a whole key"


def test_no_key_is_an_authentication_error(server: Up) -> None:
    with server.openai() as client, pytest.raises(AuthenticationError) as caught:
        ask(client, extra_headers={"Authorization": Omit()})
    checked(caught.value)
    assert "Bearer" in caught.value.message


def test_a_wrong_base_url_is_a_not_found_error(server: Up) -> None:
    with server.openai(base_url=server.base_url.removesuffix("/v1")) as client:
        with pytest.raises(NotFoundError) as caught:
            ask(client)
    checked(caught.value)
    assert "/v1" in caught.value.message


@pytest.mark.parametrize(
    "call",
    [
        lambda client: client.embeddings.create(model="demo", input="a"),
        lambda client: client.responses.create(model="demo", input="a"),
        lambda client: client.images.generate(model="demo", prompt="a"),
    ],
    ids=["embeddings", "responses", "images"],
)
def test_what_is_not_served_is_a_not_found_error(client: OpenAI, call: Callable[[OpenAI], object]) -> None:
    with pytest.raises(NotFoundError) as caught:
        call(client)
    checked(caught.value)


def test_a_body_above_the_limit_is_413(client: OpenAI) -> None:
    with pytest.raises(APIStatusError) as caught:
        ask(client, messages=user("x" * 5_000_000))
    checked(caught.value)
    assert caught.value.status_code == 413


def test_the_numbers_of_a_too_long_prompt_are_told(client: OpenAI) -> None:
    with pytest.raises(BadRequestError) as caught:
        ask(client, messages=user("x" * 5000))
    assert "4096" in caught.value.message
    assert "500" in caught.value.message
