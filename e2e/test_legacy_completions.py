"""`/v1/completions`: text in, text out, through openai-python."""

import re
from typing import Any

import httpx2
import pytest
from openai import BadRequestError, OpenAI

from sse import events


def test_an_answer_has_every_field(client: OpenAI) -> None:
    answer = client.completions.create(model="demo", prompt="The quick brown fox", temperature=0, max_tokens=8)
    assert re.fullmatch(r"cmpl-[A-Za-z0-9]+", answer.id)
    assert answer.object == "text_completion"
    assert answer.model == "demo"
    (choice,) = answer.choices
    assert choice.index == 0
    assert choice.logprobs is None
    assert choice.finish_reason in ("stop", "length")
    assert answer.usage is not None
    assert answer.usage.prompt_tokens in (19, 20)
    assert answer.usage.completion_tokens <= 8


def test_without_a_limit_there_are_16_tokens(client: OpenAI) -> None:
    answer = client.completions.create(model="demo", prompt="abc", temperature=0, logit_bias={"261": -100, "265": -100})
    assert answer.usage is not None
    assert answer.usage.completion_tokens == 16
    assert answer.choices[0].finish_reason == "length"


def test_the_pieces_of_a_stream_are_the_answer(client: OpenAI) -> None:
    asked: Any = {"model": "demo", "prompt": "one two three", "temperature": 0, "max_tokens": 24}
    whole = client.completions.create(**asked)
    chunks = list(client.completions.create(**asked, stream=True))
    assert "".join(chunk.choices[0].text for chunk in chunks) == whole.choices[0].text
    assert [chunk.choices[0].finish_reason for chunk in chunks[:-1]] == [None] * (len(chunks) - 1)
    assert chunks[-1].choices[0].finish_reason == whole.choices[0].finish_reason
    assert {chunk.object for chunk in chunks} == {"text_completion"}
    assert len({chunk.id for chunk in chunks}) == 1


def test_usage_of_a_stream_comes_last_and_only_when_asked_for(http: httpx2.Client) -> None:
    asked = {"model": "demo", "prompt": "abc", "stream": True, "max_tokens": 4}
    plain = events(http.post("/v1/completions", json=asked).content)
    assert all("usage" not in event for event in plain)
    asked["stream_options"] = {"include_usage": True}
    *chunks, last = events(http.post("/v1/completions", json=asked).content)
    assert all(chunk["usage"] is None for chunk in chunks)
    assert last["choices"] == []
    assert last["usage"]["total_tokens"] == last["usage"]["prompt_tokens"] + last["usage"]["completion_tokens"]


def test_echo_begins_the_answer_with_the_prompt(client: OpenAI) -> None:
    answer = client.completions.create(model="demo", prompt="grüße", temperature=0, max_tokens=4, echo=True)
    assert answer.choices[0].text.startswith("grüße")


def test_a_prompt_of_tokens_is_the_same_as_its_text(client: OpenAI) -> None:
    # The demo model's tokens are bytes.
    asked: Any = {"model": "demo", "temperature": 0, "max_tokens": 12}
    text = client.completions.create(prompt="brown fox", **asked)
    tokens = client.completions.create(prompt=list(b"brown fox"), **asked)
    assert tokens.choices[0].text == text.choices[0].text


def test_n_stop_and_seed_work_as_in_chats(client: OpenAI) -> None:
    asked: Any = {"model": "demo", "prompt": "abc", "temperature": 1.5, "max_tokens": 20, "seed": 5}
    first, second = (client.completions.create(**asked).choices[0].text for _ in range(2))
    assert first == second
    choices = client.completions.create(**asked, n=3).choices
    assert [choice.index for choice in choices] == [0, 1, 2]
    assert len({choice.text for choice in choices}) > 1
    unstopped = client.completions.create(model="demo", prompt="abc", temperature=0, max_tokens=20).choices[0].text
    assert len(unstopped) > 2
    stop = unstopped[2]
    stopped = client.completions.create(model="demo", prompt="abc", temperature=0, max_tokens=20, stop=stop)
    assert stopped.choices[0].text == unstopped[: unstopped.index(stop)]


def test_log_probabilities_have_the_legacy_form(client: OpenAI) -> None:
    answer = client.completions.create(model="demo", prompt="The quick", temperature=0, max_tokens=6, logprobs=2)
    logprobs = answer.choices[0].logprobs
    assert logprobs is not None
    assert logprobs.tokens and logprobs.token_logprobs and logprobs.top_logprobs and logprobs.text_offset
    assert len(logprobs.tokens) == len(logprobs.token_logprobs) == len(logprobs.top_logprobs)
    assert "".join(logprobs.tokens) == answer.choices[0].text
    assert logprobs.text_offset[0] == 0
    assert all(value <= 0 for value in logprobs.token_logprobs if value is not None)


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"prompt": {"text": "a"}}, "prompt"),
        ({"prompt": [1, "a"]}, "prompt[1]"),
        ({"prompt": [99999]}, "prompt"),
        ({"prompt": "a", "max_tokens": -1}, "max_tokens"),
        ({"prompt": "a", "logprobs": 6}, "logprobs"),
        ({"prompt": "x" * 5000}, "prompt"),
    ],
)
def test_a_bad_field_is_named(client: OpenAI, fields: dict[str, Any], param: str) -> None:
    with pytest.raises(BadRequestError) as caught:
        client.completions.create(**{"model": "demo"} | fields)
    assert caught.value.param == param
