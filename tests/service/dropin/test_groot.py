"""GR00T's clients over REQ, both codecs; as no package index has them, their calls are made here as they make them."""

from __future__ import annotations

import functools
import io
from collections.abc import Callable, Iterator
from typing import Any

import msgpack
import msgpack_numpy
import numpy as np
import pytest
import zmq

from policy.errors import TinyVLAError
from policy.null import NullPolicy, null_spec
from policy.spec import SensorSpec
from service.dropin.aliases import read_aliases
from service.dropin.npy import read_npy
from service.running import RunningServer

from .conftest import TOKEN

PATIENCE_S = 20.0
Pack = Callable[[Any], bytes]


def npy_default(value: Any) -> Any:
    """N1.5 and N1.6: arrays as np.save writes them."""
    if isinstance(value, np.ndarray):
        out = io.BytesIO()
        np.save(out, value, allow_pickle=False)
        return {"__ndarray_class__": True, "as_npy": out.getvalue()}
    return value


def npy_hook(value: Any) -> Any:
    if "__ndarray_class__" in value:
        return np.load(io.BytesIO(value["as_npy"]), allow_pickle=False)
    return value


CODECS: dict[str, tuple[Pack, Callable[[bytes], Any]]] = {
    "np.save": (
        functools.partial(msgpack.packb, default=npy_default),
        functools.partial(msgpack.unpackb, object_hook=npy_hook),
    ),
    "msgpack-numpy": (
        functools.partial(msgpack.packb, default=msgpack_numpy.encode),
        functools.partial(msgpack.unpackb, object_hook=msgpack_numpy.decode, raw=False),
    ),
}


class Robot:
    """`call_endpoint` of GR00T's clients."""

    def __init__(self, server: RunningServer, codec: str, api_token: str | None = None) -> None:
        self.pack, self.unpack = CODECS[codec]
        self._token = api_token
        self._context = zmq.Context()
        self._socket: zmq.Socket = self._context.socket(zmq.REQ)
        self._socket.setsockopt(zmq.RCVTIMEO, int(PATIENCE_S * 1e3))
        assert server.groot_url is not None
        self._socket.connect(server.groot_url)

    def call(self, endpoint: str, data: Any = None, *, requires_input: bool = True) -> Any:
        request: dict[str, Any] = {"endpoint": endpoint}
        if requires_input:
            request["data"] = data
        if self._token:
            request["api_token"] = self._token
        return self.send(self.pack(request))

    def send(self, *frames: bytes) -> Any:
        self._socket.send_multipart(frames)
        return self.unpack(self._socket.recv())

    def close(self) -> None:
        self._context.destroy(linger=0)


@pytest.fixture(params=CODECS)
def codec(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def robot(one_camera: RunningServer, codec: str) -> Iterator[Robot]:
    robot = Robot(one_camera, codec)
    yield robot
    robot.close()


@pytest.fixture
def humanoid(two_cameras: RunningServer, codec: str) -> Iterator[Robot]:
    """A robot whose state and action come in parts."""
    robot = Robot(two_cameras, codec, TOKEN)
    yield robot
    robot.close()


def n16(image: np.ndarray, batch: int = 1) -> dict[str, Any]:
    """N1.6: nested, [B, T, ...]."""
    video = np.broadcast_to(image, (batch, 1, *image.shape))
    return {
        "video": {"ego_view": video, "wrist_view": video},
        "state": {
            "arm": np.zeros((batch, 1, 3), np.float32),
            "gripper": np.zeros((batch, 1, 1), np.float32),
        },
        "language": {"task": [["pick the apple"]] * batch},
    }


def n15(image: np.ndarray) -> dict[str, Any]:
    """N1.5: flat, [T, ...]."""
    return {
        "video.ego_view": image[None],
        "video.wrist_view": image[None],
        "state.arm": np.zeros((1, 3)),
        "state.gripper": np.zeros((1, 1)),
        "annotation.human.task_description": ["pick the apple"],
    }


def test_ping_answers_as_theirs_does(robot: Robot) -> None:
    assert robot.call("ping", requires_input=False) == {"status": "ok", "message": "Server is running"}


def test_n16_gets_actions_by_part_and_remarks(humanoid: Robot, image: np.ndarray) -> None:
    answer = humanoid.call("get_action", {"observation": n16(image), "options": None})
    assert isinstance(answer, list)
    actions, info = answer
    assert {key: value.shape for key, value in actions.items()} == {"arm": (1, 48, 3), "gripper": (1, 48, 1)}
    assert all(value.dtype == np.float32 for value in actions.values())
    assert info["policy"].startswith("null@")


def test_n15_gets_a_flat_map_without_a_batch(humanoid: Robot, image: np.ndarray) -> None:
    actions = humanoid.call("get_action", n15(image))
    assert {key: value.shape for key, value in actions.items()} == {
        "action.arm": (48, 3),
        "action.gripper": (48, 1),
    }


def test_a_batch_of_robots_is_answered_as_a_batch(humanoid: Robot, image: np.ndarray) -> None:
    actions, info = humanoid.call("get_action", {"observation": n16(image, batch=3), "options": None})
    assert actions["arm"].shape == (3, 48, 3)
    assert len(set(info["seed"])) == 3


def test_flat_keys_inside_an_observation_are_understood(humanoid: Robot, image: np.ndarray) -> None:
    flat = {key: value[None] if isinstance(value, np.ndarray) else value for key, value in n15(image).items()}
    actions, _ = humanoid.call("get_action", {"observation": flat})
    assert actions["action.arm"].shape == (1, 48, 3)


def test_without_aliases_one_camera_and_one_state_are_found(robot: Robot, image: np.ndarray) -> None:
    observation = {
        "video": {"webcam": image[None, None]},
        "state": {"joints": np.zeros((1, 1, 4), np.float32)},
        "language": {"task": [["go"]]},
    }
    actions, _ = robot.call("get_action", {"observation": observation, "options": {"seed": 4}})
    again, _ = robot.call("get_action", {"observation": observation, "options": {"seed": 4}})
    assert actions["actions"].shape == (1, 48, 4)
    np.testing.assert_array_equal(actions["actions"], again["actions"])


class Seen(NullPolicy):
    """Keeps what reached it."""

    def predict(self, observations: Any, options: Any, *rest: Any) -> Any:
        self.seen = observations[-1]
        return super().predict(observations, options, *rest)


def test_the_newest_time_step_is_what_the_policy_sees(codec: str, image: np.ndarray) -> None:
    seen = Seen(null_spec(size=16))
    with RunningServer(lambda: seen, groot_port=0) as server:
        robot = Robot(server, codec)
        robot.call(
            "get_action",
            {
                "video.cam": np.stack([np.zeros_like(image), np.asfortranarray(image)]),
                "state.all": np.array([[9.0] * 4, [0.1, 0.2, 0.3, 0.4]]),
                "annotation.human.action.task_description": ["old", "new"],
            },
        )
        robot.close()
    np.testing.assert_array_equal(seen.seen.images["corner4"], image)
    np.testing.assert_array_equal(seen.seen.state, np.array([0.1, 0.2, 0.3, 0.4], np.float32))
    assert seen.seen.instruction == "new"


@pytest.mark.parametrize("batched", [False, True])
def test_a_sensors_window_reaches_the_policy_whole(codec: str, image: np.ndarray, batched: bool) -> None:
    sensor = SensorSpec(name="force", channels=2, window=5, rate_hz=100.0, units="N")
    seen, window = Seen(null_spec(size=16, sensors=[sensor])), np.arange(6, dtype=np.float32).reshape(3, 2)
    first = (1, 1) if batched else (1,)
    aliases = read_aliases(["state.force=sensors.force"])
    with RunningServer(lambda: seen, groot_port=0, aliases=aliases) as server:
        robot = Robot(server, codec)
        robot.call(
            "get_action",
            {
                "video.cam": image.reshape(*first, *image.shape),
                "state.all": np.zeros((*first, 4)),
                "state.force": window[None] if batched else window,
            },
        )
        robot.close()
    np.testing.assert_array_equal(seen.seen.sensors["force"], window)


def test_the_modalities_are_told_under_the_robots_own_names(humanoid: Robot) -> None:
    told = humanoid.call("get_modality_config", requires_input=False)
    keys = {group: config["as_json"]["modality_keys"] for group, config in told.items()}
    assert keys["video"] == ["ego_view", "wrist_view"]
    assert keys["state"] == keys["action"] == ["arm", "gripper"]
    assert all("__ModalityConfig_class__" in config for config in told.values())
    assert told["action"]["as_json"]["delta_indices"] == list(range(48))


def test_reset_answers_and_kill_is_refused(robot: Robot) -> None:
    assert robot.call("reset", {"options": None}) == {}
    assert robot.call("kill", requires_input=False)["error"].startswith("forbidden: ")
    assert robot.call("ping", requires_input=False)["status"] == "ok"


@pytest.mark.parametrize("token", [None, "wrong"])
def test_a_wrong_token_opens_no_endpoint(two_cameras: RunningServer, codec: str, token: str | None) -> None:
    robot = Robot(two_cameras, codec, token)
    for endpoint in ("ping", "get_action", "get_modality_config", "reset", "kill"):
        assert robot.call(endpoint, {})["error"].startswith("unauthorized: ")
    robot.close()


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (None, "malformed: data: expected a map"),
        ({}, "contract_mismatch: images"),
        ({"observation": 3}, "malformed"),
        ({"video.cam": np.zeros((0, 4, 4, 3), np.uint8)}, "at least one time step"),
        (
            {"video.a": np.zeros((2, 1, 4, 4, 3), np.uint8), "state.a": np.zeros((3, 1, 4))},
            "expected one batch size",
        ),
        ({"video.a": np.zeros((65, 1, 4, 4, 3), np.uint8)}, "expected one batch size"),
        ({"video.a": np.zeros((1, 4, 4, 3), np.uint8), "state.a": ["x"]}, "malformed: state.a"),
        ({"video.a": {"__ndarray_class__": True, "as_npy": b"junk"}}, "malformed: video.a"),
        ({"video.a": {"__ndarray_class__": True, "as_npy": "text"}}, "malformed: video.a"),
        ({"video.a": {b"nd": True, b"type": "|O", b"kind": b"O", b"shape": [1], b"data": b"x"}}, "unpickled"),
        (
            {"video.a": {b"nd": True, b"type": [["f", "<f4"]], b"kind": b"V", b"shape": [1], b"data": b"x"}},
            "unpickled",
        ),
        (
            {"video.a": {b"nd": True, b"type": "|O", b"kind": b"", b"shape": [1], b"data": b"12345678"}},
            "dtype one of",
        ),
        (
            {"video.a": {"nd": True, "type": "<f4", "kind": "", "shape": [2**40], "data": b"1234"}},
            "malformed: video.a",
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_an_error_is_a_map_with_one_line(robot: Robot, data: Any, said: str) -> None:
    answer = robot.call("get_action", data)
    assert set(answer) == {"error"}
    assert said in answer["error"]
    assert "\n" not in answer["error"]


def test_a_header_that_claims_terabytes_allocates_nothing(robot: Robot) -> None:
    out = io.BytesIO()
    np.lib.format.write_array_header_1_0(out, {"descr": "<f4", "fortran_order": False, "shape": (2**40,)})
    bomb = {"__ndarray_class__": True, "as_npy": out.getvalue()}
    assert "malformed: state.a" in robot.call("get_action", {"state.a": bomb})["error"]


def test_an_array_of_texts_may_hold_no_more_values_than_a_message() -> None:
    texts = npy_default(np.full(10_001, "a"))["as_npy"]
    with pytest.raises(TinyVLAError) as refused:
        read_npy(texts, "language.task")
    assert (refused.value.code, refused.value.field) == ("too_large", "language.task")


@pytest.mark.parametrize(
    "message", [[b""], [b"\xc1"], [msgpack.packb(3)], [b"a", b"b"], [msgpack.packb({"endpoint": 3})]]
)
def test_what_does_not_read_is_answered_so_that_req_goes_on(robot: Robot, message: list[bytes]) -> None:
    assert robot.send(*message)["error"].startswith("malformed: ")
    assert robot.call("ping", requires_input=False)["status"] == "ok"


def test_an_unknown_endpoint_says_which_there_are(robot: Robot) -> None:
    assert "get_modality_config" in robot.call("get_joke")["error"]
