"""Keys and plans from manifests: who may call, and which models."""

import hashlib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from openai import AuthenticationError, BadRequestError, NotFoundError, OpenAI

from asking import reply_with
from inferyard import EXAMPLES, MANIFESTS, Up
from keys import new_key

NAMES = ("full", "limited", "disabled", "expired", "not-yet-expired")


@pytest.fixture(scope="module")
def keys() -> dict[str, str]:
    return {name: new_key() for name in NAMES}


@pytest.fixture(scope="module")
def server(keys: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Up]:
    text = (MANIFESTS / "keys.yaml.in").read_text()
    for name, key in keys.items():
        text = text.replace(f'"@{name}@"', f'"{hashlib.sha256(key.encode()).hexdigest()}"')
    manifest: Path = tmp_path_factory.mktemp("manifests") / "keys.yaml"
    manifest.write_text(text)
    up = Up(manifest)
    yield up
    try:
        assert up.stop() == 0
    finally:
        up.kill()
        up.cleanup()


def ask(client: OpenAI, model: str = "demo") -> str | None:
    answer = client.chat.completions.create(model=model, messages=reply_with("ok"), temperature=0)
    return answer.choices[0].message.content


def test_with_keys_in_the_manifests_none_is_made(server: Up) -> None:
    assert server.ready["api_key"] is None


@pytest.mark.parametrize("name", ["full", "limited", "not-yet-expired"])
def test_a_good_key_may_call(server: Up, keys: dict[str, str], name: str) -> None:
    with server.openai(api_key=keys[name]) as client:
        assert ask(client) == "ok"


@pytest.mark.parametrize("name", ["disabled", "expired"])
def test_a_bad_key_may_not(server: Up, keys: dict[str, str], name: str) -> None:
    with server.openai(api_key=keys[name]) as client, pytest.raises(AuthenticationError) as caught:
        ask(client)
    assert keys[name] not in caught.value.message


def test_the_hash_of_a_key_is_not_a_key(server: Up, keys: dict[str, str]) -> None:
    with server.openai(api_key=hashlib.sha256(keys["full"].encode()).hexdigest()) as client:
        with pytest.raises(AuthenticationError):
            ask(client)


def test_a_model_outside_the_plan_is_as_if_it_were_not_there(server: Up, keys: dict[str, str]) -> None:
    with server.openai(api_key=keys["full"]) as client:
        assert ask(client, "second") == "ok"
        assert {model.id for model in client.models.list()} == {"demo", "demo-by-another-name", "second"}
    with server.openai(api_key=keys["limited"]) as client:
        with pytest.raises(BadRequestError) as outside:
            ask(client, "second")
        with pytest.raises(BadRequestError) as unknown:
            ask(client, "unheard-of")
        assert outside.value.message == unknown.value.message.replace("unheard-of", "second")
        assert outside.value.code == "model_not_found"
        assert {model.id for model in client.models.list()} == {"demo", "demo-by-another-name"}
        with pytest.raises(NotFoundError):
            client.models.retrieve("second")


def test_an_alias_is_open_with_its_model(server: Up, keys: dict[str, str]) -> None:
    with server.openai(api_key=keys["limited"]) as client:
        assert ask(client, "demo-by-another-name") == "ok"


def test_a_key_that_up_made_is_kept_as_a_hash_only(start: Callable[..., Up]) -> None:
    up = start(EXAMPLES / "quickstart.yaml")
    key = up.api_key
    assert len(key) == 46 and key.startswith("iy-")
    files = [path for path in up.folder.rglob("*") if path.is_file()]
    assert any(hashlib.sha256(key.encode()).hexdigest() in path.read_text(errors="replace") for path in files)
    for path in files:
        assert key.encode() not in path.read_bytes(), path
    assert up.stop() == 0
