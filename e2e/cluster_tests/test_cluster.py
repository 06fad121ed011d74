"""The cluster itself: it is real, its parts fail and come back, and it tells what was asked of it."""

import subprocess
import urllib.request
from pathlib import Path
from typing import Any

import pytest
from cluster import Cluster, Refused, image
from namespaces import Namespace
from pods import IMAGE, pod
from resources import Resource


def worker(name: str, **fields: Any) -> Resource:
    """A worker that is ready when its probe says so. It runs until it is ended."""
    metrics = ("--metrics-listen", "0.0.0.0:9090")
    args = ("worker", "--model", "demo", "--builtin", "demo", "--listen", "0.0.0.0:50051", *metrics)
    made = pod(name, IMAGE, *args, readinessProbe={"grpc": {"port": 50051}, "periodSeconds": 1}, **fields)
    made["metadata"]["labels"] = {"app": name}
    return made


def test_pods_and_services_answer(node: str, namespace: Namespace, inferyard_image: str) -> None:
    ports = [{"port": 80, "targetPort": 9090}]
    service = {"selector": {"app": "worker"}, "ports": ports}
    namespace.apply(
        {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "worker"}, "spec": service}, worker("worker")
    )
    namespace.wait("condition=Ready", "pod/worker")
    pod_ip = namespace.get("pod", "worker")["status"]["podIP"]
    assert "inferyard_" in urllib.request.urlopen(f"http://{pod_ip}:9090/metrics", timeout=60).read().decode()
    service_ip = namespace.get("service", "worker")["spec"]["clusterIP"]
    # kube-proxy writes its rules up to a second after the endpoint is known, and tells nobody.
    answered = ["curl", "-fsS", "--retry", "20", "--retry-all-errors", "--retry-delay", "1", f"http://{service_ip}/metrics"]
    assert "inferyard_" in subprocess.run(answered, check=True, capture_output=True, text=True).stdout


def test_gpus_can_be_faked(
    cluster: Cluster, node: str, namespace: Namespace, inferyard_image: str
) -> None:
    cluster.fake_gpus(2, "example.com/gpu")
    for name, count in (("fits", 2), ("too-much", 1)):
        # One that had ended would have given them back.
        namespace.apply(worker(name, resources={"limits": {"example.com/gpu": count}}))
        if name == "fits":
            namespace.until("pod", "fits", lambda pod: pod["spec"].get("nodeName") == node)
    condition = namespace.until(
        "pod", "too-much", lambda pod: pod["status"].get("conditions", [{}])[0].get("reason") == "Unschedulable"
    )["status"]["conditions"][0]
    assert "Insufficient example.com/gpu" in condition["message"]


def test_budgets_bind(cluster: Cluster, node: str, namespace: Namespace, inferyard_image: str) -> None:
    budget = {"minAvailable": 1, "selector": {"matchLabels": {"app": "kept"}}}
    namespace.apply(
        worker("kept"),
        {
            "apiVersion": "policy/v1",
            "kind": "PodDisruptionBudget",
            "metadata": {"name": "kept"},
            "spec": budget,
        },
    )
    namespace.wait("condition=Ready", "pod/kept")
    namespace.until("pdb", "kept", lambda pdb: pdb.get("status", {}).get("currentHealthy") == 1)
    with pytest.raises(Refused, match="disruption budget"):
        cluster.evict("kept", namespace.name)
    namespace.kubectl("delete", "pdb", "kept")
    cluster.evict("kept", namespace.name)
    namespace.wait("delete", "pod/kept")


def test_the_api_server_goes_and_comes_back(cluster: Cluster, namespace: Namespace) -> None:
    namespace.kubectl("create", "configmap", "kept")
    with cluster.without("kube-apiserver"), pytest.raises(Refused, match="refused"):
        namespace.get("configmap", "kept")
    assert namespace.get("configmap", "kept")["metadata"]["name"] == "kept"


def test_refused_calls_are_seen(cluster: Cluster, namespace: Namespace) -> None:
    """What a later test relies on when it says that no call of ours was refused."""
    account = f"system:serviceaccount:{namespace.name}:plain"
    namespace.kubectl("create", "serviceaccount", "plain")
    token = namespace.kubectl("create", "token", "plain").strip()
    assert cluster.denied(account) == []
    with pytest.raises(Refused, match="forbidden"):
        cluster.kubectl_as(token, "get", "secrets", "-n", namespace.name)
    assert [call.split(":")[3] for call in cluster.denied(account)] == [
        f"plain list /api/v1/namespaces/{namespace.name}/secrets?limit=500"
    ]


def test_images_are_made_from_files(
    cluster: Cluster, node: str, namespace: Namespace, tmp_path: Path
) -> None:
    archive = tmp_path / "pause.tar"
    image(archive, "cluster.test/other:1", {"/pause": cluster.programs / "pause"}, ["/pause"])
    cluster.load(archive)
    namespace.apply(pod("other", "cluster.test/other:1"))
    namespace.wait("condition=Ready", "pod/other")


def test_ends_without_a_trace(cluster: Cluster) -> None:
    own = Cluster("e2e-own", node=False)
    state, server = own.state, (own.state / "run" / "kube-apiserver.pid").read_text().strip()
    assert Path(f"/proc/{server}").exists()
    own.close()
    assert not state.exists()
    assert not Path(f"/proc/{server}").exists()
