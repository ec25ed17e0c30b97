"""How a client speaks to a policy server: the same options over HTTP and ZeroMQ, blocking and async."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from clients.contract_check import Expects
from clients.retry import Retry
from service.wire.images import ImageFormat


@dataclass(frozen=True)
class ClientOptions:
    """What has a sensible default."""

    policy: str | None = None  # `name` or `name@hash` of the policy to ask; None is the active one
    timeout_s: float = 5.0  # longest wait for an answer, all attempts and the pauses between them together
    retry: Retry = field(default_factory=Retry)
    image_format: ImageFormat = "raw"  # `raw` where the network is fast, `jpeg` where it is not
    quality: int = 90  # of JPEG, 1 to 95
    resize: bool = False  # shrink images to the policy's size before they are sent
    ca_file: Path | None = (
        None  # certificates (PEM) that an https:// server's must follow from; default the system's
    )
    server_key: Path | None = None  # the `.key` file of a tcp:// server that speaks CURVE
    client_key: Path | None = None  # our own `.key_secret` file, where that server knows its clients by name
    expects: Expects | None = (
        None  # what the policy must fit; checked before the first request, and after a swap
    )
