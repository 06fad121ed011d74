"""Router and workers started by hand, each alone, as they run in a cluster."""

import json
import os
import signal
import subprocess
from hashlib import sha256
from pathlib import Path

import pytest
from openai import OpenAI

from asking import reply_with
from by_hand import Run, wait_ready
from inferyard import BINARY, MANIFESTS, START_S, STOP_S, Lines
from keys import new_key


def test_one_router_in_front_of_two_workers(run: Run, folder: Path) -> None:
    addresses = [f"unix:{folder}/{name}.sock" for name in ("a", "b")]
    workers = [run("worker", "--model", "demo", "--builtin", "demo", "--listen", address) for address in addresses]
    for address in addresses:
        wait_ready(address)
    key = new_key()
    router = run(
        "router",
        "-f", str(MANIFESTS / "demo.yaml"),
        "--worker", f"demo={addresses[0]}", "--worker", f"demo={addresses[1]}",
        "--listen", "127.0.0.1:0",
        "--key-hash", sha256(key.encode()).hexdigest(),
        "--json",
    )  # fmt: skip
    listening = json.loads(Lines(router).next(within=START_S))
    with OpenAI(base_url=f"http://{listening['address']}/v1", api_key=key, max_retries=3) as client:
        for number in range(6):
            answer = client.chat.completions.create(
                model="demo", messages=reply_with(f"by hand {number}"), temperature=0
            )
            assert answer.choices[0].message.content == f"by hand {number}"
    for process in (router, *workers):
        os.kill(process.pid, signal.SIGTERM)
        assert process.wait(STOP_S) == 0


@pytest.mark.parametrize(
    ("chosen", "used"),
    [
        ({}, {"GOMP_SPINCOUNT": "5000"}),
        ({"GOMP_SPINCOUNT": "1"}, {"GOMP_SPINCOUNT": "1"}),
        ({"OMP_WAIT_POLICY": "passive"}, {"OMP_WAIT_POLICY": "passive"}),
    ],
)
def test_a_worker_runs_with_a_short_spin_unless_another_was_chosen(
    run: Run, folder: Path, chosen: dict[str, str], used: dict[str, str]
) -> None:
    address = f"unix:{folder}/worker.sock"
    worker = run("worker", "--model", "demo", "--builtin", "demo", "--listen", address, env={**os.environ, **chosen})
    wait_ready(address)
    # What libgomp read when the program was loaded, under the process id that was started.
    entries = Path(f"/proc/{worker.pid}/environ").read_text().split("\0")
    names = ("GOMP_SPINCOUNT=", "OMP_WAIT_POLICY=")
    assert dict(entry.split("=", 1) for entry in entries if entry.startswith(names)) == used


@pytest.mark.parametrize("arguments", [["--help"], ["up", "--help"], ["router", "--help"], ["worker", "--help"], ["watch", "--help"], ["ledger", "--help"], ["usage", "--help"], ["audit", "--help"], ["explain", "--help"], ["replay", "--help"]])
def test_every_help_page_is_there(arguments: list[str]) -> None:
    page = subprocess.run([BINARY, *arguments], capture_output=True, text=True, timeout=60)
    assert page.returncode == 0
    assert "Usage: inferyard" in page.stdout
    assert not page.stderr


def test_the_version_is_told() -> None:
    page = subprocess.run([BINARY, "--version"], capture_output=True, text=True, timeout=60)
    assert page.returncode == 0
    assert page.stdout.startswith("inferyard ")


def plan(spec: str) -> str:
    """A model and a plan; the plan's specification stands on line 10."""
    head = "apiVersion: inferyard.dev/v1alpha1\nkind: "
    model = "ModelDeployment\nmetadata: {name: demo}\nspec: {model: {source: {builtin: {name: demo}}}}\n"
    return f"{head}{model}---\n{head}Plan\nmetadata: {{name: basic}}\nspec:\n  {spec}\n"


@pytest.mark.parametrize(
    ("manifest", "told"),
    [
        ("kind: ModelDeployment", ["apiVersion"]),
        (
            "apiVersion: inferyard.dev/v1alpha1\nkind: ModelDeployment\nmetadata: {name: demo}\n"
            "spec:\n  model:\n    source:\n      builtin: {name: demo}\n  scaling:\n    replicas: two\n",
            ["spec.scaling.replicas", "two", "9"],
        ),
        (
            "apiVersion: inferyard.dev/v1alpha1\nkind: ModelDeployment\nmetadata: {name: demo}\n"
            "spec:\n  model:\n    source:\n      builtin: {name: demo}\n  scaling:\n    replica: 2\n",
            ["replica", "replicas"],
        ),
        (plan("limits: {requestsPerMinute: -60}"), ["wrong.yaml:10", "spec.limits.requestsPerMinute", "at least 1", "-60"]),
        (plan("limits: {budgetPerMonth: 25}"), ["spec.limits.budgetPerMonth", 'such as "25.00"', 'write "25", in quotes']),
        (plan("models: [dmeo]"), ["spec.models[0]", '"dmeo"', 'did you mean "demo"?']),
        (plan('price: {perMillionTokens: "5", perMillionInputTokens: "3"}'), ["spec.price", "two prices"]),
        (plan('price: {perMillionTokens: "0.0005"}'), ["spec.price.perMillionTokens", "one nano-dollar per token"]),
        (plan("limits: {tokensPerMin: 1}"), ["spec.limits.tokensPerMin", "did you mean tokensPerMinute?"]),
    ],
    ids=[
        "no version", "wrong type", "unknown field", "negative limit", "money without quotes", "unknown model",
        "two prices", "a price too fine", "unknown limit",
    ],  # fmt: skip
)
def test_a_mistake_in_a_manifest_is_named(folder: Path, manifest: str, told: list[str]) -> None:
    path = folder / "wrong.yaml"
    path.write_text(manifest)
    up = subprocess.run(
        [BINARY, "up", "-f", str(path), "--listen", "127.0.0.1:0", "--state", str(folder / "state")],
        stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert up.returncode == 2
    assert "wrong.yaml" in up.stderr
    for words in told:
        assert words in up.stderr
