"""`response_format`: the answer has the shape whatever the model would have said."""

import json
from enum import StrEnum
from typing import Any

import jsonschema
import pytest
from openai import OpenAI
from pydantic import BaseModel

from asking import reply_with, user


def object_of(**properties: Any) -> dict[str, Any]:
    """A closed object schema, all properties of which are required."""
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }


SCHEMAS: dict[str, dict[str, Any]] = {
    "enum": object_of(colour={"type": "string", "enum": ["red", "green", "blue"]}),
    "boolean": object_of(done={"type": "boolean"}, sure={"type": "boolean"}),
    "integer in a range": object_of(stars={"type": "integer", "minimum": 1, "maximum": 5}),
    "bounded string": object_of(word={"type": "string", "maxLength": 8}),
    "pattern": object_of(code={"type": "string", "pattern": "^[A-Z]{3}-[0-9]{4}$"}),
    "array": object_of(flags={"type": "array", "items": {"type": "boolean"}, "minItems": 2, "maxItems": 3}),
    "nested": object_of(outer=object_of(inner=object_of(ok={"type": "boolean"}))),
    "one of several": object_of(value={"anyOf": [{"type": "null"}, {"type": "boolean"}]}),
    "references": {
        **object_of(left={"$ref": "#/$defs/side"}, right={"$ref": "#/$defs/side"}),
        "$defs": {"side": object_of(open={"type": "boolean"})},
    },
    "constant": object_of(version={"const": "v1"}),
}


def json_schema(schema: dict[str, Any]) -> dict[str, Any]:
    return {"type": "json_schema", "json_schema": {"name": "answer", "schema": schema, "strict": True}}


@pytest.mark.parametrize("temperature", [0, 1.3])
@pytest.mark.parametrize("name", SCHEMAS)
def test_the_answer_obeys_the_schema(client: OpenAI, name: str, temperature: float) -> None:
    answer = client.chat.completions.create(
        model="demo",
        messages=reply_with("anything but JSON"),
        response_format=json_schema(SCHEMAS[name]),  # type: ignore[arg-type]
        temperature=temperature,
        seed=7,
    )
    assert answer.choices[0].finish_reason == "stop"
    jsonschema.validate(json.loads(answer.choices[0].message.content or ""), SCHEMAS[name])


@pytest.mark.parametrize("name", ["enum", "nested", "pattern"])
def test_a_streamed_answer_obeys_the_schema(client: OpenAI, name: str) -> None:
    chunks = client.chat.completions.create(
        model="demo",
        messages=user("Say hello."),
        response_format=json_schema(SCHEMAS[name]),  # type: ignore[arg-type]
        temperature=0,
        stream=True,
    )
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks)
    jsonschema.validate(json.loads(text), SCHEMAS[name])


def test_every_choice_obeys_the_schema(client: OpenAI) -> None:
    answer = client.chat.completions.create(
        model="demo",
        messages=user("Say hello."),
        response_format=json_schema(SCHEMAS["integer in a range"]),  # type: ignore[arg-type]
        temperature=1.5,
        n=4,
    )
    assert len(answer.choices) == 4
    for choice in answer.choices:
        jsonschema.validate(json.loads(choice.message.content or ""), SCHEMAS["integer in a range"])


def test_the_order_of_properties_is_kept(client: OpenAI) -> None:
    schema = object_of(zebra={"type": "boolean"}, apple={"type": "boolean"}, mango={"type": "boolean"})
    answer = client.chat.completions.create(
        model="demo",
        messages=user("Say hello."),
        response_format=json_schema(schema),  # type: ignore[arg-type]
        temperature=0,
    )
    assert list(json.loads(answer.choices[0].message.content or "")) == ["zebra", "apple", "mango"]


@pytest.mark.parametrize("asked", ['{"ready": true}', "no JSON at all"])
def test_json_object_gives_an_object(client: OpenAI, asked: str) -> None:
    answer = client.chat.completions.create(
        model="demo", messages=reply_with(asked), response_format={"type": "json_object"}, temperature=0, max_tokens=400
    )
    content = answer.choices[0].message.content or ""
    # A model of this size may write on and on; then the limit ends it, and a prefix is all there is.
    if answer.choices[0].finish_reason == "stop":
        assert isinstance(json.loads(content), dict)
    else:
        assert content.startswith("{")


def test_json_object_keeps_an_object_that_is_asked_for(client: OpenAI) -> None:
    answer = client.chat.completions.create(
        model="demo", messages=reply_with('{"ok": true}'), response_format={"type": "json_object"}, temperature=0
    )
    assert json.loads(answer.choices[0].message.content or "") == {"ok": True}


def test_the_format_text_changes_nothing(client: OpenAI) -> None:
    answer = client.chat.completions.create(
        model="demo", messages=reply_with("as it is"), response_format={"type": "text"}, temperature=0
    )
    assert answer.choices[0].message.content == "as it is"


class Colour(StrEnum):
    RED = "red"
    GREEN = "green"


class Verdict(BaseModel):
    """A shape as users of the SDK's typed helpers write it."""

    accepted: bool
    colour: Colour


def test_the_sdks_typed_answers_are_parsed(client: OpenAI) -> None:
    answer = client.chat.completions.parse(
        model="demo", messages=user("Say hello."), response_format=Verdict, temperature=0
    )
    assert isinstance(answer.choices[0].message.parsed, Verdict)
