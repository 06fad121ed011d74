"""One release for several namespaces: what a tenant with `edit` in his own can do to the others, and what he cannot."""

import json
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import httpx2
import pytest
from asking import user
from cluster import Cluster, Refused
from inferyard import START_S
from installed import Installed
from keys import new_key
from namespaces import new_namespace
from operators import ready
from resources import Resource, api_key, plan, resource
from tenants import Tenant, new_tenant, said

# A Secret is read every minute, and reading all of them takes half a minute at most.
REVOKED_S = 120
SECRET = "key-of-search"
KEY_OF_A = new_key()


@dataclass(frozen=True)
class Platform:
    """A release that serves its own namespace and those of two tenants."""

    release: Installed
    a: Tenant
    b: Tenant

    def ask(self, key: str | None, model: str) -> tuple[int, str | None, httpx2.Response]:
        """Status, code and answer of a small request."""
        body = {"model": model, "messages": user("Hi"), "max_tokens": 1}
        response = httpx2.post(f"{self.release.base_url}/chat/completions", json=body, headers=_bearer(key), timeout=60)
        error = response.json().get("error") or {}
        return response.status_code, error.get("code"), response

    def models(self, key: str) -> list[str]:
        """What the key may use."""
        response = httpx2.get(f"{self.release.base_url}/models", headers=_bearer(key), timeout=60)
        return [model["id"] for model in response.json()["data"]]

    def until(self, key: str | None, model: str, status: int, code: str | None = None) -> httpx2.Response:
        """Asks until the router knows of a change: it follows the API server, and tells nobody when."""
        deadline = time.monotonic() + START_S
        while True:
            *seen, response = self.ask(key, model)
            if seen == [status, code]:
                return response
            assert time.monotonic() < deadline, f"{model}: {seen}, not {status} {code}"


def _bearer(key: str | None) -> dict[str, str]:
    return {"authorization": f"Bearer {key}"} if key else {}


def model(own: str, /, replicas: int = 1, **names: Any) -> Resource:
    served = {"source": {"builtin": {"name": "demo"}}, **names}
    return resource("ModelDeployment", own, {"model": served, "scaling": {"replicas": replicas}})


@pytest.fixture(scope="module")
def platform(cluster: Cluster, inferyard_image: str) -> Iterator[Platform]:
    home, a, b = (new_namespace(cluster) for _ in range(3))
    release = Installed(home, inferyard_image, redis_port=0)
    with cluster.inside():
        release.install(
            **{
                "redis.url": "",
                "redis.ports": [6379],
                "router.replicas": 1,
                "watchNamespaces": [home.name, a.name, b.name],
                "operator.apiKeySecrets": [{"names": [SECRET]}],
            }
        )
        made = Platform(release, new_tenant(a), new_tenant(b))
        # The oldest of all, with a worker, and a key of its team.
        made.a.apply(model("secret-model"), plan("own"), api_key("team", KEY_OF_A, plan="own"))
        a.until("mdep", "secret-model", ready(1))
        made.until(KEY_OF_A, "secret-model", 200)
    yield made
    release.helm("uninstall")
    for namespace in (home, a, b):
        cluster.kubectl("delete", "namespace", namespace.name, "--wait=false")


def test_a_plan_of_ones_own_gives_nothing_that_is_not_ones_own(node: str, platform: Platform) -> None:
    key, b = new_key(), platform.b
    greedy = plan("top", priority=1000, price={"perMillionTokens": "0"}, namespaceSelector={"any": True})
    b.apply(greedy, api_key("greedy", key, plan="top"))
    message = b.accepted("plan", "top", "NotAllowed")["message"]
    for field in ("spec.priority", "spec.price.perMillionTokens", "spec.namespaceSelector"):
        assert field in message
    assert platform.release.namespace.name in message
    b.accepted("apikey", "greedy", "NotAllowed")
    refused = platform.until(key, "secret-model", 401, "invalid_api_key")
    assert "plan 'top'" in refused.json()["error"]["message"]

    # What is left of it when the excess is taken out.
    b.kubectl("replace", "-f", "-", stdin=json.dumps(plan("top")))
    b.accepted("plan", "top", "Valid")
    b.accepted("apikey", "greedy", "Valid")
    platform.until(key, "secret-model", 400, "model_not_found")
    assert platform.models(key) == []
    assert platform.models(KEY_OF_A) == ["secret-model"]


def test_a_tenant_has_no_rights_elsewhere(node: str, platform: Platform) -> None:
    b, home = platform.b, platform.release.namespace.name
    b.apply(plan("harmless"), api_key("harmless", new_key(), plan="harmless"))
    for words in (
        ("get", "mdep", "-n", platform.a.namespace.name),
        ("get", "apikeys", "-n", home),
        ("create", "-n", home, "-f", "-"),
        ("patch", "apikey/harmless", "--subresource=status", "--type=merge", "-p", '{"status": {"hash": "%s"}}' % ("0" * 64)),
        ("patch", "plan/harmless", "--subresource=status", "--type=merge", "-p", '{"status": {"conditions": []}}'),
    ):
        with pytest.raises(Refused, match="[Ff]orbidden"):
            b.kubectl(*words, stdin=json.dumps(plan("top", priority=1)))


def test_a_preview_of_a_tenant_opens_nothing(node: str, platform: Platform) -> None:
    platform.b.apply(plan("free", preview={}))
    platform.b.accepted("plan", "free", "NotAllowed")
    assert platform.ask(None, "secret-model")[0] == 401
    # The platform's own opens what the platform has.
    home = platform.release.namespace
    home.apply(plan("free", preview={}))
    platform.until(None, "secret-model", 400, "model_not_found")
    home.kubectl("delete", "plan", "free")
    platform.until(None, "secret-model", 401)


def test_an_older_alias_elsewhere_captures_no_prompt(node: str, platform: Platform) -> None:
    # Without workers it would answer that it is stopped.
    platform.b.apply(model("squat", replicas=0, aliases=["next-model", "gpt-4o"]))
    platform.b.accepted("mdep", "squat", "Valid")
    platform.a.apply(model("next-model"))
    platform.a.namespace.until("mdep", "next-model", ready(1))
    platform.until(KEY_OF_A, "next-model", 200)
    assert platform.ask(KEY_OF_A, "gpt-4o")[:2] == (400, "model_not_found")
    platform.a.kubectl("delete", "mdep", "next-model")


def test_two_namespaces_may_use_one_name_and_what_is_stopped_says_so(node: str, platform: Platform) -> None:
    key, b = new_key(), platform.b
    b.apply(plan("own"), api_key("own", key, plan="own"), model("secret-model", replicas=0))
    b.accepted("mdep", "secret-model", "Valid")
    stopped = platform.until(key, "secret-model", 503, "model_stopped")
    assert stopped.headers["x-should-retry"] == "false"
    assert "retry-after" not in stopped.headers
    assert "secret-model" not in platform.models(key)
    assert platform.ask(KEY_OF_A, "secret-model")[0] == 200
    # Within one namespace the second has no name, and a caller is told.
    b.apply(model("second", name="secret-model", aliases=["of-the-second"]))
    b.accepted("mdep", "second", "NameTaken")
    refused = platform.until(key, "of-the-second", 503, "model_refused")
    assert "NameTaken" in refused.json()["error"]["message"]
    b.kubectl("delete", "mdep", "second", "secret-model")


def test_a_plan_of_the_platform_opens_what_it_selects(node: str, platform: Platform) -> None:
    home = platform.release.namespace
    for name, selector, status in (
        ("named", {"matchNames": [platform.a.namespace.name]}, 200),
        ("any", {"any": True}, 200),
        ("other", {"matchNames": [platform.b.namespace.name]}, 400),
    ):
        key = new_key()
        home.apply(plan(name, namespaceSelector=selector, priority=9), api_key(name, key, plan=name))
        home.wait("condition=Accepted", f"plan/{name}", f"apikey/{name}")
        platform.until(key, "secret-model", status, None if status == 200 else "model_not_found")


def test_a_copied_hash_takes_nobodys_key(node: str, platform: Platform) -> None:
    home, b = platform.release.namespace, platform.b
    key = new_key()
    # The tenant had the hash first, from wherever it was published.
    b.apply(plan("copy"), api_key("copy", key, plan="copy"))
    b.accepted("apikey", "copy", "Valid")
    wide = plan("wide", namespaceSelector={"matchNames": [platform.a.namespace.name]})
    home.apply(wide, api_key("original", key, plan="wide"))
    message = b.accepted("apikey", "copy", "NameTaken")["message"]
    assert "of another namespace" in message
    home.wait("condition=Accepted", "apikey/original")
    platform.until(key, "secret-model", 200)


def test_a_deleted_plan_is_named(node: str, platform: Platform) -> None:
    key, a = new_key(), platform.a
    a.apply(plan("passing"), api_key("passing", key, plan="passing"))
    platform.until(key, "secret-model", 200)
    a.kubectl("delete", "plan", "passing")
    message = platform.until(key, "secret-model", 401, "invalid_api_key").json()["error"]["message"]
    assert "plan 'passing', which does not exist" in message
    assert "Incorrect API key" not in message
    a.accepted("apikey", "passing", "NotFound")


def test_without_its_secret_a_key_is_revoked(node: str, platform: Platform) -> None:
    home, key = platform.release.namespace, new_key()
    secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": SECRET}, "stringData": {"token": f"{key}\n"}}
    search = resource("ApiKey", "search", {"plan": "standard", "secret": {"name": SECRET, "key": "token"}})
    home.apply(secret, search)
    home.until("apikey", "search", lambda it: "hash" in it.get("status", {}))
    platform.until(key, "none", 400, "model_not_found")
    home.kubectl("delete", "secret", SECRET)
    revoked = home.until("apikey", "search", lambda it: "hash" not in it.get("status", {}), within=REVOKED_S)
    assert said(revoked)["reason"] == "NotFound"
    platform.until(key, "none", 401, "invalid_api_key")


def test_workers_let_in_the_routers_of_the_release_only(node: str, platform: Platform) -> None:
    policy = platform.a.namespace.get("networkpolicy", "secret-model-worker")
    (grpc,) = [rule for rule in policy["spec"]["ingress"] if rule["ports"][0]["port"] == 50051]
    for peer in grpc["from"]:
        (rule,) = peer["namespaceSelector"]["matchExpressions"]
        assert rule == {
            "key": "kubernetes.io/metadata.name",
            "operator": "In",
            "values": [platform.release.namespace.name],
        }
        assert peer["podSelector"]["matchLabels"]["app.kubernetes.io/name"].startswith("inferyard-")
