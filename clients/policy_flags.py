"""The flags that say which policy drives, and the client that follows from them: of a server, or of a bundle."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from clients.client import PolicyClient
from clients.client_options import ClientOptions
from clients.connect import connect
from clients.inprocess import InProcessClient
from clients.retry import NEVER
from policy.errors import TinyVLAError, UsageError
from policy.spec import PolicySpec

DEFAULT_SERVER = "http://127.0.0.1:8000"
# A server answers `not_ready` while it loads and warms its policy.
READY_WITHIN_S = 60.0


@dataclass(frozen=True)
class PolicyFlags:
    """Part of a command's settings."""

    server: str = DEFAULT_SERVER
    """Policy server, http://HOST:PORT or tcp://HOST:PORT."""
    token: str | None = None
    """The server's bearer token; default TINYVLA_TOKEN of the environment."""
    ca_file: Path | None = None
    """Certificates (PEM) that an https:// server's must follow from; default: the ones that browsers trust."""
    server_key: Path | None = None
    """The .key file of a tcp:// server that speaks CURVE."""
    client_key: Path | None = None
    """This robot's .key_secret file, where such a server lets in known robots only."""
    checkpoint: Path | None = None
    """Policy bundle to run in this process instead of asking a server."""
    image_format: Literal["raw", "jpeg"] = "raw"
    """How images travel to the server."""
    timeout: float = 5.0
    """Longest wait for a reply, seconds."""

    @property
    def where(self) -> str:
        """The policy's place, for people."""
        return f"in process, {self.checkpoint}" if self.checkpoint else self.server


def open_policy(flags: PolicyFlags) -> PolicyClient:
    """The client that the flags ask for; it never tries again, as a newer observation is there by then.

    Raises:
        UsageError: an address that is none, or no bundle there.
        TinyVLAError: the bundle fails its checks.
    """
    if flags.checkpoint is not None:
        return InProcessClient.load(flags.checkpoint)
    # Not a flag's default, which --help would print.
    token = (flags.token or os.environ.get("TINYVLA_TOKEN", "")).strip() or None
    options = ClientOptions(
        image_format=flags.image_format,
        timeout_s=flags.timeout,
        resize=True,
        retry=NEVER,
        ca_file=flags.ca_file,
        server_key=flags.server_key,
        client_key=flags.client_key,
    )
    return connect(flags.server, token, options)


def wait_for_spec(
    client: PolicyClient, log: Callable[[str], None], interrupted: Callable[[], bool] = lambda: False
) -> PolicySpec:
    """The policy's contract, once the server has loaded it."""
    told, until = False, time.monotonic() + READY_WITHIN_S
    while True:
        try:
            return client.spec()
        except TinyVLAError as error:
            if error.code != "not_ready" or time.monotonic() > until or interrupted():
                raise
        if not told:
            log("the server is still loading its policy; waiting")
            told = True
        time.sleep(0.25)


def check_steps(ddim_steps: int | None, spec: PolicySpec) -> None:
    """Raise UsageError where the policy cannot be asked for as many denoising steps."""
    if ddim_steps and spec.sampler and ddim_steps > spec.sampler.train_steps:
        raise UsageError(f"--ddim-steps {ddim_steps}: the policy allows 1 ... {spec.sampler.train_steps}")
