"""Pods for the tests, as the strictest standard of pod security (`restricted`) wants them."""

from typing import Any

from resources import Resource

# The image of the binary under test.
IMAGE = "inferyard.dev/inferyard:test"
NOBODY = 65532


def pod(name: str, image: str, *args: str, **container: Any) -> Resource:
    """A pod of one container that may nothing: no root, no rights, and only /tmp to write to."""
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name},
        "spec": {
            "restartPolicy": "Never",
            "automountServiceAccountToken": False,
            "enableServiceLinks": False,
            "securityContext": {
                "runAsNonRoot": True,
                "runAsUser": NOBODY,
                "seccompProfile": {"type": "RuntimeDefault"},
            },
            "containers": [
                {
                    "name": name,
                    "image": image,
                    "imagePullPolicy": "Never",
                    "args": list(args),
                    "securityContext": {
                        "allowPrivilegeEscalation": False,
                        "readOnlyRootFilesystem": True,
                        "capabilities": {"drop": ["ALL"]},
                    },
                    "volumeMounts": [{"name": "tmp", "mountPath": "/tmp"}],
                    **container,
                }
            ],
            "volumes": [{"name": "tmp", "emptyDir": {}}],
        },
    }


def ended(pod: Any) -> bool:
    """Whether all containers of a pod have ended."""
    return pod["status"]["phase"] in ("Succeeded", "Failed")


def exit_code(pod: Any) -> int:
    """What its one container ended with."""
    return int(pod["status"]["containerStatuses"][0]["state"]["terminated"]["exitCode"])
