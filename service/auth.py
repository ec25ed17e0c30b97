"""The bearer tokens of all doors: when one is needed, how it is made, read and compared.

HTTP routes state what they want as a dependency: ``APIRouter(dependencies=token_wanted(token))``, or
``admin_token_wanted(admin_token)``. The other doors call `check_token` with what their message held.
"""

from __future__ import annotations

import hmac
import ipaddress
import secrets
from collections.abc import Mapping, Sequence
from functools import lru_cache
from urllib.parse import urlsplit

from fastapi import Depends, Security
from fastapi.params import Depends as Dependency
from fastapi.security import HTTPBearer
from starlette.requests import HTTPConnection

from policy.errors import TinyVLAError


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


def given_token(header: str | None) -> str | None:
    """The token of an `Authorization` header: `Bearer`, or openpi's `Api-Key`."""
    scheme, _, token = (header or "").partition(" ")
    return token.strip() if scheme.lower() in ("bearer", "api-key") else None


def check_caller(token: str | None, headers: Mapping[str, str]) -> None:
    """Raise `forbidden` for a page of another site, `unauthorized` unless the door is open or the token right."""
    check_origin(headers)
    if token is None:
        check_host(headers)
    check_token(token, given_token(headers.get("authorization")))


def check_origin(headers: Mapping[str, str]) -> None:
    """Raise `forbidden` for a request that a page of another site makes.

    A browser on the robot's network would let any web page post to a server on loopback, and open WebSockets
    to it. Programs send no `Origin` and pass.
    """
    origin = headers.get("origin")
    if origin is not None and _host_of(origin) != headers.get("host", "").lower():
        raise TinyVLAError("forbidden", "pages of other origins may not use this server", field="Origin")


def check_host(headers: Mapping[str, str]) -> None:
    """Raise `forbidden` where an open server is asked by a name that may be anybody's.

    A site can let its own name stand for this machine's address (DNS rebinding); its pages are then of the same origin
    as the server, for all that the browser knows. It has no token, so a server that wants one need not look.
    """
    host = headers.get("host")
    if host is not None and not _is_address(host):
        raise TinyVLAError(
            "forbidden",
            "without a token this server is asked by its address or as localhost; other names take --token",
            field="Host",
            expected="127.0.0.1, [::1] or localhost, with the port",
            actual=host[:100],
        )


@lru_cache(maxsize=64)
def _is_address(host: str) -> bool:
    """`host` as in a URL: a name, an IPv4 address, or an IPv6 address in brackets; then perhaps a port."""
    try:
        name = urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return False
    if name == "localhost" or name.endswith(".localhost"):  # which browsers never look up
        return True
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def _host_of(origin: str) -> str | None:
    """With its port; None where nothing of it reads as a host."""
    try:
        return urlsplit(origin).netloc.lower()
    except ValueError:
        return None


def token_wanted(token: str | None) -> Sequence[Dependency]:
    """Dependencies of routes that take `token`; with None they are open to all but other sites' pages."""

    async def authorised(connection: HTTPConnection) -> None:
        check_caller(token, connection.headers)

    return [Depends(authorised)] + ([_scheme("token")] if token is not None else [])


def admin_token_wanted(admin_token: str | None) -> Sequence[Dependency]:
    """Dependencies of routes that change the server; without an admin token they are closed."""

    async def authorised(connection: HTTPConnection) -> None:
        check_origin(connection.headers)
        if admin_token is None:
            raise TinyVLAError(
                "forbidden", "the server was started without --admin-token, so nobody may do this"
            )
        check_token(admin_token, given_token(connection.headers.get("authorization")))

    return [Depends(authorised), _scheme("admin token")]


def _scheme(name: str) -> Dependency:
    """Tells the OpenAPI document of the scheme; the check is the other dependency's."""
    return Security(HTTPBearer(scheme_name=name, auto_error=False))
