"""What pods write, kept from the moment they are followed, so that it is there when they are gone."""

import subprocess
import tempfile
from collections.abc import Iterable
from pathlib import Path

from installed import Installed

MOST_LINES = 200


class RouterLog:
    """The lines of all routers of a release, those of pods that are gone too."""

    def __init__(self, release: Installed) -> None:
        self._release = release
        self._folder = tempfile.TemporaryDirectory(prefix="iy-logs-")
        self._following: dict[str, subprocess.Popen[bytes]] = {}

    def follow(self) -> None:
        """Begins to follow every container that is not followed, from its first line on."""
        for pod in self._release.pods("router"):
            for status in pod["status"].get("containerStatuses", ()):
                life = f"{pod['metadata']['name']}-{status['restartCount']}"
                following = self._following.get(life)
                # The API server, through which logs come, may have been away.
                is_followed = following is not None and following.poll() is None
                if status["state"].get("running") and not is_followed:
                    self._following[life] = self._start(pod["metadata"]["name"], Path(self._folder.name) / life)

    def lines(self, words: Iterable[str]) -> str:
        """The lines that have one of these words in them or tell of a panic, with the router that wrote them, in order."""
        wanted = {*words, "panicked"}
        found = [
            (line, path.name)
            for path in Path(self._folder.name).iterdir()
            for line in path.read_text(errors="replace").splitlines()
            if any(word in line for word in wanted)
        ]
        shown = [f"{router}: {line}" for line, router in sorted(found)]
        return "\n".join(shown[:MOST_LINES] or ["(nothing)"])

    def close(self) -> None:
        for process in self._following.values():
            process.kill()
            process.wait()
        self._folder.cleanup()

    def _start(self, pod: str, path: Path) -> subprocess.Popen[bytes]:
        namespace = self._release.namespace
        command = namespace.cluster.command("kubectl", "logs", "--follow", "-n", namespace.name, pod)
        with path.open("wb") as file:
            return subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=file, stderr=subprocess.STDOUT)
