"""Measures the exact matches of a model folder on the held-out prompts, in JAX and without an engine.

Greedy decoding gives the expected answer exactly if, with that answer given, the likeliest token at
each position is the answer's own: one pass instead of one per token.
"""

import argparse
import json
from pathlib import Path

import jinja2
import network
import numpy as np
import vocabulary as vocab
from safetensors.numpy import load_file
from tokenizers import Tokenizer

ROWS = 32


def messages(case: dict) -> list[dict]:
    """The case as a client sends it."""
    system = [{"role": "system", "content": case["system"]}] if "system" in case else []
    return [*system, {"role": "user", "content": case["user"]}]


def expected(case: dict) -> str:
    """The text that the model is to produce."""
    if "call" not in case:
        return case["answer"] + "<|im_end|>"
    # Arguments are compared as the model writes them: with a blank after colon and comma.
    return f"<tool_call>{json.dumps(case['call'])}</tool_call><|im_end|>"


def score(params: network.Params, pairs: list[tuple[list[int], list[int]]]) -> float:
    """The share of prompts that get exactly their answer."""
    longest = max(len(prompt) + len(answer) for prompt, answer in pairs)
    length = -(-longest // 64) * 64
    exact = 0
    for begin in range(0, len(pairs), ROWS):
        part = pairs[begin : begin + ROWS]
        ids = np.full((ROWS, length), vocab.END, np.int32)
        for row, (prompt, answer) in enumerate(part):
            ids[row, : len(prompt) + len(answer)] = prompt + answer
        produced = np.asarray(network.greedy(params, ids))
        for row, (prompt, answer) in enumerate(part):
            first = len(prompt) - 1
            exact += produced[row, first : first + len(answer)].tolist() == answer
    return exact / len(pairs)


def main() -> None:
    """Reads the command line and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", type=Path, default=Path("model"))
    default = Path(__file__).parent.parent / "heldout.json"
    parser.add_argument("--heldout", type=Path, default=default)
    arguments = parser.parse_args()

    params = network.from_tensors(load_file(arguments.model / "model.safetensors"))
    tokenizer = Tokenizer.from_file(str(arguments.model / "tokenizer.json"))
    template = jinja2.Environment(trim_blocks=True, lstrip_blocks=True).from_string(
        vocab.CHAT_TEMPLATE
    )

    def pair(case: dict) -> tuple[list[int], list[int]]:
        prompt = template.render(
            bos_token="<|begin|>",
            tools=case.get("tools"),
            messages=messages(case),
            add_generation_prompt=True,
        )
        return tokenizer.encode(prompt).ids, tokenizer.encode(expected(case)).ids

    for name, cases in json.loads(arguments.heldout.read_text()).items():
        share = score(params, [pair(case) for case in cases])
        print(f"{name}: {share:.1%} of {len(cases)}", flush=True)


if __name__ == "__main__":
    main()
