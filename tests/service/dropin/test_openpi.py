"""openpi's own client, unchanged, against the WebSocket at `/`; and the bytes that it never sends itself."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import Any

import msgpack
import numpy as np
import pytest
from openpi_client.action_chunk_broker import ActionChunkBroker
from openpi_client.websocket_client_policy import WebsocketClientPolicy
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection, connect

from policy.null import NullPolicy, null_spec
from service.running import RunningServer

from .conftest import TOKEN

PATIENCE_S = 20.0


def policy(server: RunningServer, api_key: str | None = None) -> WebsocketClientPolicy:
    return WebsocketClientPolicy(server.http_url.replace("http", "ws"), api_key=api_key)


@pytest.fixture
def robot(one_camera: RunningServer) -> WebsocketClientPolicy:
    return policy(one_camera)


@pytest.fixture
def observation(image: np.ndarray) -> dict[str, Any]:
    return {
        "observation/image": image,
        "observation/wrist_image": image,
        "observation/state": np.zeros(4),
        "prompt": "open the drawer",
    }


def test_the_server_speaks_first_and_says_what_the_policy_is(robot: WebsocketClientPolicy) -> None:
    told = robot.get_server_metadata()
    assert told["policy"].startswith("null@")
    assert (told["action_horizon"], told["rate_hz"], told["cameras"]) == (48, 80.0, ["corner4"])


def test_a_chunk_comes_for_each_observation_with_its_timing(
    robot: WebsocketClientPolicy, observation: dict[str, Any]
) -> None:
    first, second = robot.infer(observation), robot.infer(observation)
    for reply in (first, second):
        assert (reply["actions"].shape, reply["actions"].dtype) == ((48, 4), np.float32)
        assert set(reply["policy_timing"]) == {"infer_ms"}
    assert set(first["server_timing"]) == {"infer_ms"}
    assert set(second["server_timing"]) == {"infer_ms", "prev_total_ms"}


def test_openpis_chunk_broker_hands_out_one_action_a_step(
    robot: WebsocketClientPolicy, observation: dict[str, Any]
) -> None:
    observation["seed"] = 5
    chunk = robot.infer(observation)["actions"]
    broker = ActionChunkBroker(robot, action_horizon=10)
    handed_out = [broker.infer(observation)["actions"] for _ in range(10)]
    np.testing.assert_array_equal(handed_out, chunk[:10])


@pytest.mark.parametrize(
    "reshape",
    [
        lambda i: {"observation/image": i, "observation/state": np.zeros(4, np.float32)},
        lambda i: {"observation": {"image": i, "state": np.zeros((1, 4))}},
        lambda i: {"images": {"corner4": i.transpose(2, 0, 1)}, "state": np.zeros(4)},
        lambda i: {"images": {"cam_high": i.transpose(2, 0, 1)}, "state": [0.0, 0, 0, 0]},
        lambda i: {"image": i.astype(np.float32) / 255, "state": np.zeros(4, np.int64)},
        lambda i: {"image": i, "state": np.zeros(4, np.float16), "depth": i[..., 0].astype(np.uint16)},
        lambda i: {"observation/image": i, **{f"observation/s{n}": np.float64(n / 4) for n in range(4)}},
    ],
    ids=["flat", "nested", "aloha", "aloha's camera", "floats", "depth", "state by names"],
)
def test_each_form_that_openpis_robots_send_is_understood(
    one_camera: RunningServer, image: np.ndarray, reshape: Callable[[np.ndarray], dict]
) -> None:
    robot = policy(one_camera)
    assert robot.infer({**reshape(image), "prompt": "go"})["actions"].shape == (48, 4)


class Seen(NullPolicy):
    """Keeps what reached it."""

    def predict(self, observations: Any, options: Any, *rest: Any) -> Any:
        self.seen = observations[-1]
        return super().predict(observations, options, *rest)


@pytest.mark.parametrize("form", ["uint8", "float", "channels first"])
def test_the_policy_sees_the_very_pixels_and_numbers_that_were_sent(image: np.ndarray, form: str) -> None:
    seen = Seen(null_spec(size=16))
    sent = {
        "uint8": image,
        "float": image.astype(np.float32) / 255,
        "channels first": np.ascontiguousarray(image.transpose(2, 0, 1)),
    }
    with RunningServer(lambda: seen) as server:
        state = np.array([0.1, -0.2, 0.3, 0.4])
        policy(server).infer({"observation/image": sent[form], "observation/state": state, "prompt": "hello"})
    np.testing.assert_array_equal(seen.seen.images["corner4"], image)
    np.testing.assert_array_equal(seen.seen.state, state.astype(np.float32))
    assert seen.seen.instruction == "hello"


def test_an_alias_table_tells_two_cameras_apart(
    two_cameras: RunningServer, observation: dict[str, Any]
) -> None:
    robot = policy(two_cameras, TOKEN)
    assert robot.infer(observation)["actions"].shape == (48, 4)


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda o: o.pop("observation/state"), "contract_mismatch: state: expected [4] (s0, s1, s2, s3)"),
        (
            lambda o: o.pop("observation/image") is o.pop("observation/wrist_image"),
            "cameras ['corner4'], got no image",
        ),
        (lambda o: o.update({"observation/state": np.zeros(5)}), "expected [4]"),
        (lambda o: o.update({"observation/state": np.full(4, np.nan)}), "finite values"),
        (lambda o: o.update({"observation/image": np.full((4, 4, 3), 7.0)}), "float images in 0 ... 1"),
        (lambda o: o.update({"prompt": 3}), "malformed: instruction: expected text"),
        (lambda o: o.update({"ddim_steps": 500}), "contract_mismatch: ddim_steps"),
        (lambda o: o.update({"policy": "other"}), "unknown_policy"),
        (lambda o: o.update({"sampler": np.zeros(2)}), "malformed: sampler"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_an_error_is_a_text_frame_of_one_line(
    robot: WebsocketClientPolicy, observation: dict[str, Any], spoil: Callable[[dict], object], said: str
) -> None:
    spoil(observation)
    with pytest.raises(RuntimeError) as error:
        robot.infer(observation)
    line = str(error.value).removeprefix("Error in inference server:\n")
    assert said in line
    assert "\n" not in line
    with pytest.raises(ConnectionClosed) as closed:
        robot.infer(observation)
    assert closed.value.rcvd is not None
    assert closed.value.rcvd.code == 1011


def test_a_missing_camera_says_which_alias_would_help(two_cameras: RunningServer, image: np.ndarray) -> None:
    robot = policy(two_cameras, TOKEN)
    with pytest.raises(RuntimeError, match=r"--alias 'cam'=front|--alias cam=front"):
        robot.infer({"cam": image, "observation/state": np.zeros(4), "prompt": "go"})


@pytest.mark.parametrize("api_key", [None, "wrong"])
def test_a_wrong_api_key_is_refused_before_the_connection_stands(
    two_cameras: RunningServer, api_key: str | None
) -> None:
    with pytest.raises(InvalidStatus) as refusal:
        policy(two_cameras, api_key)
    assert refusal.value.response.status_code == 401
    assert b"unauthorized" in (refusal.value.response.body or b"")


def test_pages_of_other_sites_cannot_connect(one_camera: RunningServer) -> None:
    url = one_camera.http_url.replace("http", "ws")
    with pytest.raises(InvalidStatus) as refusal, connect(url, origin="http://evil.example"):  # type: ignore[arg-type]
        pass
    assert refusal.value.response.status_code == 403


@pytest.fixture
def raw(one_camera: RunningServer) -> Iterator[ClientConnection]:
    """A connection whose metadata is read."""
    with connect(one_camera.http_url.replace("http", "ws"), compression=None) as connection:
        connection.recv(PATIENCE_S)
        yield connection


ARRAY = {b"__ndarray__": True, b"data": b"\0" * 16, b"dtype": "<f4", b"shape": [4]}


@pytest.mark.parametrize(
    ("message", "code"),
    [
        (b"", "malformed"),
        (b"\xc1", "malformed"),
        (msgpack.packb([1]), "malformed"),
        ("text", "malformed"),
        (msgpack.packb({"observation/state": {**ARRAY, b"dtype": "|O"}}), "malformed"),
        (msgpack.packb({"observation/state": {**ARRAY, b"shape": [2**40]}}), "malformed"),
        (msgpack.packb({"observation/state": {**ARRAY, b"data": "text"}}), "malformed"),
        (msgpack.packb({"observation/state": {b"__npgeneric__": True, b"data": b"x"}}), "malformed"),
        (msgpack.packb({"a": {"a": {"a": {"a": {"a": {"a": {"a": 1}}}}}}}), "malformed"),
        (msgpack.packb({1: 2}, use_bin_type=True), "malformed"),
        (msgpack.packb({"state": [0] * 300_000}), "too_large"),
    ],
    ids=lambda value: repr(value)[:30],
)
def test_what_does_not_read_is_told_and_ends_the_connection_alone(
    raw: ClientConnection, one_camera: RunningServer, message: bytes | str, code: str
) -> None:
    raw.send(message)
    answer = raw.recv(PATIENCE_S)
    assert isinstance(answer, str)
    assert answer.startswith(f"{code}: ")
    assert "Traceback" not in answer
    with pytest.raises(ConnectionClosed):
        raw.recv(PATIENCE_S)
    assert policy(one_camera).get_server_metadata()


def test_a_message_beyond_the_limit_ends_its_connection(image: np.ndarray) -> None:
    with (
        RunningServer(lambda: NullPolicy(null_spec(size=16)), max_body=10_000) as server,
        connect(server.http_url.replace("http", "ws"), compression=None) as connection,
    ):
        connection.recv(PATIENCE_S)
        connection.send(b"x" * 20_000)
        with pytest.raises(ConnectionClosed) as closed:
            connection.recv(PATIENCE_S)
    assert closed.value.rcvd is not None
    assert closed.value.rcvd.code == 1009


def test_compression_is_not_agreed_to(one_camera: RunningServer) -> None:
    with connect(one_camera.http_url.replace("http", "ws"), compression="deflate") as connection:
        assert connection.protocol.extensions == []


def test_a_robot_that_comes_while_the_policy_loads_waits_for_it() -> None:
    load = threading.Event()

    def slow() -> NullPolicy:
        assert load.wait(PATIENCE_S)
        return NullPolicy(null_spec(size=16))

    server = RunningServer(slow)
    server.start()
    try:
        with connect(server.http_url.replace("http", "ws"), compression=None) as connection:
            with pytest.raises(TimeoutError):
                connection.recv(0.05)
            load.set()
            assert msgpack.unpackb(connection.recv(PATIENCE_S))["policy"].startswith("null@")
    finally:
        load.set()
        server.stop()


def test_healthz_answers_as_openpis_server_does(one_camera: RunningServer) -> None:
    import httpx

    response = httpx.get(f"{one_camera.http_url}/healthz")
    assert (response.status_code, response.text) == (200, "OK\n")
