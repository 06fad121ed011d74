"""Manifests that a test writes itself, because it makes keys anew or tries many settings."""

import hashlib
import json
from pathlib import Path
from typing import Any

Resource = dict[str, Any]


def resource(kind: str, name: str, spec: Any) -> Resource:
    return {"apiVersion": "inferyard.dev/v1alpha1", "kind": kind, "metadata": {"name": name}, "spec": spec}


def demo(replicas: int = 1, **engine: int) -> Resource:
    """The demo model; `engine` are settings such as `maxRunning`."""
    spec: dict[str, Any] = {"model": {"source": {"builtin": {"name": "demo"}}}, "scaling": {"replicas": replicas}}
    if engine:
        spec["engine"] = {"embedded": engine}
    return resource("ModelDeployment", "demo", spec)


def plan(name: str, /, **spec: Any) -> Resource:
    return resource("Plan", name, spec)


def api_key(name: str, text: str, /, **spec: Any) -> Resource:
    """A key on a plan, which the test knows and the manifest does not."""
    return resource("ApiKey", name, {"hash": hashlib.sha256(text.encode()).hexdigest(), **spec})


def write(path: Path, *resources: Resource) -> Path:
    """Writes them as one file; JSON is YAML."""
    path.write_text("\n---\n".join(json.dumps(resource, indent=1) for resource in resources))
    return path
