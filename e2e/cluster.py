"""A real Kubernetes for the tests: one that `cluster/ctl` boots, and which ends with this process."""

import base64
import contextlib
import ctypes
import functools
import json
import os
import select
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from resources import Resource

FOLDER = Path(__file__).parent / "cluster"
ROOT = FOLDER.parent.parent
CRDS = ROOT / "crds" / "yaml"
STATES = Path.home() / ".cache" / "inferyard" / "kubernetes" / "state"
NAMES = "inferyard.dev"

# Patience with a loaded machine. No test asserts a speed by them.
BUILD_S = 2400
BOOT_S = 150
WAIT_S = 180
# How `cluster/build` ends without a compiler.
NO_GO = 3


class Refused(Exception):
    """kubectl or helm failed; the text is what it said."""


@functools.cache
def build() -> str:
    """Builds the programs, or waits for who builds them already. Takes minutes on a new machine.

    Returns why they cannot be built; empty where they can.
    """
    done = subprocess.run([FOLDER / "build"], stdout=subprocess.DEVNULL, timeout=BUILD_S)
    if done.returncode == NO_GO:
        return "there is no Go: run .ci/prerequisites cluster"
    assert done.returncode == 0, "Kubernetes did not build; the reason stands above"
    return ""


@functools.cache
def why_no_node() -> str:
    """Why this machine can run no node, but only what stands above it; empty where it can."""
    level = _ctl("level").strip()
    return level.removeprefix("api ") if level != "node" else ""


class Cluster:
    """One running cluster, with a node unless this machine cannot run one."""

    def __init__(self, name: str = f"e2e-{os.getpid()}", node: bool = True) -> None:
        self.name = name
        self.state = STATES / name
        self.node = f"{name}-node" if node else None
        self._network: int | None = None
        self._outages: list[tuple[datetime, datetime]] = []
        # It ends when this pipe does: with this process, however that ends.
        stdin, self._held = os.pipe()
        try:
            subprocess.run(
                [FOLDER / "ctl", "up", name, "--while-stdin", *([] if node else ["--api"])],
                stdin=stdin,
                check=True,
                stderr=subprocess.PIPE,
                text=True,
                timeout=BOOT_S,
            )
        except subprocess.CalledProcessError as error:
            raise AssertionError(error.stderr) from None
        finally:
            os.close(stdin)
        self.programs = Path((self.state / "bin").read_text().strip())
        if node:
            self._network = os.open(f"/run/netns/inferyard-{name}", os.O_RDONLY)

    def close(self) -> None:
        """Ends it and everything in it."""
        if self._network is not None:
            os.close(self._network)
        _ctl("down", self.name)
        os.close(self._held)

    # --- kubectl

    def kubectl(self, *words: str | Path, stdin: str | None = None, within: float = WAIT_S) -> str:
        """Runs kubectl as the cluster's admin and returns what it prints."""
        return self._run("kubectl", *words, stdin=stdin, within=within)

    def helm(self, *words: str | Path, within: float = 5 * WAIT_S) -> str:
        """Runs helm as the cluster's admin and returns what it prints."""
        return self._run("helm", *words, within=within)

    def _run(self, *command: str | Path, stdin: str | None = None, within: float) -> str:
        words = self.command(*command)
        done = subprocess.run(words, input=stdin, capture_output=True, text=True, timeout=within + 10)
        if done.returncode:
            raise Refused(done.stderr.strip() or done.stdout.strip())
        return done.stdout

    def command(self, program: str | Path, *words: str | Path) -> list[str]:
        """The command line that runs a program as the cluster's admin, in its network."""
        net = [] if self._network is None else ["nsenter", f"--net=/run/netns/inferyard-{self.name}", "--"]
        return [*net, str(self.programs / program), f"--kubeconfig={self.kubeconfig}", *map(str, words)]

    def kubectl_as(self, token: str, *words: str, stdin: str | None = None) -> str:
        """kubectl as a service account, by its token."""
        access = json.loads(self.kubectl("config", "view", "--raw", "-o", "json"))
        access["users"] = [{"name": "admin", "user": {"token": token}}]
        with tempfile.NamedTemporaryFile("w", suffix=".conf") as file:
            json.dump(access, file)
            file.flush()
            return self.kubectl(f"--kubeconfig={file.name}", *words, stdin=stdin)

    @property
    def kubeconfig(self) -> Path:
        """The admin's access, good inside the cluster's network."""
        return self.state / "admin.conf"

    def get(self, *words: str) -> Any:
        """`kubectl get … -o json`."""
        return json.loads(self.kubectl("get", *words, "-o", "json"))

    def apply(self, *resources: Resource | Path, namespace: str = "default", dry: bool = False) -> str:
        """Applies resources and files; `dry` asks the API server without keeping anything."""
        said = ""
        for resource in resources:
            path, stdin = (resource, None) if isinstance(resource, Path) else ("-", json.dumps(resource))
            options = ["--dry-run=server"] if dry else []
            said += self.kubectl("apply", "-n", namespace, *options, "-f", path, stdin=stdin)
        return said

    def install_crds(self) -> None:
        """Gives it our kinds, and returns once they are served."""
        self.kubectl("apply", "--server-side", "-f", CRDS)
        kinds = [f"crd/{path.stem}.{NAMES}" for path in sorted(CRDS.glob("*.yaml"))]
        self.kubectl("wait", "--for=condition=Established", f"--timeout={WAIT_S}s", *kinds)

    def wait(self, what: str, *targets: str, namespace: str = "default", within: float = WAIT_S) -> None:
        """`kubectl wait --for=WHAT TARGET...`, which watches: "condition=Ready", "delete", "jsonpath=…"."""
        words = ("-n", namespace, f"--for={what}", f"--timeout={within:.0f}s", *targets)
        self.kubectl("wait", *words, within=within)

    def until(
        self,
        kind: str,
        name: str,
        holds: Callable[[Any], bool],
        namespace: str = "default",
        within: float = WAIT_S,
    ) -> Any:
        """Watches a resource until it is as asked, for what `wait` cannot say, and returns it."""
        deadline = time.monotonic() + within
        last: Any = None
        while time.monotonic() < deadline:
            for last in self.watch(kind, f"--field-selector=metadata.name={name}", namespace=namespace, until=deadline):
                if holds(last):
                    return last
        raise AssertionError(f"{kind} {name} after {within} s:\n{json.dumps(last, indent=1)}")

    def watch(self, kind: str, *words: str, namespace: str = "default", until: float) -> Iterator[Any]:
        """Every state of the resources of a kind as it comes, until a moment or until the API server ends it."""
        command = self.command("kubectl", "get", kind, "-n", namespace, *words, "--watch", "-o", "json")
        watching = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        assert watching.stdout is not None
        decoder, text = json.JSONDecoder(), ""
        try:
            while (left := until - time.monotonic()) > 0:
                if not select.select([watching.stdout], [], [], left)[0]:
                    return
                data = os.read(watching.stdout.fileno(), 1 << 20)
                if not data:
                    return
                text += data.decode()
                while text := text.lstrip():
                    try:
                        state, end = decoder.raw_decode(text)
                    except json.JSONDecodeError:
                        break
                    text = text[end:]
                    yield state
        finally:
            watching.kill()
            watching.wait()
            watching.stdout.close()

    # --- the node

    @contextlib.contextmanager
    def inside(self) -> Iterator[None]:
        """This thread, and what it starts, in the cluster's network: pods, services and the API server answer."""
        if self._network is None:
            yield
            return
        outside = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
        _enter(self._network)
        try:
            yield
        finally:
            _enter(outside)
            os.close(outside)

    def load(self, image: Path) -> None:
        """Gives an image archive to the node."""
        _ctl("load", self.name, str(image))

    def fake_gpus(self, count: int, resource: str = "nvidia.com/gpu") -> None:
        """Makes the node say that it has accelerators: pods that ask for them are scheduled there and run."""
        assert self.node is not None
        path = f"/status/{{}}/{resource.replace('/', '~1')}"
        patch = [{"op": "add", "path": path.format(of), "value": str(count)} for of in ("capacity", "allocatable")]
        self.kubectl("patch", "node", self.node, "--subresource=status", "--type=json", "-p", json.dumps(patch))

    def evict(self, pod: str, namespace: str = "default") -> None:
        """Asks the API server to evict a pod, as a drain does; `Refused` when a budget forbids it."""
        eviction = {
            "apiVersion": "policy/v1",
            "kind": "Eviction",
            "metadata": {"name": pod, "namespace": namespace},
        }
        path = f"/api/v1/namespaces/{namespace}/pods/{pod}/eviction"
        self.kubectl("create", "--raw", path, "-f", "-", stdin=json.dumps(eviction))

    @contextlib.contextmanager
    def without(self, component: str) -> Iterator[None]:
        """Ends a component (kube-apiserver, kubelet, kube-scheduler, ...) at once, and brings it back."""
        _ctl("stop", self.name, component)
        stopped = datetime.now(UTC)
        try:
            yield
        finally:
            _ctl("start", self.name, component)
            if component in ("kube-apiserver", "etcd"):
                self.wait_until_served()
                self._outages.append((stopped, datetime.now(UTC)))

    def wait_until_served(self) -> None:
        """Returns once the API server is ready."""
        deadline = time.monotonic() + WAIT_S
        while True:
            try:
                self.kubectl("get", "--raw", "/readyz")
                return
            except Refused as error:
                # No event tells that a port is served; each try takes a process, so this is not busy.
                assert time.monotonic() < deadline, error

    # --- what was asked of the API server

    def audit(self) -> list[dict[str, Any]]:
        """The calls of service accounts so far, those of Kubernetes itself left out."""
        log = self.state / "audit.log"
        return [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []

    def denied(self, user: str | None = None) -> list[str]:
        """Which of these were refused for want of rights, as "user verb path: why".

        Left out is what an API server refused before it was ready again: it serves before it has read its roles.
        """
        return [
            f"{call['user']['username']} {call['verb']} {call['requestURI']}: "
            f"{call.get('annotations', {}).get('authorization.k8s.io/reason', '')}"
            for call in self.audit()
            if call.get("annotations", {}).get("authorization.k8s.io/decision") == "forbid"
            and user in (None, call["user"]["username"])
            and not self._was_starting(datetime.fromisoformat(call["requestReceivedTimestamp"]))
        ]

    def _was_starting(self, moment: datetime) -> bool:
        return any(stopped <= moment <= ready for stopped, ready in self._outages)

    def table(self, kind: str, namespace: str = "default") -> list[dict[str, str]]:
        """What `kubectl get KIND` prints: a row for each resource, by column."""
        text = self.kubectl("get", kind, "-n", namespace)
        if not text.strip():
            return []
        head, *rows = text.splitlines()
        # Columns begin where their titles do, and a title may contain single blanks.
        starts = [i for i, c in enumerate(head) if c != " " and (i == 0 or head[max(0, i - 2) : i].isspace())]
        starts = [s for s in starts if s == 0 or head[s - 2 : s] == "  "]
        ends = [*starts[1:], None]
        cut = [slice(start, end) for start, end in zip(starts, ends, strict=True)]
        return [{head[c].strip(): row[c].strip() for c in cut} for row in rows]

    def secret(self, name: str, namespace: str = "default") -> dict[str, str]:
        """The decoded content of a Secret."""
        data = self.get("secret", name, "-n", namespace).get("data", {})
        return {key: base64.b64decode(value).decode() for key, value in data.items()}


def image(out: Path, name: str, files: dict[str, Path], entrypoint: list[str]) -> None:
    """Makes an image archive from files (path in the image: file here) for `load`."""
    pairs = [word for path, file in files.items() for word in ("--file", f"{file}:{path}")]
    command = [sys.executable, ROOT / "image" / "oci.py", out, "--name", name, *pairs, "--entrypoint", *entrypoint]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)


def _ctl(*words: str) -> str:
    done = subprocess.run([FOLDER / "ctl", *words], stdin=subprocess.DEVNULL, capture_output=True, text=True)
    assert done.returncode == 0, f"ctl {' '.join(words)}: {done.stderr}"
    return done.stdout


_CLONE_NEWNET = 0x4000_0000
_libc = ctypes.CDLL(None, use_errno=True)


def _enter(network: int) -> None:
    if _libc.setns(network, _CLONE_NEWNET):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
