"""The chart against a real API server: it is taken under the strictest standard, upgraded, and removed."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from cluster import ROOT, Cluster, Refused
from namespaces import Namespace

CHART = ROOT / "charts" / "inferyard"
SETS = sorted((CHART / "ci").glob("*.yaml"))
# Kinds of others, which this cluster does not have.
OURS = ["router.tls.enabled=false", "router.tls.certManager.enabled=false", "router.httpRoute.enabled=false"]


def install(namespace: Namespace, *values: str, file: Path | None = None) -> str:
    """Installs or upgrades. The kinds are there already, and become the release's."""
    files = ["--values", file] if file else []
    words = [word for value in values for word in ("--set", value)]
    release = ["upgrade", "--install", "--take-ownership", "iy", CHART, "--namespace", namespace.name]
    return namespace.cluster.helm(*release, *files, *words)


@pytest.fixture
def release(namespace: Namespace) -> Iterator[Namespace]:
    """A namespace with the chart in it as it comes."""
    install(namespace)
    yield namespace
    namespace.cluster.helm("uninstall", "iy", "--namespace", namespace.name, "--ignore-not-found")


def secrets(namespace: Namespace) -> dict[str, dict[str, str]]:
    """What the Secrets of the chart hold."""
    return {
        secret["metadata"]["name"]: secret["data"]
        for secret in namespace.get("secrets")["items"]
        if secret["type"] == "Opaque"
    }


def test_no_pod_is_refused(release: Namespace) -> None:
    install(release, file=CHART / "ci" / "trial-values.yaml")
    for part in ("operator", "router", "ledger", "redis", "postgres"):

        def made(deployment: dict) -> bool:
            status = deployment["status"]
            failed = [each for each in status.get("conditions", []) if each["type"] == "ReplicaFailure"]
            assert not failed, failed
            return status.get("updatedReplicas", 0) > 0

        release.until("deployment", f"iy-inferyard-{part}", made)


def test_secrets_stay_what_they_are(release: Namespace) -> None:
    before = secrets(release)
    assert set(before) == {"iy-inferyard-admin-key", "iy-inferyard-cookie-secret"}
    install(release, "redis.dev.enabled=true", "postgres.dev.enabled=true")
    both = secrets(release)
    assert both.items() > before.items()
    install(release, "redis.dev.enabled=true", "postgres.dev.enabled=true", "logging.level=debug")
    assert secrets(release) == both


def test_an_upgrade_alone_touches_no_deployment(release: Namespace) -> None:
    def generations() -> dict[str, int]:
        deployments = release.get("deployments")["items"]
        return {each["metadata"]["name"]: each["metadata"]["generation"] for each in deployments}

    before = generations()
    assert set(before) == {"iy-inferyard-operator", "iy-inferyard-router"}
    install(release)
    assert generations() == before


def test_the_notes_hold_no_secret(namespace: Namespace) -> None:
    notes = install(namespace, "redis.url=redis://:s3cret@cache", "postgres.url=postgres://u:s3cret@db/x")
    assert "iy-inferyard-router" in notes
    assert "s3cret" not in notes
    assert not [value for data in secrets(namespace).values() for value in data.values() if value in notes]
    namespace.cluster.helm("uninstall", "iy", "--namespace", namespace.name)


@pytest.mark.parametrize("values", SETS, ids=lambda path: path.stem)
def test_the_api_server_takes_all_that_is_made(cluster: Cluster, namespace: Namespace, values: Path) -> None:
    for name in ("team", "team-a", "team-b"):
        cluster.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
    without = [word for value in OURS for word in ("--set", value)] if values.stem.startswith("production") else []
    made = cluster.helm("template", "iy", CHART, "-n", namespace.name, "--validate", "--values", values, *without,
                        "--set", "crds.install=false")  # fmt: skip
    said = cluster.kubectl("apply", "--dry-run=server", "-f", "-", stdin=made)
    assert said.count("(server dry run)") == made.count("\nkind: ")


def test_rights(release: Namespace) -> None:
    """A few that would hurt most; charts/inferyard/tests lists all."""

    def may(part: str, *words: str) -> bool:
        user = f"--as=system:serviceaccount:{release.name}:iy-inferyard-{part}"
        try:
            return release.kubectl("auth", "can-i", user, *words).strip() == "yes"
        except Refused:
            return False

    assert may("router", "watch", "pods")
    assert may("operator", "patch", "deployments")
    assert may("operator", "update", "leases")
    for part in ("router", "operator"):
        assert not may(part, "list", "secrets")
        assert not may(part, "get", "secrets")
        assert not may(part, "create", "pods")
        assert not may(part, "create", "pods", "--subresource=exec")
        assert not may(part, "list", "modeldeployments", "--all-namespaces")
    for verb in ("create", "patch", "update", "delete"):
        assert not may("router", verb, "modeldeployments")
        assert not may("router", verb, "pods")


def test_a_release_that_goes_leaves_models_and_nothing_else(release: Namespace) -> None:
    release.apply(ROOT / "examples" / "quickstart.yaml")
    release.cluster.helm("uninstall", "iy", "--namespace", release.name, "--wait")
    assert release.get("modeldeployments")["items"]
    left = release.get("deployments,services,secrets,roles,rolebindings,networkpolicies,poddisruptionbudgets")["items"]
    assert [each["metadata"]["name"] for each in left] == []


def test_a_typo_is_refused_with_its_name(namespace: Namespace) -> None:
    with pytest.raises(Refused, match="additional properties 'replcas' not allowed"):
        install(namespace, "router.replcas=2")
    with pytest.raises(Refused, match=r"router.replicas is 2: routers share their limits in Redis; set redis\.url"):
        install(namespace, "router.replicas=2")
