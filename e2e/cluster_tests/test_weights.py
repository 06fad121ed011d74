"""Weights from elsewhere: fetched before the worker starts, with progress in the status, and why not where they are wrong."""

import hashlib
import time
from collections.abc import Callable
from typing import Any

from asking import reply_with
from hub import COMMIT, MODEL, REPOSITORY, Hub
from hubs import SECRET, from_hub
from installed import Installed
from operators import condition, ready
from resources import Resource, resource

PATIENCE_S = 150
Measured = Callable[[str, str], None]


def until_reason(installed: Installed, model: Resource, reason: str) -> str:
    """Waits until `Ready` has the reason, and returns its message. `kubectl get` says the same."""
    name = model["metadata"]["name"]
    holds = lambda it: condition(it).get("reason") == reason  # noqa: E731
    found = installed.namespace.until("mdep", name, holds, within=PATIENCE_S)
    (row,) = [row for row in installed.namespace.table("mdep") if row["NAME"] == name]
    assert (row["READY"], row["REASON"]) == ("False", reason)
    return str(condition(found)["message"])


def test_a_model_comes_from_a_hub_and_its_progress_is_told(node: str, installed: Installed, hub: Hub) -> None:
    hub.flows.clear()
    model = from_hub(hub, "*Q8*")
    name = model["metadata"]["name"]
    installed.namespace.apply(model)

    def on_its_way(it: Any) -> bool:
        loading = it.get("status", {}).get("loading", {})
        return loading.get("bytesTotal") == len(MODEL) and 0 < loading.get("bytesDone", 0) < len(MODEL)

    found = installed.namespace.until("mdep", name, on_its_way, within=PATIENCE_S)
    assert condition(found)["reason"] == "Fetching"
    hub.flows.set()
    installed.namespace.until("mdep", name, ready(1), within=PATIENCE_S)
    with installed.openai() as client:
        answer = client.chat.completions.create(model=name, messages=reply_with("payload verified."), temperature=0)
    assert answer.choices[0].message.content == "payload verified."
    installed.namespace.kubectl("delete", "mdep", name)


def test_corrupt_weights_are_told(node: str, installed: Installed, hub: Hub, measured: Measured) -> None:
    told_after(installed, from_hub(hub, "*Q4*"), "EngineFailed", "llama.cpp cannot load this model", measured)


def test_a_wrong_checksum_is_told(node: str, installed: Installed, hub: Hub, measured: Measured) -> None:
    url = f"{hub.url}/{REPOSITORY}/resolve/{COMMIT}/demo-Q8.gguf"
    source = {"http": {"url": url, "sha256": "0" * 64, "secret": SECRET}}
    model = resource("ModelDeployment", "wrong-checksum", {"model": {"source": source}})
    told_after(installed, model, "FetchFailed", hashlib.sha256(MODEL).hexdigest(), measured)


def told_after(installed: Installed, model: Resource, reason: str, told: str, measured: Measured) -> None:
    begun = time.monotonic()
    installed.namespace.apply(model)
    message = until_reason(installed, model, reason)
    measured(f"kubectl get mdep: {reason}", f"after {time.monotonic() - begun:.0f} s: {message}")
    assert told in message
    installed.namespace.kubectl("delete", "mdep", model["metadata"]["name"])


def test_accelerators_are_used_and_the_excess_is_told(node: str, installed: Installed) -> None:
    gpu = "installed.example.com/gpu"
    installed.namespace.cluster.fake_gpus(2, gpu)
    spec = {"model": {"source": {"builtin": {"name": "demo"}}}, "scaling": {"replicas": 3}}
    model = resource("ModelDeployment", "on-gpus", {**spec, "accelerators": {"resourceName": gpu, "count": 1}})
    installed.namespace.apply(model)
    two = lambda it: it.get("status", {}).get("workers") == "2/3"  # noqa: E731
    installed.namespace.until("mdep", "on-gpus", two, within=PATIENCE_S)
    assert gpu in until_reason(installed, model, "NoNodeFits")
    pods = installed.namespace.get("pods", "-l", "inferyard.dev/model-deployment=on-gpus")["items"]
    assert sorted(pod["spec"].get("nodeName", "") for pod in pods) == ["", node, node]
    installed.namespace.kubectl("delete", "mdep", "on-gpus")
