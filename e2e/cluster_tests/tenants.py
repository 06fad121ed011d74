"""Somebody who may edit one namespace of a cluster, and nothing else."""

import json
from dataclasses import dataclass, field
from typing import Any

from namespaces import Namespace
from resources import Resource


@dataclass(frozen=True)
class Tenant:
    """A service account with the cluster's role `edit` in its namespace."""

    namespace: Namespace
    token: str = field(repr=False)

    def kubectl(self, *words: str, stdin: str | None = None) -> str:
        """kubectl with the rights of the tenant, in his namespace unless the words name another."""
        own = [] if "-n" in words else ["-n", self.namespace.name]
        return self.namespace.cluster.kubectl_as(self.token, *own, *words, stdin=stdin)

    def apply(self, *resources: Resource) -> None:
        """Applies resources, one after the other: the first is the oldest."""
        for resource in resources:
            self.kubectl("apply", "-f", "-", stdin=json.dumps(resource))

    def accepted(self, kind: str, name: str, reason: str) -> dict[str, Any]:
        """Waits until the operator gives this reason, and returns the condition."""
        found = self.namespace.until(kind, name, lambda resource: said(resource).get("reason") == reason)
        return said(found)


def said(resource: Any) -> dict[str, Any]:
    """The condition `Accepted` of the present generation, if the operator has written it."""
    status = resource.get("status", {})
    if status.get("observedGeneration") != resource["metadata"]["generation"]:
        return {}
    return next((it for it in status.get("conditions", []) if it["type"] == "Accepted"), {})


def new_tenant(namespace: Namespace) -> Tenant:
    """Gives a namespace to a tenant. The chart has told the cluster's role `edit` what that means."""
    namespace.kubectl("create", "serviceaccount", "tenant")
    account = f"{namespace.name}:tenant"
    namespace.kubectl("create", "rolebinding", "tenant", "--clusterrole=edit", f"--serviceaccount={account}")
    # Roles are put together a moment after the chart is installed.
    namespace.until_may("tenant", "create", "plans.inferyard.dev")
    return Tenant(namespace, namespace.kubectl("create", "token", "tenant").strip())
