"""The image: nothing in it but Inferyard, the same twice, and it runs on a real node without any rights."""

import json
import subprocess
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest
from cluster import ROOT
from inferyard import BINARY
from namespaces import Namespace
from pods import IMAGE, ended, exit_code, pod


def test_the_same_binary_makes_the_same_bytes(inferyard_archive: Path, tmp_path: Path) -> None:
    again = tmp_path / "again.tar"
    subprocess.run([ROOT / "image" / "build", again, "--name", IMAGE], check=True, stdout=subprocess.DEVNULL)
    assert again.read_bytes() == inferyard_archive.read_bytes()


def test_no_shell_and_nothing_of_this_machine(
    inferyard_archive: Path, tmp_path: Path, measured: Callable[[str, str], None]
) -> None:
    subprocess.run([ROOT / "image" / "build", "--root", tmp_path], check=True)
    files = {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file()}
    programs = {path for path in files if "/bin/" in f"/{path}"}
    assert programs == {"usr/bin/inferyard"}
    local = sorted(Path("/usr/local/share/ca-certificates").glob("*.crt"))
    bundle = (tmp_path / "etc/ssl/certs/ca-certificates.crt").read_text()
    assert bundle.count("BEGIN CERTIFICATE") > 100
    assert not [path.name for path in local if path.read_text().strip() in bundle]
    measured("size of the image", f"{inferyard_archive.stat().st_size / 1e6:.1f} MB compressed")


def test_the_archive_says_how_to_start_it(inferyard_archive: Path) -> None:
    with tarfile.open(inferyard_archive) as archive:

        def blob(digest: str) -> dict:
            file = archive.extractfile(f"blobs/{digest.replace(':', '/')}")
            assert file is not None
            return json.load(file)

        index = archive.extractfile("index.json")
        assert index is not None
        manifest = blob(json.load(index)["manifests"][0]["digest"])
        config = blob(manifest["config"]["digest"])["config"]
    assert (config["User"], config["Entrypoint"]) == ("65532:65532", ["/usr/bin/inferyard"])


def test_it_runs(node: str, namespace: Namespace, inferyard_image: str) -> None:
    namespace.apply(pod("version", inferyard_image, "--version"))
    assert exit_code(namespace.until("pod", "version", ended)) == 0
    version = subprocess.run([BINARY, "--version"], check=True, capture_output=True, text=True).stdout
    assert namespace.kubectl("logs", "version") == version


def test_a_pod_with_rights_is_refused_here(node: str, namespace: Namespace, inferyard_image: str) -> None:
    """So that what runs in these namespaces shows what it claims."""
    bold = pod("bold", inferyard_image, "--version")
    del bold["spec"]["containers"][0]["securityContext"]
    with pytest.raises(Exception, match="violates PodSecurity"):
        namespace.apply(bold)


def test_a_worker_serves_and_ends_in_order(
    node: str, namespace: Namespace, inferyard_image: str, measured: Callable[[str, str], None]
) -> None:
    worker = ("worker", "--model", "demo", "--builtin", "demo", "--listen", "0.0.0.0:50051", "--log-format", "json")
    probe = {"grpc": {"port": 50051}, "periodSeconds": 1}
    made = pod("worker", inferyard_image, *worker, readinessProbe=probe)
    # It stays when it has ended: a watch that begins late still sees how.
    made["metadata"]["finalizers"] = ["e2e.inferyard.dev/seen"]
    namespace.apply(made)
    namespace.wait("condition=Ready", "pod/worker")
    address = f"{namespace.get('pod', 'worker')['status']['podIP']}:50051"
    watch = [BINARY, "watch", address, "--once"]
    state = json.loads(subprocess.run(watch, check=True, capture_output=True, text=True).stdout)
    assert state["phase"] == "READY"

    namespace.kubectl("delete", "pod", "worker", "--wait=false")
    try:
        assert exit_code(namespace.until("pod", "worker", ended)) == 0
    finally:
        namespace.kubectl("patch", "pod", "worker", "--type=merge", "-p", '{"metadata": {"finalizers": null}}')
