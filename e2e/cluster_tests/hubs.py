"""Models whose weights a hub on the node has."""

import uuid
from typing import Any

from hub import REPOSITORY, Hub
from resources import Resource, resource

# Where the fixture `hub` puts the token of the hub.
SECRET = {"name": "hub", "key": "token"}


def from_hub(hub: Hub, file: str, **more: Any) -> Resource:
    """A model of a name of its own, whose weights are a file of the hub."""
    source = {"repo": REPOSITORY, "include": [file], "endpoint": hub.url, "tokenSecret": SECRET}
    model = {"source": {"huggingFace": source}}
    return resource("ModelDeployment", f"m-{uuid.uuid4().hex[:6]}", {"model": model, **more})
