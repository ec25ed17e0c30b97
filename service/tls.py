"""A certificate and its key, read before anything is bound, so that what is wrong with them is one line."""

from __future__ import annotations

import ssl
from pathlib import Path

from policy.errors import UsageError


def read_tls(certificate: Path | None, key: Path | None) -> ssl.SSLContext | None:
    """The context of an HTTPS server; None when neither file is given.

    Raises:
        UsageError: a file is missing, cannot be read, is encrypted, or does not fit the other.
    """
    if certificate is None and key is None:
        return None
    if certificate is None or key is None:
        raise UsageError("--tls-cert and --tls-key are given together or not at all")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        for file in (certificate, key):
            file.read_bytes()
        context.load_cert_chain(certificate, key, password=lambda: b"")  # never asks a person
    except ssl.SSLError as error:
        reason = error.reason or "not PEM, or encrypted"
        raise UsageError(
            f"--tls-cert {certificate}, --tls-key {key}: they cannot be used: {reason}"
        ) from None
    except (OSError, ValueError) as error:
        file_said = getattr(error, "filename", None) or key
        raise UsageError(f"--tls-cert, --tls-key: {file_said}: {getattr(error, 'strerror', error)}") from None
    return context
