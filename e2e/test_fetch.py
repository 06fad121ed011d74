"""`inferyard fetch` in front of a hub that speaks Hugging Face's API, and a worker with what it brought."""

import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from asking import GREETING
from hub import COMMIT, FIRST, MODEL, REPOSITORY, TOKEN, Hub
from inferyard import BINARY, START_S, STOP_S, Up, Watch


@pytest.fixture
def hub() -> Iterator[Hub]:
    """A hub of the test's own."""
    hub = Hub()
    yield hub
    hub.close()


def start(hub: Hub, folder: Path, *flags: str, token: str = TOKEN) -> subprocess.Popen[bytes]:
    """Starts a fetch of the demo model."""
    environment = os.environ | {"HF_ENDPOINT": hub.url, "HF_TOKEN": token}
    source = ["--hugging-face", REPOSITORY, "--include", "*Q8*", "--include", "*.json"]
    return subprocess.Popen(
        ["setpriv", "--pdeathsig", "KILL", "--", BINARY, "fetch", "--to", folder, *source, *flags],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment,
    )


def finish(process: subprocess.Popen[bytes]) -> tuple[int, str, str]:
    """Its exit status, and what it said."""
    out, err = process.communicate(timeout=STOP_S)
    return process.returncode, out.decode(), err.decode()


def test_what_was_fetched_is_served(hub: Hub, tmp_path: Path) -> None:
    weights = tmp_path / "weights"
    status, out, err = finish(start(hub, weights))
    assert status == 0, err
    assert out == f"2 files, {len(MODEL) + 3} bytes in {weights}, commit {COMMIT}; {len(MODEL) + 3} bytes fetched\n"
    assert TOKEN not in err
    assert (weights / "demo-Q8.gguf").read_bytes() == MODEL
    assert not (weights / "other-Q4.gguf").exists()

    asked = len(hub.asked)
    status, out, _ = finish(start(hub, weights))
    assert (status, out.endswith("; 0 bytes fetched\n"), len(hub.asked)) == (0, True, asked)

    # The folder is what a manifest names.
    manifest = tmp_path / "model.yaml"
    manifest.write_text(
        "apiVersion: inferyard.dev/v1alpha1\nkind: ModelDeployment\nmetadata: {name: fetched}\n"
        f"spec: {{model: {{source: {{file: {{path: {weights}}}}}}}}}\n"
    )
    up = Up(manifest)
    try:
        with up.openai() as client:
            answer = client.chat.completions.create(model="fetched", messages=[{"role": "user", "content": GREETING}])
        assert answer.choices[0].message.content
        assert up.stop() == 0
    finally:
        up.kill()
        up.cleanup()


def missing_of(asked: tuple[str, str | None]) -> tuple[str, int]:
    """The file of a request to the hub, and the byte from which it is asked for."""
    path, span = asked
    return path.rsplit("/", 1)[-1], int(span.removeprefix("bytes=").removesuffix("-")) if span else 0


def test_killed_midway_it_asks_for_the_missing_bytes_only(hub: Hub, tmp_path: Path) -> None:
    hub.flows.clear()
    address = f"unix:{tmp_path}/s"
    first = start(hub, tmp_path / "w", "--listen", address)
    wait_for(tmp_path / "s")
    with Watch(address) as watch:
        state = watch.until(lambda state: state["fetch"]["bytes_done"] >= FIRST, within=START_S)
        assert state["phase"] == "LOADING"
        assert state["fetch"]["bytes_total"] == len(MODEL) + 3
        assert 0 < state["load_progress"] < 1
    first.send_signal(signal.SIGKILL)
    finish(first)
    before = len(hub.asked)
    hub.flows.set()
    status, out, err = finish(start(hub, tmp_path / "w"))
    assert status == 0, err
    missing = {name: begin for name, begin in map(missing_of, hub.asked[before:]) if name in hub.files}
    assert FIRST <= missing["demo-Q8.gguf"] < len(MODEL), hub.asked
    # The small file may have been on its way as well.
    fetched = sum(len(hub.files[name]) - begin for name, begin in missing.items())
    assert out.endswith(f"; {fetched} bytes fetched\n"), (out, hub.asked)
    assert (tmp_path / "w/demo-Q8.gguf").read_bytes() == MODEL


def test_a_signal_keeps_what_is_here(hub: Hub, tmp_path: Path) -> None:
    hub.flows.clear()
    address = f"unix:{tmp_path}/s"
    fetch = start(hub, tmp_path / "w", "--listen", address)
    wait_for(tmp_path / "s")
    with Watch(address) as watch:
        watch.until(lambda state: state["fetch"]["bytes_done"] >= FIRST, within=START_S)
    fetch.send_signal(signal.SIGTERM)
    status, _, err = finish(fetch)
    assert status == 1
    assert "are here and are kept" in err


def test_while_nobody_answers_it_says_so_and_goes_on(hub: Hub, tmp_path: Path) -> None:
    hub.server.shutdown()
    hub.server.server_close()
    address = f"unix:{tmp_path}/s"
    fetch = start(hub, tmp_path / "w", "--listen", address)
    try:
        wait_for(tmp_path / "s")
        with Watch(address) as watch:
            state = watch.until(lambda state: "retrying" in state.get("note", ""), within=START_S)
        assert "Connection refused" in state["note"]
        assert fetch.poll() is None
    finally:
        fetch.terminate()
        finish(fetch)


def test_a_wrong_token_and_a_wrong_choice_are_told(hub: Hub, tmp_path: Path) -> None:
    status, _, err = finish(start(hub, tmp_path / "w", token="hf_wrong"))
    assert status == 1
    assert "the token in HF_TOKEN does not open acme/demo-GGUF at main" in err
    assert "Invalid credentials" in err
    assert "hf_wrong" not in err
    command = [BINARY, "fetch", "--to", tmp_path / "w", "--hugging-face", REPOSITORY, "--endpoint", hub.url]
    choice = subprocess.run(command, capture_output=True, env=os.environ | {"HF_TOKEN": TOKEN}, check=False)
    assert choice.returncode == 1
    assert b"2 GGUF models: choose one with --include" in choice.stderr
    wrong = subprocess.run([*command, "--url", hub.url], capture_output=True, check=False)
    assert wrong.returncode == 2


def test_a_folder_with_several_models_is_refused_by_a_worker(tmp_path: Path) -> None:
    for name in ("a.gguf", "b.gguf"):
        (tmp_path / name).write_bytes(b"")
    command = [BINARY, "worker", "--model", "m", "--gguf", tmp_path, "--listen", f"unix:{tmp_path}/s"]
    worker = subprocess.run(command, capture_output=True, check=False)
    assert worker.returncode == 1
    assert b"there are 2 models in this folder" in worker.stderr


def wait_for(path: Path) -> None:
    """Until a socket is there and takes connections."""
    deadline = time.monotonic() + START_S
    with socket.socket(socket.AF_UNIX) as probe:
        while probe.connect_ex(str(path)) != 0:
            assert time.monotonic() < deadline, f"nothing listens at {path}"
            time.sleep(0.01)
