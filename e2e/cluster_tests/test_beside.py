"""A server of OpenAI's API in the worker's pod: here another Inferyard, open to callers without a key."""

import json
import uuid

from asking import STATUS_TOOL, repeat, reply_with, user
from hub import Hub
from hubs import from_hub
from installed import Installed
from operators import ready
from resources import Resource, plan, resource

TOKENS = 600
PORT = 8000


def beside(name: str, image: str, hub: Hub) -> list[Resource]:
    """A model whose engine is `inferyard up` with what was fetched from the hub, and the manifests of that."""
    served = resource("ModelDeployment", "demo", {"model": {"source": {"file": {"path": "/weights"}}}})
    documents = "\n---\n".join(json.dumps(item) for item in (served, plan("open", preview={})))
    files = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": {"demo.yaml": documents}}
    engine = {
        "image": image,
        "args": ["up", "-f", "/manifests/demo.yaml", "--listen", f"127.0.0.1:{PORT}", "--state", "/tmp/state"],
        "servedModelName": "demo",
    }
    mounted = {"name": "engine", "volumeMounts": [{"name": "manifests", "mountPath": "/manifests"}]}
    over = {
        "spec": {
            "initContainers": [mounted],
            "volumes": [{"name": "manifests", "configMap": {"name": name}}],
        }
    }
    changes = {"engine": {"openai": engine}, "podTemplate": over, "rollout": {"drainTimeout": "60s"}}
    model = from_hub(hub, "*Q8*", **changes)
    model["metadata"]["name"] = name
    return [files, model]


def test_the_engine_ends_only_after_the_worker_has_drained(node: str, installed: Installed, hub: Hub) -> None:
    name = f"beside-{uuid.uuid4().hex[:6]}"
    installed.namespace.apply(*beside(name, installed.image, hub))
    installed.namespace.until("mdep", name, ready(1), within=150)
    (pod,) = installed.namespace.get("pods", "-l", f"inferyard.dev/model-deployment={name}")["items"]
    with installed.openai() as client:
        answer = client.chat.completions.create(model=name, messages=reply_with("payload verified."), temperature=0)
        assert answer.choices[0].message.content == "payload verified."
        called = client.chat.completions.create(
            model=name, messages=user("Check order 123."), tools=[STATUS_TOOL], tool_choice="required"
        )
        (call,) = called.choices[0].message.tool_calls or ()
        assert call.function.name == "get_order_status"

        stream = client.chat.completions.create(
            model=name,
            messages=repeat("tick tock"),
            max_tokens=TOKENS,
            stream=True,
            stream_options={"include_usage": True},
        )
        next(stream)
        installed.namespace.kubectl("delete", "pod", pod["metadata"]["name"], "--wait=false")
        chunks = list(stream)
    assert [choice.finish_reason for chunk in chunks for choice in chunk.choices if choice.finish_reason] == ["length"]
    assert chunks[-1].usage is not None
    assert chunks[-1].usage.completion_tokens == TOKENS
    installed.namespace.wait("delete", f"pod/{pod['metadata']['name']}")
    installed.namespace.kubectl("delete", "mdep", name)
