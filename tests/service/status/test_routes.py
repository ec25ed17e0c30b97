"""The page's files hold no data and are open; what they show wants the token, and may not stall the server."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import httpx
import numpy as np
import pytest

from clients.client_options import ClientOptions
from clients.zmq import ZmqClient
from policy.errors import TinyVLAError
from policy.null import NullPolicy, null_spec
from policy.observation import Observation
from service.running import RunningServer
from service.status.frames import Frame
from service.status.page_files import read_page_files
from service.wire.messages import ActRequest

PATIENCE_S = 30.0
TOKEN = "s3cret"
RIGHT = {"authorization": f"Bearer {TOKEN}"}


@pytest.fixture(scope="module")
def locked() -> Iterator[RunningServer]:
    with RunningServer(lambda: NullPolicy(null_spec(size=16)), token=TOKEN) as running:
        yield running


@pytest.fixture
def client(locked: RunningServer) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=locked.http_url, timeout=PATIENCE_S) as made:
        yield made


def ask(server: RunningServer, **named: object) -> None:
    """One request with one image over ZeroMQ."""
    with_image = Observation({"corner4": np.full((20, 30, 3), 90, np.uint8)}, np.zeros(4, np.float32))
    robot = ZmqClient(server.zmq_url, TOKEN, ClientOptions(timeout_s=PATIENCE_S))
    try:
        robot.act(ActRequest(with_image, **named))  # type: ignore[arg-type]
    finally:
        robot.close()


@pytest.mark.parametrize("path", ["/", *(f"/static/{name}" for name in read_page_files())])
def test_the_page_and_its_files_come_from_this_server_alone(client: httpx.Client, path: str) -> None:
    response = client.get(path)
    assert response.status_code == 200
    policy = response.headers["content-security-policy"]
    assert policy.startswith("default-src 'none'")
    assert "unsafe" not in policy
    assert "http" not in policy
    assert response.headers["x-content-type-options"] == "nosniff"


def test_no_file_of_ours_names_another_host() -> None:
    ours = {name: file for name, file in read_page_files().items() if not name.startswith("uPlot")}
    assert len(ours) > 5
    assert [name for name, file in ours.items() if b"://" in file.content] == []


@pytest.mark.parametrize(
    "name", ["../routes.py", "..%2froutes.py", "%2e%2e/routes.py", "routes.py", "vendor", ""]
)
def test_no_other_file_can_be_had(client: httpx.Client, name: str) -> None:
    assert client.get(f"/static/{name}").status_code == 404


@pytest.mark.parametrize("headers", [{}, {"authorization": "Bearer wrong"}])
def test_what_it_shows_wants_the_token(client: httpx.Client, headers: dict[str, str]) -> None:
    refused = client.get("/status", headers=headers)
    assert refused.status_code == 401
    assert refused.json()["code"] == "unauthorized"
    assert "null" not in client.get("/").text  # the page itself tells nothing of the policy


def test_it_tells_policies_sessions_answers_and_history(locked: RunningServer, client: httpx.Client) -> None:
    client.get("/status", headers=RIGHT)  # begins to watch
    ask(locked, session="arm", seq=3)
    with pytest.raises(TinyVLAError):
        ask(locked, policy="other")
    shown = client.get("/status", headers=RIGHT)
    assert shown.headers["cache-control"] == "no-store"
    status = shown.json()
    assert status["ready"] is True
    assert [policy["label"] for policy in status["policies"]] == [status["active"]]
    assert {"door": "zmq", "code": "unknown_policy", "count": 1} in status["answered"]
    [session] = status["sessions"]
    assert (session["session"], session["seq"], session["policy"]) == ("arm", 3, status["active"])
    assert [(f["camera"], f["width"], f["height"]) for f in session["frames"]] == [("corner4", 30, 20)]
    assert [axis["name"] for axis in session["chunk"]["axes"]] == ["a0", "a1", "a2", "a3"]
    assert [len(values) for values in session["chunk"]["actions"]] == [48] * 4
    assert len(status["history"]["time"]) == len(status["history"]["p99_ms"]) == status["history"]["kept"]


def test_health_answers_while_the_page_s_images_are_encoded(
    locked: RunningServer, client: httpx.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoding, go = threading.Event(), threading.Event()
    real = Frame.data_url

    def held(frame: Frame) -> str:
        encoding.set()
        assert go.wait(PATIENCE_S)
        return real(frame)

    client.get("/status", headers=RIGHT)
    ask(locked, session="arm")
    monkeypatch.setattr(Frame, "data_url", held)
    answers: list[httpx.Response] = []
    looking = threading.Thread(
        target=lambda: answers.append(
            httpx.get(f"{locked.http_url}/status", headers=RIGHT, timeout=PATIENCE_S)
        )
    )
    looking.start()
    assert encoding.wait(PATIENCE_S)
    assert client.get("/healthz").status_code == 200
    ask(locked, session="arm")  # nor does the engine wait
    go.set()
    looking.join()
    assert answers[0].status_code == 200


def test_before_a_policy_is_loaded_the_page_says_so() -> None:
    load = threading.Event()

    def slow() -> NullPolicy:
        assert load.wait(PATIENCE_S)
        return NullPolicy()

    server = RunningServer(slow)
    server.start()
    try:
        status = httpx.get(f"{server.http_url}/status", timeout=PATIENCE_S).json()
        assert (status["ready"], status["active"], status["policies"]) == (False, None, [])
    finally:
        load.set()
        server.stop()
