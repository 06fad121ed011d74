"""Fixtures: one cluster for all tests here, and a namespace for each."""

import subprocess
from collections.abc import Iterator
from pathlib import Path

import cluster as kubernetes
import pytest
from cluster import ROOT, Cluster
from hub import TOKEN, Hub
from hubs import SECRET
from installed import NODE, Installed
from namespaces import Namespace, new_namespace
from pods import IMAGE
from servers import Redis

HERE = Path(__file__).parent
not_tested: list[str] = []


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """These come last: by then the cluster is built, and it runs beside no other test. The end of the release ends them."""
    items.sort(key=lambda item: (HERE in item.path.parents, item.path.stem == "test_uninstalled"))


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item) -> Iterator[None]:
    """Builds Kubernetes, or waits for who does, before the clock of the first test runs."""
    with item.config.pluginmanager.getplugin("capturemanager").global_and_fixture_disabled():
        kubernetes.build()
    return (yield)


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    """A cluster with our kinds; without a node where this machine cannot run one."""
    if reason := kubernetes.build():
        not_tested.append(f"whatever needs a Kubernetes was skipped, because {reason}")
        pytest.skip(reason)
    if reason := kubernetes.why_no_node():
        not_tested.append(f"whatever needs a Kubernetes node was skipped, because {reason}")
    booted = Cluster(node=not reason)
    try:
        booted.install_crds()
        yield booted
    finally:
        booted.close()


@pytest.fixture
def namespace(cluster: Cluster) -> Iterator[Namespace]:
    """A new namespace that takes only pods under the strictest standard, `restricted`."""
    made = new_namespace(cluster)
    yield made
    cluster.kubectl("delete", "namespace", made.name, "--wait=false")


@pytest.fixture
def node(cluster: Cluster) -> Iterator[str]:
    """The name of the real node. The test runs in the cluster's network, where pods and services answer."""
    with cluster.inside():
        yield _wants_node(cluster)


def _wants_node(cluster: Cluster) -> str:
    if cluster.node is None:
        pytest.skip(f"needs a node: {kubernetes.why_no_node()}")
    return cluster.node


@pytest.fixture(scope="session")
def inferyard_archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The image of the binary under test, as an archive."""
    archive = tmp_path_factory.mktemp("image") / "inferyard.tar"
    subprocess.run([ROOT / "image" / "build", archive, "--name", IMAGE], check=True, stdout=subprocess.DEVNULL)
    return archive


@pytest.fixture(scope="session")
def inferyard_image(cluster: Cluster, inferyard_archive: Path) -> str:
    """The name of that image, which the node has."""
    _wants_node(cluster)
    cluster.load(inferyard_archive)
    return IMAGE


@pytest.fixture(scope="session")
def redis_beside(cluster: Cluster) -> Iterator[Redis]:
    """A Redis on the node, outside of Kubernetes, as a platform's own is."""
    _wants_node(cluster)
    with cluster.inside():
        server = Redis(settings=["--bind", "0.0.0.0", "--protected-mode", "no"])
    yield server
    server.close()


@pytest.fixture(scope="session")
def installed(cluster: Cluster, inferyard_image: str, redis_beside: Redis) -> Installed:
    """The chart with two routers, in a namespace of its own that takes only pods under `restricted`."""
    release = Installed(new_namespace(cluster), inferyard_image, redis_beside.port)
    release.install()
    return release


@pytest.fixture
def hub(cluster: Cluster, installed: Installed) -> Iterator[Hub]:
    """A hub on the node, and a Secret with the token that it wants."""
    secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": SECRET["name"]}, "stringData": {SECRET["key"]: TOKEN}}
    installed.namespace.apply(secret)
    with cluster.inside():
        hub = Hub(NODE)
    yield hub
    hub.close()


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    for what in not_tested:
        terminalreporter.write_line(f"NOT TESTED: {what}", red=True, bold=True)
