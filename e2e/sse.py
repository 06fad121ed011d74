"""Server-sent events as the contract has them, checked strictly."""

import json
from typing import Any


def frames(body: bytes) -> list[str]:
    """The data of every event. Each is one `data:` line and an empty line; the last one is `[DONE]`."""
    text = body.decode()
    assert text.endswith("\n\n"), f"the stream ends in the middle of an event: {text[-200:]!r}"
    data = []
    for event in text.removesuffix("\n\n").split("\n\n"):
        if event.startswith(":"):
            continue
        assert event.startswith("data: "), event
        assert "\n" not in event, event
        data.append(event.removeprefix("data: "))
    assert data[-1] == "[DONE]", f"the stream ends without [DONE]: {data[-1]}"
    assert data.count("[DONE]") == 1
    return data


def events(body: bytes) -> list[dict[str, Any]]:
    """Every event but `[DONE]`, as JSON."""
    return [json.loads(frame) for frame in frames(body)[:-1]]
