"""A command to paste: how a person asks the server for a first chunk."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

from policy.spec import PolicySpec
from service.warmup import synthetic_observation


def curl_line(url: str, token: str | None, spec: PolicySpec, ca_file: Path | None = None) -> str:
    """A command that asks this policy for a chunk, ready to paste where the camera files lie."""
    example = synthetic_observation(spec)
    payload = {"instruction": example.instruction, "state": [round(float(x), 4) for x in example.state]}
    words = ["curl", f"{url}/act"]
    if ca_file is not None:
        words += ["--cacert", str(ca_file)]
    if token is not None:
        words += ["-H", f"Authorization: Bearer {token}"]
    words += ["-F", f"payload={json.dumps(payload)}"]
    for name in example.images:
        words += ["-F", f"{name}=@{name}.jpg"]
    return shlex.join(words)
