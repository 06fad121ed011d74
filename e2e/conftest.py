"""Fixtures: one server for all tests that leave it whole, and own ones for the others."""

import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
from openai import OpenAI

import inferyard
from by_hand import Run
from inferyard import BINARY, EXAMPLES, MANIFESTS, Up
from servers import Postgres, Redis

measurements: list[tuple[str, str]] = []


def pytest_sessionstart() -> None:
    if not inferyard.BINARY or not Path(inferyard.BINARY).is_file():
        pytest.exit("INFERYARD_BIN must name the binary; e2e/run sets it", returncode=2)


# A test that uses one of these fixtures has servers of its own.
OWN_SERVERS = {"start", "run", "redis", "postgres", "stack", "folder", "hub", "node"}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Marks the tests that wait, by the fixtures that they use."""
    for item in items:
        if OWN_SERVERS.intersection(getattr(item, "fixturenames", ())):
            item.add_marker(pytest.mark.waits)


@pytest.fixture(scope="session")
def server() -> Iterator[Up]:
    """The quickstart. Tests must leave it as they found it; it must end cleanly at the end."""
    up = Up(EXAMPLES / "quickstart.yaml")
    workers = up.workers()
    try:
        yield up
        assert up.workers() == workers, f"a worker died in the course of the tests:\n{up.log()[-8000:]}"
        assert up.stop() == 0
    finally:
        up.kill()
        up.cleanup()


@pytest.fixture(scope="session")
def client(server: Up) -> Iterator[OpenAI]:
    """openai-python on the quickstart."""
    with server.openai() as client:
        yield client


@pytest.fixture(scope="session")
def http(server: Up) -> Iterator[httpx2.Client]:
    """A plain HTTP client on the quickstart, with the key."""
    with server.http() as client:
        yield client


@pytest.fixture
def start(request: pytest.FixtureRequest) -> Iterator[Callable[..., Up]]:
    """Starts servers of a test's own, by names of manifests or paths; ends what is left of them."""
    started: list[Up] = []

    def start(*manifests: str | Path, **options: Any) -> Up:
        up = Up(*(MANIFESTS / manifest for manifest in manifests), **options)
        started.append(up)
        return up

    yield start
    for up in started:
        up.kill()
        if request.node.stash.get(failed, False):
            print(f"\n--- stderr of {' '.join(map(str, up.process.args))}\n{up.log()[-8000:]}")
        up.cleanup()


@pytest.fixture
def redis() -> Iterator[Callable[..., Redis]]:
    """Starts Redis servers of a test's own."""
    started: list[Redis] = []

    def redis(**options: Any) -> Redis:
        started.append(Redis(**options))
        return started[-1]

    yield redis
    for server in started:
        server.close()


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """One PostgreSQL for all tests; each makes a database of its own."""
    server = Postgres()
    yield server
    server.close()


@pytest.fixture
def measured() -> Callable[[str, str], None]:
    """Notes a figure for the summary. Figures are shown, never asserted."""
    return lambda name, value: measurements.append((name, value))


failed = pytest.StashKey[bool]()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Iterator[None]:
    report = yield
    if report.failed:
        item.stash[failed] = True
        if "server" in getattr(item, "fixturenames", ()) and "server" in item.funcargs:
            report.sections.append(("stderr of the server", item.funcargs["server"].log()[-4000:]))
    return report


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    for name, value in measurements:
        terminalreporter.write_line(f"measured: {name}: {value}")


@pytest.fixture
def folder() -> Iterator[Path]:
    """A short path, because the path of a Unix socket has at most 107 bytes."""
    with tempfile.TemporaryDirectory(prefix="iy-") as path:
        yield Path(path)


@pytest.fixture
def run() -> Iterator[Run]:
    """Starts a subcommand; ends what is left at the end of the test."""
    started: list[subprocess.Popen[bytes]] = []

    def run(*arguments: str, env: dict[str, str] | None = None) -> subprocess.Popen[bytes]:
        process = subprocess.Popen([BINARY, *arguments], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, env=env)
        started.append(process)
        return process

    yield run
    for process in started:
        if process.poll() is None:
            process.kill()
        process.wait()
