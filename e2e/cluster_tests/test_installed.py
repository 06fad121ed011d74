"""From `helm install` to an answer, and what then happens to it, under a steady load of twenty streams."""

import json
import os
import signal
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from asking import reply_with
from cluster import Cluster, Refused
from installed import QUICKSTART, Installed
from logs import RouterLog
from openai import OpenAI
from operators import ready
from resources import resource
from steady import Steady, Window

CLIENTS = 20
OUTAGE_S = 60


@pytest.fixture(scope="module")
def demo(installed: Installed) -> Installed:
    """The quickstart's model, on one worker."""
    installed.namespace.apply(QUICKSTART)
    installed.workers_ready(1)
    return installed


@pytest.fixture(scope="module")
def steady(cluster: Cluster, demo: Installed) -> Iterator[Steady]:
    """Twenty streams at any time, on three workers."""
    demo.scale(3)
    with cluster.inside():
        load = Steady(demo.base_url, demo.key, RouterLog(demo), CLIENTS)
    load.answers(CLIENTS)
    yield load
    load.close()


def shown(window: Window, measured: Callable[[str, str], None]) -> None:
    measured(f"under {CLIENTS} streams, {window.name}", window.row())


def unharmed(window: Window, measured: Callable[[str, str], None]) -> None:
    """Nobody noticed."""
    shown(window, measured)
    assert window.requests
    assert not window.failed and not window.ended_early, window.story()


def processes(pod: Any, word: str) -> list[int]:
    """The processes of a pod on the node, by a word of their command line."""
    uid = pod["metadata"]["uid"]
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            group = (folder / "cgroup").read_text().replace("_", "-")
            argv = (folder / "cmdline").read_bytes().split(b"\0")
        except (FileNotFoundError, ProcessLookupError):
            continue
        if uid in group and word.encode() in argv:
            found.append(int(folder.name))
    return found


def uids(pods: list[Any]) -> set[str]:
    return {pod["metadata"]["uid"] for pod in pods}


def restarts(pod: Any) -> int:
    return int(pod["status"]["containerStatuses"][0]["restartCount"])


def test_the_quickstart_answers_openai_python(node: str, demo: Installed) -> None:
    with demo.openai() as client:
        answer = client.chat.completions.create(model="demo", messages=reply_with("payload verified."), temperature=0)
        assert answer.choices[0].message.content == "payload verified."
        stream = client.chat.completions.create(model="demo", messages=reply_with("payload verified."), stream=True)
        assert "".join(chunk.choices[0].delta.content or "" for chunk in stream) == "payload verified."
        assert "demo" in [model.id for model in client.models.list()]
    (row,) = demo.namespace.table("mdep")
    assert (row["NAME"], row["READY"], row["WORKERS"]) == ("demo", "True", "1/1")
    for kind, name in (("plan", "standard"), ("apikey", "clients")):
        demo.namespace.wait("condition=Accepted", f"{kind}/{name}")


def test_scaling_is_not_noticed(node: str, demo: Installed, steady: Steady, measured: Any) -> None:
    with steady.during("scaled 3 to 1 to 3") as window:
        for workers in (1, 3):
            demo.scale(workers)
            window.reach(f"{workers} workers")
            steady.answers(CLIENTS)
            window.reach(f"{CLIENTS} answers")
    unharmed(window, measured)


def test_a_rollout_is_not_noticed(node: str, demo: Installed, steady: Steady, measured: Any) -> None:
    before = uids(demo.pods("worker"))
    change = {"spec": {"engine": {"embedded": {"maxQueued": 200}}}}
    with steady.during("other arguments for the workers") as window:
        demo.namespace.kubectl("patch", "mdep/demo", "--type=merge", "-p", json.dumps(change))
        demo.workers_ready(3)
        steady.answers(CLIENTS)
    after = demo.pods("worker")
    assert not before & uids(after)
    assert all("200" in pod["spec"]["containers"][0]["args"] for pod in after)
    unharmed(window, measured)


def test_a_renamed_model_is_served_under_its_old_name_meanwhile(node: str, demo: Installed) -> None:
    model = {"name": "first", "source": {"builtin": {"name": "demo"}}}
    demo.namespace.apply(resource("ModelDeployment", "renamed", {"model": model}))
    demo.namespace.until("mdep", "renamed", ready(1))
    with demo.openai() as client:

        def ask(openai: OpenAI, name: str) -> None:
            answer = openai.chat.completions.create(model=name, messages=reply_with("payload verified."), temperature=0)
            assert answer.choices[0].message.content == "payload verified."

        # The router may hear of it a moment later.
        ask(client.with_options(max_retries=10), "first")
        impatient = client.with_options(max_retries=0)
        changed = {**model, "name": "second", "aliases": ["first"]}
        demo.namespace.apply(resource("ModelDeployment", "renamed", {"model": changed}))
        while not ready(1)(demo.namespace.get("mdep", "renamed")):
            ask(impatient, "first")
        ask(impatient, "first")
        ask(client.with_options(max_retries=10), "second")
    demo.namespace.kubectl("delete", "mdep", "renamed")


def test_an_upgrade_restarts_no_worker(node: str, demo: Installed, steady: Steady, measured: Any) -> None:
    workers, routers = uids(demo.pods("worker")), uids(demo.pods("router"))
    marked = {"upgraded": "yes"}
    with steady.during("helm upgrade of routers and operator") as window:
        demo.upgrade(**{"router.podAnnotations": marked, "operator.podAnnotations": marked})
        steady.answers(CLIENTS)
    assert uids(demo.pods("worker")) == workers
    assert not uids(demo.pods("router")) & routers
    unharmed(window, measured)


def test_a_killed_operator_is_not_noticed(node: str, demo: Installed, steady: Steady, measured: Any) -> None:
    (operator,) = demo.pods("operator")
    name, before = operator["metadata"]["name"], restarts(operator)
    (pid,) = processes(operator, "operator")
    with steady.during("the operator killed") as window:
        os.kill(pid, signal.SIGKILL)
        demo.namespace.until("pod", name, lambda pod: restarts(pod) > before)
        # What is declared meanwhile is done when it is back.
        demo.scale(2)
        demo.scale(3)
        steady.answers(CLIENTS)
    unharmed(window, measured)


def test_an_evicted_worker_drains_first(node: str, demo: Installed, steady: Steady, measured: Any) -> None:
    def evicted(name: str) -> str | None:
        try:
            demo.namespace.cluster.evict(name, demo.namespace.name)
        except Refused as refused:
            assert "disruption budget" in str(refused)
            return None
        return name

    names = [pod["metadata"]["name"] for pod in demo.pods("worker")]
    with steady.during("a worker pod evicted") as window, ThreadPoolExecutor() as pool:
        # At once: after a moment another worker is there, and the budget allows the next one.
        (first,) = filter(None, pool.map(evicted, names[:2]))
        demo.namespace.wait("delete", f"pod/{first}", within=120)
        demo.workers_ready(3)
        steady.answers(CLIENTS)
    unharmed(window, measured)


def test_without_the_api_server_answers_go_on(node: str, demo: Installed, steady: Steady, measured: Any) -> None:
    with steady.during(f"the API server stopped for {OUTAGE_S} s") as window:
        with demo.namespace.cluster.without("kube-apiserver"):
            steady.for_seconds(OUTAGE_S)
        steady.answers(CLIENTS)
        # And it is followed again.
        demo.scale(2)
        demo.scale(3)
    unharmed(window, measured)


def test_a_killed_worker_takes_only_its_own_streams(node: str, demo: Installed, steady: Steady, measured: Any) -> None:
    victim = demo.pods("worker")[0]
    name, before = victim["metadata"]["name"], restarts(victim)
    (pid,) = processes(victim, "worker")
    with steady.during("a worker killed") as window:
        while True:
            # Once all the others are answered, what is still in its middle is the stopped worker's.
            os.kill(pid, signal.SIGSTOP)
            stopped = time.monotonic()
            steady.answers(2 * CLIENTS)
            if steady.midway(stopped):
                break
            os.kill(pid, signal.SIGCONT)
            steady.answers(CLIENTS)
        os.kill(pid, signal.SIGKILL)
        demo.namespace.until("pod", name, lambda pod: restarts(pod) > before)
        demo.workers_ready(3)
        steady.answers(CLIENTS)
    shown(window, measured)
    assert not window.failed, window.story()
    assert 0 < len(window.ended_early) < CLIENTS
    assert all(answer.errors() for answer in window.ended_early), window.story()
