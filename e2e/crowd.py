"""Thousands of clients at once: each a connection of its own with one request, and nothing between it and the test."""

import asyncio
import json
import time
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit
from weakref import WeakKeyDictionary

PATIENCE_S = 300
# Clients that connect and send at a time. A router closes a connection without a head after 10 s, and on a busy
# machine the one thread of all clients would take longer for thousands of them.
SENDING = 64

_senders: WeakKeyDictionary[asyncio.AbstractEventLoop, asyncio.Semaphore] = WeakKeyDictionary()


@dataclass
class Answer:
    """What one client got."""

    status: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    # False: the connection broke, or the client left.
    whole: bool = False
    # What broke the connection; empty: nothing did.
    broke: str = ""
    # Seconds from the request to its end, to the head, and the longest between two pieces of the answer.
    seconds: float = 0
    head_after: float = 0
    longest_pause: float = 0

    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def error(self) -> dict[str, Any]:
        """The error of an answer that is one."""
        return self.json()["error"]

    @property
    def request_id(self) -> str:
        """What the router calls this request in its log; empty where no head came."""
        return self.headers.get("x-request-id", "")

    def errors(self) -> list[str]:
        """The messages of the error frames of a stream."""
        return [frame["error"]["message"] for frame in self.frames() if "error" in frame]

    def how_it_ended(self) -> str:
        """All that this side knows of an answer that is not what it should be."""
        return (
            f"{self.request_id or 'no request id'}: status {self.status}, {len(self.body)} bytes, "
            f"{'whole' if self.whole else 'not whole'}, {self.broke or 'no exception'}, head after {self.head_after:.1f} s, "
            f"end after {self.seconds:.1f} s, longest pause {self.longest_pause:.1f} s, last bytes {self.body[-300:]!r}"
        )

    def frames(self) -> list[Any]:
        """The events of a stream that have arrived whole, `[DONE]` aside."""
        data = [event.removeprefix(b"data: ") for event in self.body.split(b"\n\n")[:-1] if event.startswith(b"data: ")]
        return [json.loads(event) for event in data if event != b"[DONE]"]

    def usage(self) -> dict[str, Any] | None:
        """What the server says that was used; `None` where it did not come to that."""
        if not self.headers.get("content-type", "").startswith("text/event-stream"):
            return self.json().get("usage")
        found = [frame["usage"] for frame in self.frames() if frame.get("usage")]
        return found[-1] if found else None

    def is_complete_stream(self) -> bool:
        """A stream that came to its end without an error frame."""
        return self.status == 200 and self.whole and self.body.endswith(b"data: [DONE]\n\n") and not self.errors()

    def tokens_received(self) -> int:
        """Produced tokens that have arrived, of a stream with `logprobs`."""
        choices = [choice for frame in self.frames() for choice in frame.get("choices", ())]
        return sum(len(choice["logprobs"]["content"] or ()) for choice in choices if choice.get("logprobs"))


@dataclass
class Leaving:
    """Tells when clients have begun to read, and can let one leave."""

    begun: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(0))
    # The client goes away once it has so many bytes of the answer.
    after: int | None = None


async def post(
    base_url: str, key: str | None, body: Any, leaving: Leaving | None = None, headers: dict[str, str] | None = None
) -> Answer:
    """One request for a chat completion, to its end."""
    answer = Answer()
    begun = time.monotonic()
    try:
        async with asyncio.timeout(PATIENCE_S):
            await _post(answer, base_url, key, body, leaving or Leaving(), headers or {})
    except (ConnectionError, asyncio.IncompleteReadError) as error:
        answer.broke = repr(error)
    except TimeoutError:
        raise TimeoutError(f"no end within {PATIENCE_S} s: {answer.how_it_ended()}") from None
    finally:
        answer.seconds = time.monotonic() - begun
    return answer


def _sending() -> asyncio.Semaphore:
    return _senders.setdefault(asyncio.get_running_loop(), asyncio.Semaphore(SENDING))


async def _post(
    answer: Answer, base_url: str, key: str | None, body: Any, leaving: Leaving, headers: dict[str, str]
) -> None:
    url = urlsplit(base_url)
    content = json.dumps(body).encode()
    head = {"host": url.netloc, "content-type": "application/json", "content-length": str(len(content)), "connection": "close"}
    if key is not None:
        head["authorization"] = f"Bearer {key}"
    lines = "".join(f"{name}: {value}\r\n" for name, value in (head | headers).items())
    request = f"POST {url.path}/chat/completions HTTP/1.1\r\n{lines}\r\n".encode() + content
    async with _sending():
        reader, writer = await asyncio.open_connection(url.hostname, url.port)
        writer.write(request)
    try:
        await _read(answer, reader, leaving)
    finally:
        writer.close()


async def _read(answer: Answer, reader: asyncio.StreamReader, leaving: Leaving) -> None:
    last = begun = time.monotonic()
    status, *lines = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")[:-2]
    answer.head_after = time.monotonic() - begun
    answer.headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
    answer.status = int(status.split()[1])
    if "content-length" in answer.headers:
        answer.body = await reader.readexactly(int(answer.headers["content-length"]))
        answer.whole = True
        return
    while size := int(await reader.readuntil(b"\r\n"), 16):
        answer.body += (await reader.readexactly(size + 2))[:-2]
        now = time.monotonic()
        answer.longest_pause, last = max(answer.longest_pause, now - last), now
        if len(answer.body) > 0:
            leaving.begun.release()
        if leaving.after is not None and len(answer.body) >= leaving.after:
            return
    answer.whole = True


async def all_at_once(base_urls: list[str], key: str, bodies: list[Any]) -> list[Answer]:
    """Every body as a request of its own, spread over the routers."""
    return await asyncio.gather(
        *(post(base_urls[number % len(base_urls)], key, body) for number, body in enumerate(bodies))
    )
