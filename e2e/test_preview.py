"""Five messages without a key: counted by the server, whatever the visitor does to be counted anew."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx2
import pytest

from asking import reply_with
from inferyard import Up
from keys import new_key
from resources import api_key, demo, plan, write
from servers import Redis

MESSAGES = 5
SIGN_UP = "https://example.org/sign-up"
ASK = {"model": "demo", "messages": reply_with("hello"), "max_tokens": 10}


@pytest.fixture
def manifest(tmp_path: Path) -> Path:
    return write(
        tmp_path / "preview.yaml",
        demo(),
        plan("preview", limits={"requestsTotal": MESSAGES}, preview={"signUpUrl": SIGN_UP}),
        plan("paid"),
        api_key("test", new_key(), plan="paid"),
    )


@pytest.fixture(params=["memory", "two routers"])
def up(request: pytest.FixtureRequest, start: Callable[..., Up], redis: Callable[..., Redis], manifest: Path) -> Up:
    options: dict[str, Any] = {"redis": redis().url, "routers": 2} if request.param == "two routers" else {}
    return start(manifest, **options)


def visit(up: Up, number: int = 0, cookies: httpx2.Cookies | None = None, **headers: str) -> httpx2.Response:
    """A message without a key, to one of the routers."""
    base_url = up.base_urls[number % len(up.base_urls)]
    with httpx2.Client(cookies=cookies, timeout=60) as visitor:
        return visitor.post(f"{base_url}/chat/completions", json=ASK, headers=headers)


def test_the_sixth_message_wants_a_key(up: Up) -> None:
    for number in range(MESSAGES):
        answer = visit(up, number)
        assert answer.status_code == 200, answer.text
        assert answer.headers["x-ratelimit-remaining-requests"] == str(MESSAGES - 1 - number)
    answer = visit(up)
    assert answer.status_code == 401
    error = answer.json()["error"]
    assert error["code"] == "preview_exhausted"
    assert SIGN_UP in error["message"]
    assert up.stop() == 0


def test_a_cookie_is_signed_and_forging_one_helps_nobody(up: Up) -> None:
    first = visit(up)
    (cookie,) = first.cookies.jar
    assert cookie.has_nonstandard_attr("HttpOnly")
    assert cookie.value is not None
    for number in range(MESSAGES - 1):
        assert visit(up, number, first.cookies).status_code == 200
    assert visit(up, 0, first.cookies).status_code == 401
    forged = httpx2.Cookies({cookie.name: "A" + cookie.value[1:]})
    for cookies in (None, forged):
        assert visit(up, 1, cookies).status_code == 401, "the address has used up its messages too"
    assert up.stop() == 0


def test_nobody_names_his_own_address(up: Up) -> None:
    """No proxy is trusted."""
    for number in range(MESSAGES):
        assert visit(up, number, **{"x-forwarded-for": f"198.51.100.{number}"}).status_code == 200
    assert visit(up, **{"x-forwarded-for": "203.0.113.9"}).status_code == 401
    assert up.stop() == 0


def test_a_wrong_key_is_no_visitor(up: Up) -> None:
    assert visit(up, authorization="Bearer iy-wrong").json()["error"]["code"] == "invalid_api_key"
    assert up.stop() == 0


def test_only_the_answer_of_a_request_without_a_key_sets_a_cookie(start: Callable[..., Up], manifest: Path) -> None:
    key = new_key()
    up = start(manifest, write(manifest.with_name("key.yaml"), api_key("other", key, plan="paid")))
    with_key = visit(up, authorization=f"Bearer {key}")
    assert with_key.status_code == 200
    assert "set-cookie" not in with_key.headers
    assert up.stop() == 0
