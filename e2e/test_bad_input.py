"""Bytes that no SDK sends: each gets its status, code and param, and the server goes on serving."""

import json
import re
import socket
from collections.abc import Iterator
from dataclasses import dataclass, field

import httpx2
import pytest

from asking import reply_with
from inferyard import Up

URL = "/v1/chat/completions"
GOOD = json.dumps({"model": "demo", "messages": reply_with("still here"), "temperature": 0}).encode()


@pytest.fixture(autouse=True)
def still_serving(http: httpx2.Client) -> Iterator[None]:
    """After every one of them the server answers as before."""
    yield
    answer = http.post(URL, content=GOOD, headers={"content-type": "application/json"})
    assert answer.status_code == 200
    assert answer.json()["choices"][0]["message"]["content"] == "still here"


@dataclass(frozen=True)
class Bad:
    """What is sent and what must come back."""

    name: str
    status: int
    body: bytes = GOOD
    method: str = "POST"
    path: str = URL
    headers: dict[str, str] = field(default_factory=dict)
    code: str | None = None
    param: str | None = None


def chat(messages: bytes, more: bytes = b"") -> bytes:
    return b'{"model":"demo","messages":' + messages + more + b"}"


def field_of(more: bytes) -> bytes:
    return chat(b'[{"role":"user","content":"a"}]', b"," + more)


HI = b'[{"role":"user","content":"%s"}]'
BAD = [
    # Not JSON
    Bad("empty body", 400, b""),
    Bad("blank body", 400, b"   "),
    Bad("no JSON", 400, b"hello"),
    Bad("half an object", 400, GOOD[:-1]),
    Bad("something after it", 400, GOOD + b"x"),
    Bad("two objects", 400, GOOD + GOOD),
    Bad("trailing comma", 400, GOOD[:-1] + b",}"),
    Bad("single quotes", 400, GOOD.replace(b'"', b"'")),
    Bad("a comment", 400, b"/* hello */" + GOOD),
    Bad("NaN", 400, field_of(b'"temperature":NaN')),
    Bad("leading zero", 400, field_of(b'"n":01')),
    Bad("invalid UTF-8", 400, chat(HI % b"\xff\xfe")),
    Bad("overlong UTF-8", 400, chat(HI % b"\xc0\xaf")),
    Bad("a surrogate in UTF-8", 400, chat(HI % b"\xed\xa0\x80")),
    Bad("half a character at the end", 400, chat(HI % b"\xf0\x9f\x98")),
    Bad("UTF-16", 400, GOOD.decode().encode("utf-16")),
    Bad("a NUL byte in a text", 400, chat(HI % b"a\x00b")),
    Bad("NUL bytes only", 400, b"\x00" * 1000),
    Bad("a raw line feed in a text", 400, chat(HI % b"a\nb")),
    Bad("an unknown escape", 400, chat(HI % rb"\x41")),
    # Deep nesting
    Bad("deep messages", 400, chat(b"[" * 100_000 + b"]" * 100_000), code="invalid_type", param="messages[0]"),
    Bad("deep and never closed", 400, b"[" * 100_000),
    Bad("a deep unknown field, never closed", 400, field_of(b'"x":' + b"[" * 100_000)),
    Bad("deep objects in an unknown field", 400, field_of(b'"x":' + b'{"a":' * 50_000 + b"1" + b"}" * 50_000)),
    Bad("deep tools", 400, field_of(b'"tools":' + b"[" * 50_000 + b"]" * 50_000)),
    Bad(
        "deep schema",
        400,
        field_of(
            b'"response_format":{"type":"json_schema","json_schema":{"name":"a","schema":'
            + b'{"items":' * 5_000 + b"{}" + b"}" * 5_000 + b"}}"
        ),
    ),
    # Keys twice
    Bad("a role twice", 400, chat(b'[{"role":"user","role":"system","content":"a"}]'), param="messages[0].role"),
    Bad("a content twice", 400, chat(rb'[{"role":"user","content":"a","cont\u0065nt":"b"}]'), param="messages[0].content"),
    Bad(
        "a part's type twice",
        400,
        chat(b'[{"role":"user","content":[{"type":"image_url","type":"text","text":"a"}]}]'),
        param="messages[0].content[0].type",
    ),
    Bad("a bias twice", 400, field_of(b'"logit_bias":{"1":1,"1":2}'), param="logit_bias.1"),
    Bad("a key of an unknown field twice", 400, field_of(b'"x":[{"y":1,"y":1}]'), param="x[0].y"),
    Bad(
        "a keyword of a schema twice",
        400,
        field_of(
            b'"response_format":{"type":"json_schema","json_schema":{"name":"a","schema":{"type":"object","type":"array"}}}'
        ),
        param="response_format.json_schema.schema.type",
    ),
    # Wrong types
    Bad("an array", 400, b"[]"),
    Bad("a text", 400, b'"hello"'),
    Bad("null", 400, b"null"),
    Bad("no model", 400, b'{"messages":' + HI % b"a" + b"}", code="missing_required_parameter", param="model"),
    Bad("model is a number", 400, b'{"model":7,"messages":' + HI % b"a" + b"}", code="invalid_type", param="model"),
    Bad("no messages", 400, b'{"model":"demo"}', code="missing_required_parameter", param="messages"),
    Bad("messages is null", 400, chat(b"null"), param="messages"),
    Bad("messages is a text", 400, chat(b'"hello"'), code="invalid_type", param="messages"),
    Bad("messages is empty", 400, chat(b"[]"), code="empty_array", param="messages"),
    Bad("a message is a text", 400, chat(b'["hello"]'), code="invalid_type", param="messages[0]"),
    Bad("a message without role", 400, chat(b'[{"content":"a"}]'), code="missing_required_parameter", param="messages[0].role"),
    Bad("stream is a text", 400, field_of(b'"stream":"yes"'), code="invalid_type", param="stream"),
    Bad("stream_options without stream", 400, field_of(b'"stream_options":{"include_usage":true}'), param="stream_options"),
    Bad("negative max_tokens", 400, field_of(b'"max_tokens":-1'), code="integer_below_min_value", param="max_tokens"),
    Bad("max_tokens is a fraction", 400, field_of(b'"max_tokens":1.5'), code="invalid_type", param="max_tokens"),
    Bad("max_tokens beyond every integer", 400, field_of(b'"max_tokens":' + b"9" * 60), param="max_tokens"),
    Bad("temperature beyond every bound", 400, field_of(b'"temperature":1e300'), param="temperature"),
    Bad("a number beyond every double", 400, field_of(b'"temperature":1e999')),
    Bad("digits beyond every double", 400, field_of(b'"max_tokens":' + b"9" * 400)),
    Bad("unknown model", 400, GOOD.replace(b"demo", b"unheard-of"), code="model_not_found", param="model"),
    Bad("a model's name with a NUL", 400, GOOD.replace(b"demo", rb"de\u0000mo"), code="model_not_found", param="model"),
    Bad("a model's name of a megabyte", 400, GOOD.replace(b"demo", b"d" * 1_000_000), param="model"),
    Bad("prompt longer than the context", 400, chat(HI % (b"x" * 5000)), code="context_length_exceeded", param="messages"),
    Bad("audio", 400, field_of(b'"modalities":["text","audio"]'), param="modalities"),
    Bad("store", 400, field_of(b'"store":true'), param="store"),
    # Heads
    Bad("unknown path", 404, path="/v1/chat/completion"),
    Bad("unknown path, encoded", 404, path="/v1/%2e%2e/%00"),
    Bad("root", 404, method="GET", path="/", body=b""),
    Bad("wrong method", 405, method="GET", body=b""),
    Bad("wrong method on models", 405, method="DELETE", path="/v1/models", body=b""),
    Bad("no key", 401, headers={"authorization": ""}),
    Bad("another scheme", 401, headers={"authorization": "Basic dTpw"}),
    Bad("wrong key", 401, headers={"authorization": "Bearer iy-" + "x" * 43}, code="invalid_api_key"),
    Bad("a key of 16 KB", 401, headers={"authorization": "Bearer " + "x" * 16_000}, code="invalid_api_key"),
    Bad("no content type", 415, headers={"content-type": ""}),
    Bad("a form", 415, headers={"content-type": "application/x-www-form-urlencoded"}),
    Bad("plain text", 415, headers={"content-type": "text/plain"}),
    Bad("compressed", 415, headers={"content-encoding": "gzip"}),
    Bad("5 MB", 413, chat(HI % (b"x" * 5_000_000))),
    Bad("5 MB of blanks", 413, b" " * 5_000_000 + GOOD),
]


@pytest.mark.parametrize("bad", BAD, ids=lambda bad: bad.name)
def test_bad_input_is_answered_by_the_table(http: httpx2.Client, bad: Bad) -> None:
    headers = {"content-type": "application/json"} | bad.headers
    response = http.request(bad.method, bad.path, content=bad.body, headers=headers)
    assert response.status_code == bad.status, response.text[:500]
    assert response.headers["content-type"].startswith("application/json")
    assert re.fullmatch(r"req_[0-9a-f]{32}", response.headers["x-request-id"])
    body = response.json()
    assert list(body) == ["error"]
    error = body["error"]
    assert list(error) == ["message", "type", "param", "code"]
    assert error["type"] == "invalid_request_error"
    assert error["message"]
    assert len(response.content) < 4096, "an answer does not echo what was sent"
    assert error["param"] == bad.param
    if bad.code is not None:
        assert error["code"] == bad.code
    if bad.status == 405:
        assert response.headers["allow"]


@pytest.mark.parametrize(
    "content_type", ["application/json", "application/json; charset=utf-8", "Application/JSON", "application/json;charset=UTF-8"]
)
def test_every_spelling_of_json_is_accepted(http: httpx2.Client, content_type: str) -> None:
    assert http.post(URL, content=GOOD, headers={"content-type": content_type}).status_code == 200


def test_an_escaped_nul_is_a_character_like_others(http: httpx2.Client) -> None:
    response = http.post(URL, content=chat(HI % rb"a\u0000b"), headers={"content-type": "application/json"})
    assert response.status_code == 200


def test_a_lone_surrogate_does_no_harm(http: httpx2.Client) -> None:
    response = http.post(URL, content=chat(HI % rb"\ud800"), headers={"content-type": "application/json"})
    assert response.status_code in (200, 400)


def test_a_large_body_within_the_limit_is_read(http: httpx2.Client) -> None:
    blanks = b" " * 3_900_000
    response = http.post(URL, content=blanks + GOOD, headers={"content-type": "application/json"})
    assert response.status_code == 200


# Raw connections


def connect(server: Up) -> socket.socket:
    host, port = server.base_url.removeprefix("http://").removesuffix("/v1").rsplit(":", 1)
    connection = socket.create_connection((host, int(port)), timeout=60)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return connection


def head(server: Up, *lines: str) -> bytes:
    fixed = (f"POST {URL} HTTP/1.1", "host: localhost", "content-type: application/json")
    return "\r\n".join([*fixed, f"authorization: Bearer {server.api_key}", *lines, "", ""]).encode()


def answer(connection: socket.socket) -> bytes:
    """Everything up to the end of the connection."""
    received = bytearray()
    while piece := connection.recv(65536):
        received += piece
    return bytes(received)


def test_a_request_in_chunks_of_one_byte_is_served(server: Up) -> None:
    with connect(server) as connection:
        connection.sendall(head(server, "transfer-encoding: chunked", "connection: close"))
        for byte in GOOD:
            connection.sendall(b"1\r\n%c\r\n" % byte)
        connection.sendall(b"0\r\n\r\n")
        received = answer(connection)
    assert received.startswith(b"HTTP/1.1 200 ")
    assert b"still here" in received


def test_a_request_in_packets_of_one_byte_is_served(server: Up) -> None:
    request = head(server, f"content-length: {len(GOOD)}", "connection: close") + GOOD
    with connect(server) as connection:
        for position in range(len(request)):
            connection.sendall(request[position : position + 1])
        received = answer(connection)
    assert received.startswith(b"HTTP/1.1 200 ")
    assert b"still here" in received


def test_two_requests_at_once_on_one_connection_are_both_served(server: Up) -> None:
    first = head(server, f"content-length: {len(GOOD)}") + GOOD
    last = head(server, f"content-length: {len(GOOD)}", "connection: close") + GOOD
    with connect(server) as connection:
        connection.sendall(first + last)
        received = answer(connection)
    assert received.count(b"HTTP/1.1 200 ") == 2
    assert received.count(b"still here") == 2


def test_an_endless_body_is_cut_at_the_limit(server: Up) -> None:
    with connect(server) as connection:
        connection.sendall(head(server, "transfer-encoding: chunked"))
        chunk = b"10000\r\n" + b" " * 65536 + b"\r\n"
        sent = 0
        try:
            while sent < 64 * 1024 * 1024:
                connection.sendall(chunk)
                sent += 65536
        except OSError:
            pass
        assert sent < 64 * 1024 * 1024, "the server reads on and on"


@pytest.mark.parametrize(
    "sent",
    [
        pytest.param(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", id="TLS"),
        pytest.param(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", id="HTTP/2"),
        pytest.param(b"hello\r\n\r\n", id="no HTTP"),
        pytest.param(b"\x00" * 10_000, id="NUL bytes"),
        pytest.param(b"GET / HTTP/1.1\r\n" + b"x: " + b"y" * 1_000_000 + b"\r\n\r\n", id="a header of a megabyte"),
        pytest.param(b"GET / HTTP/1.1\r\n" + b"x: y\r\n" * 10_000 + b"\r\n", id="10,000 headers"),
        pytest.param(b"POST /v1/chat/completions HTTP/1.1\r\ncontent-length: -1\r\n\r\n", id="negative length"),
        pytest.param(
            b"POST /v1/chat/completions HTTP/1.1\r\nhost: a\r\ncontent-length: 5\r\ncontent-length: 6\r\n\r\nhello!",
            id="two lengths",
        ),
        pytest.param(b"", id="nothing"),
    ],
)
def test_what_is_no_http_ends_its_own_connection_only(server: Up, sent: bytes) -> None:
    with connect(server) as connection:
        try:
            connection.sendall(sent)
            connection.shutdown(socket.SHUT_WR)
            received = answer(connection)
        except OSError:
            received = b""
    assert not received.startswith((b"HTTP/1.1 2", b"HTTP/1.1 5"))


def test_a_client_that_leaves_in_the_middle_of_its_body_does_no_harm(server: Up) -> None:
    for _ in range(20):
        with connect(server) as connection:
            connection.sendall(head(server, f"content-length: {len(GOOD)}") + GOOD[:20])
