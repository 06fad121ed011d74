"""The operator on a real cluster: what is declared runs, what does not run says why, and nothing is left behind."""

import json
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from asking import repeat
from cluster import Cluster
from inferyard import BINARY, EXAMPLES, MANIFESTS, START_S, STOP_S, Lines, Watch
from keys import new_key
from namespaces import Namespace
from openai import OpenAI
from operators import Operator, condition, ready, told, writes
from resources import Resource, demo, resource

KINDS = ("deployment", "serviceaccount", "networkpolicy", "poddisruptionbudget", "persistentvolumeclaim")
MADE = "inferyard.dev/model-deployment=demo"

Measured = Callable[[str, str], None]


@pytest.fixture
def operator(
    cluster: Cluster, node: str, namespace: Namespace, inferyard_image: str, tmp_path: Path
) -> Iterator[Operator]:
    """An operator for the namespace of the test. No call of it may be refused."""
    running = Operator(namespace, inferyard_image, tmp_path)
    try:
        yield running
        running.stop()
        assert cluster.denied(f"system:serviceaccount:{namespace.name}:operator") == []
    finally:
        running.kill()


def row(namespace: Namespace, name: str = "demo") -> dict[str, str]:
    return next(row for row in namespace.table("mdep") if row["NAME"] == name)


def pods(namespace: Namespace) -> dict[str, Any]:
    """The pods of the model that are not asked to end."""
    found = namespace.get("pods", "-l", MADE)["items"]
    return {pod["metadata"]["name"]: pod for pod in found if "deletionTimestamp" not in pod["metadata"]}


def test_from_the_quickstart_to_nothing(namespace: Namespace, operator: Operator, measured: Measured) -> None:
    began = time.monotonic()
    namespace.apply(EXAMPLES / "quickstart.yaml")
    namespace.until("mdep", "demo", ready(1))
    measured("operator: kubectl apply to a worker that answers", f"{time.monotonic() - began:.1f} s")
    shown = {"READY": "True", "AVAILABLE": "True", "WORKERS": "1/1", "UP-TO-DATE": "1", "ENGINE": "embedded", "REASON": "AllReady"}
    assert shown.items() <= row(namespace).items()
    (first,) = pods(namespace)

    before = operator.settled()
    namespace.kubectl("scale", "mdep/demo", "--replicas=3")
    namespace.until("mdep", "demo", ready(3))
    namespace.until("pdb", "demo-worker", lambda pdb: pdb.get("status", {}).get("disruptionsAllowed") == 1)
    after = operator.settled()
    measured("operator: API requests for a scale from 1 to 3", told(after - before))
    namespace.kubectl("scale", "mdep/demo", "--replicas=1")
    namespace.until("mdep", "demo", ready(1))
    namespace.wait("delete", "pdb/demo-worker")

    kept = set(pods(namespace))
    before = operator.settled()
    namespace.apply(demo(1, maxRunning=4))
    namespace.until("mdep", "demo", ready(1))
    (new,) = pods(namespace).values()
    assert new["metadata"]["name"] not in kept
    assert "--max-running" in new["spec"]["containers"][0]["args"]
    measured("operator: API requests for a rollout", told(operator.settled() - before))

    began = time.monotonic()
    namespace.kubectl("delete", "mdep", "demo")
    for kind in (*KINDS, "pod"):
        namespace.wait("delete", kind, "-l", MADE)
    measured("operator: kubectl delete to nothing left", f"{time.monotonic() - began:.1f} s")


def test_what_nobody_changed_is_left_alone_and_what_somebody_did_is_mended(
    namespace: Namespace, operator: Operator, measured: Measured
) -> None:
    began = operator.settled()
    namespace.apply(demo())
    namespace.until("mdep", "demo", ready(1))
    before = operator.settled()
    measured("operator: API requests for a new model", told(before - began))
    # A label is news of the resource, and no reason to do anything.
    namespace.kubectl("label", "mdep/demo", "touched=yes")
    assert writes(operator.settled()) == writes(before)

    serving = set(pods(namespace))
    # The kind, a field of it, and what somebody makes of that.
    drifts: list[tuple[str, tuple[str, ...], Any]] = [
        ("deployment", ("spec", "replicas"), 2),
        ("deployment", ("metadata", "labels", "app.kubernetes.io/part-of"), "else"),
        ("networkpolicy", ("spec", "ingress"), [{}]),
        ("serviceaccount", ("automountServiceAccountToken",), True),
    ]
    for kind, path, wrong in drifts:
        right = field(namespace.get(kind, "demo-worker"), path)
        patch: Any = wrong
        for step in reversed(path):
            patch = {step: patch}
        namespace.kubectl("patch", kind, "demo-worker", "--type=merge", "-p", json.dumps(patch))
        namespace.until(kind, "demo-worker", lambda made, path=path, right=right: field(made, path) == right)
    namespace.kubectl("delete", "networkpolicy", "demo-worker")
    namespace.until("networkpolicy", "demo-worker", lambda made: "deletionTimestamp" not in made["metadata"])
    namespace.until("mdep", "demo", ready(1))
    assert serving <= set(pods(namespace)), "the worker that served was replaced"


def field(made: Any, path: tuple[str, ...]) -> Any:
    for step in path:
        made = made[step]
    return made


# No other test gives it to the node.
GPU = "operator.example.com/gpu"
HUB = {"huggingFace": {"repo": "a/b"}}
# The declaration, the reason, and words of the message.
STALLS: list[tuple[Resource, str, tuple[str, ...]]] = [
    (
        {"model": {"source": {"builtin": {"name": "demo"}}}, "accelerators": {"resourceName": GPU, "count": 8}},
        "NoNodeFits",
        (f"no node has enough {GPU}",),
    ),
    (
        {"model": {"source": HUB}, "weights": {"storage": {"size": "1Gi", "storageClassName": "fast"}}},
        "StorageClassMissing",
        ('the storage class "fast", which does not exist',),
    ),
    (
        {"model": {"source": HUB}, "weights": {"storage": {"size": "1Gi"}}},
        "StorageClassMissing",
        ("a default storage class", "spec.weights.storage.storageClassName"),
    ),
    (
        {"model": {"source": {"pvc": {"claimName": "none"}}}},
        "NotFound",
        ('there is no PersistentVolumeClaim "none"',),
    ),
    (
        {
            "model": {"source": {"builtin": {"name": "demo"}}},
            "podTemplate": {"spec": {"containers": [{"name": "worker", "image": "registry.invalid/none:1"}]}},
        },
        "ImagePull",
        ("registry.invalid/none:1 of worker cannot be pulled",),
    ),
    (
        {"model": {"source": {"huggingFace": {"repo": "a/b", "tokenSecret": {"name": "hub", "key": "token"}}}}},
        "ContainerConfig",
        ("fetch cannot be started", 'secret "hub" not found'),
    ),
    (
        {"model": {"source": {"file": {"path": "/tmp/none.gguf"}}}},
        "EngineFailed",
        ("worker ended with exit code 1", "/tmp/none.gguf"),
    ),
    (
        {"model": {"source": {"builtin": {"name": "demo"}}}, "accelerators": {"class": "tpu"}},
        "NotFound",
        ('no class "tpu"; this operator knows amd, nvidia',),
    ),
]


def test_why_it_is_not_ready(namespace: Namespace, operator: Operator, measured: Measured) -> None:
    began = time.monotonic()
    namespace.apply(*(resource("ModelDeployment", f"m{n}", spec) for n, (spec, _, _) in enumerate(STALLS)))
    for number, (_, reason, words) in enumerate(STALLS):
        name = f"m{number}"
        found = namespace.until("mdep", name, lambda model, reason=reason: condition(model).get("reason") == reason)
        measured(f"operator: {reason} is said after", f"{time.monotonic() - began:.1f} s: {condition(found)['message']}")
        shown = row(namespace, name)
        assert (shown["READY"], shown["REASON"]) == ("False", reason)
        for word in words:
            assert word in condition(found)["message"]
    # What was missing comes, and so does the model.
    namespace.cluster.fake_gpus(8, GPU)
    namespace.until("mdep", "m0", ready(1))


def test_a_meshed_model_and_a_typo(namespace: Namespace, operator: Operator, inferyard_image: str) -> None:
    """What a service mesh would put before the worker is done, and is no failure. What Kubernetes does not know is said."""
    model = demo()
    confined = {"allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True, "capabilities": {"drop": ["ALL"]}}
    prepare = {"name": "prepare", "image": inferyard_image, "imagePullPolicy": "Never", "args": ["--version"]}
    model["spec"]["podTemplate"] = {"spec": {"initContainers": [{**prepare, "securityContext": confined}]}}
    namespace.apply(model)
    namespace.until("mdep", "demo", ready(1))
    told = namespace.get("events")["items"]
    reasons = {event["reason"] for event in told if event["involvedObject"]["kind"] == "ModelDeployment"}
    assert not reasons & {"EngineFailed", "ContainerFailed"}

    serving = set(pods(namespace))
    model["spec"]["podTemplate"]["spec"]["nodeSelectr"] = {"a": "b"}
    namespace.apply(model)
    found = namespace.until("mdep", "demo", lambda mdep: condition(mdep).get("reason") == "Invalid")
    assert condition(found)["message"].startswith("spec.podTemplate.spec.nodeSelectr: ")
    assert condition(found, "Available")["status"] == "True"
    assert (row(namespace)["READY"], row(namespace)["AVAILABLE"]) == ("False", "True")
    assert set(pods(namespace)) == serving


class Load:
    """A router of its own in front of one worker, and streams through it, one after the other, until the end.

    Every client asks for another number of tokens: in step they would leave the worker idle between two rounds.
    """

    def __init__(self, address: str, streams: int) -> None:
        key = new_key()
        command = [BINARY, "router", "-f", MANIFESTS / "demo.yaml", "--worker", f"demo={address}", "--json"]
        command += ["--listen", "127.0.0.1:0", "--key-hash", sha256(key.encode()).hexdigest()]
        self._router = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)
        listening = json.loads(Lines(self._router).next(within=START_S))
        self._client = OpenAI(base_url=f"http://{listening['address']}/v1", api_key=key, max_retries=0, timeout=60)
        self._stop = threading.Event()
        # How each stream ended: "whole", "refused", or what broke it.
        self.ended: list[str] = []
        lengths = range(300, 300 + 25 * streams, 25)
        self._threads = [threading.Thread(target=self._ask, args=(tokens,), daemon=True) for tokens in lengths]
        for thread in self._threads:
            thread.start()

    def _ask(self, tokens: int) -> None:
        while not self._stop.is_set():
            began, request_id = False, ""
            try:
                stream = self._client.chat.completions.create(
                    model="demo",
                    messages=repeat("tick"),
                    max_tokens=tokens,
                    stream=True,
                    stream_options={"include_usage": True},
                )
                request_id = stream.response.headers.get("x-request-id", "")
                for chunk in stream:
                    began = True
                    if chunk.usage:
                        got = chunk.usage.completion_tokens
                        self.ended.append("whole" if got == tokens else f"{request_id}: {got} tokens of {tokens}")
            except Exception as error:
                # Refused at its start: the worker takes no more.
                self.ended.append(f"{request_id}: broke: {error!r}" if began else "refused")
                if not began:
                    return

    def stop(self) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(STOP_S)
        self._client.close()
        self._router.terminate()
        self._router.wait(STOP_S)


def test_the_idlest_worker_goes_first_and_what_runs_ends_in_order(
    namespace: Namespace, operator: Operator, measured: Measured
) -> None:
    namespace.apply(demo(3))
    namespace.until("mdep", "demo", ready(3))
    # The youngest is the one that Kubernetes would take first, were all alike.
    by_age = sorted(pods(namespace).values(), key=lambda pod: pod["metadata"]["creationTimestamp"])
    busy = by_age[-1]
    name, address = busy["metadata"]["name"], f"{busy['status']['podIP']}:50051"
    with namespace.cluster.inside(), Watch(address) as watch:
        load = Load(address, streams=8)
        try:
            watch.until(lambda state: state["running"] >= 4, within=START_S)
            namespace.kubectl("scale", "mdep/demo", "--replicas=1")
            namespace.until("mdep", "demo", lambda model: ready(1)(model) and model["status"]["replicas"] == 1)
            assert set(pods(namespace)) == {name}, "a busy worker was taken before an idle one"
            # The last one is asked to go while it answers: each answer that has begun comes to its end.
            namespace.kubectl("delete", "mdep", "demo")
            watch.until(lambda state: state["phase"] == "DRAINING", within=START_S)
            namespace.wait("delete", f"pod/{name}")
        finally:
            load.stop()
    whole = [end for end in load.ended if end == "whole"]
    broken = [end for end in load.ended if end not in ("whole", "refused")]
    measured("operator: streams through scale-down and deletion", f"{len(whole)} whole, {len(broken)} broken")
    assert whole
    assert broken == []


def test_another_operator_takes_over(
    namespace: Namespace, operator: Operator, inferyard_image: str, tmp_path: Path, measured: Measured
) -> None:
    namespace.apply(demo())
    namespace.until("mdep", "demo", ready(1))
    folder = tmp_path / "second"
    folder.mkdir()
    second = Operator(namespace, inferyard_image, folder)
    try:
        holder = namespace.get("lease", "inferyard-operator")["spec"]["holderIdentity"]
        began = time.monotonic()
        operator.stop()
        namespace.until("lease", "inferyard-operator", lambda lease: lease["spec"]["holderIdentity"] not in ("", holder))
        measured("operator: the next one works after an orderly end", f"{time.monotonic() - began:.1f} s")
        namespace.kubectl("scale", "mdep/demo", "--replicas=2")
        namespace.until("mdep", "demo", ready(2))
        second.stop()
    finally:
        second.kill()


def test_another_release_leaves_the_models_alone(namespace: Namespace, operator: Operator, tmp_path: Path) -> None:
    namespace.apply(demo())
    namespace.until("mdep", "demo", ready(1))
    serving, generation = set(pods(namespace)), namespace.get("deployment", "demo-worker")["metadata"]["generation"]
    folder = tmp_path / "second"
    folder.mkdir()
    second = Operator(namespace, "registry.invalid/second:1", folder, release="second")
    try:
        namespace.until_told("ManagedElsewhere")
        assert "another release manages this namespace" in second.log()
        namespace.kubectl("label", "mdep/demo", "touched=yes")
        operator.settled()
        assert writes(second.settled()).keys() <= {"create events", "patch events"}
        second.stop()
    finally:
        second.kill()
    assert set(pods(namespace)) == serving
    assert namespace.get("deployment", "demo-worker")["metadata"]["generation"] == generation
    assert namespace.get("mdep", "demo")["status"]["managedBy"] == f"{namespace.name}/inferyard"
    told = [event for event in namespace.get("events.events.k8s.io")["items"] if event["reason"] == "ManagedElsewhere"]
    assert [event["regarding"]["name"] for event in told] == ["demo"]


def test_a_chat_template_of_the_users(namespace: Namespace, operator: Operator) -> None:
    template = "{{ bos_token }}{% for m in messages %}<|user|>{{ m.content }}<|im_end|>{% endfor %}<|assistant|>"
    model = demo()
    model["spec"]["chatTemplate"] = {"inline": template}
    namespace.apply(model)
    namespace.until("mdep", "demo", ready(1))
    kept = set(pods(namespace))
    model["spec"]["chatTemplate"] = {"inline": template + "\n"}
    namespace.apply(model)
    namespace.until("mdep", "demo", ready(1))
    (new,) = pods(namespace)
    assert new not in kept

    # A ConfigMap that is not there is said, and found once it is.
    model["spec"]["chatTemplate"] = {"configMap": {"name": "chats", "key": "demo.jinja"}}
    namespace.apply(model)
    namespace.until("mdep", "demo", lambda mdep: condition(mdep, "Ready").get("reason") == "ContainerConfig")
    assert 'configmap "chats" not found' in row(namespace)["MESSAGE"]
    config_map = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "chats"}, "data": {"demo.jinja": template}}
    namespace.apply(config_map)
    namespace.until("mdep", "demo", ready(1))
