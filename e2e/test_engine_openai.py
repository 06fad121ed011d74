"""A worker whose engine is another server: mlx_lm, the real one, behind worker and router."""

import json
import os
import subprocess
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path

import pytest
from openai import APIStatusError, BadRequestError, OpenAI

from asking import GREETING, STATUS_TOOL, repeat, reply_with, user
from inferyard import BINARY, MANIFESTS, START_S, STOP_S, Lines, Watch, idle, listening
from keys import new_key
from servers import Server

PYTHON = os.environ.get("MLX_PYTHON", "")
REPOSITORY = Path(__file__).parent.parent
# Its start imports much.
MLX_START_S = 120


class Mlx(Server):
    """mlx_lm with the demo model, on a port that it keeps when it is started again."""

    def __init__(self) -> None:
        super().__init__()
        convert = [PYTHON, REPOSITORY / "e2e/mlx/model.py", REPOSITORY / "crates/demo-model/demo.gguf", self.folder / "model"]
        subprocess.run(convert, check=True)
        self.start()

    def start(self) -> None:
        """Starts it, and returns at once."""
        os.environ["HF_HUB_OFFLINE"] = "1"
        self._run(
            PYTHON, "-m", "mlx_lm", "server", "--model", self.folder / "model", "--port", str(self.port),
            "--max-tokens", "2000",
        )  # fmt: skip


class Stack:
    """mlx_lm, a worker that uses it, and a router in front."""

    def __init__(self, folder: Path) -> None:
        self.mlx = Mlx()
        self.address = f"unix:{folder}/worker.sock"
        self.worker = self._run(
            "worker", "--model", "demo", "--engine", "openai", "--engine-url", f"http://127.0.0.1:{self.mlx.port}/v1",
            "--engine-model", "default_model", "--listen", self.address, "--drain-timeout", "5s",
        )  # fmt: skip
        listening(self.worker, self.address)
        self.key = new_key()
        self.router = self._run(
            "router", "-f", str(MANIFESTS / "demo.yaml"), "--worker", f"demo={self.address}",
            "--listen", "127.0.0.1:0", "--key-hash", sha256(self.key.encode()).hexdigest(), "--json",
        )  # fmt: skip
        self.base_url = f"http://{json.loads(Lines(self.router).next(within=START_S))['address']}/v1"

    def _run(self, *arguments: str) -> subprocess.Popen[bytes]:
        command = ["setpriv", "--pdeathsig", "KILL", "--", BINARY, *arguments]
        return subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)

    def openai(self) -> OpenAI:
        """openai-python, without its own retries."""
        return OpenAI(base_url=self.base_url, api_key=self.key, max_retries=0, timeout=300)

    def stop(self) -> None:
        """Ends them; router and worker must end cleanly."""
        for process in (self.router, self.worker):
            process.terminate()
        statuses = [process.wait(STOP_S) for process in (self.router, self.worker)]
        self.mlx.kill()
        assert statuses == [0, 0]


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    stack = Stack(tmp_path_factory.mktemp("mlx"))
    try:
        with Watch(stack.address) as watch:
            watch.until(lambda state: state["phase"] == "READY", within=MLX_START_S)
        yield stack
    finally:
        stack.stop()


@pytest.fixture
def client(stack: Stack) -> Iterator[OpenAI]:
    with stack.openai() as client:
        yield client


def test_an_answer_and_its_usage(client: OpenAI) -> None:
    answer = client.chat.completions.create(model="demo", messages=reply_with("payload verified."), temperature=0)
    assert answer.choices[0].message.content == "payload verified."
    assert answer.choices[0].finish_reason == "stop"
    assert answer.usage
    # The prompt and the end token are tokens too.
    assert (answer.usage.prompt_tokens, answer.usage.completion_tokens) == (33, 18)


def test_a_stream(client: OpenAI) -> None:
    chunks = list(
        client.chat.completions.create(
            model="demo", messages=reply_with("payload verified."), temperature=0, stream=True,
            stream_options={"include_usage": True},
        )  # fmt: skip
    )
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert text == "payload verified."
    assert len(chunks) > 10, "token by token"
    assert chunks[-1].usage and chunks[-1].usage.completion_tokens == 18


def test_a_tool_call_that_the_engine_left_in_the_text(client: OpenAI) -> None:
    ask = {"model": "demo", "messages": user("Look up the status of order 123."), "tools": [STATUS_TOOL]}
    choice = client.chat.completions.create(**ask, temperature=0).choices[0]
    assert (choice.finish_reason, choice.message.content) == ("tool_calls", None)
    (call,) = choice.message.tool_calls or []
    assert call.type == "function" and call.function.name == "get_order_status"
    assert json.loads(call.function.arguments) == {"order_id": "123"}
    result = {"role": "tool", "tool_call_id": call.id, "content": "shipped"}
    answered = client.chat.completions.create(
        model="demo", messages=[*ask["messages"], choice.message, result], tools=[STATUS_TOOL], temperature=0
    )
    assert answered.choices[0].message.content == "shipped"


def test_the_legacy_endpoint(client: OpenAI) -> None:
    answer = client.completions.create(model="demo", prompt="Reply with: hi", max_tokens=3, temperature=0, echo=True)
    assert answer.choices[0].text.startswith("Reply with: hi")
    assert answer.choices[0].finish_reason == "length"


def test_max_tokens_and_stop(client: OpenAI) -> None:
    cut = client.chat.completions.create(model="demo", messages=reply_with("one two"), max_tokens=3, temperature=0)
    assert (cut.choices[0].message.content, cut.choices[0].finish_reason) == ("one", "length")
    stopped = client.chat.completions.create(model="demo", messages=reply_with("one two"), stop=["tw"], temperature=0)
    assert (stopped.choices[0].message.content, stopped.choices[0].finish_reason) == ("one ", "stop")


def test_what_the_engine_refuses_is_told_in_our_words(client: OpenAI) -> None:
    with pytest.raises(BadRequestError) as refused:
        client.chat.completions.create(
            model="demo", messages=reply_with("x"), logprobs=True, top_logprobs=20, temperature=0
        )
    assert refused.value.param == "top_logprobs"
    assert "must be at most" not in str(refused.value)


def test_a_client_that_leaves_stops_the_engine(stack: Stack, client: OpenAI) -> None:
    with Watch(stack.address) as watch:
        before = watch.until(idle, within=180)
        streams = [
            client.chat.completions.create(model="demo", messages=repeat("tick"), max_tokens=2000, stream=True)
            for _ in range(4)
        ]
        for stream in streams:
            next(iter(stream))
        watch.until(lambda state: state["running"] == 4, within=180)
        for stream in streams:
            stream.close()
        # They were not answered to their ends.
        left = watch.until(idle, within=180)
        assert left["completion_tokens_total"] - before["completion_tokens_total"] < 4 * 2000
    answer = client.chat.completions.create(model="demo", messages=user("Hello?"), temperature=0)
    assert answer.choices[0].message.content == GREETING


def test_an_engine_that_dies_is_told_and_comes_back(stack: Stack, client: OpenAI) -> None:
    with Watch(stack.address) as watch:
        stream = client.chat.completions.create(model="demo", messages=repeat("tick"), max_tokens=2000, stream=True)
        chunks = iter(stream)
        next(chunks)
        stack.mlx.kill()
        with pytest.raises(Exception) as broken:
            list(chunks)
        assert "Traceback" not in str(broken.value)
        state = watch.until(lambda state: state["phase"] == "LOADING", within=180)
        assert state["note"].endswith(f"127.0.0.1:{stack.mlx.port} does not answer: connection refused")
        with pytest.raises(APIStatusError) as refused:
            client.chat.completions.create(model="demo", messages=reply_with("x"))
        assert refused.value.status_code == 503
        stack.mlx.start()
        watch.until(lambda state: state["phase"] == "READY", within=MLX_START_S)
    # The router may hear of it a moment later; its 503 says when to come again.
    patient = client.with_options(max_retries=3)
    answer = patient.chat.completions.create(model="demo", messages=reply_with("back"), temperature=0)
    assert answer.choices[0].message.content == "back"
