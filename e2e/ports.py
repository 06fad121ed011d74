"""TCP ports for the servers that tests start: two runs on one machine never get the same one.

A port that was found free by binding port 0 can be taken by anybody before the server binds it, and by any outgoing
connection while a killed server is not yet started again. The ports here lie below the range from which the system takes
ports for outgoing connections, and a lock on a file keeps each for its owner, across processes. The Rust tests take them
by the same rule (`crates/test-servers/`).
"""

import fcntl
import itertools
import os
import socket
from pathlib import Path

# The bus of a Redis Cluster is 10,000 above each, and still below the system's range.
PORTS = range(20_000, 22_768)
BUS = 10_000
FOLDER = Path.home() / ".cache" / "inferyard" / "ports"

_turns = itertools.count(os.getpid() * 37)


class Port:
    """A port of 127.0.0.1, and the one 10,000 above, until it is given back or the process ends."""

    def __init__(self) -> None:
        FOLDER.mkdir(parents=True, exist_ok=True)
        for turn in itertools.islice(_turns, len(PORTS)):
            self.number = PORTS[turn % len(PORTS)]
            self._lock = (FOLDER / str(self.number)).open("w")
            try:
                fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                self._lock.close()
                continue
            if _is_free(self.number) and _is_free(self.number + BUS):
                return
            self._lock.close()
        raise AssertionError(f"no port of {PORTS} is free")

    def give_back(self) -> None:
        """Another test may have it."""
        self._lock.close()


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        # As servers do: connections that were closed a moment ago do not matter.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True
