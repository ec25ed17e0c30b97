"""The container's health check: 0 once the server inside answers that its policy is loaded and warm, else 1."""

from __future__ import annotations

import argparse
import http.client
import os
import ssl
import sys
import urllib.request
from pathlib import Path

TIMEOUT_S = 2.0
# Of the container's first process, which is the server or what started it.
COMMAND = Path("/proc/1/cmdline")


def served_with(command: Path = COMMAND) -> argparse.Namespace:
    """`host`, `port` and `tls_cert` of the server: its flags, read off its command line, win over the environment."""
    try:
        words = command.read_text(errors="replace").split("\0")
    except OSError:
        words = []
    flags = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    flags.add_argument("--host", default=os.environ.get("TINYVLA_HOST"))
    port = os.environ.get("TINYVLA_PORT") or "8000"
    # Kubernetes gives every pod TINYVLA_PORT=tcp://... of a service named tinyvla, and the server pays no heed to it.
    flags.add_argument("--port", default="8000" if port.startswith("tcp://") else port)
    flags.add_argument("--tls-cert", "--tls_cert", default=os.environ.get("TINYVLA_TLS_CERT"))
    return flags.parse_known_args(words[words.index("serve") + 1 :] if "serve" in words else [])[0]


def main(command: Path = COMMAND) -> int:
    """Ask /readyz of the port that is served; one line says why it is not well."""
    served = served_with(command)
    # Of the addresses that stand for all of a machine's, none can be asked everywhere.
    host = "127.0.0.1" if served.host in (None, "", "0.0.0.0", "::") else served.host
    host = f"[{host}]" if ":" in host else host
    url = f"{'https' if served.tls_cert else 'http'}://{host}:{served.port}/readyz"
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
