"""The OpenAPI document tells the truth: Schemathesis finds no answer that it does not describe."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from policy.null import NullPolicy
from policy.spec import PolicySpec
from service.running import RunningServer

TOKEN = "s3cret"
CONFIG = Path(__file__).with_name("schemathesis.toml")


@pytest.mark.slow
def test_no_answer_contradicts_the_document(everything: PolicySpec, tmp_path: Path) -> None:
    with RunningServer(lambda: NullPolicy(everything), token=TOKEN, admin_token=TOKEN) as server:
        done = subprocess.run(
            [
                Path(sys.executable).with_name("schemathesis"),
                "--config-file",
                CONFIG,
                "run",
                f"{server.http_url}/openapi.json",
                "--header",
                f"Authorization: Bearer {TOKEN}",
                "--no-color",
            ],
            capture_output=True,
            text=True,
            cwd=tmp_path,
            env={**os.environ, "COLUMNS": "120"},
            check=False,
        )
        assert server.engine.policy.label == everything.label
    assert done.returncode == 0, done.stdout[-8000:] + done.stderr[-2000:]
    found = re.search(r"Tested: (\d+)", done.stdout)
    assert found is not None
    assert int(found[1]) >= 6
