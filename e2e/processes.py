"""Processes as the system shows them: who is whose child, and waiting until one is gone."""

import os
import select
import time
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Process:
    """One process of this machine; the start time tells it from a later one with the same id."""

    pid: int
    started: int
    argv: tuple[str, ...]

    @property
    def role(self) -> str:
        """The subcommand that it runs: `up`, `router`, `worker`."""
        return self.argv[1] if len(self.argv) > 1 else ""

    def option(self, name: str) -> str | None:
        """The value of a command-line option, in either spelling."""
        for position, argument in enumerate(self.argv):
            if argument == name and position + 1 < len(self.argv):
                return self.argv[position + 1]
            if argument.startswith(name + "="):
                return argument.removeprefix(name + "=")
        return None

    def cpu_ticks(self) -> int:
        """CPU time of all its threads so far, in ticks of the kernel's clock."""
        stat = _stat(self.pid)
        assert stat is not None and stat.started == self.started, f"{self.argv} is gone"
        return stat.cpu

    def alive(self) -> bool:
        """Whether it still runs; a zombie does not."""
        stat = _stat(self.pid)
        return stat is not None and stat.started == self.started and stat.state not in "ZX"


def children(parent: int) -> list[Process]:
    """The living children of a process."""
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        stat = _stat(int(entry.name))
        if stat is None or stat.parent != parent or stat.state in "ZX":
            continue
        try:
            argv = (entry / "cmdline").read_bytes().decode().rstrip("\0").split("\0")
        except OSError:
            continue
        found.append(Process(int(entry.name), stat.started, tuple(argv)))
    return sorted(found, key=lambda process: process.pid)


def wait_until_gone(processes: list[Process], within: float) -> None:
    """Returns as soon as all of them are gone; fails if one is still there after so many seconds."""
    deadline = time.monotonic() + within
    for process in processes:
        try:
            handle = os.pidfd_open(process.pid)
        except ProcessLookupError:
            continue
        try:
            if process.alive():
                remaining = max(0.0, deadline - time.monotonic())
                ended, _, _ = select.select([handle], [], [], remaining)
                assert ended, f"{' '.join(process.argv)} (pid {process.pid}) still runs"
        finally:
            os.close(handle)


@dataclass(frozen=True)
class _Stat:
    state: str
    parent: int
    started: int
    cpu: int


def _stat(pid: int) -> _Stat | None:
    try:
        line = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None
    # The name stands in parentheses and may itself contain blanks and parentheses.
    fields = line[line.rindex(")") + 2 :].split()
    cpu = int(fields[11]) + int(fields[12])
    return _Stat(state=fields[0], parent=int(fields[1]), started=int(fields[19]), cpu=cpu)
