"""The container is healthy exactly when /readyz says so."""

from __future__ import annotations

import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
import trustme

from deploy.healthcheck import main, served_with


@contextmanager
def answering(code: int, tls: ssl.SSLContext | None = None, host: str = "127.0.0.1") -> Iterator[int]:
    """A server that gives /readyz this status and anything else 500; its port."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(code if self.path == "/readyz" else 500)
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:
            pass

    with HTTPServer((host, 0), Handler) as server:
        if tls is not None:
            server.socket = tls.wrap_socket(server.socket, server_side=True)
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield server.server_port
        finally:
            server.shutdown()
            thread.join()


@pytest.mark.parametrize(("code", "health"), [(200, 0), (503, 1), (404, 1)])
def test_health_is_what_readyz_says(code: int, health: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")  # must not be asked
    with answering(code) as port:
        monkeypatch.setenv("TINYVLA_PORT", str(port))
        assert main() == health


def test_a_server_with_a_certificate_is_asked_over_https(monkeypatch: pytest.MonkeyPatch) -> None:
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    trustme.CA().issue_cert("robots.know.this.host").configure_cert(tls)
    monkeypatch.setenv("TINYVLA_TLS_CERT", "cert.pem")
    with answering(200, tls) as port:
        monkeypatch.setenv("TINYVLA_PORT", str(port))
        assert main() == 0


@pytest.mark.parametrize("flags", [["--port", "PORT"], ["--port=PORT", "--log-level", "debug"]])
@pytest.mark.parametrize("before", [[], ["/sbin/docker-init", "--"]])
def test_a_port_given_as_a_flag_is_the_one_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, before: list[str], flags: list[str]
) -> None:
    monkeypatch.setenv("TINYVLA_PORT", "1")
    command = tmp_path / "cmdline"
    with answering(200) as port:
        words = [*before, "python3", "/opt/tinyvla/bin/tinyvla", "serve", "--token", "secret", *flags, ""]
        command.write_text("\0".join(words).replace("PORT", str(port)))
        assert main(command) == 0


def test_a_server_on_one_address_alone_is_asked_there(tmp_path: Path) -> None:
    command = tmp_path / "cmdline"
    with answering(200, host="127.0.0.2") as port:
        for host, health in (("127.0.0.2", 0), ("0.0.0.0", 1)):
            command.write_text("\0".join(["tinyvla", "serve", "--host", host, "--port", str(port), ""]))
            assert main(command) == health


def test_a_certificate_given_as_a_flag_is_https(tmp_path: Path) -> None:
    command = tmp_path / "cmdline"
    for flags in (["--tls-cert", "cert.pem"], ["--tls_cert=cert.pem"]):
        command.write_text("\0".join(["python3", "tinyvla", "serve", *flags, "--tls-key", "key.pem", ""]))
        assert served_with(command).tls_cert == "cert.pem"


def test_a_server_that_is_gone_is_unhealthy(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with answering(200) as port:
        pass
    monkeypatch.setenv("TINYVLA_PORT", str(port))
    assert main() == 1
    assert f"127.0.0.1:{port}/readyz" in capsys.readouterr().out


def test_a_port_that_is_no_number_is_a_line_and_no_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TINYVLA_PORT", "http")
    assert main() == 1
