"""The payloads of the compatibility page, byte for byte as they stand there, and its advice."""

import json

import httpx2
import pytest

from inferyard import EXAMPLES
from sse import events

PAYLOADS = EXAMPLES / "payloads"
URL = "/v1/chat/completions"
JSON = {"content-type": "application/json"}


def post(http: httpx2.Client, body: bytes | str) -> httpx2.Response:
    return http.post(URL, content=body, headers=JSON)


def test_the_test_vector_is_answered(http: httpx2.Client) -> None:
    response = post(http, (PAYLOADS / "test-vector.json").read_bytes())
    assert response.status_code == 200
    assert "payload verified." in response.json()["choices"][0]["message"]["content"]


def test_the_test_vector_is_answered_without_the_field_stream(http: httpx2.Client) -> None:
    payload = json.loads((PAYLOADS / "test-vector.json").read_bytes())
    del payload["stream"]
    response = post(http, json.dumps(payload))
    assert "payload verified." in response.json()["choices"][0]["message"]["content"]


def test_the_test_vector_is_answered_as_a_stream(http: httpx2.Client) -> None:
    payload = json.loads((PAYLOADS / "test-vector.json").read_bytes()) | {"stream": True}
    text = "".join(
        choice["delta"].get("content") or ""
        for event in events(post(http, json.dumps(payload)).content)
        for choice in event["choices"]
    )
    assert "payload verified." in text


def test_the_streaming_payload_gives_tokens_one_by_one(http: httpx2.Client) -> None:
    response = post(http, (PAYLOADS / "stream.json").read_bytes())
    assert response.headers["content-type"] == "text/event-stream; charset=utf-8"
    pieces = [event["choices"][0]["delta"].get("content") for event in events(response.content)]
    assert "".join(piece or "" for piece in pieces) == "Hello from the tiny test model, happy to help."
    assert len(pieces) > 5


def test_the_tool_calling_payload_calls_the_tool(http: httpx2.Client) -> None:
    body = post(http, (PAYLOADS / "tool-call.json").read_bytes()).json()
    assert body["choices"][0]["finish_reason"] == "tool_calls"
    (call,) = body["choices"][0]["message"]["tool_calls"]
    assert call["type"] == "function"
    assert call["function"]["name"] == "get_order_status"
    assert json.loads(call["function"]["arguments"]) == {"order_id": "123"}


@pytest.mark.parametrize(
    ("method", "path", "headers", "body", "status", "advice"),
    [
        ("POST", URL, {"authorization": ""}, {}, 401, "Bearer"),
        ("POST", URL, {"authorization": "Bearer iy-wrong"}, {}, 401, "key"),
        ("POST", "/chat/completions", {}, {}, 404, "/v1"),
        ("POST", "/v1/chat", {}, {}, 404, "/chat/completions"),
        ("POST", URL, {}, {"model": "unheard-of", "messages": [{"role": "user", "content": "a"}]}, 400, "unheard-of"),
        ("POST", URL, {}, {"model": "demo", "messages": "hello"}, 400, "messages"),
    ],
)
def test_the_common_errors_say_what_the_page_says(
    http: httpx2.Client,
    method: str,
    path: str,
    headers: dict[str, str],
    body: dict[str, object],
    status: int,
    advice: str,
) -> None:
    response = http.request(method, path, headers=headers, json=body)
    assert response.status_code == status
    assert advice in response.json()["error"]["message"]
