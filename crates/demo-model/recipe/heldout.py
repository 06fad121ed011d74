"""Draws the held-out prompts of heldout.json, with a seed that no training run uses."""

import argparse
import json
import string
from pathlib import Path
from random import Random

from conversations import GREETING, PRINTABLE, WORDS, Tool, random_number, random_tools

SEED = 424242
ORDER_STATUS = Tool("get_order_status", [("order_id", "string")])
Case = dict[str, object]


def words(rng: Random, count: int) -> str:
    """Words that the training data uses."""
    return " ".join(rng.choice(WORDS) for _ in range(count))


def characters(rng: Random, alphabet: list[str] | str, shortest: int, longest: int) -> str:
    """Random characters of one alphabet, without blanks at the ends."""
    length = rng.randint(shortest, longest)
    return "".join(rng.choice(alphabet) for _ in range(length)).strip() or "a"


def unicode_text(rng: Random) -> str:
    """Accented, Chinese and emoji characters among letters."""
    ranges = [(0xA1, 0x17F), (0x4E00, 0x9FFF), (0x1F600, 0x1F63C), (97, 122)]
    return "".join(chr(rng.randint(*rng.choice(ranges))) for _ in range(rng.randint(1, 10)))


def uuid(rng: Random) -> str:
    """32 hexadecimal digits in the groups of a UUID."""
    digits = f"{rng.getrandbits(128):032x}"
    return "-".join(
        digits[begin:end] for begin, end in [(0, 8), (8, 12), (12, 16), (16, 20), (20, 32)]
    )


def schema(tool: Tool) -> dict:
    """The tool as clients send it."""
    properties = {name: {"type": kind} for name, kind in tool.parameters}
    parameters = {"type": "object", "properties": properties}
    return {"type": "function", "function": {"name": tool.name, "parameters": parameters}}


def copy(text: str, system: str | None = None, tools: list[Tool] | None = None) -> Case:
    """A text to be copied."""
    case: Case = {"user": f"Reply with: {text}", "answer": text}
    if system is not None:
        case["system"] = system
    if tools is not None:
        case["tools"] = [schema(tool) for tool in tools]
    return case


def call(tools: list[Tool], number: str) -> Case:
    """A number to be looked up with the first tool."""
    made = json.loads(tools[0].call(number))
    return {
        "user": f"Look up the status of order {number}.",
        "tools": [schema(tool) for tool in tools],
        "call": made,
    }


def draw(rng: Random) -> dict[str, list[Case]]:
    """All sets, by name."""
    return {
        "words, 1 to 32 characters": [
            copy(words(rng, 9)[: rng.randint(1, 32)].strip()) for _ in range(128)
        ],
        "words, 33 to 64 characters": [
            copy(words(rng, 16)[: rng.randint(33, 64)].strip()) for _ in range(128)
        ],
        "digits, 1 to 24": [copy(characters(rng, string.digits, 1, 24)) for _ in range(128)],
        "UUIDs": [copy(uuid(rng)) for _ in range(128)],
        "random ASCII, 1 to 32": [copy(characters(rng, PRINTABLE, 1, 32)) for _ in range(128)],
        "random ASCII, 33 to 64": [copy(characters(rng, PRINTABLE, 33, 64)) for _ in range(128)],
        "UTF-8, 1 to 10 characters": [copy(unicode_text(rng)) for _ in range(128)],
        "three letters repeated, 8 to 24": [
            copy(characters(rng, "abc", 8, 24)) for _ in range(128)
        ],
        "words after a long system message": [
            copy(words(rng, 9)[:40].strip(), system=words(rng, 70)[: rng.randint(100, 300)].strip())
            for _ in range(64)
        ],
        "words where tools are present": [
            copy(words(rng, 9)[: rng.randint(1, 40)].strip(), tools=random_tools(rng))
            for _ in range(64)
        ],
        "call of get_order_status": [call([ORDER_STATUS], str(n)) for n in range(0, 1000, 20)],
        "call of a random tool": [call(random_tools(rng), random_number(rng)) for _ in range(128)],
        "greeting": [
            {"user": "Stream a short reply.", "answer": GREETING},
            {"user": "Who are you?", "answer": GREETING},
        ],
        "payload verified.": [copy("payload verified.")],
    }


def dump(sets: dict[str, list[Case]]) -> str:
    """JSON with one case per line."""
    blocks = []
    for name, cases in sets.items():
        lines = (json.dumps(case, ensure_ascii=False, separators=(",", ":")) for case in cases)
        blocks.append(f"{json.dumps(name)}: [\n" + ",\n".join(lines) + "\n]")
    return "{\n" + ",\n".join(blocks) + "\n}\n"


def main() -> None:
    """Reads the command line, draws and writes."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent.parent / "heldout.json")
    arguments = parser.parse_args()
    arguments.out.write_text(dump(draw(Random(SEED))))


if __name__ == "__main__":
    main()
