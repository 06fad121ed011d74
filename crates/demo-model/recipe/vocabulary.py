"""The vocabulary: one token per byte (ids 0 to 255), then the special tokens of special_tokens.txt."""

from pathlib import Path

HERE = Path(__file__).parent

SPECIAL_TOKENS: list[str] = (HERE / "special_tokens.txt").read_text().split()
CHAT_TEMPLATE: str = (HERE / "chat_template.jinja").read_text().rstrip("\n")
SIZE = 256 + len(SPECIAL_TOKENS)

# Engines that constrain decoding tell marker tokens by this kind: these two are part of the text.
TEXT_MARKERS = ("<tool_call>", "</tool_call>")


def special(token: str) -> int:
    """The id of a special token."""
    return 256 + SPECIAL_TOKENS.index(token)


BEGIN = special("<|begin|>")
SYSTEM = special("<|system|>")
USER = special("<|user|>")
ASSISTANT = special("<|assistant|>")
TOOL = special("<|tool|>")
END = special("<|im_end|>")
CALL_START = special("<tool_call>")
CALL_END = special("</tool_call>")
TOOLS = special("<|tools|>")
END_OF_TEXT = special("<|endoftext|>")


def encode(text: str) -> list[int]:
    """The ids of plain text: its UTF-8 bytes."""
    return list(text.encode())


def byte_names() -> list[str]:
    """The printable character that byte-level tokenizers write for each byte (GPT-2's alphabet)."""
    names, spare = [], 256
    for byte in range(256):
        if 33 <= byte <= 126 or 161 <= byte <= 172 or byte >= 174:
            names.append(chr(byte))
        else:
            names.append(chr(spare))
            spare += 1
    return names
