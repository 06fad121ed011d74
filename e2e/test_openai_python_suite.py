"""openai-python's own tests of the endpoints that Inferyard serves, from its source distribution."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from inferyard import Up

SUITE = Path(os.environ.get("OPENAI_PYTHON_SUITE", "/nowhere"))

FILES = [
    "tests/api_resources/chat/test_completions.py",
    "tests/api_resources/test_completions.py",
    "tests/api_resources/test_models.py",
]

# Left out: stored completions and deleting models, which Inferyard does not have, and the tests
# `with_all_params`, which send what OpenAI itself refuses (`stream_options` without a stream, a
# `logit_bias` of a token named "foo") together with audio and web search.
SELECTION = "(create or test_models) and not all_params and not delete"


@pytest.mark.skipif(not SUITE.is_dir(), reason="OPENAI_PYTHON_SUITE names no folder; e2e/run fetches it")
def test_openai_pythons_own_tests_pass(start: Callable[..., Up]) -> None:
    up = start("openai-python-suite.yaml")
    run = subprocess.run(
        [
            sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider",
            "-o", "addopts=", "-o", "filterwarnings=default", *FILES, "-k", SELECTION,
        ],
        cwd=SUITE,
        env=os.environ | {"TEST_API_BASE_URL": up.base_url},
        capture_output=True,
        text=True,
    )  # fmt: skip
    assert run.returncode == 0, run.stdout[-8000:] + run.stderr[-2000:]
    assert "95 passed" in run.stdout, run.stdout[-500:]
    assert up.stop() == 0
