"""`inferyard keys --url`: keys of a running service, made and ended from elsewhere with its admin key."""

import json
import os
import ssl
import subprocess
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import httpx2
import pytest

import certificates
from asking import reply_with
from inferyard import BINARY, Up
from resources import demo, plan, write
from servers import Postgres, Redis

# docs/keys.md promises 5 seconds, which tests of the cache hold to; here the machine may be busy.
PATIENCE_S = 180
ASK = {"model": "demo", "messages": reply_with("hello"), "max_tokens": 5}


@pytest.fixture
def up(start: Callable[..., Up], redis: Callable[..., Redis], postgres: Postgres, tmp_path: Path) -> Up:
    manifest = write(tmp_path / "keys.yaml", demo(), plan("default"), plan("basic", limits={"requestsPerDay": 1000}))
    return start(manifest, redis=redis().url, postgres=postgres.database())


def keys(*arguments: str, admin_key: str | None = None) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("INFERYARD_")}
    if admin_key is not None:
        environment["INFERYARD_ADMIN_KEY"] = admin_key
    return subprocess.run([BINARY, "keys", *arguments], capture_output=True, text=True, timeout=60, env=environment)


def done(ran: subprocess.CompletedProcess[str]) -> str:
    assert ran.returncode == 0, ran.stderr
    return ran.stdout.strip()


def create(up: Up, name: str, *flags: str) -> str:
    made = keys(
        "create", "--url", up.base_url, "--account", "acme", "--plan", "basic", "--name", name, *flags,
        admin_key=up.admin_key,
    )  # fmt: skip
    return done(made)


def ask(up: Up, key: str) -> httpx2.Response:
    return httpx2.post(
        f"{up.base_url}/chat/completions", json=ASK, headers={"authorization": f"Bearer {key}"}, timeout=60
    )


def wait_until_refused(up: Up, key: str) -> float:
    begun = time.monotonic()
    while (answer := ask(up, key)).status_code == 200:
        assert time.monotonic() < begun + PATIENCE_S, "the key still works"
    assert answer.status_code == 401
    return time.monotonic() - begun


def test_a_key_from_its_making_to_its_end(up: Up, tmp_path: Path, measured: Callable[[str, str], None]) -> None:
    admin_key = tmp_path / "admin-key"
    admin_key.write_text(f"{up.admin_key}\n")
    service = ("--url", up.base_url.removesuffix("/v1"), "--admin-key-file", str(admin_key))

    text = create(up, "ci", "--expires", "90d", "--requests-total", "500", "--budget-per-month", "2.50")
    answer = ask(up, text)
    assert answer.status_code == 200, answer.text
    assert answer.headers["x-ratelimit-limit-requests"] == "500", "its own limits, below its plan's"

    listed = [json.loads(line) for line in done(keys("list", *service, "--output", "json")).splitlines()]
    assert [(key["name"], key["account"], key["plan"], key["state"]) for key in listed] == [
        ("ci", "acme", "basic", "active")
    ]
    assert listed[0]["limits"] == {"requestsTotal": 500, "budgetPerMonth": "2.50"}
    assert text not in json.dumps(listed)

    rotated = json.loads(done(keys("rotate", "ci", *service, "--overlap", "1h", "--output", "json")))
    assert rotated["id"] == listed[0]["id"]
    assert rotated["key"] != text
    for works in (text, rotated["key"]):
        assert ask(up, works).status_code == 200

    # The text itself is known too, and goes out as its hash.
    assert rotated["id"] in done(keys("revoke", rotated["key"], *service))
    took = max(wait_until_refused(up, ended) for ended in (text, rotated["key"]))
    measured("key revoked over HTTP", f"refused after {took:.1f} s")
    assert rotated["id"] in done(keys("revoke", rotated["id"], *service)), "revoking again is no mistake"

    refused = keys("rotate", rotated["id"], *service)
    assert refused.returncode == 2
    assert "create a new one" in refused.stderr
    assert up.stop() == 0
    assert text not in up.log()
    assert rotated["key"] not in up.log()
    assert up.admin_key not in up.log()


def test_a_list_goes_over_pages_and_ends_where_it_is_told(up: Up) -> None:
    ids = []
    with up.http(headers={"authorization": f"Bearer {up.admin_key}"}) as http:
        for number in range(203):
            fields = {"name": f"key-{number}", "account": "acme", "plan": "basic"}
            made = http.post("/v1/organization/api_keys", json=fields)
            assert made.status_code == 200, made.text
            ids.append(made.json()["id"])
    ids.sort()  # an id begins with its millisecond: those of one have no order of their own

    def listed(*flags: str) -> tuple[list[str], str]:
        ran = keys("list", "--url", up.base_url, "--output", "json", *flags, admin_key=up.admin_key)
        return [json.loads(line)["id"] for line in done(ran).splitlines()], ran.stderr

    assert listed("--limit", "1000") == (ids, "")
    assert listed("--account", "nobody") == ([], "")
    first, note = listed("--limit", "102")
    assert first == ids[:102]
    after = note.split("--after ")[1].strip()
    assert listed("--limit", "102", "--after", after) == (ids[102:], "")
    assert up.stop() == 0


def test_what_is_wrong_is_said_with_what_to_do(up: Up, tmp_path: Path) -> None:
    create(up, "twin")
    create(up, "twin")
    flags = ("--url", up.base_url)
    for arguments, admin_key, code, expected in [
        (("list", *flags), None, 2, "--admin-key-file FILE, or set INFERYARD_ADMIN_KEY"),
        (("list", *flags), "iy-admin-wrong", 2, "says 401: Incorrect admin key"),
        (("list", *flags), up.api_key, 2, "Keys for inference are no admin keys"),
        (("list", *flags, "--admin-key-file", str(tmp_path / "none")), up.admin_key, 2, "No such file"),
        (("list", *flags, "-f", "keys.yaml"), up.admin_key, 2, "cannot be used with"),
        (("list", "--admin-key-file", "key"), up.admin_key, 2, "--url"),
        (("list", "--url", "http://127.0.0.1:1"), up.admin_key, 1, "is --url right?"),
        (("list", "--url", "redis://127.0.0.1"), up.admin_key, 2, "expected http://HOST"),
        (("list", "--url", up.metrics_url), up.admin_key, 2, "not Inferyard's"),
        (("revoke", "nobody", *flags), up.admin_key, 2, "there is no key of this id, name"),
        (("revoke", "twin", *flags), up.admin_key, 2, "several keys are called so"),
        (("rotate", "twin", *flags), up.admin_key, 2, "several keys are called so"),
        (("create", *flags, "--plan", "basic"), up.admin_key, 2, "needs --name and --account"),
        (("create", *flags, "--plan", "A!", "--name", "n", "--account", "a"), up.admin_key, 2, "plan: expected"),
    ]:
        ran = keys(*arguments, admin_key=admin_key)
        assert (ran.returncode, ran.stdout) == (code, ""), (arguments, ran.stdout, ran.stderr)
        assert expected in ran.stderr, (arguments, ran.stderr)
        for secret in (up.admin_key, up.api_key):
            assert secret not in ran.stderr
    assert up.stop() == 0


def test_a_service_without_a_key_store_says_so(start: Callable[..., Up], tmp_path: Path) -> None:
    up = start(write(tmp_path / "keys.yaml", demo()))
    ran = keys("list", "--url", up.base_url, admin_key=up.admin_key)
    assert ran.returncode == 2
    assert "It has no key store" in ran.stderr
    assert up.stop() == 0


@pytest.fixture
def encrypted(tmp_path: Path) -> Iterator[tuple[str, Path]]:
    """An HTTPS server with a list of no keys, and the certificate of its authority."""
    files = certificates.authority(tmp_path)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = b'{"object":"list","data":[],"has_more":false}'
            self.send_response(200)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(files.server, files.key)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = Thread(target=server.serve_forever)
    thread.start()
    yield f"https://127.0.0.1:{server.server_address[1]}", files.certificate
    server.shutdown()
    thread.join()
    server.server_close()


def test_https_trusts_the_authority_that_it_is_given(encrypted: tuple[str, Path]) -> None:
    url, certificate = encrypted
    ran = keys("list", "--url", url, admin_key="iy-admin-x")
    assert ran.returncode == 1
    assert "--ca FILE" in ran.stderr, ran.stderr
    listed = done(keys("list", "--url", url, "--ca", str(certificate), admin_key="iy-admin-x"))
    assert listed.split() == ["NAME", "ACCOUNT", "PLAN", "KEY", "EXPIRES", "STATE"]
