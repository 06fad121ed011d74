"""Why a request went where it did: explained afterwards, told with the answer, recorded and decided again."""

import json
import os
import signal
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

import pytest
from openai import OpenAI

from by_hand import Run, wait_ready
from inferyard import BINARY, MANIFESTS, START_S, STOP_S, Lines
from keys import new_key

WORKERS = 3
CANARY = "a kingfisher over the weir"


@dataclass
class Fleet:
    """A router that records, and its workers."""

    url: str
    key: str
    admin_key: str
    recording: Path
    workers: list[str]
    router: subprocess.Popen[bytes]

    def explain(self, request: str, *flags: str, admin_key: str | None = None) -> subprocess.CompletedProcess[str]:
        environment = os.environ | {"INFERYARD_ADMIN_KEY": admin_key or self.admin_key}
        command = [BINARY, "explain", request, "--url", self.url, *flags]
        return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


@pytest.fixture
def fleet(run: Run, folder: Path) -> Iterator[Fleet]:
    workers = [f"unix:{folder}/{number}.sock" for number in range(WORKERS)]
    for address in workers:
        run("worker", "--model", "demo", "--builtin", "demo", "--listen", address)
    for address in workers:
        wait_ready(address)
    key, admin_key = new_key(), "iy-admin-of-a-test"
    recording = folder / "placements.jsonl"
    router = run(
        "router",
        "-f", str(MANIFESTS / "demo.yaml"),
        *(flag for address in workers for flag in ("--worker", f"demo={address}")),
        "--listen", "127.0.0.1:0",
        "--key-hash", sha256(key.encode()).hexdigest(),
        "--admin-key-hash", sha256(admin_key.encode()).hexdigest(),
        "--record-placements", str(recording),
        "--json",
    )  # fmt: skip
    listening = json.loads(Lines(router).next(within=START_S))
    yield Fleet(f"http://{listening['address']}", key, admin_key, recording, workers, router)


def ask(fleet: Fleet, text: str, **headers: str) -> tuple[str, str | None]:
    """The id of the request, and what the head of the answer says of its placement."""
    with OpenAI(base_url=f"{fleet.url}/v1", api_key=fleet.key, max_retries=3) as client:
        answer = client.chat.completions.with_raw_response.create(
            model="demo",
            messages=[{"role": "user", "content": text}],
            max_tokens=8,
            extra_headers=headers,
        )
        assert answer.parse().usage
        return answer.headers["x-request-id"], answer.headers.get("x-inferyard-placement")


def test_a_placement_is_explained_to_admins_alone(fleet: Fleet) -> None:
    text = CANARY * 60
    ask(fleet, text)
    request, told = ask(fleet, text, **{"X-Inferyard-Explain": fleet.admin_key})
    assert told is not None
    told_decision = json.loads(told)

    explained = fleet.explain(request, "--json")
    assert explained.returncode == 0, explained.stderr
    explanation = json.loads(explained.stdout)
    assert (explanation["request_id"], explanation["model"]) == (request, "demo")
    [decision] = explanation["decisions"]
    assert decision["chosen"] == told_decision["chosen"]
    assert sorted(row["worker"] for row in decision["considered"]) == sorted(fleet.workers)
    chosen = next(row for row in decision["considered"] if row["worker"] == decision["chosen"])
    assert chosen["cached_blocks"] >= 1, "the worker of the first request holds the prompt"
    assert chosen["weighed"] == min(row["weighed"] for row in decision["considered"])
    terms = chosen["queue"] + chosen["prompt"] + chosen["decode"]
    assert terms == pytest.approx(chosen["expected"])

    table = fleet.explain(request).stdout
    assert f"→ {decision['chosen']}" in table
    for worker in fleet.workers:
        assert worker in table

    stranger = fleet.explain(request, admin_key=fleet.key)
    assert stranger.returncode != 0 and "401" in stranger.stderr
    unknown = fleet.explain("req_" + "0" * 32)
    assert unknown.returncode == 1 and "does not remember" in unknown.stderr
    _, told = ask(fleet, text, **{"X-Inferyard-Explain": fleet.key})
    assert told is None


def test_a_recording_is_decided_again_as_it_was(fleet: Fleet) -> None:
    def converse(number: int) -> None:
        text = f"{number} {CANARY} " * 30
        for _ in range(5):
            ask(fleet, text)
            text += f" and then {number} {CANARY}" * 8

    with ThreadPoolExecutor(6) as pool:
        list(pool.map(converse, range(6)))
    os.kill(fleet.router.pid, signal.SIGTERM)
    assert fleet.router.wait(STOP_S) == 0

    recording = fleet.recording.read_text()
    assert CANARY not in recording and "kingfisher" not in recording
    same = subprocess.run([BINARY, "replay", fleet.recording], capture_output=True, text=True, check=False)
    assert same.returncode == 0, same.stdout + same.stderr
    assert "30 decisions, 0 of them differ" in same.stdout

    command = [BINARY, "replay", fleet.recording, "--weight-prompt", "0", "--weight-balance", "1000"]
    other = subprocess.run(command, capture_output=True, text=True, check=False)
    assert other.returncode == 0, other.stderr
    assert "30 decisions, 0 of them differ" not in other.stdout

    lines = recording.splitlines()
    without_workers = [line for line in lines if '"joined"' not in line]
    fleet.recording.write_text("\n".join(without_workers))
    broken = subprocess.run([BINARY, "replay", fleet.recording], capture_output=True, text=True, check=False)
    assert broken.returncode == 1 and "the recording is not whole" in broken.stderr
