"""When a model does not answer, `kubectl get mdep` says why."""

import threading
import time
import uuid
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from cluster import Cluster
from installed import NODE, Installed
from resources import Resource, resource

pytestmark = pytest.mark.timeout(300)

PATIENCE_S = 150
GARBAGE = b"this is no model" * 1000
WRONG_HASH = "0" * 64


@pytest.fixture(scope="module")
def weights(cluster: Cluster) -> Iterator[str]:
    """The URL of a file that is no model, on the node."""

    class Handler(BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            self.answer()

        def do_GET(self) -> None:
            self.answer()
            self.wfile.write(GARBAGE)

        def answer(self) -> None:
            self.send_response(200)
            self.send_header("content-length", str(len(GARBAGE)))
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with cluster.inside():
        server = ThreadingHTTPServer(("0.0.0.0", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://{NODE}:{server.server_address[1]}/weights.gguf"
    server.shutdown()
    thread.join()
    server.server_close()


BUILTIN = {"model": {"source": {"builtin": {"name": "demo"}}}}


def fetched(url: str, **source: Any) -> Any:
    return {"model": {"source": {"http": {"url": url, **source}}}}


def hub(**source: Any) -> Any:
    return {"model": {"source": {"huggingFace": {"repo": "someone/model", "revision": "main", **source}}}}


CASES: list[tuple[str, Callable[[str], Any], str, str]] = [
    ("no node has a GPU", lambda _: {**BUILTIN, "accelerators": {"class": "nvidia", "count": 1}}, "NoNodeFits", "nvidia.com/gpu"),
    (
        "a storage class that is not there",
        lambda url: {**fetched(url), "weights": {"storage": {"size": "1Gi", "storageClassName": "fastest"}}},
        "StorageClassMissing",
        "fastest",
    ),
    (
        "an image that is not there",
        lambda url: {**fetched(url), "engine": {"openai": {"image": "registry.invalid/engine:1"}}},
        "ImagePull",
        "registry.invalid/engine:1",
    ),
    ("weights that are no model", lambda url: fetched(url), "EngineFailed", "GGUF"),
    ("weights with another hash", lambda url: fetched(url, sha256=WRONG_HASH), "FetchFailed", WRONG_HASH[:12]),
    ("a Secret that is not there", lambda _: hub(tokenSecret={"name": "hub-token", "key": "token"}), "ContainerConfig", "hub-token"),
]


@pytest.mark.parametrize(("declared", "reason", "told"), [case[1:] for case in CASES], ids=[case[0] for case in CASES])
def test_the_reason_is_told(
    node: str,
    installed: Installed,
    weights: str,
    declared: Callable[[str], Any],
    reason: str,
    told: str,
    measured: Callable[[str, str], None],
) -> None:
    model = named(declared(weights))
    begun = time.monotonic()
    installed.namespace.apply(model)
    row = until_reason(installed, model, reason, told)
    measured(f"kubectl get mdep: {reason}", f"after {time.monotonic() - begun:.0f} s: {row['MESSAGE']}")
    assert row["READY"] == "False"
    gone(installed, model)


def test_gpus_that_a_node_has_are_used_and_the_excess_is_told(node: str, installed: Installed) -> None:
    installed.namespace.cluster.fake_gpus(2)
    model = named({**BUILTIN, "accelerators": {"class": "nvidia", "count": 1}, "scaling": {"replicas": 3}})
    installed.namespace.apply(model)
    name = model["metadata"]["name"]
    installed.namespace.until("mdep", name, lambda it: it.get("status", {}).get("workers") == "2/3", within=PATIENCE_S)
    row = until_reason(installed, model, "NoNodeFits", "nvidia.com/gpu")
    assert row["WORKERS"] == "2/3"
    assert sorted(bool(pod["spec"].get("nodeName")) for pod in pods_of(installed, name)) == [False, True, True]
    gone(installed, model)


def named(spec: Any) -> Resource:
    """A model of a name of its own."""
    return resource("ModelDeployment", f"m-{uuid.uuid4().hex[:6]}", spec)


def until_reason(installed: Installed, model: Resource, reason: str, told: str) -> dict[str, str]:
    """Waits until `Ready` has the reason, with a message that has the word, and returns what kubectl prints."""
    name = model["metadata"]["name"]

    def holds(it: Any) -> bool:
        conditions = {condition["type"]: condition for condition in it.get("status", {}).get("conditions", ())}
        ready = conditions.get("Ready", {})
        return ready.get("reason") == reason and told in ready["message"]

    installed.namespace.until("mdep", name, holds, within=PATIENCE_S)
    (row,) = [row for row in installed.namespace.table("mdep") if row["NAME"] == name]
    assert row["REASON"] == reason
    return row


def pods_of(installed: Installed, name: str) -> list[Any]:
    return installed.namespace.get("pods", "-l", f"inferyard.dev/model-deployment={name}")["items"]


def gone(installed: Installed, model: Resource) -> None:
    """Deletes it; what belongs to it goes with it."""
    name = model["metadata"]["name"]
    installed.namespace.kubectl("delete", "mdep", name)
    for kind in ("deployment", "serviceaccount", "networkpolicy", "poddisruptionbudget", "persistentvolumeclaim"):
        installed.namespace.wait("delete", kind, f"--selector=inferyard.dev/model-deployment={name}")
