"""Canaries: no prompt, no output and no key is in a log, a metric, a trace, a file, in Redis or in the ledger."""

import json
import os
import secrets
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest

from asking import STATUS_TOOL, user
from collector import Collector
from inferyard import Up, wait_idle
from keys import new_key
from resources import api_key, demo, plan, write
from servers import Postgres, Redis

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

    def search(self, places: dict[str, bytes]) -> None:
        """None may be found, in no place."""
        for place, content in places.items():
            for word, where in self.planted.items():
                assert word.encode() not in content, f"the canary planted as {where} is in {place}"


@pytest.fixture(params=["info", "trace"])
def up(start: Callable[..., Up], request: pytest.FixtureRequest) -> Iterator[Up]:
    yield start("demo.yaml", log=request.param)


def send_everything(up: Up, key: str, canaries: Canaries) -> None:
    """Prompts, outputs and mistakes of every kind, each with a canary."""
    plant = canaries.plant

    def post(path: str, body: Any) -> httpx2.Response:
        content = body if isinstance(body, bytes) else json.dumps(body)
        return http.post(path, content=content, headers={"content-type": "application/json"})

    def chat(messages: list[Any], **fields: Any) -> httpx2.Response:
        # A model of this size may write on and on.
        asked = {"model": "demo", "messages": messages, "temperature": 0, "max_tokens": 200}
        return post("/v1/chat/completions", asked | fields)

    with up.http(headers={"authorization": f"Bearer {key}"}) as http:
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
    send_everything(up, up.api_key, canaries)
    metrics = httpx2.get(up.metrics_url).text
    assert "demo" in metrics
    files = {str(path): path.read_bytes() for path in files_below(up.folder)}
    command_lines = "\n".join(" ".join(process.argv) for process in up.children())
    assert up.stop() == 0
    files |= {str(path): path.read_bytes() for path in files_below(up.folder)}
    assert any(b"/v1/chat/completions" in content for path, content in files.items() if "ledger.sqlite" in path)
    places = {"metrics": metrics.encode(), "command lines": command_lines.encode(), "stderr": up_log(files)} | files
    canaries.search(places)
    for place, content in places.items():
        for key in (up.api_key, up.admin_key):
            assert key.encode() not in content, f"a key is in {place}"


def test_no_canary_is_in_redis_the_ledger_the_spool_or_a_trace(
    start: Callable[..., Up], redis: Callable[..., Redis], postgres: Postgres, tmp_path: Path
) -> None:
    """Half of the requests are sent while Redis is gone, so that their usage lies in the spool."""
    key, canaries, server, database = new_key(), Canaries(), redis(durable=True), postgres.database()
    manifest = write(
        tmp_path / "privacy.yaml",
        demo(),
        plan("basic", limits={"tokensPerMinute": 10_000_000}),
        api_key("test", key, plan="basic", limits={"requestsPerDay": 10_000}),
    )
    with Collector() as collector:
        up = start(manifest, redis=server.url, postgres=database, log="trace", flags=("--otlp-endpoint", collector.url))
        # Its events stay in Redis for as long as the ledger does not take them.
        ledger = up.ledger().pid
        os.kill(ledger, signal.SIGSTOP)
        send_everything(up, key, canaries)
        places = {f"Redis, {name!r}": name + content for name, content in server.dump()}
        os.kill(ledger, signal.SIGCONT)
        server.kill()
        send_everything(up, key, canaries)
        files = {str(path): path.read_bytes() for path in files_below(up.folder)}
        files |= {str(path): path.read_bytes() for path in files_below(server.folder)}
        assert any(b"/v1/chat/completions" in content for path, content in files.items() if "/spool/" in path)
        server.start()
        assert up.stop() == 0
        places |= {f"Redis afterwards, {name!r}": name + content for name, content in server.dump()}
        places["traces"] = bytes(collector.received)
    places |= {"ledger": postgres.dump(database)} | files | {"stderr": up.log().encode()}
    # What is empty proves nothing.
    assert any(b"plan:basic" in content for place, content in places.items() if place.startswith("Redis"))
    assert b"/v1/chat/completions" in places["ledger"]
    assert b"inferyard-router" in places["traces"] and b"inferyard-worker" in places["traces"]
    canaries.search(places)
    for place, content in places.items():
        for secret in (key, up.admin_key):
            assert secret.encode() not in content, f"a key is in {place}"


def up_log(files: dict[str, bytes]) -> bytes:
    """The log must have been written at all, or its silence proves nothing."""
    log = next(content for path, content in files.items() if path.endswith("/log"))
    assert b"/v1/chat/completions" in log, "the requests are not in the log"
    return log


def files_below(folder: Path) -> Iterator[Path]:
    """All regular files; a socket is none."""
    yield from (path for path in folder.rglob("*") if path.is_file())
