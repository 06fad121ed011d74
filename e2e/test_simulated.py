"""A worker without a model: behind a router it is a worker like any other, and it answers OpenAI's API itself."""

import json
import re
import subprocess
import tempfile
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path

import httpx2
import pytest
from openai import BadRequestError, OpenAI

from asking import user
from inferyard import BINARY, MANIFESTS, START_S, STOP_S, Lines, Watch, listening
from keys import new_key

# 4 bytes are a token, 1,024 of them a block that is cached.
LONG = user("x" * 5_000)


class Stack:
    """A simulated worker in which nothing takes time, and a router in front."""

    def __init__(self, folder: Path) -> None:
        self.address = f"unix:{folder}/worker.sock"
        self.worker = self._run(
            "worker", "--model", "demo", "--engine", "simulated", "--simulated-instant", "--max-running", "300",
            "--listen", self.address, "--openai-listen", "127.0.0.1:0",
        )  # fmt: skip
        lines = listening(self.worker, self.address)
        told = re.fullmatch(r"OpenAI's API is on (http://127\.0\.0\.1:\d+)/v1", lines.next(within=START_S).strip())
        assert told
        self.direct = told[1]
        self.key = new_key()
        self.router = self._run(
            "router", "-f", str(MANIFESTS / "demo.yaml"), "--worker", f"demo={self.address}",
            "--listen", "127.0.0.1:0", "--key-hash", sha256(self.key.encode()).hexdigest(), "--json",
        )  # fmt: skip
        self.routed = f"http://{json.loads(Lines(self.router).next(within=START_S))['address']}"

    def _run(self, *arguments: str) -> subprocess.Popen[bytes]:
        command = ["setpriv", "--pdeathsig", "KILL", "--", BINARY, *arguments]
        return subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)

    def stop(self) -> None:
        """Ends them; both must end cleanly."""
        for process in (self.router, self.worker):
            process.terminate()
        assert [process.wait(STOP_S) for process in (self.router, self.worker)] == [0, 0]


@pytest.fixture(scope="module")
def stack() -> Iterator[Stack]:
    # A short path, because the path of a Unix socket has at most 107 bytes.
    with tempfile.TemporaryDirectory(prefix="iy-") as folder:
        stack = Stack(Path(folder))
        try:
            with Watch(stack.address) as watch:
                state = watch.until(lambda state: state["phase"] == "READY", within=START_S)
                assert state["note"] == "simulated engine"
            yield stack
        finally:
            stack.stop()


@pytest.fixture(params=["routed", "direct"])
def client(request: pytest.FixtureRequest, stack: Stack) -> Iterator[OpenAI]:
    """openai-python through the router, and at the worker itself."""
    base = getattr(stack, request.param)
    with OpenAI(base_url=f"{base}/v1", api_key=stack.key, max_retries=3, timeout=300) as client:
        yield client


def test_an_answer_says_what_it_is(client: OpenAI) -> None:
    answer = client.chat.completions.create(model="demo", messages=user("Hello?"))
    assert (answer.choices[0].message.content or "").startswith("simulated tokens in the order")
    assert answer.choices[0].finish_reason == "stop"
    assert answer.usage and answer.usage.completion_tokens == 64


def test_a_stream(client: OpenAI) -> None:
    stream = client.chat.completions.create(
        model="demo", messages=user("Hello?"), max_tokens=500, n=2, stream=True,
        stream_options={"include_usage": True},
    )  # fmt: skip
    chunks = list(stream)
    for index in range(2):
        own = [choice for chunk in chunks for choice in chunk.choices if choice.index == index]
        assert own[0].delta.role == "assistant"
        assert "".join(choice.delta.content or "" for choice in own).startswith("simulated tokens")
        assert own[-1].finish_reason == "length"
    assert chunks[-1].usage and chunks[-1].usage.completion_tokens == 1_000


def test_what_was_asked_before_is_cached(client: OpenAI) -> None:
    ask = {"model": "demo", "messages": [*LONG, *user(str(client.base_url))], "max_tokens": 1}
    usages = [client.chat.completions.create(**ask).usage for _ in range(2)]
    cached = [usage.prompt_tokens_details.cached_tokens for usage in usages if usage and usage.prompt_tokens_details]
    assert cached[1] == 4 * 256
    assert usages[0] and usages[0].prompt_tokens > 1_250


def test_it_writes_no_json(client: OpenAI) -> None:
    with pytest.raises(BadRequestError) as refused:
        client.chat.completions.create(model="demo", messages=user("x"), response_format={"type": "json_object"})
    assert refused.value.param == "response_format"
    assert "The simulated engine writes no JSON." in str(refused.value)


def test_the_legacy_endpoint(client: OpenAI) -> None:
    answer = client.completions.create(model="demo", prompt=[5] * 40, max_tokens=2)
    assert answer.choices[0].text == "simulated tokens"
    assert answer.usage and answer.usage.prompt_tokens == 40


def test_routers_and_benchmarks_see_what_it_did(stack: Stack) -> None:
    with httpx2.Client(base_url=stack.direct) as http:
        before = http.get("/simulated/stats").json()
        body = {"model": "demo", "messages": user("x" * 973), "max_tokens": 7}
        assert http.post("/v1/chat/completions", json=body).status_code == 200
        after = http.get("/simulated/stats").json()
        assert after["requests"] == before["requests"] + 1
        assert after["completion_tokens"] == before["completion_tokens"] + 7
        assert after["prompt_tokens"] == after["cached_tokens"] + after["computed_tokens"]
        assert [model["id"] for model in http.get("/v1/models").json()["data"]] == ["demo"]
        assert 'vllm:num_requests_running{model_name="demo"} 0' in http.get("/metrics").text
        assert http.get("/health").status_code == 200


@pytest.mark.parametrize(
    ("flags", "told"),
    [
        (["--builtin", "demo", "--simulated-step", "5ms"], "--simulated-step needs --engine simulated"),
        (["--engine", "simulated", "--engine-url", "http://127.0.0.1:1"], "--engine simulated has no server"),
        (["--engine", "vllm"], "--engine-url"),
        (["--engine", "vllm", "--engine-url", "http://127.0.0.1:1", "--kv-tokens", "100"], "--kv-tokens"),
        (["--engine", "simulated", "--simulated-instant", "--simulated-step", "1ms"], "cannot be used with"),
    ],
    ids=["without the engine", "a server of nothing", "no server", "the cache of a server", "a step of no time"],
)
def test_a_wrong_command_line_is_named(flags: list[str], told: str) -> None:
    worker = subprocess.run(
        [BINARY, "worker", "--model", "demo", *flags],
        stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert worker.returncode == 2
    assert told in worker.stderr
