"""The words that every test asks with."""

from typing import Any

GREETING = "Hello from the tiny test model, happy to help."

STATUS_TOOL: dict[str, Any] = {
    "type": "function",
    "function": {
        "name": "get_order_status",
        "description": "Lookup an order status by id.",
        "parameters": {
            "type": "object",
            "properties": {"order_id": {"type": "string"}},
            "required": ["order_id"],
            "additionalProperties": False,
        },
    },
}

COUNT_TOOL: dict[str, Any] = {
    "type": "function",
    "function": {
        "name": "count_items",
        "parameters": {
            "type": "object",
            "properties": {"order": {"type": "integer"}},
            "required": ["order"],
            "additionalProperties": False,
        },
    },
}


def user(content: Any) -> list[Any]:
    """A conversation of one message."""
    return [{"role": "user", "content": content}]


def reply_with(text: str) -> list[Any]:
    """The demo model answers with the text."""
    return user(f"Reply with: {text}")


def repeat(text: str) -> list[Any]:
    """The demo model answers with the text again and again, without an end."""
    return user(f"Repeat: {text}")
