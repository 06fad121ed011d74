"""Real Redis, Redis Cluster and PostgreSQL: private ones on free ports, which end with the tests."""

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from ports import Port

# Patience with a loaded machine. No test asserts a speed by it.
START_S = 180


class Server:
    """A process that dies with this one, however this one ends."""

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="iy-server-"))
        self.process: subprocess.Popen[bytes] | None = None
        self._port = Port()

    @property
    def port(self) -> int:
        return self._port.number

    def _run(self, *command: str | Path, privileges: tuple[str, ...] = ()) -> None:
        """Starts the program; what it writes goes to the file `log`."""
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(
                ["setpriv", *privileges, "--pdeathsig", "KILL", "--", *command],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd=self.folder,
            )

    def _wait(self, ready: Callable[[], bool]) -> None:
        """Waits until it is ready."""
        assert self.process is not None
        deadline = time.monotonic() + START_S
        while time.monotonic() < deadline:
            if ready():
                return
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(0.01)
                raise AssertionError(f"{self.process.args} has ended:\n{self.log()}")
        raise AssertionError(f"{self.process.args} is not ready after {START_S} s:\n{self.log()}")

    def log(self) -> str:
        """What it has written so far."""
        return (self.folder / "log").read_text(errors="replace")

    def kill(self) -> None:
        """kill -9."""
        assert self.process is not None
        self.process.kill()
        self.process.wait()

    def signal(self, number: signal.Signals) -> None:
        """SIGSTOP makes it silent, SIGCONT lets it go on."""
        assert self.process is not None
        self.process.send_signal(number)

    def close(self) -> None:
        """Ends it and removes its folder."""
        if self.process is not None and self.process.poll() is None:
            self.kill()
        self._port.give_back()
        shutil.rmtree(self.folder, ignore_errors=True)


class Redis(Server):
    """A Redis of its own. With `durable`, what it has acknowledged survives kill -9."""

    def __init__(self, *, durable: bool = False, cluster: bool = False, settings: Sequence[str] = ()) -> None:
        super().__init__()
        self._settings = ["--bind", "127.0.0.1", "--save", "", "--dir", str(self.folder), "--maxmemory-policy", "noeviction"]
        self._settings += ["--appendonly", "yes", "--appendfsync", "always"] if durable else ["--appendonly", "no"]
        if cluster:
            self._settings += ["--cluster-enabled", "yes", "--cluster-node-timeout", "5000"]
        self._settings += settings
        self.start()

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}"

    def start(self) -> None:
        """Starts it again on the same port with the data that it left."""
        self._run("redis-server", "--port", str(self.port), *self._settings)
        self._wait(self._answers)

    def _answers(self) -> bool:
        try:
            return self("PING") == b"PONG"
        except OSError:
            return False
        except RedisError:
            return False  # It still loads its data.

    def connect(self) -> "Connection":
        """A connection of its own."""
        return Connection(self.port)

    def __call__(self, *command: str | bytes | int) -> Any:
        """The answer to one command."""
        with self.connect() as connection:
            return connection(*command)

    def dump(self) -> Iterator[tuple[bytes, bytes]]:
        """Every key with all that is stored under it."""
        with self.connect() as connection:
            for key in connection("KEYS", "*"):
                yield key, b"\n".join(flat(contents(connection, key)))


def contents(connection: "Connection", key: bytes) -> Any:
    """What is stored under a key, by its type. `DUMP` would do for every type, but it compresses."""
    command: dict[bytes, tuple[str, ...]] = {
        b"string": ("GET",),
        b"hash": ("HGETALL",),
        b"list": ("LRANGE", "0", "-1"),
        b"set": ("SMEMBERS",),
        b"zset": ("ZRANGE", "0", "-1"),
        b"stream": ("XRANGE", "-", "+"),
        b"none": ("GET",),
    }
    name, *arguments = command[connection("TYPE", key)]
    return connection(name, key, *arguments)


def flat(answer: Any) -> Iterator[bytes]:
    """All strings of an answer."""
    if isinstance(answer, list):
        for element in answer:
            yield from flat(element)
    elif isinstance(answer, bytes):
        yield answer


class RedisError(Exception):
    """Redis answered with an error."""


class Connection:
    """Redis's protocol, as far as tests need it."""

    def __init__(self, port: int) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), timeout=60)
        self._input = self._socket.makefile("rb")

    def __enter__(self) -> "Connection":
        return self

    def __exit__(self, *_: object) -> None:
        self._input.close()
        self._socket.close()

    def __call__(self, *command: str | bytes | int) -> Any:
        words = [word if isinstance(word, bytes) else str(word).encode() for word in command]
        parts = [b"*%d\r\n" % len(words), *(b"$%d\r\n%s\r\n" % (len(word), word) for word in words)]
        self._socket.sendall(b"".join(parts))
        return self._answer()

    def _answer(self) -> Any:
        line = self._input.readline()
        if not line.endswith(b"\r\n"):
            raise ConnectionResetError("Redis closed the connection")
        kind, rest = line[:1], line[1:-2]
        match kind:
            case b"+":
                return rest
            case b"-":
                raise RedisError(rest.decode())
            case b":":
                return int(rest)
            case b"$":
                return None if rest == b"-1" else self._input.read(int(rest) + 2)[:-2]
            case b"*":
                return None if rest == b"-1" else [self._answer() for _ in range(int(rest))]
        raise AssertionError(f"Redis said {line!r}")


class RedisCluster:
    """Three primaries."""

    def __init__(self) -> None:
        self.nodes = [Redis(cluster=True) for _ in range(3)]
        addresses = [f"127.0.0.1:{node.port}" for node in self.nodes]
        made = subprocess.run(
            ["redis-cli", "--cluster", "create", *addresses, "--cluster-replicas", "0", "--cluster-yes"],
            capture_output=True,
            text=True,
            timeout=START_S,
        )
        assert made.returncode == 0, made.stdout + made.stderr
        deadline = time.monotonic() + START_S
        while not all(b"cluster_state:ok" in node("CLUSTER", "INFO") for node in self.nodes):
            assert time.monotonic() < deadline, "the cluster is not ready"

    @property
    def url(self) -> str:
        return self.nodes[0].url

    def dump(self) -> Iterator[tuple[bytes, bytes]]:
        for node in self.nodes:
            yield from node.dump()

    def close(self) -> None:
        for node in self.nodes:
            node.close()


class Postgres(Server):
    """A PostgreSQL of its own. Everybody who reaches the loopback interface may use it."""

    def __init__(self) -> None:
        super().__init__()
        self._programs = programs()
        self._privileges: tuple[str, ...] = ()
        if os.getuid() == 0:
            # It refuses to run as root.
            shutil.chown(self.folder, "postgres", "postgres")
            self._privileges = ("--reuid", "postgres", "--regid", "postgres", "--init-groups")
        self._data = self.folder / "data"
        self._once("initdb", "--no-sync", "--auth", "trust", "--username", "inferyard", "--encoding", "UTF8", "-D", self._data)
        self._databases = 0
        self.start()

    def start(self) -> None:
        """Starts it again on the same port with the data that it left."""
        (self._data / "postmaster.pid").unlink(missing_ok=True)
        # What the system has been given survives the death of a process; only a power cut needs fsync.
        settings = ("-c", "fsync=off", "-c", "listen_addresses=127.0.0.1", "-c", f"unix_socket_directories={self.folder}")
        self._run(self._programs / "postgres", "-D", self._data, "-p", str(self.port), *settings, privileges=self._privileges)
        self._wait(self._accepts)

    def database(self) -> str:
        """The address of a new, empty database."""
        self._databases += 1
        name = f"test_{self._databases}"
        self.sql(f"{self._url}/postgres", f"CREATE DATABASE {name}")
        return f"{self._url}/{name}"

    def sql(self, database: str, query: str) -> list[list[str]]:
        """The rows of a query."""
        answer = self._once("psql", "--no-psqlrc", "-X", "-A", "-t", "-F", "\x1f", "-c", query, database)
        return [line.split("\x1f") for line in answer.splitlines()]

    def dump(self, database: str) -> bytes:
        """All that is stored in a database."""
        return self._once("pg_dump", "--inserts", database).encode()

    @property
    def _url(self) -> str:
        return f"postgres://inferyard@127.0.0.1:{self.port}"

    def _accepts(self) -> bool:
        command = [self._programs / "pg_isready", "--quiet", "--host", self.folder, "--port", str(self.port)]
        return subprocess.run(command, check=False).returncode == 0

    def _once(self, program: str, *arguments: str | Path) -> str:
        """What a program prints; it must end well."""
        command = ["setpriv", *self._privileges, "--", self._programs / program, *arguments]
        if not self._privileges:
            command = command[2:]
        done = subprocess.run(command, capture_output=True, text=True, cwd=self.folder, timeout=60, check=False)
        assert done.returncode == 0, f"{program}: {done.stderr}"
        return done.stdout


def programs() -> Path:
    """Where PostgreSQL's programs are: Debian keeps them by version."""
    versions = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: float(path.parts[-3]))
    if versions:
        return versions[-1].parent
    found = shutil.which("initdb")
    assert found, "PostgreSQL was not found; .ci/prerequisites test installs it"
    return Path(found).resolve().parent
