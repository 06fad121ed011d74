"""The tests of openai-node, which are written in its own language (node/), on the same server."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from inferyard import Up

FOLDER = Path(__file__).parent / "node"


@pytest.mark.skipif(shutil.which("node") is None, reason="node is not installed")
@pytest.mark.parametrize("name", sorted(path.name for path in FOLDER.glob("*.test.js")))
def test_openai_node(server: Up, name: str) -> None:
    environment = os.environ | {"OPENAI_BASE_URL": server.base_url, "OPENAI_API_KEY": server.api_key}
    run = subprocess.run(["node", "--test", name], cwd=FOLDER, env=environment, capture_output=True, text=True)
    assert run.returncode == 0, run.stdout + run.stderr
