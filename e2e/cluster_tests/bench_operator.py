"""What the operator costs with a thousand models: `make bench-operator`."""

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from namespaces import Namespace
from operators import Operator, condition, reconciles, told, writes
from pods import IMAGE
from resources import Resource, resource

MODELS = 1000
PATIENCE_S = 1200


def model(number: int) -> Resource:
    """A model without workers: what the operator makes for it, and no pods that would measure the machine."""
    spec: dict[str, Any] = {"model": {"source": {"builtin": {"name": "demo"}}}, "scaling": {"replicas": 0}}
    return resource("ModelDeployment", f"model-{number:04}", spec)


@pytest.mark.timeout(2 * PATIENCE_S)
def test_a_thousand_models(namespace: Namespace, tmp_path: Path, measured: Callable[[str, str], None]) -> None:
    first = Operator(namespace, IMAGE, tmp_path)
    first.settled(within=PATIENCE_S)
    measured("operator without models", memory(first))
    items = {"apiVersion": "v1", "kind": "List", "items": [model(number) for number in range(MODELS)]}
    begun = time.monotonic()
    namespace.kubectl("create", "-f", "-", stdin=json.dumps(items), within=PATIENCE_S)
    namespace.wait("condition=Ready", "mdep", "--all", within=PATIENCE_S)
    after = first.settled(within=PATIENCE_S)
    measured(f"{MODELS} models applied", f"all Ready after {time.monotonic() - begun:.0f} s, by {told(writes(after))}")
    measured(f"operator with {MODELS} models", memory(first))
    first.stop()

    # Another one finds everything as it should be.
    second = Operator(namespace, IMAGE, tmp_path)
    try:
        begun = time.monotonic()
        while reconciles(second.metrics()) < MODELS:
            assert time.monotonic() < begun + PATIENCE_S
        took = time.monotonic() - begun
        asked = second.settled(within=PATIENCE_S)
        measured(f"a new operator over {MODELS} models", f"all looked at after {took:.1f} s, by {told(asked)}; {memory(second)}")
        assert all(condition(it)["status"] == "True" for it in namespace.get("mdep")["items"])
        assert not writes(asked), "what is in order is left alone"
    finally:
        second.kill()


def memory(operator: Operator) -> str:
    """Its resident memory now, and the most that it ever was."""
    lines = dict(line.split(":", 1) for line in Path(f"/proc/{operator.pid}/status").read_text().splitlines())
    now, most = (int(lines[name].split()[0]) / 1024 for name in ("VmRSS", "VmHWM"))
    return f"{now:.0f} MiB, at most {most:.0f} MiB"
