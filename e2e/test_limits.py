"""Limits hold exactly, whatever the number of routers that admit at the same time."""

import asyncio
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from asking import repeat, reply_with
from crowd import Answer, all_at_once, post
from inferyard import Up
from keys import new_key
from resources import api_key, demo, plan, write
from servers import Redis, RedisCluster

ROUTERS = 4
CLIENTS = 2000
ROOM = {"maxRunning": 64, "maxQueued": 2048}


def ask(max_tokens: int = 1) -> object:
    return {"model": "demo", "messages": repeat("tick tock"), "max_tokens": max_tokens}


def admitted(answers: list[Answer]) -> list[Answer]:
    """Those that were let in; all others were denied by a limit, or because Redis did not answer in time."""
    assert {answer.status for answer in answers} <= {200, 429, 503}, sorted(answer.status for answer in answers)
    refusals = {answer.error["message"] for answer in answers if answer.status == 503}
    assert all("cannot be checked at the moment" in refusal for refusal in refusals), refusals
    return [answer for answer in answers if answer.status == 200]


async def all_at_once_until_denied(base_urls: list[str], key: str, bodies: list[Any]) -> list[Answer]:
    """All at once, and then one after the other until a limit denies: whatever Redis did not decide, it has then decided."""
    answers = await all_at_once(base_urls, key, bodies)
    while not answers or answers[-1].status != 429:
        answers.append(await post(base_urls[0], key, bodies[0]))
    return answers


def seconds(redis: Redis) -> float:
    """The time of Redis, by which limits leak."""
    whole, micros = redis("TIME")
    return int(whole) + int(micros) / 1e6


@pytest.fixture
def manifest(tmp_path: Path) -> Callable[..., tuple[Path, str]]:
    """A demo model, a plan with these limits, and a key on it."""

    def manifest(**limits: object) -> tuple[Path, str]:
        key = new_key()
        path = tmp_path / "limits.yaml"
        # On a busy machine Redis may not answer in time, and routers that then decide by themselves let more in together.
        basic = plan("basic", limits=limits, whenRedisIsLost="closed")
        write(path, demo(**ROOM), basic, api_key("test", key, plan="basic"))
        return path, key

    return manifest


Manifest = Callable[..., tuple[Path, str]]
Start = Callable[..., Up]


def test_of_2000_requests_a_total_of_100_lets_in_100(start: Start, redis: Callable[..., Redis], manifest: Manifest) -> None:
    path, key = manifest(requestsTotal=100)
    up = start(path, redis=redis().url, routers=ROUTERS)
    answers = asyncio.run(all_at_once_until_denied(up.base_urls, key, [ask()] * CLIENTS))
    assert len(admitted(answers)) == 100
    denied = next(answer for answer in answers if answer.status == 429)
    assert denied.headers["x-should-retry"] == "false", "waiting is useless"
    assert "retry-after" not in denied.headers
    assert up.stop() == 0


def test_100_per_minute_let_in_100_and_what_leaked(
    start: Start, redis: Callable[..., Redis], manifest: Manifest, measured: Callable[[str, str], None]
) -> None:
    path, key = manifest(requestsPerMinute=100)
    server = redis()
    up = start(path, redis=server.url, routers=ROUTERS)
    before = seconds(server)
    answers = asyncio.run(all_at_once_until_denied(up.base_urls, key, [ask()] * CLIENTS))
    leaked = (seconds(server) - before) * 100 / 60
    count = len(admitted(answers))
    measured("100 per minute under 2,000 requests", f"{count} let in, up to {leaked:.1f} leaked meanwhile")
    assert 100 <= count <= 100 + leaked
    for answer in answers:
        if answer.status == 429:
            assert answer.error["code"] == "rate_limit_exceeded"
            assert int(answer.headers["retry-after"]) >= 1
            assert float(answer.headers["retry-after-ms"]) <= 1000 * float(answer.headers["retry-after"])
    assert up.stop() == 0


def test_after_the_told_time_a_request_is_let_in(start: Start, redis: Callable[..., Redis], manifest: Manifest) -> None:
    path, key = manifest(requestsPerMinute=60)
    server = redis()
    up = start(path, redis=server.url, routers=2)

    async def exhaust_and_wait() -> Answer:
        denied: list[Answer] = []
        while not denied:
            answers = await all_at_once(up.base_urls, key, [ask()] * 20)
            denied = [answer for answer in answers if answer.status == 429]
        # The last one that was denied knows of all that were let in.
        wait = max(float(answer.headers["retry-after-ms"]) for answer in denied)
        await asyncio.sleep(wait / 1000)
        while (answer := await post(up.base_url, key, ask())).status == 503:
            pass
        return answer

    assert asyncio.run(exhaust_and_wait()).status == 200
    assert up.stop() == 0


def test_tokens_of_mixed_sizes_stay_below_their_limit(
    start: Start, redis: Callable[..., Redis], manifest: Manifest, measured: Callable[[str, str], None]
) -> None:
    limit = 5000
    path, key = manifest(tokensPerMinute=limit)
    server = redis()
    up = start(path, redis=server.url, routers=ROUTERS)
    sizes = [1 + number * 37 % 150 for number in range(CLIENTS)]
    before = seconds(server)
    answers = asyncio.run(all_at_once(up.base_urls, key, [ask(size) for size in sizes]))
    leaked = (seconds(server) - before) * limit / 60
    reserved = sum(size for size, answer in zip(sizes, answers, strict=True) if answer.status == 200)
    used = sum(answer.json()["usage"]["total_tokens"] for answer in admitted(answers))
    measured("5,000 tokens per minute under 2,000 requests", f"{used} used, up to {leaked:.0f} leaked meanwhile")
    # Of every request that was let in, all that it may produce was held beside its prompt.
    assert reserved <= limit + leaked
    assert used > limit / 2, "nor is it refused what it may have"
    for answer in answers:
        if answer.status == 429:
            told = re.search(r"Limit (\d+), Used (\d+), Requested (\d+)", answer.error["message"])
            assert told is not None, answer.error
            cap, taken, asked = map(int, told.groups())
            assert cap == limit and taken + asked > limit
    assert up.stop() == 0


def test_concurrent_requests_are_counted_over_all_routers(start: Start, redis: Callable[..., Redis], manifest: Manifest) -> None:
    path, key = manifest(concurrentRequests=3)
    up = start(path, redis=redis().url, routers=ROUTERS)

    async def three_at_most() -> None:
        with up.openai(api_key=key) as client:
            # On a busy machine Redis can be late; the 503 of that is tried again.
            streams = [
                client.with_options(base_url=up.base_urls[number], max_retries=20).chat.completions.create(
                    model="demo", messages=repeat("tick tock"), stream=True
                )
                for number in range(3)
            ]
            while (denied := await post(up.base_urls[3], key, ask())).status == 503:
                pass
            assert denied.status == 429
            assert denied.headers["x-ratelimit-remaining-concurrent"] == "0"
            streams[0].close()
            # The router hears that the client has left, and the store from the router.
            while (answer := await post(up.base_urls[3], key, ask())).status in (429, 503):
                pass
            assert answer.status == 200
            for stream in streams[1:]:
                stream.close()

    asyncio.run(asyncio.wait_for(three_at_most(), 60))
    assert up.stop() == 0


def test_the_headers_tell_what_is_left(start: Start, manifest: Manifest) -> None:
    """In memory, as on one machine."""
    path, key = manifest(requestsPerMinute=10, tokensPerMinute=10_000)
    up = start(path)
    with up.openai(api_key=key) as client:
        for left in range(9, 6, -1):
            answer = client.chat.completions.with_raw_response.create(
                model="demo", messages=reply_with("counted"), max_tokens=10
            )
            assert answer.headers["x-ratelimit-limit-requests"] == "10"
            assert answer.headers["x-ratelimit-remaining-requests"] == str(left)
            assert re.fullmatch(r"(\d+m)?\d+(\.\d+)?m?s", answer.headers["x-ratelimit-reset-requests"])
            assert answer.headers["x-ratelimit-limit-tokens"] == "10000"
            assert 0 < int(answer.headers["x-ratelimit-remaining-tokens"]) < 10_000
    assert up.stop() == 0


def test_a_redis_cluster_does_as_well(start: Start, manifest: Manifest) -> None:
    path, key = manifest(requestsTotal=50)
    cluster = RedisCluster()
    try:
        up = start(path, redis=cluster.url, routers=2)
        answers = asyncio.run(all_at_once_until_denied(up.base_urls, key, [ask()] * 400))
        assert len(admitted(answers)) == 50
        assert up.stop() == 0
    finally:
        cluster.close()
