"""A chat template of the user's, in place of the model's own."""

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from inferyard import BINARY, MANIFESTS, Up

from asking import user

OWN = MANIFESTS / "own-template.yaml"


def answer(up: Up) -> str | None:
    with up.openai() as client:
        said = client.chat.completions.create(model="demo", messages=user("verified"), temperature=0)
        return said.choices[0].message.content


def test_a_template_from_a_config_map(start: Callable[..., Up]) -> None:
    assert answer(start(OWN)) == "VERIFIED"


def test_an_inline_template(start: Callable[..., Up], folder: Path) -> None:
    model, config_map = OWN.read_text().split("---\n")
    template = config_map.split("|-\n")[1].strip()
    manifest = folder / "inline.yaml"
    manifest.write_text(model.replace("configMap: {name: chats, key: shout.jinja}", f"inline: '{template}'"))
    assert answer(start(manifest)) == "VERIFIED"


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (("name: chats, key", "name: chat, key"), ["spec.chatTemplate.configMap.name", '"chat"', 'did you mean "chats"?']),
        (("key: shout.jinja", "key: shout"), ["spec.chatTemplate.configMap.key", 'no entry "shout"']),
        (("{% endfor %}", ""), ["ModelDeployment demo: spec.chatTemplate", "this is no chat template, in line 1"]),
    ],
)
def test_a_template_that_cannot_be_used_is_named(folder: Path, change: tuple[str, str], told: list[str]) -> None:
    path = folder / "wrong.yaml"
    path.write_text(OWN.read_text().replace(*change))
    up = subprocess.run(
        [BINARY, "up", "-f", str(path), "--listen", "127.0.0.1:0", "--state", str(folder / "state")],
        stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert up.returncode == 2
    for words in told:
        assert words in up.stderr


@pytest.mark.parametrize(
    ("engine", "told"),
    [
        (["vllm", "--engine-url", "http://127.0.0.1:1"], "vllm serve MODEL --chat-template FILE"),
        (["sglang", "--engine-url", "http://127.0.0.1:1"], "sglang.launch_server --chat-template FILE.jinja"),
        (["openai", "--engine-url", "http://127.0.0.1:1"], "--chat-template-file FILE"),
        (["simulated"], "leave it out"),
    ],
)
def test_a_worker_that_renders_nothing_takes_no_template(folder: Path, engine: list[str], told: str) -> None:
    template = folder / "chat.jinja"
    template.write_text("{{ messages }}")
    worker = subprocess.run(
        [BINARY, "worker", "--model", "m", "--engine", *engine, "--chat-template", str(template)],
        stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert worker.returncode == 2
    assert "--chat-template is for the embedded engine" in worker.stderr
    assert told in worker.stderr
