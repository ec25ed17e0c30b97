"""The container's health check: 0 once the server inside answers that its policy is loaded and warm, else 1."""

from __future__ import annotations

import http.client
import os
import ssl
import sys
import urllib.request

TIMEOUT_S = 2.0


def main() -> int:
    """Ask /readyz of the port that TINYVLA_PORT names; one line says why it is not well."""
    scheme = "https" if os.environ.get("TINYVLA_TLS_CERT") else "http"
    url = f"{scheme}://127.0.0.1:{os.environ.get('TINYVLA_PORT') or '8000'}/readyz"
    # A proxy named in the environment is not between this and its own container, and neither is anybody else:
    # the certificate, which names the host that robots know, needs no check.
    unchecked = urllib.request.HTTPSHandler(context=ssl._create_unverified_context())
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}), unchecked)
    try:
        with opener.open(url, timeout=TIMEOUT_S) as reply:
            print(reply.read(200).decode(errors="replace"))
        return 0
    except (OSError, ValueError, http.client.HTTPException) as error:
        print(f"{url}: {error}")
        return 1


if __name__ == "__main__":
    sys.exit(main())
