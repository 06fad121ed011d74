"""A namespace of a test's own."""

import contextlib
import time
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cluster import Cluster, Refused
from inferyard import START_S
from resources import Resource


@dataclass(frozen=True)
class Namespace:
    """A namespace of a test's own, and the cluster as seen from it."""

    cluster: Cluster
    name: str

    def kubectl(self, *words: str | Path, **options: Any) -> str:
        """kubectl in this namespace."""
        return self.cluster.kubectl("-n", self.name, *words, **options)

    def get(self, *words: str) -> Any:
        """`kubectl get … -o json`."""
        return self.cluster.get("-n", self.name, *words)

    def apply(self, *resources: Resource | Path, **options: Any) -> str:
        """Applies resources and files."""
        return self.cluster.apply(*resources, namespace=self.name, **options)

    def wait(self, what: str, *targets: str, **options: Any) -> None:
        """`kubectl wait --for=WHAT TARGET...`."""
        self.cluster.wait(what, *targets, namespace=self.name, **options)

    def until(self, kind: str, name: str, holds: Any, **options: Any) -> Any:
        """Watches a resource until it is as asked, and returns it."""
        return self.cluster.until(kind, name, holds, namespace=self.name, **options)

    def until_may(self, account: str, verb: str, what: str) -> None:
        """Returns once a service account of the namespace has a right: the API server reads roles a moment after they are written."""
        deadline = time.monotonic() + START_S
        question = ("auth", "can-i", verb, what, f"--as=system:serviceaccount:{self.name}:{account}", "--quiet")
        while not self._is_yes(*question):
            assert time.monotonic() < deadline, question

    def _is_yes(self, *question: str) -> bool:
        try:
            self.kubectl(*question)
        except Refused:
            return False
        return True

    def until_told(self, reason: str) -> None:
        """Returns once there is an event with this reason."""
        deadline = time.monotonic() + START_S
        seen = self.cluster.watch("events", f"--field-selector=reason={reason}", namespace=self.name, until=deadline)
        with contextlib.closing(seen):
            assert next(seen, None) is not None, f"no event {reason}"

    def table(self, kind: str) -> list[dict[str, str]]:
        """What `kubectl get KIND` prints, by column."""
        return self.cluster.table(kind, namespace=self.name)


def new_namespace(cluster: Cluster) -> Namespace:
    """A new namespace that takes only pods under the strictest standard, `restricted`."""
    name = f"t-{uuid.uuid4().hex[:8]}"
    labels = {"pod-security.kubernetes.io/enforce": "restricted"}
    cluster.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}})
    return Namespace(cluster, name)
