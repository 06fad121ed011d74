"""Redis over TLS, with a user that may do what docs/limits.md says and nothing else."""

import re
import shlex
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx2
import pytest

import certificates
from asking import reply_with
from certificates import Authority
from inferyard import BINARY, Up
from ports import Port
from resources import demo, plan, write
from servers import Redis

DOCS = Path(__file__).parent.parent / "docs" / "limits.md"
ASK = {"model": "demo", "messages": reply_with("hello"), "max_tokens": 5}
PASSWORD = "a-secret-of-the-tests"
WITHIN_S = 180


@pytest.fixture
def files(tmp_path: Path) -> Authority:
    return certificates.authority(tmp_path)


@pytest.fixture
def authority(files: Authority) -> Path:
    return files.certificate


@pytest.fixture
def server(redis: Callable[..., Redis], files: Authority) -> Iterator[Redis]:
    """Tests of the server itself go over a port without TLS, as its default user."""
    port = Port()
    tls = ["--tls-port", port.number, "--tls-auth-clients", "no", "--tls-ca-cert-file", files.certificate]
    tls += ["--tls-cert-file", files.server, "--tls-key-file", files.key]
    server = redis(settings=[str(word) for word in tls])
    server("ACL", "SETUSER", *documented_user())
    yield server
    port.give_back()


@pytest.fixture
def secured(server: Redis) -> str:
    """The address for the documented user."""
    port = server("CONFIG", "GET", "tls-port")[1].decode()
    return f"rediss://inferyard:{PASSWORD}@localhost:{port}"


def documented_user() -> list[str]:
    """What the command of the page sets, with a password of the tests."""
    commands = re.findall(r"^redis-cli ACL SETUSER ((?:.*\\\n)*.*)", DOCS.read_text(), re.MULTILINE)
    assert len(commands) == 1
    return shlex.split(commands[0].replace("\\\n", " ").replace("PASSWORD", PASSWORD))


def inferyard(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([BINARY, *arguments], capture_output=True, text=True, timeout=60)


def test_limits_keys_and_usage_need_no_more_than_the_documented_user(
    start: Callable[..., Up], server: Redis, secured: str, authority: Path, tmp_path: Path
) -> None:
    manifest = write(
        tmp_path / "secured.yaml",
        demo(),
        plan("default"),
        plan("basic", limits={"requestsTotal": 2}),
        plan("free", preview={"tokensPerDay": 100_000}, limits={"requestsTotal": 5}),
    )
    place = ("--redis", secured, "--redis-ca", authority)
    up = start(manifest, redis=secured, routers=2, flags=("--redis-ca", str(authority), "--lease-time", "2s"))
    made = inferyard("keys", "create", "--plan", "basic", "--account", "acme", "--name", "ci", *place)
    assert made.returncode == 0, made.stderr
    key = made.stdout.split()[-1]
    id = re.search(r"key_[0-9a-f]{24}", made.stderr + made.stdout)[0]
    headers = {"authorization": f"Bearer {key}"}

    def asked(router: int, headers: dict[str, str] = headers) -> int:
        url = f"{up.base_urls[router]}/chat/completions"
        return httpx2.post(url, json=ASK, headers=headers, timeout=60).status_code

    assert [asked(0), asked(1), asked(0)] == [200, 200, 429]
    assert asked(0, {}) == 200, "a preview, whose tokens are in a pool"
    wait_for(lambda: billed(up) == 3)
    assert "ci" in inferyard("keys", "list", "--account", "acme", *place).stdout
    rotated = inferyard("keys", "rotate", id, "--overlap", "1h", *place)
    assert rotated.returncode == 0, rotated.stderr
    revoked = inferyard("keys", "revoke", id, *place)
    assert revoked.returncode == 0, revoked.stderr
    wait_for(lambda: asked(1) == 401)
    # Two sweeps, at which routers and ledgers do all that they ever do.
    calls = calls_of(server, "evalsha")
    wait_for(lambda: calls_of(server, "evalsha") > calls + 128)
    refused = server("ACL", "LOG")
    assert not refused, refused
    assert PASSWORD not in up.log()


def billed(up: Up) -> int:
    with up.http(headers={"authorization": f"Bearer {up.admin_key}"}) as http:
        usage = http.get("/v1/organization/usage/completions", params={"start_time": int(time.time()) - 86_400})
    assert usage.status_code == 200, usage.text
    results = [result for bucket in usage.json()["data"] for result in bucket["results"]]
    return sum(result["num_model_requests"] for result in results)


def calls_of(server: Redis, command: str) -> int:
    stats = server("INFO", "commandstats").decode()
    found = re.search(rf"cmdstat_{command}:calls=(\d+)", stats)
    return int(found[1]) if found else 0


def wait_for(done: Callable[[], bool]) -> None:
    deadline = time.monotonic() + WITHIN_S
    while not done():
        assert time.monotonic() < deadline


@pytest.mark.parametrize(
    ("url", "trusts", "says"),
    [
        ("rediss://inferyard:wrong@localhost:{port}", True, "redis://USER:PASSWORD@HOST"),
        ("rediss://localhost:{port}", True, None),
        ("rediss://nobody:x@localhost:{port}", True, "redis://USER:PASSWORD@HOST"),
        ("rediss://inferyard:{password}@localhost:{port}", False, "--redis-ca"),
        ("redis://127.0.0.1:1", True, "should begin with rediss://"),
    ],
    ids=["wrong password", "the default user", "unknown user", "unknown authority", "an authority without TLS"],
)
def test_what_is_wrong_is_said_with_what_to_do(secured: str, authority: Path, url: str, trusts: bool, says: str | None) -> None:
    port = secured.rpartition(":")[2]
    place = ["--redis", url.format(port=port, password=PASSWORD), *(["--redis-ca", str(authority)] if trusts else [])]
    listed = inferyard("keys", "list", *place)
    if says is None:
        assert listed.returncode == 0, listed.stderr
        return
    assert listed.returncode != 0
    assert says in listed.stderr
    assert PASSWORD not in listed.stderr


def test_a_user_without_a_permission_is_told_where_they_are_listed(server: Redis, secured: str, authority: Path) -> None:
    server("ACL", "SETUSER", "inferyard", "-hget", "-hmget", "-zrangebylex", "-eval")
    made = inferyard(
        "keys", "create", "--plan", "p", "--account", "a", "--name", "n", "--redis", secured, "--redis-ca", authority
    )
    assert made.returncode == 1
    assert "docs/limits.md" in made.stderr
