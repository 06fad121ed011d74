"""Inferyard in a cluster, as a platform team has it: the chart, a model, a plan, a key."""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cluster import ROOT
from keys import new_key
from namespaces import Namespace
from openai import OpenAI
from resources import api_key, plan

CHART = ROOT / "charts" / "inferyard"
QUICKSTART = ROOT / "examples" / "quickstart.yaml"
RELEASE = "inferyard"
INSTALL_S = 180
# The address of the node, which pods reach.
NODE = "10.200.1.1"


@dataclass(frozen=True)
class Installed:
    """A release of the chart in a namespace: two routers, a Redis beside them, one plan, one key."""

    namespace: Namespace
    image: str
    redis_port: int
    key: str = field(default_factory=new_key, repr=False)

    def helm(self, verb: str, *words: str | Path) -> str:
        """`helm VERB inferyard … -n NAMESPACE`."""
        return self.namespace.cluster.helm(verb, RELEASE, *words, "-n", self.namespace.name, within=INSTALL_S)

    def settings(self, **values: Any) -> list[str]:
        """The flags of the chart for the image under test."""
        repository, _, tag = self.image.rpartition(":")
        image = {"repository": repository, "tag": tag}
        chosen = {
            "image": {**image, "pullPolicy": "Never"},
            "workers": {"image": image},
            "crds": {"install": False},
            "redis.url": f"redis://{NODE}:{self.redis_port}",
            "redis.ports": [self.redis_port],
            "router.replicas": 2,
        }
        return [f"--set-json={name}={json.dumps(value)}" for name, value in (chosen | values).items()]

    def install(self, **values: Any) -> None:
        """`helm install`, until all that it made is ready."""
        self.helm("install", CHART, *self.settings(**values), "--wait", f"--timeout={INSTALL_S}s")
        self.namespace.apply(plan("standard"), api_key("clients", self.key, plan="standard"))

    def upgrade(self, **values: Any) -> None:
        """`helm upgrade`, until all that it changed is ready."""
        self.helm("upgrade", CHART, *self.settings(**values), "--wait", f"--timeout={INSTALL_S}s")

    @property
    def base_url(self) -> str:
        """Where the Service of the routers answers, in the cluster's network."""
        service = self.namespace.get("service", f"{RELEASE}-router")["spec"]
        return f"http://{service['clusterIP']}:{service['ports'][0]['port']}/v1"

    def openai(self) -> OpenAI:
        """The official client, as users make it: another base URL, another key."""
        return OpenAI(base_url=self.base_url, api_key=self.key, timeout=60)

    # --- pods

    def pods(self, component: str) -> list[Any]:
        """The pods of "router", "operator", "ledger" or "worker" that are not being deleted."""
        found = self.namespace.get("pods", "-l", f"app.kubernetes.io/name=inferyard-{component}")["items"]
        return [pod for pod in found if "deletionTimestamp" not in pod["metadata"]]

    def workers_ready(self, count: int) -> None:
        """Returns when the model says that so many workers are declared and all of them answer."""
        self.namespace.until("modeldeployment", "demo", lambda model: _has_workers(model, count), within=INSTALL_S)

    def scale(self, replicas: int) -> None:
        """`kubectl scale`, until it is done."""
        self.namespace.kubectl("scale", "modeldeployment/demo", f"--replicas={replicas}")
        self.workers_ready(replicas)


def _has_workers(model: Any, count: int) -> bool:
    status = model.get("status", {})
    ready = {it["type"]: it for it in status.get("conditions", ())}.get("Ready", {})
    return (
        status.get("observedGeneration") == model["metadata"]["generation"]
        and ready.get("status") == "True"
        and ready.get("observedGeneration", model["metadata"]["generation"]) == model["metadata"]["generation"]
        and status.get("replicas") == status.get("updatedReplicas") == count
        and status.get("readyReplicas") == count
    )
