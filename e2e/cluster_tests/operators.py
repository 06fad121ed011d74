"""The operator as a process beside the cluster, with exactly the rights that docs/kubernetes.md lists."""

import json
import re
import signal
import subprocess
import time
import urllib.request
from collections import Counter
from pathlib import Path
from typing import Any

from inferyard import BINARY, START_S, STOP_S
from namespaces import Namespace
from ports import Port
from resources import Resource

# Requests that change something.
WRITES = ("create", "update", "patch", "delete")

READ = ["get", "list", "watch"]
WHOLE = [*READ, "create", "patch", "delete"]
# The table of docs/kubernetes.md: group, resources, verbs.
RIGHTS: list[tuple[str, list[str], list[str]]] = [
    ("inferyard.dev", ["modeldeployments", "plans", "apikeys"], READ),
    ("inferyard.dev", ["modeldeployments/status", "plans/status", "apikeys/status"], ["patch"]),
    ("inferyard.dev", ["modeldeployments/finalizers"], ["update"]),
    ("apps", ["deployments"], WHOLE),
    ("", ["serviceaccounts", "persistentvolumeclaims"], WHOLE),
    ("networking.k8s.io", ["networkpolicies"], WHOLE),
    ("policy", ["poddisruptionbudgets"], WHOLE),
    ("", ["pods"], ["list", "watch", "patch"]),
    ("events.k8s.io", ["events"], ["create", "patch"]),
    ("coordination.k8s.io", ["leases"], ["get", "create", "update"]),
]
OF_THE_CLUSTER = [("storage.k8s.io", ["storageclasses"], ["get"])]


def rules(rights: list[tuple[str, list[str], list[str]]]) -> list[Resource]:
    return [{"apiGroups": [group], "resources": what, "verbs": verbs} for group, what, verbs in rights]


def account(namespace: Namespace) -> str:
    """A service account that may what the operator must in this namespace; its token."""
    rbac, name = "rbac.authorization.k8s.io", namespace.name
    subject = {"kind": "ServiceAccount", "name": "operator", "namespace": name}

    def granted(scope: str, called: str, rights: list[tuple[str, list[str], list[str]]]) -> tuple[Resource, Resource]:
        metadata, role = {"name": called}, f"{scope}Role"
        made = {"apiVersion": f"{rbac}/v1", "metadata": metadata}
        reference = {"apiGroup": rbac, "kind": role, "name": called}
        return (
            {**made, "kind": role, "rules": rules(rights)},
            {**made, "kind": f"{role}Binding", "roleRef": reference, "subjects": [subject]},
        )

    namespace.apply(
        {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "operator"}},
        *granted("", "operator", RIGHTS),
        *granted("Cluster", f"{name}-operator", OF_THE_CLUSTER),
    )
    wait_until_granted(namespace)
    return namespace.kubectl("create", "token", "operator").strip()


def wait_until_granted(namespace: Namespace) -> None:
    """Returns once the API server knows the rights."""
    granted = [(group, what, verb) for group, kinds, verbs in [*RIGHTS, *OF_THE_CLUSTER] for what in kinds for verb in verbs]
    # One of a Role and one of a ClusterRole: each is read as a whole.
    for group, what, verb in (granted[0], granted[-1]):
        namespace.until_may("operator", verb, f"{what}.{group}")


class Operator:
    """One operator for one namespace. Started inside the cluster's network, it reaches the pods."""

    def __init__(self, namespace: Namespace, image: str, folder: Path, release: str = "inferyard") -> None:
        cluster = namespace.cluster
        access = json.loads(cluster.kubectl("config", "view", "--raw", "-o", "json"))
        access["users"] = [{"name": "admin", "user": {"token": account(namespace)}}]
        kubeconfig = folder / "operator.conf"
        kubeconfig.write_text(json.dumps(access))
        with cluster.inside():
            self._port = Port()
        self._address = f"127.0.0.1:{self._port.number}"
        self._log = folder / "operator.log"
        command = ["setpriv", "--pdeathsig", "KILL", "--", BINARY, "operator"]
        command += ["--namespace", namespace.name, "--leader-election-namespace", namespace.name]
        command += ["--release", release, "--image", image, "--kubeconfig", str(kubeconfig), "--metrics-listen", self._address]
        with cluster.inside(), self._log.open("ab") as log:
            self._process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stderr=log)
        self._cluster = cluster
        # Nothing tells that a port is served; each try takes a scrape, so this is not busy.
        deadline = time.monotonic() + START_S
        while not self._is_ready():
            assert self._process.poll() is None and time.monotonic() < deadline, self.log()
            time.sleep(0.05)

    def _is_ready(self) -> bool:
        try:
            with self._cluster.inside():
                urllib.request.urlopen(f"http://{self._address}/readyz", timeout=60).close()
        except OSError:
            return False
        return True

    @property
    def pid(self) -> int:
        """Its process."""
        return self._process.pid

    def log(self) -> str:
        """What it has written so far."""
        return self._log.read_text(errors="replace")

    def stop(self) -> None:
        """Asks it to end, and waits for that."""
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
        assert self._process.wait(STOP_S) == 0, self.log()

    def kill(self) -> None:
        """Ends it at once, if it still runs."""
        if self._process.poll() is None:
            self._process.kill()
        self._process.wait(STOP_S)
        self._port.give_back()

    # --- what it has asked of the API server

    def metrics(self) -> str:
        """Its metrics, as Prometheus would read them."""
        with self._cluster.inside():
            return urllib.request.urlopen(f"http://{self._address}/metrics", timeout=60).read().decode()

    def requests(self) -> Counter[str]:
        """Requests so far, as "verb resource", those for its Lease left out."""
        text = self.metrics()
        line = re.compile(r'inferyard_operator_api_requests_total\{verb="(\w+)",resource="([^"]+)"\} (\d+)')
        return Counter({f"{verb} {what}": int(count) for verb, what, count in line.findall(text) if what != "leases"})

    def settled(self, within: float = 180) -> Counter[str]:
        """All requests, once no write has come for as long as two debounces and a round trip take."""
        deadline, last, since = time.monotonic() + within, writes(self.requests()), time.monotonic()
        while time.monotonic() - since < 1.5:
            assert time.monotonic() < deadline, f"the operator does not come to rest: {last}"
            # Metrics have no event; a process's turn paces this.
            time.sleep(0.1)
            if (now := writes(self.requests())) != last:
                last, since = now, time.monotonic()
        return self.requests()


def reconciles(text: str) -> int:
    """How many models were looked at so far, of its metrics."""
    line = re.compile(r'inferyard_operator_reconciles_total\{kind="ModelDeployment"[^}]*\} (\d+)')
    return sum(int(count) for count in line.findall(text))


def writes(requests: Counter[str]) -> Counter[str]:
    """Only those that change something."""
    return Counter({name: count for name, count in requests.items() if name.split()[0] in WRITES})


def told(requests: Counter[str]) -> str:
    """For the summary."""
    return ", ".join(f"{count} {name}" for name, count in sorted(requests.items())) or "none"


def condition(resource: Any, kind: str = "Ready") -> dict[str, Any]:
    """A condition of a resource, if it speaks of what is declared now; else an empty one."""
    status = resource.get("status", {})
    if status.get("observedGeneration") != resource["metadata"]["generation"]:
        return {}
    return next((said for said in status.get("conditions", []) if said["type"] == kind), {})


def ready(count: int) -> Any:
    """Whether exactly so many workers answer, and all is well."""

    def holds(resource: Any) -> bool:
        return condition(resource).get("status") == "True" and resource["status"]["readyReplicas"] == count

    return holds
