"""What HTTP clients, browsers and probes rely on: headers, CORS, health, metrics."""

import re

import httpx2
import pytest

from asking import reply_with
from inferyard import Up

URL = "/v1/chat/completions"
ASK = {"model": "demo", "messages": reply_with("ok"), "temperature": 0}


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("POST", URL, ASK),
        ("POST", URL, ASK | {"stream": True}),
        ("POST", URL, {}),
        ("GET", "/v1/models", None),
        ("GET", "/v1/nowhere", None),
    ],
)
def test_every_answer_has_openais_headers(http: httpx2.Client, method: str, path: str, body: object) -> None:
    headers = http.request(method, path, json=body).headers
    assert re.fullmatch(r"req_[0-9a-f]{32}", headers["x-request-id"])
    assert headers["openai-version"] == "2020-10-01"
    assert headers["openai-processing-ms"].isdigit()
    assert headers["x-content-type-options"] == "nosniff"
    assert "x-request-id" in headers["access-control-expose-headers"].lower()


def test_every_request_has_an_id_of_its_own(http: httpx2.Client) -> None:
    ids = {http.post(URL, json=ASK).headers["x-request-id"] for _ in range(10)}
    assert len(ids) == 10


def test_a_stream_is_neither_cached_nor_buffered(http: httpx2.Client) -> None:
    headers = http.post(URL, json=ASK | {"stream": True}).headers
    assert headers["content-type"] == "text/event-stream; charset=utf-8"
    assert "no-cache" in headers["cache-control"]
    assert headers["x-accel-buffering"] == "no"


def test_a_browser_on_another_origin_may_call(http: httpx2.Client) -> None:
    origin = {"origin": "https://app.example"}
    preflight = http.options(
        URL,
        headers=origin
        | {"access-control-request-method": "POST", "access-control-request-headers": "authorization,content-type"},
    )
    assert preflight.status_code in (200, 204)
    assert preflight.headers["access-control-allow-origin"] in ("*", "https://app.example")
    assert "POST" in preflight.headers["access-control-allow-methods"]
    allowed = preflight.headers["access-control-allow-headers"].lower()
    assert "authorization" in allowed and "content-type" in allowed
    for answer in (http.post(URL, json=ASK, headers=origin), http.post(URL, json={}, headers=origin)):
        assert answer.headers["access-control-allow-origin"] in ("*", "https://app.example")


def test_the_probes_need_no_key(server: Up) -> None:
    with server.http(headers={}) as anonymous:
        assert anonymous.get("/healthz").status_code == 200
        assert anonymous.get("/readyz").status_code == 200
        assert anonymous.get("/v1/models").status_code == 401


def test_metrics_have_a_port_of_their_own_and_count(server: Up, http: httpx2.Client) -> None:
    def page() -> str:
        response = httpx2.get(server.metrics_url)
        assert response.status_code == 200
        return response.text

    def total(text: str) -> float:
        return sum(
            float(line.rsplit(" ", 1)[1])
            for line in text.splitlines()
            if re.match(r"\w*requests_total\{", line) and "chat" in line
        )

    before = total(page())
    http.post(URL, json=ASK)
    http.post(URL, json={})
    assert total(page()) == before + 2
    assert http.get("/metrics").status_code == 404


def test_a_connection_is_used_again(server: Up) -> None:
    limits = httpx2.Limits(max_connections=1, max_keepalive_connections=1)
    with server.http(limits=limits) as client:
        ports = set()
        for body in (ASK, {}, ASK | {"stream": True}, ASK):
            with client.stream("POST", URL, json=body) as response:
                stream = response.extensions["network_stream"]
                ports.add(stream.get_extra_info("client_addr"))
                response.read()
    assert len(ports) == 1
