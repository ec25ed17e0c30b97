"""What a robot saw is kept while somebody looks and not otherwise, within bounds, the newest of each session."""

from __future__ import annotations

import base64
from dataclasses import replace

import numpy as np
import pytest

from policy.observation import Observation, SampleOptions
from service.status.frames import _SIDE, Frame, reduce_frame
from service.status.sessions import (
    FRAME_EVERY_S,
    LOOK_S,
    MAX_CAMERAS,
    MAX_SESSIONS,
    SHOWN_S,
    SILENT_S,
    SessionWatch,
)
from service.wire.images import PixelBudget, decode_image
from service.wire.messages import ActReply, ActRequest, Timing

REPLY = ActReply(
    actions=np.zeros((8, 4), np.float32),
    rate_hz=80.0,
    horizon=8,
    policy="null@0",
    ddim_steps=10,
    sampler="ddim",
    seed=1,
    timing_ms=Timing(0, 0, 0, 0, 5.0, 1),
)


def request(session: str | None = "arm", *, level: int = 0, side: int = 32, cameras: int = 1) -> ActRequest:
    images = {f"camera{i}": np.full((side, side, 3), level, np.uint8) for i in range(cameras)}
    observation = Observation(images=images, state=np.arange(4, dtype=np.float32), instruction="go")
    return ActRequest(observation, SampleOptions(prefix=np.zeros((3, 4), np.float32)), session=session)


def level(frame: Frame) -> int:
    return int(frame.image[0, 0, 0])


@pytest.fixture
def watch() -> SessionWatch:
    made = SessionWatch()
    made.look(0.0)
    return made


def test_nothing_is_kept_before_anybody_looks() -> None:
    watch = SessionWatch()
    watch.saw(request(), REPLY, 1.0)
    assert watch._sessions == {}
    assert watch.look(1.0) == []


def test_after_a_look_the_newest_request_and_reply_are_kept(watch: SessionWatch) -> None:
    watch.saw(request(level=1), REPLY, 1.0)
    watch.saw(request(level=2), replace(REPLY, seq=9), 2.0)
    [(seen, rate)] = watch.look(2.0)
    assert (seen.session, seen.reply.seq, seen.prefix, seen.instruction) == ("arm", 9, 3, "go")
    assert level(seen.frames["camera0"]) == 2
    assert rate == pytest.approx(1.0)


def test_when_nobody_looks_any_more_everything_is_dropped(watch: SessionWatch) -> None:
    watch.saw(request(), REPLY, 1.0)
    watch.saw(request(), REPLY, LOOK_S + 0.1)
    assert watch._sessions == {}


def test_a_session_that_has_long_been_silent_is_not_shown(watch: SessionWatch) -> None:
    watch.saw(request(), REPLY, 1.0)
    assert len(watch.look(1.0 + SHOWN_S)) == 1
    assert watch.look(1.1 + SHOWN_S) == []


def test_silent_sessions_come_last(watch: SessionWatch) -> None:
    watch.saw(request("a"), REPLY, 1.0)
    watch.saw(request("b"), REPLY, 2.0 + SILENT_S)
    assert [seen.session for seen, _ in watch.look(2.0 + SILENT_S)] == ["b", "a"]


def test_looking_again_goes_on_watching(watch: SessionWatch) -> None:
    watch.look(LOOK_S - 1)
    watch.saw(request(), REPLY, LOOK_S + 1)
    assert len(watch.look(LOOK_S + 1)) == 1


def test_frames_are_copied_now_and_then_only(watch: SessionWatch) -> None:
    watch.saw(request(level=1), REPLY, 1.0)
    watch.saw(request(level=2), REPLY, 1.0 + FRAME_EVERY_S / 2)
    [(seen, _)] = watch.look(2.0)
    assert level(seen.frames["camera0"]) == 1
    watch.saw(request(level=3), REPLY, 1.01 + FRAME_EVERY_S)
    [(seen, _)] = watch.look(2.0)
    assert level(seen.frames["camera0"]) == 3


def test_sessions_and_cameras_are_bounded_and_the_longest_silent_one_goes(watch: SessionWatch) -> None:
    for index in range(MAX_SESSIONS + 3):
        watch.saw(request(f"arm-{index:02d}", cameras=MAX_CAMERAS + 2), REPLY, 1.0 + index / 100)
        watch.saw(request("arm-00"), REPLY, 1.0 + index / 100)
    names = [seen.session for seen, _ in watch.look(2.0)]
    assert len(names) == MAX_SESSIONS
    assert names[0] == "arm-00"  # it went on asking
    assert "arm-01" not in names
    assert all(len(seen.frames) <= MAX_CAMERAS for seen, _ in watch.look(2.0))


def test_requests_without_a_session_are_shown_together(watch: SessionWatch) -> None:
    watch.saw(request(None), REPLY, 1.0)
    watch.saw(request(None), REPLY, 2.0)
    [(seen, _)] = watch.look(2.0)
    assert seen.session is None


def test_what_is_kept_holds_no_message_in_memory(watch: SessionWatch) -> None:
    body = np.zeros(1000, np.float32)  # as the door received it
    observation = Observation({"camera0": np.zeros((900, 900, 3), np.uint8)}, body[:4])
    watch.saw(ActRequest(observation), REPLY, 1.0)
    [(seen, _)] = watch.look(1.0)
    assert seen.state.base is None
    frame = seen.frames["camera0"]
    assert frame.image.base is None
    assert max(frame.image.shape) <= _SIDE
    assert (frame.height, frame.width) == (900, 900)


@pytest.mark.parametrize("shape", [(1, 1, 3), (256, 256, 3), (257, 10, 3), (720, 1280, 3)])
def test_a_frame_is_small_and_encodes_as_jpeg(shape: tuple[int, int, int]) -> None:
    frame = reduce_frame(np.full(shape, 77, np.uint8))
    assert max(frame.image.shape[:2]) <= _SIDE
    head, _, data = frame.data_url().partition(",")
    assert head == "data:image/jpeg;base64"
    decoded = decode_image(base64.b64decode(data), "jpeg", "frame", PixelBudget())
    assert decoded.shape == frame.image.shape
    assert abs(int(decoded[0, 0, 0]) - 77) < 4
