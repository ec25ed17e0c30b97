"""Who may come in: tokens, the admin token apart from them, other sites' pages, and key files that are none."""

from __future__ import annotations

import contextlib
import inspect
import socket
import threading
from collections.abc import Sequence
from pathlib import Path

import httpx
import pytest
import trustme
from fastapi import FastAPI
from fastapi.params import Depends
from fastapi.testclient import TestClient

from clients.client_options import ClientOptions
from clients.http import HttpClient
from clients.zmq import ZmqClient
from policy.errors import TinyVLAError, UsageError
from policy.null import NullPolicy, null_spec
from service import auth
from service.auth import admin_token_wanted, check_token, given_token, is_loopback, token_wanted
from service.curve import read_curve_server
from service.running import RunningServer
from service.tls import read_tls
from service.wire.curve_keys import write_keys

PATIENCE_S = 20.0


def outcome(dependencies: Sequence[Depends], **headers: str) -> str:
    """The code that a route with these dependencies answers."""
    app = FastAPI()

    @app.get("/", dependencies=dependencies)
    async def inside() -> str:
        return "inside"

    headers = {"host": "localhost:8000", **headers}
    try:
        TestClient(app).get("/", headers=headers)
    except TinyVLAError as error:
        return error.code
    return "inside"


@pytest.mark.parametrize(
    ("header", "token"),
    [
        ("Bearer s3cret", "s3cret"),
        ("bearer  s3cret ", "s3cret"),
        ("Api-Key s3cret", "s3cret"),
        ("Basic czNjcmV0", None),
        ("s3cret", None),
        ("", None),
        (None, None),
    ],
)
def test_the_token_is_read_as_bearer_or_as_openpis_key(header: str | None, token: str | None) -> None:
    assert given_token(header) == token


def test_tokens_are_compared_in_constant_time(monkeypatch: pytest.MonkeyPatch) -> None:
    compared: list[tuple[bytes, bytes]] = []
    monkeypatch.setattr(auth.hmac, "compare_digest", lambda a, b: compared.append((a, b)) is None and a == b)
    check_token("s3cret", "s3cret")
    with pytest.raises(TinyVLAError):
        check_token("s3cret", "s3\ud800")
    assert compared == [(b"s3cret", b"s3cret"), (b"s3cret", b"s3\\ud800")]
    assert "==" not in inspect.getsource(check_token)


def test_the_admin_token_opens_admin_routes_alone_and_no_other_token_does() -> None:
    ask = "authorization"
    assert outcome(token_wanted("robot"), **{ask: "Bearer robot"}) == "inside"
    assert outcome(token_wanted("robot"), **{ask: "Bearer admin"}) == "unauthorized"
    assert outcome(admin_token_wanted("admin"), **{ask: "Bearer admin"}) == "inside"
    assert outcome(admin_token_wanted("admin"), **{ask: "Bearer robot"}) == "unauthorized"
    assert outcome(admin_token_wanted("admin")) == "unauthorized"


def test_without_an_admin_token_nobody_is_admin() -> None:
    assert outcome(token_wanted(None)) == "inside"
    assert outcome(admin_token_wanted(None), authorization="Bearer ") == "forbidden"


@pytest.mark.parametrize(
    ("origin", "code"),
    [
        ("http://localhost:8000", "inside"),
        ("https://LOCALHOST:8000", "inside"),
        ("http://localhost", "forbidden"),
        ("http://evil.example", "forbidden"),
        ("null", "forbidden"),
        ("http://[", "forbidden"),
    ],
)
def test_pages_of_other_origins_are_turned_away_token_or_not(origin: str, code: str) -> None:
    for token in (None, "t"):
        assert outcome(token_wanted(token), origin=origin, authorization="Bearer t") == code


@pytest.mark.parametrize(
    "host", ["127.0.0.1:8000", "[::1]:8000", "192.168.1.5", "a.localhost:80", "LOCALHOST"]
)
def test_an_open_server_is_asked_by_its_address(host: str) -> None:
    assert outcome(token_wanted(None), host=host) == "inside"


@pytest.mark.parametrize(
    "host", ["evil.example:8000", "robot", "127.0.0.1.evil.example", "localhost.evil", "["]
)
def test_a_name_that_may_be_anybodys_needs_a_token(host: str) -> None:
    """A page whose site lets its name stand for this machine's address is of the same origin as the server."""
    assert outcome(token_wanted(None), host=host, origin=f"http://{host}") == "forbidden"
    assert outcome(token_wanted(None), host=host) == "forbidden"
    assert outcome(token_wanted("t"), host=host, authorization="Bearer t") == "inside"


def test_no_origin_is_ever_allowed_to_read_our_answers() -> None:
    with RunningServer(lambda: NullPolicy()) as server:
        asked = {"Origin": server.http_url, "Access-Control-Request-Method": "POST"}
        preflight = httpx.options(f"{server.http_url}/act", headers=asked)
        answer = httpx.get(f"{server.http_url}/policies", headers={"Origin": server.http_url})
    assert preflight.status_code == 405
    for response in (preflight, answer):
        assert not [name for name in response.headers if name.startswith("access-control")]


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.8.8", "::1", "localhost"])
def test_addresses_of_this_machine_alone_do_without_a_token(host: str) -> None:
    assert is_loopback(host)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.5", "robot.lab"])
def test_any_other_address_needs_one(host: str) -> None:
    assert not is_loopback(host)


@pytest.fixture
def keys(tmp_path: Path) -> Path:
    """A directory with the keys of a server, of a robot that it knows and of one that it does not."""
    write_keys(tmp_path, "server")
    write_keys(tmp_path / "known", "arm")
    write_keys(tmp_path / "strangers", "arm")
    return tmp_path


def test_the_secret_file_is_its_owners_alone(keys: Path) -> None:
    assert (keys / "server.key_secret").stat().st_mode & 0o077 == 0
    with pytest.raises(UsageError, match="never overwritten"):
        write_keys(keys, "server")


def spec_over(
    url: str, *, token: str | None = None, timeout_s: float = PATIENCE_S, **options: Path | None
) -> str:
    with ZmqClient(url, token, ClientOptions(timeout_s=timeout_s, **options)) as client:  # type: ignore[arg-type]
        return client.spec().label


NO_PATIENCE_S = 0.5  # for what must not happen


def test_a_server_with_a_key_is_reached_by_who_has_its_public_key(keys: Path) -> None:
    curve = read_curve_server(keys / "server.key_secret", None)
    with RunningServer(lambda: NullPolicy(), curve=curve) as server:
        assert spec_over(server.zmq_url, server_key=keys / "server.key") == null_spec().label
        with pytest.raises(ConnectionError):
            spec_over(server.zmq_url, timeout_s=NO_PATIENCE_S, server_key=keys / "known" / "arm.key")
        with pytest.raises(ConnectionError):
            spec_over(server.zmq_url, timeout_s=NO_PATIENCE_S)


def test_where_robots_are_listed_no_stranger_connects(keys: Path) -> None:
    curve = read_curve_server(keys / "server.key_secret", keys / "known")
    known, stranger = (keys / name / "arm.key_secret" for name in ("known", "strangers"))
    with RunningServer(lambda: NullPolicy(), curve=curve) as server:
        told = spec_over(server.zmq_url, server_key=keys / "server.key", client_key=known)
        assert told == null_spec().label
        for client_key in (stranger, None):
            with pytest.raises(ConnectionError):
                spec_over(
                    server.zmq_url,
                    timeout_s=NO_PATIENCE_S,
                    server_key=keys / "server.key",
                    client_key=client_key,
                )


class Tap:
    """Stands between a client and a server and keeps every byte that passes."""

    def __init__(self, url: str) -> None:
        host, port = url.removeprefix("tcp://").split(":")
        self.seen = bytearray()
        self._server = (host, int(port))
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"tcp://127.0.0.1:{self._listener.getsockname()[1]}"
        threading.Thread(target=self._relay, daemon=True).start()

    def _relay(self) -> None:
        near, far = self._listener.accept()[0], socket.create_connection(self._server)
        for source, sink in ((near, far), (far, near)):
            threading.Thread(target=self._pump, args=(source, sink), daemon=True).start()

    def _pump(self, source: socket.socket, sink: socket.socket) -> None:
        with source, sink, contextlib.suppress(OSError):
            while data := source.recv(65536):
                self.seen += data
                sink.sendall(data)

    def __enter__(self) -> Tap:
        return self

    def __exit__(self, *error: object) -> None:
        self._listener.close()


@pytest.mark.parametrize("secret", [True, False], ids=["CURVE", "plain"])
def test_over_curve_neither_token_nor_answer_can_be_read_on_the_way(keys: Path, secret: bool) -> None:
    curve = read_curve_server(keys / "server.key_secret", None) if secret else None
    with (
        RunningServer(lambda: NullPolicy(), curve=curve, token="very-secret") as server,
        Tap(server.zmq_url) as tap,
    ):
        told = spec_over(tap.url, token="very-secret", server_key=keys / "server.key" if secret else None)
    assert told == null_spec().label
    for word in (b"very-secret", b"corner4"):
        assert (word in tap.seen) is not secret


@pytest.mark.parametrize(
    ("key", "clients", "said"),
    [
        ("missing.key_secret", None, "missing.key_secret"),
        ("server.key", None, "holds no secret key"),
        ("junk", None, "tinyvla keys"),
        ("binary", None, "tinyvla keys"),
        (None, "known", "needs --curve-key"),
        ("server.key_secret", "empty", "a .key file per robot"),
    ],
)
def test_a_key_file_that_is_none_is_one_line(
    keys: Path, key: str | None, clients: str | None, said: str
) -> None:
    (keys / "junk").write_text('public-key = "short"\nsecret-key = "short"\n')
    (keys / "binary").write_bytes(bytes(range(256)))
    (keys / "empty").mkdir()
    with pytest.raises(UsageError) as error:
        read_curve_server(keys / key if key else None, keys / clients if clients else None)
    assert said in str(error.value)
    assert "\n" not in str(error.value)


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with an authority's certificate, and a server's with its key."""
    place = tmp_path_factory.mktemp("tls")
    authority = trustme.CA()
    authority.cert_pem.write_to_path(place / "ca.pem")
    server = authority.issue_cert("127.0.0.1", "localhost")
    server.private_key_pem.write_to_path(place / "key.pem")
    for i, pem in enumerate(server.cert_chain_pems):
        pem.write_to_path(place / "cert.pem", append=i > 0)
    authority.issue_cert("other").private_key_pem.write_to_path(place / "other.pem")
    return place


def test_tls_serves_who_trusts_the_certificate_and_nobody_else(certificate: Path) -> None:
    tls = read_tls(certificate / "cert.pem", certificate / "key.pem")
    with RunningServer(lambda: NullPolicy(), tls=tls) as server:
        assert server.http_url.startswith("https://127.0.0.1:")
        with HttpClient(server.http_url, options=ClientOptions(ca_file=certificate / "ca.pem")) as client:
            assert client.spec() == null_spec()
        with HttpClient(server.http_url) as doubtful, pytest.raises(ConnectionError):
            doubtful.spec()
        with pytest.raises(httpx.TransportError):
            httpx.get(server.http_url.replace("https", "http"), timeout=PATIENCE_S)


def test_openpis_client_comes_over_tls_as_well(certificate: Path) -> None:
    import ssl

    from websockets.sync.client import connect

    tls = read_tls(certificate / "cert.pem", certificate / "key.pem")
    trusted = ssl.create_default_context(cafile=certificate / "ca.pem")
    with (
        RunningServer(lambda: NullPolicy(), tls=tls) as server,
        connect(server.http_url.replace("https", "wss"), ssl=trusted) as socket,
    ):
        assert socket.recv(PATIENCE_S)


@pytest.mark.parametrize(
    ("cert", "key", "said"),
    [
        ("cert.pem", None, "together"),
        (None, "key.pem", "together"),
        ("missing.pem", "key.pem", "missing.pem"),
        ("cert.pem", "missing.pem", "missing.pem"),
        ("key.pem", "key.pem", "cannot be used"),
        ("cert.pem", "other.pem", "cannot be used"),
    ],
)
def test_certificates_that_cannot_be_used_are_one_line(
    certificate: Path, cert: str | None, key: str | None, said: str
) -> None:
    with pytest.raises(UsageError) as error:
        read_tls(certificate / cert if cert else None, certificate / key if key else None)
    assert said in str(error.value)
    assert "\n" not in str(error.value)


def test_a_file_without_certificates_is_one_line(certificate: Path) -> None:
    with pytest.raises(UsageError, match="no certificates"):
        HttpClient("https://127.0.0.1:1", options=ClientOptions(ca_file=certificate / "key.pem"))
