"""The bearer token of both doors: when it is needed, how it is made, how it is compared."""

from __future__ import annotations

import hmac
import ipaddress
import json
import secrets
import shlex

from policy.errors import TinyVLAError
from service.engine import ServedPolicy
from service.warmup import synthetic_observation


def is_loopback(host: str) -> bool:
    """True when only this machine can reach the address."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def make_token() -> str:
    """A token that cannot be guessed."""
    return secrets.token_urlsafe(24)


def check_token(wanted: str | None, given: str | None) -> None:
    """Raise `unauthorized` unless the door is open or the token is right; takes the same time either way."""
    if wanted is None:
        return
    if given is None:
        raise TinyVLAError(
            "unauthorized", "this server wants a bearer token", expected="a token", actual="none"
        )
    if not hmac.compare_digest(wanted.encode(), given.encode("utf-8", "backslashreplace")):
        raise TinyVLAError("unauthorized", "the bearer token is not this server's")


def bearer(header: str | None) -> str | None:
    """The token of an `Authorization` header."""
    scheme, _, token = (header or "").partition(" ")
    return token.strip() if scheme.lower() == "bearer" else None


def curl_line(url: str, token: str | None, policy: ServedPolicy) -> str:
    """A command that asks this policy for a chunk, ready to paste where the camera files lie."""
    example = synthetic_observation(policy.spec)
    payload = {"instruction": example.instruction, "state": [round(float(x), 4) for x in example.state]}
    words = ["curl", f"{url}/act"]
    if token is not None:
        words += ["-H", f"Authorization: Bearer {token}"]
    words += ["-F", f"payload={json.dumps(payload)}"]
    for name in example.images:
        words += ["-F", f"{name}=@{name}.jpg"]
    return shlex.join(words)
