"""Key files of ZeroMQ's CURVE: `NAME.key` is for everyone, `NAME.key_secret` for its owner alone.

ZeroMQ is imported where it is needed, as the rest of this package does without.
"""

from __future__ import annotations

import contextlib
import os
from dataclasses import dataclass
from pathlib import Path

from policy.errors import UsageError


@dataclass(frozen=True)
class CurveKeys:
    """A pair as ZeroMQ wants it: 40 characters of Z85 each."""

    public: bytes
    secret: bytes


def read_public_key(file: Path) -> bytes:
    """The public key of a `.key` or `.key_secret` file; raises `UsageError`."""
    return _read(file)[0]


def read_keys(file: Path) -> CurveKeys:
    """The pair of a `.key_secret` file; raises `UsageError`."""
    public, secret = _read(file)
    if secret is None:
        raise UsageError(f"{file} holds no secret key; the file that does ends in .key_secret")
    return CurveKeys(public, secret)


def fresh_keys() -> CurveKeys:
    """A pair for one connection, for who needs no lasting name."""
    import zmq

    return CurveKeys(*zmq.curve_keypair())


def write_keys(directory: Path, name: str) -> tuple[Path, Path]:
    """Make a pair and write its two files, the secret one readable by its owner alone.

    Raises:
        UsageError: one of the files is there already, or cannot be written.
    """
    import zmq.auth

    public, secret = directory / f"{name}.key", directory / f"{name}.key_secret"
    for file in (public, secret):
        if file.exists():
            raise UsageError(f"{file} exists; keys are never overwritten")
    try:
        directory.mkdir(parents=True, exist_ok=True)
        with _private():
            zmq.auth.create_certificates(directory, name)
        public.chmod(0o644)
    except OSError as error:
        raise UsageError(f"{directory}: keys cannot be written: {error.strerror}") from None
    return public, secret


@contextlib.contextmanager
def _private():
    before = os.umask(0o077)
    try:
        yield
    finally:
        os.umask(before)


def _read(file: Path) -> tuple[bytes, bytes | None]:
    import zmq.auth
    from zmq.utils import z85

    try:
        public, secret = zmq.auth.load_certificate(file)
        for key in (public, secret):
            if key is not None and len(z85.decode(key)) != 32:
                raise ValueError("a key of another length")
    except OSError as error:
        raise UsageError(f"{file}: {error.strerror or 'no such key file'}") from None
    except Exception:
        raise UsageError(f"{file} is no key file of ZeroMQ's CURVE; `tinyvla keys` makes them") from None
    return public, secret
