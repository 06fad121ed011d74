"""Canaries: no prompt, no output and no key is in a log, a metric or a file."""

import json
import secrets
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest

from asking import STATUS_TOOL, user
from inferyard import Up, wait_idle

# A canary has each of these letters once: the demo model repeats such words without a mistake, but where
# two letters follow each other twice, it may go on in the wrong place.
LETTERS = "bcdfghjklmnpqrstvwxz"


class Canaries:
    """Makes unique words and remembers where each was planted."""

    def __init__(self) -> None:
        self.planted: dict[str, str] = {}

    def plant(self, where: str) -> str:
        word = "".join(secrets.SystemRandom().sample(LETTERS, len(LETTERS)))
        self.planted[word] = where
        return word


@pytest.fixture(params=["info", "trace"])
def up(start: Callable[..., Up], request: pytest.FixtureRequest) -> Iterator[Up]:
    yield start("demo.yaml", log=request.param)


def send_everything(up: Up, canaries: Canaries) -> None:
    """Prompts, outputs and mistakes of every kind, each with a canary."""
    plant = canaries.plant

    def post(path: str, body: Any) -> httpx2.Response:
        content = body if isinstance(body, bytes) else json.dumps(body)
        return http.post(path, content=content, headers={"content-type": "application/json"})

    def chat(messages: list[Any], **fields: Any) -> httpx2.Response:
        # A model of this size may write on and on.
        asked = {"model": "demo", "messages": messages, "temperature": 0, "max_tokens": 200}
        return post("/v1/chat/completions", asked | fields)

    with up.http() as http:
        said = plant("prompt and output")
        assert said in chat(user(f"Reply with: {said}")).text
        assert chat(user(f"Reply with: {plant('streamed')}"), stream=True).status_code == 200
        chat([{"role": "system", "content": plant("system")}, *user(plant("other prompt"))], logprobs=True)
        chat(user("Look up 123."), tools=[STATUS_TOOL | {"function": {"name": plant("tool name")}}])
        chat(
            [
                *user("Look up 123."),
                {"role": "assistant", "tool_calls": [
                    {"id": "call_1", "type": "function", "function": {"name": "f", "arguments": json.dumps({"a": plant("arguments")})}},
                ]},
                {"role": "tool", "tool_call_id": "call_1", "content": plant("result")},
            ],
            tools=[STATUS_TOOL],
        )  # fmt: skip
        chat(user("a"), stop=[plant("stop")], user=plant("user"), metadata={"a": plant("metadata")})
        schema = {"type": "object", "properties": {"a": {"const": plant("schema")}}, "required": ["a"]}
        chat(user("a"), response_format={"type": "json_schema", "json_schema": {"name": "s", "schema": schema}})
        wrong = {"type": plant("wrong schema")}
        chat(user("a"), response_format={"type": "json_schema", "json_schema": {"name": "s", "schema": wrong}})
        chat(user(plant("too long") + "x" * 5000))
        chat(user({"a": plant("wrong type")}))
        chat([{"role": plant("role"), "content": plant("content of a wrong role")}])
        chat(user("a"), some_field=plant("unknown field"))
        chat(user("a"), temperature=plant("temperature"))
        post("/v1/chat/completions", f'{{"model":"demo","messages":"{plant("broken JSON")}'.encode())
        post("/v1/chat/completions", b"\xff" + plant("invalid UTF-8").encode())
        post("/v1/completions", {"model": "demo", "prompt": plant("legacy prompt"), "echo": True})
        with http.stream(
            "POST",
            "/v1/chat/completions",
            json={"model": "demo", "messages": user(f"Repeat: {plant('left')}"), "stream": True},
        ) as response:
            next(response.iter_bytes())
    wait_idle(up.workers())


def test_no_canary_is_ever_found(up: Up) -> None:
    canaries = Canaries()
    send_everything(up, canaries)
    metrics = httpx2.get(up.metrics_url).text
    assert "demo" in metrics
    files = {str(path): path.read_bytes() for path in files_below(up.folder)}
    command_lines = "\n".join(" ".join(process.argv) for process in up.children())
    assert up.stop() == 0
    places = {"metrics": metrics.encode(), "command lines": command_lines.encode(), "stderr": up_log(files)} | files
    for place, content in places.items():
        for word, where in canaries.planted.items():
            assert word.encode() not in content, f"the canary planted as {where} is in {place}"
        assert up.api_key.encode() not in content, f"the key is in {place}"


def up_log(files: dict[str, bytes]) -> bytes:
    """The log must have been written at all, or its silence proves nothing."""
    log = next(content for path, content in files.items() if path.endswith("/log"))
    assert b"/v1/chat/completions" in log, "the requests are not in the log"
    return log


def files_below(folder: Path) -> Iterator[Path]:
    """All regular files; a socket is none."""
    yield from (path for path in folder.rglob("*") if path.is_file())
