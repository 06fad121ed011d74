"""Who used what: the ledger's answers, over HTTP and on the command line, are what the clients were told."""

import csv
import io
import json
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest

from asking import reply_with
from inferyard import BINARY, Up, wait_idle
from keys import new_key
from resources import api_key, demo, plan, write
from servers import Postgres, Redis

PRICE = {"input": 3_000, "cached": 300, "output": 15_000}
NAMES = ("first", "second")


@pytest.fixture
def keys() -> dict[str, str]:
    return {name: new_key() for name in NAMES}


@pytest.fixture
def manifest(tmp_path: Path, keys: dict[str, str]) -> Path:
    price = {"perMillionInputTokens": "3", "perMillionCachedInputTokens": "0.30", "perMillionOutputTokens": "15"}
    return write(
        tmp_path / "ledger.yaml",
        demo(),
        plan("basic", price=price),
        *(api_key(name, key, plan="basic") for name, key in keys.items()),
    )


@pytest.fixture(params=["memory and SQLite", "Redis and SQLite", "Redis and PostgreSQL", "memory and PostgreSQL"])
def up(
    request: pytest.FixtureRequest, start: Callable[..., Up], redis: Callable[..., Redis], postgres: Postgres, manifest: Path
) -> Iterator[Up]:
    options = {}
    if "Redis" in request.param:
        options |= {"redis": redis().url, "routers": 2}
    if "PostgreSQL" in request.param:
        options |= {"postgres": postgres.database()}
    yield start(manifest, **options)


def use(up: Up, keys: dict[str, str]) -> dict[str, list[dict[str, Any]]]:
    """Some requests of each key; the usage that each was told."""
    told: dict[str, list[dict[str, Any]]] = {name: [] for name in NAMES}
    for number, name in enumerate(("first", "first", "second", "first")):
        with up.openai(api_key=keys[name], base_url=up.base_urls[number % len(up.base_urls)]) as client:
            answer = client.chat.completions.create(model="demo", messages=reply_with(f"bill this {number}"), temperature=0)
        assert answer.usage is not None
        told[name].append(answer.usage.model_dump())
    return told


def totals(told: list[dict[str, Any]]) -> tuple[int, int, int, int]:
    """Requests, prompt tokens, cached ones of them, completion tokens."""
    cached = sum((usage["prompt_tokens_details"] or {}).get("cached_tokens") or 0 for usage in told)
    return (
        len(told),
        sum(usage["prompt_tokens"] for usage in told),
        cached,
        sum(usage["completion_tokens"] for usage in told),
    )


def price(told: list[dict[str, Any]]) -> int:
    """What that costs, in nano-dollars."""
    _, prompt, cached, completion = totals(told)
    return (prompt - cached) * PRICE["input"] + cached * PRICE["cached"] + completion * PRICE["output"]


def results(up: Up, path: str, **query: Any) -> list[dict[str, Any]]:
    """All results of a query, over all buckets."""
    query = {"start_time": int(time.time()) - 3600} | query
    with up.http(headers={"authorization": f"Bearer {up.admin_key}"}) as admin:
        answer = admin.get(f"/v1/organization/{path}", params=query)
    assert answer.status_code == 200, answer.text
    page = answer.json()
    assert page["object"] == "page"
    return [result for bucket in page["data"] for result in bucket["results"]]


def wait_until_written(up: Up, requests: int) -> None:
    """The ledger writes a moment after the answer."""
    deadline = time.monotonic() + 60
    while sum(result["num_model_requests"] for result in results(up, "usage/completions")) < requests:
        assert time.monotonic() < deadline, "the events do not arrive"


def inferyard(*arguments: str) -> str:
    done = subprocess.run([BINARY, *arguments], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_usage_and_costs_are_what_the_clients_were_told(up: Up, keys: dict[str, str]) -> None:
    told = use(up, keys)
    wait_until_written(up, 4)

    by_key = {result["api_key_id"]: result for result in results(up, "usage/completions", **{"group_by[]": "api_key_id"})}
    assert set(by_key) == set(NAMES)
    for name, result in by_key.items():
        requests, prompt, cached, completion = totals(told[name])
        assert result["object"] == "organization.usage.completions.result"
        assert result["num_model_requests"] == requests
        assert (result["input_tokens"], result["input_cached_tokens"], result["output_tokens"]) == (prompt, cached, completion)
    (everything,) = results(up, "usage/completions", **{"models[]": "demo"})
    assert everything["num_model_requests"] == 4
    assert not results(up, "usage/completions", **{"api_key_ids[]": "nobody"})
    # The SDK has no method for it, but its client reaches it.
    with up.openai(api_key=up.admin_key) as client:
        options = {"params": {"start_time": int(time.time()) - 3600}}
        page = client.get("/organization/usage/completions", cast_to=object, options=options)
    assert isinstance(page, dict)
    assert sum(result["num_model_requests"] for bucket in page["data"] for result in bucket["results"]) == 4
    costs = sum(result["amount"]["value"] for result in results(up, "costs"))
    assert costs == pytest.approx(sum(map(price, told.values())) / 1e9, abs=1e-9)
    assert up.stop() == 0


def test_the_command_line_says_the_same(up: Up, keys: dict[str, str]) -> None:
    told = use(up, keys)
    wait_until_written(up, 4)
    wait_idle(up.workers())
    table = inferyard("usage", "--store", up.store, "--by", "key", "--day")
    for name in NAMES:
        assert name in table
    rows = list(csv.DictReader(io.StringIO(inferyard("usage", "--store", up.store, "--by", "key", "--day", "--output", "csv"))))
    assert {row["key"]: int(row["requests"]) for row in rows} == {"first": 3, "second": 1}
    json.loads(inferyard("usage", "--store", up.store, "--by", "plan", "--output", "json"))
    workers = [argument for worker in up.ready["workers"] for argument in ("--worker", worker["address"])]
    report = inferyard("audit", "--store", up.store, *workers)
    assert report
    assert up.stop() == 0


def test_only_the_admin_key_opens_it(up: Up, keys: dict[str, str]) -> None:
    for key in (keys["first"], "iy-admin-wrong", None):
        headers = {"authorization": f"Bearer {key}"} if key else {}
        answer = httpx2.get(f"{up.base_url}/organization/costs?start_time=0", headers=headers)
        assert answer.status_code == 401
        assert set(answer.json()["error"]) == {"message", "type", "param", "code"}
    with up.openai(api_key=up.admin_key) as client, pytest.raises(Exception, match="401"):
        client.models.list()
    assert up.stop() == 0


def test_usage_is_there_after_a_restart(start: Callable[..., Up], manifest: Path, keys: dict[str, str]) -> None:
    up = start(manifest)
    use(up, keys)
    assert up.stop() == 0
    table = inferyard("usage", "--store", up.store, "--by", "key", "--day", "--output", "csv")
    assert sum(int(row["requests"]) for row in csv.DictReader(io.StringIO(table))) == 4
