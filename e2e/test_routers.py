"""Several routers of one service on one machine, with Redis and PostgreSQL, and a ledger behind them."""

import os
import signal
from collections.abc import Callable
from urllib.parse import urlsplit

import httpx2
import pytest

from asking import reply_with
from inferyard import Up
from processes import wait_until_gone
from servers import Postgres, Redis


@pytest.fixture
def up(start: Callable[..., Up], redis: Callable[..., Redis], postgres: Postgres) -> Up:
    return start("demo.yaml", redis=redis().url, postgres=postgres.database(), routers=3)


def test_every_router_serves_the_same(up: Up) -> None:
    ready = up.ready
    assert len(up.base_urls) == len(set(up.base_urls)) == 3
    assert up.base_urls[0] == up.base_url
    assert sorted(ready["router_pids"]) == sorted(router.pid for router in up.routers())
    assert ready["ledger_pid"] == up.ledger().pid
    for number, base_url in enumerate(up.base_urls):
        with up.openai(base_url=base_url) as client:
            answer = client.chat.completions.create(model="demo", messages=reply_with(f"router {number}"), temperature=0)
        assert answer.choices[0].message.content == f"router {number}"
    assert {urlsplit(url).path for url in ready["metrics_urls"]} == {"/metrics"}
    for url in ready["metrics_urls"]:
        assert httpx2.get(url).status_code == 200
    running = up.children()
    assert len(running) == 5
    assert up.stop() == 0
    wait_until_gone(running, within=180)


def test_no_password_is_on_a_command_line(start: Callable[..., Up], redis: Callable[..., Redis]) -> None:
    server = redis()
    server("ACL", "SETUSER", "router", "on", ">secret-word", "~*", "&*", "+@all")
    url = f"redis://router:secret-word@127.0.0.1:{server.port}"
    up = start("demo.yaml", redis=url)
    with up.openai() as client:
        client.chat.completions.create(model="demo", messages=reply_with("ok"))
    for child in up.children():
        assert "secret-word" not in " ".join(child.argv)
    assert up.stop() == 0
    assert "secret-word" not in up.log()


def test_a_killed_router_and_a_killed_ledger_come_back(up: Up) -> None:
    before = up.children()
    for victim in (up.routers()[1], up.ledger()):
        os.kill(victim.pid, signal.SIGKILL)
    for base_url in up.base_urls:
        with up.openai(base_url=base_url, max_retries=10) as client:
            answer = client.chat.completions.create(model="demo", messages=reply_with("still here"), temperature=0)
        assert answer.choices[0].message.content == "still here"
    assert [child for child in before if child.role == "worker"] == up.workers()
    assert up.stop() == 0
