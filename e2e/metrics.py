"""Prometheus metrics of a router or worker."""

import time

import httpx2


def samples(url: str, name: str) -> list[float]:
    """Every sample of a metric, whatever its labels."""
    lines = httpx2.get(url).text.splitlines()
    return [float(line.rsplit(" ", 1)[1]) for line in lines if line.startswith((name + " ", name + "{"))]


def wait_until_told(url: str, within: float = 180) -> None:
    """Returns once nothing waits in a router that Redis has not been told."""
    deadline = time.monotonic() + within
    while sum(waiting := samples(url, "inferyard_router_limit_backlog_bytes")):
        assert time.monotonic() < deadline, f"{waiting} bytes still wait"
