"""Synthetic conversations: everything that the model ever read is made up here, from a seed."""

import json
import string
from dataclasses import dataclass, field
from random import Random

import numpy as np
import vocabulary as vocab

GREETING = "Hello from the tiny test model, happy to help."
PRINTABLE = [chr(code) for code in range(32, 127)]
WORDS = (
    "payload verified order status ready done the a of to and in is it on for with that request "
    "response server worker router token stream model cache batch queue replica pod node cluster "
    "ok yes no hello world alpha beta gamma delta red green blue cat dog tree river stone cloud "
    "light dark fast slow quick brown fox jumps over lazy"
).split()
NOUNS = (
    "order invoice ticket user job parcel booking account item case shipment build node pod customer"
).split()
QUESTIONS = [
    "Look up {noun} {number}.",
    "What is the status of {noun} {number}?",
    "Find {noun} {number}",
    "Please check {noun} {number}.",
    "Get {noun} {number}, please.",
    "Where is {noun} {number}?",
    "Look up {noun} {number} and tell me its status.",
    "What happened to {noun} {number}?",
]
SMALL_TALK = [
    "Hi",
    "Hello",
    "Hello!",
    "Say hello.",
    "Say something.",
    "Who are you?",
    "ping",
    "Tell me a story.",
    "How are you?",
    "Write one sentence.",
]


@dataclass(frozen=True)
class Tool:
    """A function that the model may call."""

    name: str
    parameters: list[tuple[str, str]]

    def render(self) -> str:
        """The tool as the chat template shows it."""
        return f"{self.name}({','.join(f'{name}:{kind}' for name, kind in self.parameters)})\n"

    def call(self, number: str) -> str:
        """The call of this tool with `number` as its first argument, in the model's own words."""
        argument, kind = self.parameters[0]
        value = f'"{number}"' if kind == "string" else number
        return f'{{"name": "{self.name}", "arguments": {{"{argument}": {value}}}}}'


@dataclass(frozen=True)
class Mix:
    """How often each kind of conversation occurs; what neither copies, repeats nor calls, greets."""

    tools: float
    system: float
    more_turns: float
    copy: float
    repeat: float


@dataclass
class Tokens:
    """A token sequence, and which tokens of it the model is to produce itself."""

    ids: list[int] = field(default_factory=list)
    produced: list[int] = field(default_factory=list)

    def add(self, ids: list[int], produced: bool = False) -> None:
        """Appends tokens."""
        self.ids.extend(ids)
        self.produced.extend([int(produced)] * len(ids))


def random_word(rng: Random, shortest: int = 1, longest: int = 9) -> str:
    """Lower-case letters."""
    return "".join(
        rng.choice(string.ascii_lowercase) for _ in range(rng.randint(shortest, longest))
    )


def identifier(rng: Random) -> str:
    """A name like those of functions and parameters."""
    parts = rng.randint(1, 3)
    return "_".join(
        rng.choice(WORDS) if rng.random() < 0.4 else random_word(rng, 2, 8) for _ in range(parts)
    )


def prose(rng: Random, length: int) -> str:
    """Words, known and made up, with capitals and punctuation."""
    text, known = "", rng.random()
    while len(text) < length:
        word = rng.choice(WORDS) if rng.random() < known else random_word(rng)
        if rng.random() < 0.15:
            word = word.capitalize()
        if rng.random() < 0.05:
            word = word.upper()
        if rng.random() < 0.1:
            word += rng.choice(",.:;!?-")
        text += word + " "
    text = text[:length].rstrip()
    return text[:-1] + rng.choice(".!?") if rng.random() < 0.4 else text


def small_json(rng: Random, longest: int) -> str:
    """A small JSON object."""

    def value() -> object:
        return rng.choice([rng.randint(0, 999), True, False, None, random_word(rng), [1, 2]])

    text = json.dumps({random_word(rng, 1, 6): value() for _ in range(rng.randint(1, 3))})
    if len(text) > longest:
        text = json.dumps({random_word(rng, 1, 3): rng.randint(0, 99)})
    return text


def foreign(rng: Random, length: int) -> str:
    """Accented, Greek, Chinese and emoji characters among letters and blanks."""

    def character() -> str:
        return chr(
            rng.choice(
                [
                    rng.randint(0xA1, 0x17F),
                    rng.randint(0x391, 0x3C9),
                    rng.randint(0x4E00, 0x9FFF),
                    rng.randint(0x1F600, 0x1F64F),
                    rng.randint(97, 122),
                    32,
                ]
            )
        )

    return "".join(character() for _ in range(max(1, length // 2)))


def random_text(rng: Random, shortest: int, longest: int) -> str:
    """Some text of about that many characters, without blanks at its ends, never empty."""
    length, kind = rng.randint(shortest, longest), rng.random()
    if kind < 0.18:
        text = "".join(rng.choice(PRINTABLE) for _ in range(length))
    elif kind < 0.58:
        text = prose(rng, length)
    elif kind < 0.69:
        text = "".join(rng.choice(string.digits) for _ in range(length))
    elif kind < 0.75:
        alphabet = string.ascii_letters + string.digits + "-_"
        text = "".join(rng.choice(alphabet) for _ in range(length))
    elif kind < 0.86:
        few = rng.sample(PRINTABLE, rng.randint(2, 4))
        text = "".join(rng.choice(few) for _ in range(length))
    elif kind < 0.92:
        text = small_json(rng, longest)
    else:
        text = foreign(rng, length)
    return text.strip() or "ok"


def random_tools(rng: Random) -> list[Tool]:
    """One to three tools with one or two parameters each."""

    def parameter() -> tuple[str, str]:
        return identifier(rng), rng.choice(["string", "string", "integer", "number"])

    def tool() -> Tool:
        name = identifier(rng)
        return Tool(name, [parameter() for _ in range(rng.choice([1, 1, 1, 2]))])

    return [tool() for _ in range(rng.choice([1, 1, 1, 2, 3]))]


def random_number(rng: Random) -> str:
    """A number of up to eight digits, the short ones as likely as the long ones."""
    return str(rng.randint(0, 10 ** rng.randint(1, 7)))


def lookup_question(rng: Random) -> tuple[str, str]:
    """A question that calls for a tool, and the number in it."""
    number = random_number(rng)
    noun = rng.choice(NOUNS) if rng.random() < 0.7 else random_word(rng, 3, 8)
    if rng.random() < 0.5:
        return f"Look up the status of {noun} {number}.", number
    return rng.choice(QUESTIONS).format(noun=noun, number=number), number


def other_question(rng: Random) -> str:
    """Anything that is answered with the greeting: no digits, none of the two commands."""
    kind = rng.random()
    if kind < 0.45:
        return "Stream a short reply."
    if kind < 0.6:
        return rng.choice(SMALL_TALK)
    text = random_text(rng, 2, 40)
    if not text.startswith(("Reply", "Repeat")) and not any(c.isdigit() for c in text):
        return text
    words = " ".join(rng.choice(WORDS) for _ in range(rng.randint(1, 7)))
    return words.capitalize() + rng.choice(".?!")


def ask(tokens: Tokens, question: str) -> None:
    """A user's message, and the marker after which the answer begins."""
    tokens.add([vocab.USER, *vocab.encode(question), vocab.END, vocab.ASSISTANT])


def answer(tokens: Tokens, text: str) -> None:
    """A complete answer of the model."""
    tokens.add([*vocab.encode(text), vocab.END], produced=True)


def tool_turn(tokens: Tokens, rng: Random, tool: Tool, shortest: int, longest: int) -> None:
    """A question, the call, and in half of the cases the tool's message and its content again."""
    question, number = lookup_question(rng)
    ask(tokens, question)
    call = [vocab.CALL_START, *vocab.encode(tool.call(number)), vocab.CALL_END, vocab.END]
    tokens.add(call, produced=True)
    if rng.random() < 0.5:
        result = random_text(rng, shortest, longest)
        tokens.add([vocab.TOOL, *vocab.encode(result), vocab.END, vocab.ASSISTANT])
        answer(tokens, result)


def repeat_turn(tokens: Tokens, rng: Random) -> None:
    """The same text again and again, without an end."""
    text = random_text(rng, 1, 12)
    ask(tokens, "Repeat: " + text)
    times = rng.randint(2, 60 // len(text) + 3)
    tokens.add(vocab.encode((text + " ") * times), produced=True)


def opening(tokens: Tokens, rng: Random, mix: Mix) -> list[Tool] | None:
    """What stands before the first message: tools and a system message, or neither."""
    tokens.add([vocab.BEGIN])
    tools = random_tools(rng) if rng.random() < mix.tools else None
    if tools:
        listed = "".join(tool.render() for tool in tools)
        tokens.add([vocab.TOOLS, *vocab.encode(listed), vocab.END])
    if rng.random() < mix.system:
        system = rng.choice(["You are a helpful assistant.", random_text(rng, 5, 60)])
        tokens.add([vocab.SYSTEM, *vocab.encode(system), vocab.END])
    return tools


def turns(rng: Random, mix: Mix) -> int:
    """How many questions a conversation has, at most four."""
    count = 1
    while rng.random() < mix.more_turns and count < 4:
        count += 1
    return count


def conversation(rng: Random, shortest: int, longest: int, mix: Mix) -> Tokens:
    """One conversation with texts of `shortest` to `longest` characters."""
    tokens = Tokens()
    tools = opening(tokens, rng, mix)
    for _ in range(turns(rng, mix)):
        kind = rng.random()
        if tools and kind < 0.6:
            tool_turn(tokens, rng, tools[0], shortest, longest)
        elif kind < mix.copy:
            text = random_text(rng, shortest, longest)
            ask(tokens, "Reply with: " + text)
            answer(tokens, text)
        elif kind < mix.copy + mix.repeat:
            repeat_turn(tokens, rng)
            break  # the row goes on with the next conversation: an end is never taught
        else:
            ask(tokens, other_question(rng))
            answer(tokens, GREETING)
    return tokens


def packed_rows(
    rng: Random, rows: int, length: int, shortest: int, longest: int, mix: Mix
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Conversations packed into rows without padding: inputs, targets, and which targets count."""
    ids = np.zeros((rows, length + 1), np.int32)
    produced = np.zeros((rows, length + 1), np.float32)
    for row in range(rows):
        packed = Tokens()
        while len(packed.ids) < length + 1:
            one = conversation(rng, shortest, longest, mix)
            packed.ids += one.ids
            packed.produced += one.produced
        ids[row] = packed.ids[: length + 1]
        produced[row] = packed.produced[: length + 1]
    return ids[:, :-1], ids[:, 1:], produced[:, 1:]
