"""What a real API server says to manifests: the examples are taken, mistakes are refused with words that help."""

import json
from pathlib import Path
from typing import Any

import pytest
from cluster import CRDS, Cluster, Refused
from inferyard import EXAMPLES
from namespaces import Namespace
from resources import Resource, resource

HASH = "0123456789abcdef" * 4
OTHER = "fedcba9876543210" * 4
LATER = "2030-01-01T00:00:00Z"
DEMO = {"builtin": {"name": "demo"}}
HUB = {"huggingFace": {"repo": "owner/name"}}


def mdep(source: Any = DEMO, model: Any = None, **spec: Any) -> Resource:
    return resource("ModelDeployment", "bad", {"model": {"source": source, **(model or {})}, **spec})


def plan(**spec: Any) -> Resource:
    return resource("Plan", "bad", spec)


def limit(**limits: Any) -> Resource:
    return plan(limits=limits)


def price(**price: Any) -> Resource:
    return plan(price=price)


def key(**spec: Any) -> Resource:
    return resource("ApiKey", "bad", {"plan": "free", "hash": HASH} | spec)


# A row: the manifest, and what the answer says (all of the words).
BAD: list[tuple[Resource, tuple[str, ...]]] = [
    # --- ModelDeployment
    (resource("ModelDeployment", "bad", {}), ("spec.model", "Required value")),
    (resource("ModelDeployment", "bad", {"model": {}}), ("spec.model.source", "Required value")),
    (resource("ModelDeployment", "Bad_Name", {"model": {"source": DEMO}}), ("metadata.name", "RFC 1123")),
    (mdep(sources=DEMO), ('unknown field "spec.sources"',)),
    (mdep(model={"alias": "gpt"}), ('unknown field "spec.model.alias"',)),
    (mdep(source={}), ("spec.model.source",)),
    (mdep(source={"builtin": {"name": "demo"}, "file": {"path": "/m"}}), ("spec.model.source",)),
    (mdep(source={"builtin": {"name": "gpt"}}), ("spec.model.source.builtin.name", "Unsupported value", "demo")),
    (mdep(source={"file": {"path": ""}}), ("spec.model.source.file.path", "at least 1 chars")),
    (mdep(source={"file": {}}), ("spec.model.source.file.path", "Required value")),
    (mdep(model={"name": "-gpt"}), ("spec.model.name", "should match")),
    (mdep(model={"name": ""}), ("spec.model.name", "at least 1 chars")),
    (mdep(model={"name": "a" * 129}), ("spec.model.name", "Too long", "128")),
    (mdep(model={"name": 7}), ("spec.model.name", "must be of type string")),
    (mdep(model={"aliases": "gpt"}), ("spec.model.aliases", "must be of type array")),
    (mdep(model={"aliases": ["has blanks"]}), ("spec.model.aliases[0]", "should match")),
    (mdep(model={"aliases": [f"a{n}" for n in range(65)]}), ("spec.model.aliases", "Too many", "64")),
    (mdep(scaling={"replicas": -1}), ("spec.scaling.replicas", "greater than or equal to 0")),
    (mdep(scaling={"replicas": 5000}), ("spec.scaling.replicas", "less than or equal to 1024")),
    (mdep(scaling={"replicas": 1.5}), ("spec.scaling.replicas", "must be of type integer")),
    (mdep(scaling={"replicas": "2"}), ("spec.scaling.replicas", "must be of type integer")),
    (mdep(engine={"embeded": {}}), ('unknown field "spec.engine.embeded"',)),
    (mdep(engine={"embedded": {"contextLength": 1}}), ("contextLength", "greater than or equal to 64")),
    (mdep(engine={"embedded": {"maxRunning": 255}}), ("maxRunning", "less than or equal to 254")),
    (mdep(engine={"embedded": {"maxQueued": -1}}), ("maxQueued", "greater than or equal to 0")),
    (mdep(engine={"embedded": {"kvTokens": 1}}), ("kvTokens", "greater than or equal to 64")),
    (mdep(engine={"embedded": {"threads": 0}}), ("threads", "greater than or equal to 1")),
    (mdep(engine={"embedded": {}, "vllm": {"image": "a"}}), ("spec.engine", "expected exactly one of")),
    (mdep(HUB, engine={"vllm": {}}), ("spec.engine.vllm.image", "Required value")),
    (mdep(engine={"vllm": {"image": "a"}}), ("expected the embedded engine for model.source.builtin",)),
    (mdep({"file": {"path": "/m"}}, engine={"vllm": {"image": "a"}}), ("embedded engine for model.source.file",)),
    (mdep({"huggingFace": {"repo": "no-owner"}}), ("spec.model.source.huggingFace.repo", "should match")),
    (mdep({"http": {"url": "ftp://a/b"}}), ("spec.model.source.http.url", "should match")),
    (mdep({"http": {"url": "https://a/b", "sha256": "x"}}), ("spec.model.source.http.sha256", "should match")),
    (mdep({"pvc": {"claimName": ""}}), ("spec.model.source.pvc.claimName",)),
    (mdep({"image": {}}), ("spec.model.source.image.reference", "Required value")),
    (mdep(accelerators={"count": 1}), ("spec.accelerators", "expected exactly one of class")),
    (mdep(accelerators={"class": "a", "resourceName": "b/c"}), ("spec.accelerators", "expected exactly one of class")),
    (mdep(accelerators={"class": "nvidia", "count": 0}), ("spec.accelerators.count", "greater than or equal to 1")),
    (mdep(tolerations=[{"operator": "Exists", "value": "a"}]), ("expected no value with the operator Exists",)),
    (mdep(HUB, weights={"storage": {"size": "much"}}), ("spec.weights.storage.size", "should match")),
    (mdep(weights={"storage": {"size": "1Gi"}}), ("expected weights.storage only with",)),
    (
        mdep(HUB, weights={"storage": {"size": "1Gi"}}, scaling={"replicas": 2}),
        ("expected weights.storage.accessMode ReadWriteMany",),
    ),
    (mdep(rollout={"maxSurge": 0, "maxUnavailable": 0}), ("expected maxSurge or maxUnavailable above 0",)),
    (mdep(rollout={"drainTimeout": "10"}), ("spec.rollout.drainTimeout",)),
    (mdep(rollout={"drainTimeout": "25h"}), ("expected at least 1s and at most 24h",)),
    (
        mdep(availability={"maxUnavailable": 1, "minAvailable": 1}),
        ("expected maxUnavailable or minAvailable, not both",),
    ),
    # --- Plan
    (resource("Plan", "bad", None), ("spec", "Required value")),
    (plan(wieght=1), ('unknown field "spec.wieght"',)),
    (plan(weight=0), ("spec.weight", "greater than or equal to 1")),
    (plan(weight=10001), ("spec.weight", "less than or equal to 10000")),
    (plan(priority=1001), ("spec.priority", "less than or equal to 1000")),
    (plan(priority="high"), ("spec.priority", "must be of type integer")),
    (plan(models=["-"]), ("spec.models[0]", "should match")),
    (plan(models="demo"), ("spec.models", "must be of type array")),
    (plan(namespaceSelector={}), ("spec.namespaceSelector", "expected exactly one of any, matchNames")),
    (plan(namespaceSelector={"any": True, "matchNames": ["a"]}), ("expected exactly one of any, matchNames",)),
    (plan(namespaceSelector={"any": "yes"}), ("spec.namespaceSelector.any", "must be of type boolean")),
    (plan(namespaceSelector={"matchNames": ["Team_A"]}), ("spec.namespaceSelector.matchNames[0]", "should match")),
    (plan(defaultOutputReserve=0), ("spec.defaultOutputReserve", "greater than or equal to 1")),
    (plan(queue={"maxRequests": -1}), ("spec.queue.maxRequests", "greater than or equal to 0")),
    (plan(queue={"maxWait": "soon"}), ("spec.queue.maxWait", "should match")),
    (plan(queue={"maxWait": "11m"}), ("spec.queue.maxWait", "at least 1s and at most 10m")),
    (plan(whenRedisIsLost="shut"), ("spec.whenRedisIsLost", "Unsupported value", "closed")),
    (plan(shadow="yes"), ("spec.shadow", "must be of type boolean")),
    (plan(preview={"signUpUrl": "example.com"}), ("spec.preview.signUpUrl", "should match")),
    (plan(preview={"tokensPerDay": 0}), ("spec.preview.tokensPerDay", "greater than or equal to 1")),
    (limit(requestsPerMinute=0), ("spec.limits.requestsPerMinute", "greater than or equal to 1")),
    (limit(requestsPerHour=1), ('unknown field "spec.limits.requestsPerHour"',)),
    (limit(tokensPerDay=10**13), ("spec.limits.tokensPerDay", "less than or equal to")),
    (limit(concurrentRequests=-1), ("spec.limits.concurrentRequests", "greater than or equal to 1")),
    (limit(budgetPerMonth=25), ("spec.limits.budgetPerMonth", "must be of type string")),
    (limit(budgetPerMonth="$25"), ("spec.limits.budgetPerMonth", "should match")),
    (limit(budgetPerMonth="0.00"), ("spec.limits.budgetPerMonth", "expected more than 0 dollars")),
    (price(), ("spec.price", "expected perMillionTokens, or both")),
    (price(perMillionInputTokens="3"), ("spec.price", "expected perMillionTokens, or both")),
    (price(perMillionTokens="5", perMillionOutputTokens="15"), ("spec.price", "two prices")),
    (price(perMillionTokens="0.0001"), ("spec.price.perMillionTokens", "should match")),
    (price(perMillionTokens="-5"), ("spec.price.perMillionTokens", "should match")),
    # --- ApiKey
    (resource("ApiKey", "bad", {"hash": HASH}), ("spec.plan", "Required value")),
    (resource("ApiKey", "bad", {"plan": "free"}), ("expected exactly one of hash", "and secret")),
    (key(secret={"name": "a", "key": "b"}), ("expected exactly one of hash", "and secret")),
    (key(plan=""), ("spec.plan", "at least 1 chars")),
    (key(hash="sk-secret"), ("spec.hash", "should match")),
    (key(hash=HASH.upper()), ("spec.hash", "should match")),
    (key(account=""), ("spec.account", "at least 1 chars")),
    (key(expiresAt="tomorrow"), ("spec.expiresAt", "date-time")),
    (key(disabled="no"), ("spec.disabled", "must be of type boolean")),
    (key(previousHash=OTHER), ("expected previousHash and previousHashExpiresAt together",)),
    (key(previousHashExpiresAt=LATER), ("expected previousHash and previousHashExpiresAt together",)),
    (key(previousHash=HASH, previousHashExpiresAt=LATER), ("spec.previousHash", "expected another hash")),
    (key(limits={"tokensPerMinute": 0}), ("spec.limits.tokensPerMinute", "greater than or equal to 1")),
    (key(limits={"budgetPerMonth": "0"}), ("spec.limits.budgetPerMonth", "expected more than 0 dollars")),
    (key(key="sk-secret"), ('unknown field "spec.key"',)),
]


def label(row: Any) -> str | None:
    if isinstance(row, tuple):
        return None
    return f"{row['kind']}-{json.dumps(row['spec'], separators=(',', ':'))[:60]}"


@pytest.mark.parametrize(("manifest", "says"), BAD, ids=label)
def test_mistakes_are_refused(namespace_of_mistakes: Namespace, manifest: Resource, says: tuple[str, ...]) -> None:
    with pytest.raises(Refused) as refused:
        namespace_of_mistakes.kubectl("create", "-f", "-", stdin=json.dumps(manifest))
    for words in says:
        assert words in str(refused.value)


@pytest.fixture(scope="module")
def namespace_of_mistakes(cluster: Cluster) -> Namespace:
    cluster.kubectl("create", "namespace", "mistakes")
    return Namespace(cluster, "mistakes")


@pytest.mark.parametrize("example", sorted(EXAMPLES.glob("*.yaml")), ids=lambda path: path.name)
def test_examples_are_taken(namespace: Namespace, example: Path) -> None:
    assert "created" in namespace.apply(example)


def test_what_is_left_out_is_set(namespace: Namespace) -> None:
    namespace.apply(resource("Plan", "least", {}))
    spec = namespace.get("plan", "least")["spec"]
    assert (spec["weight"], spec["whenRedisIsLost"], spec["limits"]) == (100, "local", {})


def test_tables_name_what_people_look_for(namespace: Namespace) -> None:
    namespace.apply(EXAMPLES / "quickstart.yaml", EXAMPLES / "plans.yaml", key())
    assert {row["NAME"] for row in namespace.table("mdep")} == {"demo"}
    team = next(row for row in namespace.table("plans") if row["NAME"] == "team")
    assert (team["PRIORITY"], team["TOKENS/MIN"], team["BUDGET"]) == ("100", "1000000", "1000.00")
    assert namespace.table("apikeys")[0]["PLAN"] == "free"


@pytest.mark.parametrize("crd", sorted(CRDS.glob("*.yaml")), ids=lambda path: path.stem)
def test_definitions_stay_small(cluster: Cluster, crd: Path) -> None:
    """`kubectl apply` keeps the whole text in an annotation, and lists carry it: 100 KB is enough."""
    served = cluster.kubectl("get", f"crd/{crd.stem}.inferyard.dev", "-o", "json")
    assert len(crd.read_bytes()) < 100_000
    assert len(served) < 200_000, "with what server-side apply and the status add"
