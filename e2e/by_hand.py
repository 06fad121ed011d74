"""Subcommands started by hand; their fixtures are in conftest."""

import subprocess
from collections.abc import Callable

from inferyard import START_S, Watch

Run = Callable[..., subprocess.Popen[bytes]]


def wait_ready(address: str) -> None:
    for _ in range(200):
        try:
            with Watch(address) as watch:
                watch.until(lambda state: state["phase"] == "READY", within=START_S)
                return
        except EOFError:
            continue  # The worker does not listen yet; each try starts a process, which paces the loop.
    raise AssertionError(f"no worker at {address}")
