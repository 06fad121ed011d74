"""The settings that choose tokens: n, stop, seed, penalties, bias, log probabilities."""

from typing import Any

import pytest
from openai import BadRequestError, OpenAI

from asking import repeat, reply_with, user

# The demo model's tokens are bytes, so a letter's token is its code.
LETTER_P = str(ord("p"))


def contents(answer: Any) -> list[str]:
    return [choice.message.content for choice in answer.choices]


def test_n_gives_so_many_choices(client: OpenAI) -> None:
    answer = client.chat.completions.create(model="demo", messages=reply_with("twice"), n=4, temperature=0)
    assert [choice.index for choice in answer.choices] == [0, 1, 2, 3]
    assert contents(answer) == ["twice"] * 4
    assert answer.usage is not None
    # The prompt counts once, every choice with its end token.
    assert answer.usage.prompt_tokens == len("Reply with: twice") + 4
    assert answer.usage.completion_tokens == 4 * (len("twice") + 1)


def test_choices_differ_where_the_temperature_lets_them(client: OpenAI) -> None:
    answer = client.chat.completions.create(
        model="demo", messages=user("Tell me"), n=8, temperature=2, max_tokens=40, seed=1
    )
    assert len(set(contents(answer))) > 1


@pytest.mark.parametrize(
    ("stop", "expected"),
    [
        ("three", "one two "),
        (["three"], "one two "),
        (["zzz", "two"], "one "),
        (["four", "e t"], "on"),
        (["one"], ""),
        (["never said"], "one two three four"),
    ],
)
@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
def test_a_stop_text_ends_the_answer_and_is_not_part_of_it(
    client: OpenAI, stop: Any, expected: str, stream: bool
) -> None:
    asked: Any = {
        "model": "demo", "messages": reply_with("one two three four"), "temperature": 0, "stop": stop,
    }  # fmt: skip
    if stream:
        chunks = list(client.chat.completions.create(**asked, stream=True))
        text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks)
        reason = chunks[-1].choices[0].finish_reason
    else:
        choice = client.chat.completions.create(**asked).choices[0]
        text, reason = choice.message.content or "", choice.finish_reason
    assert (text, reason) == (expected, "stop")


def sampled(client: OpenAI, seed: int | None) -> str:
    answer = client.chat.completions.create(
        model="demo", messages=user("Tell me"), temperature=2, max_tokens=60,
        **({} if seed is None else {"seed": seed}),
    )  # fmt: skip
    return answer.choices[0].message.content or ""


def test_the_same_seed_gives_the_same_text(client: OpenAI) -> None:
    for seed in (0, 7, -3, 2**40):
        assert sampled(client, seed) == sampled(client, seed)


def test_different_seeds_give_different_texts(client: OpenAI) -> None:
    assert len({sampled(client, seed) for seed in range(8)}) > 1


def test_temperature_0_gives_the_same_text_without_a_seed(client: OpenAI) -> None:
    texts = set()
    for _ in range(5):
        answer = client.chat.completions.create(model="demo", messages=user("Tell me a story"), temperature=0)
        texts.add(answer.choices[0].message.content)
    assert len(texts) == 1


@pytest.mark.parametrize("narrow", [{"top_p": 0.0001}, {"extra_body": {"top_k": 1}}, {"extra_body": {"min_p": 1.0}}])
def test_only_the_likeliest_token_is_left(client: OpenAI, narrow: dict[str, Any]) -> None:
    answer = client.chat.completions.create(
        model="demo", messages=reply_with("the likeliest"), temperature=2, **narrow
    )
    assert answer.choices[0].message.content == "the likeliest"


def test_a_biased_token_is_never_or_always_chosen(client: OpenAI) -> None:
    never = client.chat.completions.create(
        model="demo", messages=reply_with("apple pie"), temperature=0, logit_bias={LETTER_P: -100}, max_tokens=40
    )
    assert "p" not in (never.choices[0].message.content or "")
    always = client.chat.completions.create(
        model="demo", messages=reply_with("apple pie"), temperature=0, logit_bias={LETTER_P: 100}, max_tokens=10
    )
    assert always.choices[0].message.content == "p" * 10


@pytest.mark.parametrize("penalty", ["frequency_penalty", "presence_penalty"])
def test_a_penalty_changes_what_is_repeated(client: OpenAI, penalty: str) -> None:
    def said(value: float) -> str:
        answer = client.chat.completions.create(
            model="demo", messages=repeat("a"), temperature=1, seed=3, max_tokens=200, extra_body={penalty: value}
        )
        return answer.choices[0].message.content or ""

    assert said(0) == said(0)
    if penalty == "frequency_penalty":
        assert said(0) != said(2)


# Log probabilities


def test_without_asking_there_are_no_log_probabilities(client: OpenAI) -> None:
    answer = client.chat.completions.create(model="demo", messages=reply_with("ok"), logprobs=False)
    assert answer.choices[0].logprobs is None


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
@pytest.mark.parametrize("top", [None, 0, 1, 5, 20])
def test_every_token_of_the_text_has_its_log_probability(client: OpenAI, top: int | None, stream: bool) -> None:
    asked: Any = {"model": "demo", "messages": reply_with("größer"), "temperature": 0, "logprobs": True}
    if top is not None:
        asked["top_logprobs"] = top
    if stream:
        chunks = list(client.chat.completions.create(**asked, stream=True))
        text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks)
        with_logprobs = [chunk.choices[0].logprobs for chunk in chunks if chunk.choices[0].logprobs]
        tokens = [token for logprobs in with_logprobs for token in logprobs.content or []]
    else:
        choice = client.chat.completions.create(**asked).choices[0]
        assert choice.logprobs is not None
        text, tokens = choice.message.content or "", choice.logprobs.content or []
    assert b"".join(bytes(token.bytes or []) for token in tokens) == text.encode() == "größer".encode()
    for token in tokens:
        assert token.logprob <= 0
        assert len(token.top_logprobs) == (top or 0)
        likelihoods = [candidate.logprob for candidate in token.top_logprobs]
        assert likelihoods == sorted(likelihoods, reverse=True)
        if token.top_logprobs:
            # Greedy: what was chosen is the likeliest.
            assert token.top_logprobs[0].bytes == token.bytes
            assert token.top_logprobs[0].logprob == pytest.approx(token.logprob, abs=1e-4)


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"top_logprobs": 3}, "top_logprobs"),
        ({"logprobs": True, "top_logprobs": 21}, "top_logprobs"),
        ({"logprobs": True, "top_logprobs": -1}, "top_logprobs"),
    ],
)
def test_impossible_log_probabilities_are_refused(client: OpenAI, fields: dict[str, Any], param: str) -> None:
    with pytest.raises(BadRequestError) as caught:
        client.chat.completions.create(model="demo", messages=reply_with("ok"), **fields)
    assert caught.value.param == param
