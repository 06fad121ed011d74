"""After all that the tests here did to the release: what it was refused, and what it leaves."""

from installed import Installed


def test_nothing_was_denied(node: str, installed: Installed) -> None:
    """No right was missing, and no pod was refused."""
    name = installed.namespace.name
    assert [call for call in installed.namespace.cluster.denied() if f":{name}:" in call] == []
    events = installed.namespace.get("events")["items"]
    assert [event["message"] for event in events if "violates PodSecurity" in event.get("message", "")] == []


def test_uninstalling_leaves_what_was_declared(node: str, installed: Installed) -> None:
    declared = {row["NAME"] for row in installed.namespace.table("plans")}
    installed.helm("uninstall", "--wait")
    for component in ("router", "operator", "ledger"):
        assert installed.pods(component) == []
    assert declared == {row["NAME"] for row in installed.namespace.table("plans")} == {"standard"}
