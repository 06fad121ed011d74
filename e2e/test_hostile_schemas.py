"""Schemas that would take minutes to compile: they are refused, and nobody else waits for them."""

import json
import random
import socket
import string
import threading
import time
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

import pytest
from openai import BadRequestError, OpenAI

from asking import GREETING, user
from inferyard import START_S, Up
from processes import Process, children, wait_until_gone

# Each of these patterns matches a text somewhere. For all of them at once the automaton is their product.
WORDS = random.Random(7)
PATTERNS = ["|".join("".join(WORDS.choices(string.ascii_lowercase, k=3)) for _ in range(60)) for _ in range(24)]
HOSTILE = {
    "type": "string",
    "allOf": [{"$ref": f"#/$defs/p{number}"} for number in range(len(PATTERNS))],
    "$defs": {f"p{number}": {"type": "string", "pattern": pattern} for number, pattern in enumerate(PATTERNS)},
}
# What a worker logs when the kernel has ended one.
TOO_MUCH = "a schema takes too much to compile"
PLAIN = {"type": "object", "properties": {"ok": {"type": "boolean"}}, "required": ["ok"], "additionalProperties": False}


def response_format(schema: dict[str, Any]) -> dict[str, Any]:
    return {"type": "json_schema", "json_schema": {"name": "answer", "schema": schema}}


def tool(name: str, parameters: dict[str, Any]) -> dict[str, Any]:
    return {"type": "function", "function": {"name": name, "parameters": parameters}}


def sandboxes(server: Up) -> list[Process]:
    """The processes in which the workers compile schemas now."""
    return [child for worker in server.workers() for child in children(worker.pid) if child.role == "compile-schemas"]


def test_a_response_format_that_does_not_compile_in_time_is_refused(client: OpenAI) -> None:
    ask: Callable[..., Any] = client.chat.completions.create
    with pytest.raises(BadRequestError) as refused:
        ask(model="demo", messages=user("Hello?"), response_format=response_format(HOSTILE))
    assert refused.value.param == "response_format.json_schema.schema"
    assert "compiling it takes too long" in refused.value.message


def test_the_tool_at_fault_is_named(client: OpenAI) -> None:
    ask: Callable[..., Any] = client.chat.completions.create
    hostile = {"type": "object", "properties": {"x": {"$ref": "#/$defs/x"}}, "$defs": {**HOSTILE["$defs"], "x": HOSTILE}}
    with pytest.raises(BadRequestError) as refused:
        ask(model="demo", messages=user("Hello?"), tools=[tool("good", PLAIN), tool("bad", hostile)])
    assert refused.value.param == "tools[1].function.parameters"


def test_others_are_answered_meanwhile(server: Up, client: OpenAI) -> None:
    ask: Callable[..., Any] = client.chat.completions.create
    # From now on this schema is known, and takes no turn.
    ask(model="demo", messages=user("Hello?"), response_format=response_format(PLAIN))
    refused: list[BadRequestError] = []

    def hostile(number: int) -> None:
        schema = {**HOSTILE, "minLength": number}
        with pytest.raises(BadRequestError) as error:
            ask(model="demo", messages=user("Hello?"), response_format=response_format(schema))
        refused.append(error.value)

    threads = [threading.Thread(target=hostile, args=(number,)) for number in range(3)]
    for thread in threads:
        thread.start()
    assert ask(model="demo", messages=user("Hello?")).choices[0].message.content == GREETING
    answer = ask(model="demo", messages=user("Hello?"), response_format=response_format(PLAIN))
    assert answer.choices[0].finish_reason == "stop"
    for thread in threads:
        thread.join(START_S * 3)
    assert len(refused) == len(threads)
    assert sandboxes(server) == []


def test_a_client_that_leaves_ends_the_process(start: Callable[..., Up]) -> None:
    server = start("demo.yaml")
    body = json.dumps({"model": "demo", "messages": user("Hello?"), "response_format": response_format(HOSTILE)})
    head = [
        "POST /v1/chat/completions HTTP/1.1",
        "Host: inferyard",
        f"Authorization: Bearer {server.api_key}",
        "Content-Type: application/json",
        f"Content-Length: {len(body)}",
    ]
    address = urlsplit(server.base_url)
    with socket.create_connection((address.hostname, address.port), START_S) as connection:
        connection.sendall("\r\n".join([*head, "", body]).encode())
        deadline = time.monotonic() + START_S
        while not (running := sandboxes(server)):
            assert time.monotonic() < deadline, "nothing compiles"
            time.sleep(0.01)
    wait_until_gone(running, within=START_S)
    assert sandboxes(server) == []
    assert server.stop() == 0
    # All that its processes logged is here by now, and the kernel has ended none of them.
    assert TOO_MUCH not in server.log()
