"""The needle rig's two raw layouts: what was recorded comes out as it was, what was not whole is counted."""

from __future__ import annotations

import numpy as np
import pytest

from clients.lerobot_v3 import decode_rgb
from clients.robots.needle_rig_contract import SENSOR
from policy.errors import UsageError
from tests.trainer.importing.recordings import (
    START,
    VIEWS,
    Clocks,
    Motion,
    brightness_of,
    edit_states,
    force,
    picture_times,
    write_episode,
    write_recv_all,
)

LAG = 1.2  # the collector's buffer reaches back so far before its first picture
WRITERS = {"recv-all": write_recv_all, "episodes": write_episode}


def frame_times(episode) -> np.ndarray:
    """Seconds since the recording's start."""
    return episode.sensors[SENSOR].frame_times + episode.extra["start_time"] - START


def check_motion(episode, motion: Motion, within: float = 0.003) -> None:
    """States are where the robot was when the pictures were taken, actions how far it went until the next ones."""
    times = frame_times(episode)
    truth = np.concatenate([motion.unwrapped(times), motion.joints(times)], 1)
    turns = (episode.state - truth + 180) % 360 - 180
    np.testing.assert_allclose(turns, 0, atol=within)
    instants = (times[:, None] + np.arange(5) / 20).ravel()
    actions = np.diff(motion.unwrapped(instants).reshape(-1, 5, 6), axis=1).reshape(len(times), -1)
    np.testing.assert_allclose(episode.action, actions, atol=within)


def check_pictures(episode) -> None:
    """Every view shows the state it is stored with."""
    for images in episode.images.values():
        for coordinate in range(5):
            shown = brightness_of(images, coordinate)
            assert np.corrcoef(shown, episode.state[:, coordinate])[0, 1] > 0.99


@pytest.mark.parametrize("layout", WRITERS)
def test_a_sound_recording_comes_out_as_it_was(tmp_path, imported, layout):
    WRITERS[layout](tmp_path / "source")
    found = imported(tmp_path / "source")
    dataset = found.dataset
    assert found.report["settings"]["layout"] == layout
    assert found.dropped == {
        "frame: no robot states up to the next one": 1
    }  # the last one's actions would not be whole
    assert dataset.num_episodes == 1
    assert dataset.lengths == [24]
    assert dataset.facts.robot_type == "needle-rig"
    assert (dataset.facts.fps, dataset.facts.control_rate_hz, dataset.facts.actions_per_frame) == (5, 20, 4)
    episode = dataset.episode(0)
    np.testing.assert_allclose(frame_times(episode), picture_times(5)[:24], atol=0.002)
    check_motion(episode, Motion())
    check_pictures(episode)
    for view in VIEWS:
        image = decode_rgb(episode.images[view][7])
        assert image.shape == (18, 32, 3)
        assert image[0, 0, 2] < image[0, 0, 0]  # brown, not blue


@pytest.mark.parametrize("layout", WRITERS)
def test_sensor_windows_end_with_their_picture(tmp_path, imported, layout):
    WRITERS[layout](tmp_path / "source")
    dataset = imported(tmp_path / "source").dataset
    episode, facts = dataset.episode(0), dataset.sensors[SENSOR]
    lag = LAG if layout == "episodes" else 0.0
    for frame, time in enumerate(frame_times(episode)[1:], 1):
        window = episode.sensors[SENSOR].window(frame, facts)
        assert window.shape == (65, 1026) if time > 0.11 else len(window)
        # 65 samples, newest last, none later than the picture and none missing.
        newest = np.floor((time + lag) * 650 + 1e-3)
        numbers = (newest - np.arange(len(window))[::-1]) % 1000
        assert np.abs((window[:, 1] - numbers + 500) % 1000 - 500).max() <= 1
        np.testing.assert_allclose(window[-1, 0], force(newest / 650), atol=2e-3)


@pytest.mark.parametrize("layout", WRITERS)
def test_angles_wrap_the_short_way_round(tmp_path, imported, layout):
    WRITERS[layout](tmp_path / "source", sensor=False)
    episode = imported(tmp_path / "source").dataset.episode(0)
    turning = episode.state[:, 5]
    assert turning.max() > 179
    assert turning.min() < -179
    assert np.abs(episode.action).max() < 0.06
    assert np.abs(turning).max() <= 180


def test_pictures_are_sorted_as_numbers(tmp_path, imported):
    """A clock that passes from 9.x to 10.x, and milliseconds without trailing zeros."""
    session = write_episode(tmp_path / "source", start=7.5, sensor=False)
    for path in session.glob("images/*/*.jpg"):
        path.rename(path.with_name(f"{float(path.stem):g}.jpg"))
    names = sorted(path.name for path in (session / "images/View1").iterdir())
    assert names[0].startswith("10")
    episode = imported(tmp_path / "source").dataset.episode(0)
    assert len(episode) == 24
    assert episode.extra["start_time"] == pytest.approx(7.55)
    check_pictures(episode)


def test_a_robot_on_another_clock_is_put_on_the_recorders(tmp_path, imported):
    write_recv_all(tmp_path / "source", clocks=Clocks(robot=-3.0, sensor=False))
    found = imported(tmp_path / "source")
    check_motion(found.dataset.episode(0), Motion())
    assert "the robot's clock is -3.0" in found.notes


@pytest.mark.parametrize("layout", WRITERS)
def test_a_sensor_on_another_clock_is_put_on_the_recorders(tmp_path, imported, layout):
    flags = {"clocks": Clocks(sensor=40.0)} if layout == "recv-all" else {"sensor_clock": 40.0}
    WRITERS[layout](tmp_path / "source", **flags)
    found = imported(tmp_path / "source")
    stream, lag = found.dataset.stream(0, SENSOR), LAG if layout == "episodes" else 0.0
    times = stream.times + found.dataset.extra_of(0)["start_time"] - START
    assert len(times) > 3000
    np.testing.assert_allclose(stream.values[:, 0], force(times + lag), atol=0.01)
    assert "the sensor's clock seems +40.0" in found.notes


def test_pictures_on_another_clock_are_not_believed_until_told(tmp_path, imported):
    write_recv_all(tmp_path / "source", clocks=Clocks(camera=3.0, sensor=False))
    with pytest.raises(
        UsageError, match=r"begin \+3.0\d+ s and end \+2.8\d+ s from the robot's states: another clock"
    ):
        imported(tmp_path / "source")
    assert not (tmp_path / "dataset").exists()
    check_motion(imported(tmp_path / "source", camera_offset=-3.0).dataset.episode(0), Motion())


def test_a_hole_in_the_robot_states_ends_an_episode(tmp_path, imported):
    session = write_recv_all(tmp_path / "source", sensor=False)
    edit_states(session, lambda rows: rows[:212] + rows[260:])  # 2.12 to 2.60 s
    found = imported(tmp_path / "source")
    # Pictures at 2.25 and 2.45 have no state; the one at 2.05 has no motion after it.
    assert found.dropped["frame: no robot state within 10 ms"] == 2
    assert found.dropped["frame: no robot states up to the next one"] == 2
    assert found.dataset.lengths == [10, 11]
    assert {found.dataset.extra_of(n)["session"] for n in range(2)} == {"recv_all_20251027_120000"}
    for episode in found.dataset.episodes():
        check_motion(episode, Motion())
        check_pictures(episode)


def test_the_tolerance_decides_what_is_matched(tmp_path, imported):
    session = write_recv_all(tmp_path / "source", sensor=False)
    edit_states(session, lambda rows: rows[::4])  # 25 Hz: up to 20 ms from a picture
    with pytest.raises(UsageError, match="no stretch without a gap is long enough"):
        imported(tmp_path / "source")
    found = imported(tmp_path / "source", tolerance_ms=21)
    assert found.dataset.lengths == [24]
    check_motion(found.dataset.episode(0), Motion())


def test_views_that_are_not_of_one_instant_are_not_paired(tmp_path, imported):
    session = write_recv_all(tmp_path / "source", sensor=False)
    for path in (session / "View5").iterdir():
        path.rename(path.with_name(f"OAK_{float(path.stem.split('_')[1]) + 0.03:.3f}.jpg"))
    with pytest.raises(UsageError, match="nothing of it can be used"):
        imported(tmp_path / "source")
    found = imported(tmp_path / "source", view_tolerance_ms=40)
    np.testing.assert_allclose(frame_times(found.dataset.episode(0)), picture_times(5)[:24], atol=0.002)


def test_a_lost_picture_ends_an_episode_and_costs_its_instant_only(tmp_path, imported):
    session = write_recv_all(tmp_path / "source", sensor=False)
    sorted((session / "View2/left").iterdir())[12].unlink()
    found = imported(tmp_path / "source")
    assert found.dataset.lengths == [12, 11]
    assert {what: n for what, n in found.dropped.items() if what.startswith("picture")} == {
        "picture: view1 without the other views": 1,
        "picture: view5 without the other views": 1,
    }


def test_robot_states_at_fault_are_dropped_and_counted(tmp_path, imported):
    session = write_recv_all(tmp_path / "source", sensor=False)

    def spoil(rows: list[str]) -> list[str]:
        cells = [row.split(",") for row in rows]
        cells[50][10], cells[51][11] = "nan", "1e300"
        cells[60][3] = ""  # the placeholder is not read
        for row, forward in (
            (100, 1000.0),
            (120, -0.4),
            (130, 0.3),
        ):  # astray, backwards, ahead of what follows
            for column in (1, 2) if forward == 1000.0 else (1,):
                cells[row][column] = repr(float(cells[row][column]) + forward)
        lines = [",".join(row) for row in cells]
        return [*lines[:200], lines[199], lines[199], *lines[200:], lines[-1][:40]]

    edit_states(session, spoil)
    found = imported(tmp_path / "source")
    assert {what: n for what, n in found.dropped.items() if what.startswith("robot")} == {
        "robot state: not finite": 2,
        "robot state: timestamp far from all others": 1,
        "robot state: timestamp twice or backwards": 4,
        "robot state: row that cannot be read": 1,
    }
    assert found.report["found"]["robot states"] == 503
    assert found.dataset.lengths == [24]
    check_motion(found.dataset.episode(0), Motion(), within=0.01)


def test_pictures_at_fault_are_dropped_and_counted(tmp_path, imported):
    session = write_recv_all(tmp_path / "source", seconds=6, sensor=False)
    files = sorted((session / "View1/left").iterdir())
    files[10].write_bytes(files[10].read_bytes()[:-200])
    files[15].write_bytes(b"")
    (session / "View1/left/thumbnail.jpg").write_bytes(b"x")
    (session / "View1/left" / (files[3].stem + "0.jpg")).write_bytes(files[4].read_bytes())
    (session / "View1/left/notes.txt").write_text("left by someone")
    found = imported(tmp_path / "source", min_frames=4)
    assert found.dropped["picture: not a whole JPEG"] == 2
    assert found.dropped["frame: a view's picture is not whole"] == 2
    assert found.dropped["picture: no time in its name"] == 1
    assert found.dropped["picture: same time as another"] == 1
    assert found.dataset.lengths == [10, 4, 13]
    for episode in found.dataset.episodes():
        check_motion(episode, Motion())
        check_pictures(episode)


def test_pictures_that_come_too_often_are_thinned_out(tmp_path, imported):
    session = write_recv_all(tmp_path / "source", sensor=False)
    for view in ("View1/left", "View2/left", "View5"):
        for path in list((session / view).iterdir()):
            name, _, stamp = path.stem.rpartition("_")
            path.with_name(f"{name}_{float(stamp) + 0.1:.3f}.jpg").write_bytes(path.read_bytes())
    found = imported(tmp_path / "source")
    assert found.dropped["frame: sooner than the frame rate"] == 25
    assert found.dataset.lengths == [24]
    faster = imported(tmp_path / "source", fps=10, out=tmp_path / "faster").dataset
    assert faster.lengths == [49]
    assert (faster.facts.control_rate_hz, faster.facts.actions_per_frame) == (20, 2)


def test_a_stretch_that_is_too_short_is_dropped(tmp_path, imported):
    session = write_recv_all(tmp_path / "source", sensor=False)
    sorted((session / "View1/left").iterdir())[3].unlink()
    found = imported(tmp_path / "source")
    assert found.dropped["frame: stretch too short"] == 3
    assert found.dataset.lengths == [20]


def test_a_session_with_one_view_missing_is_left_out_and_told(tmp_path, imported):
    write_recv_all(tmp_path / "source", "recv_all_20251027_120000", sensor=False)
    lame = write_recv_all(tmp_path / "source", "recv_all_20251027_130000", sensor=False)
    (lame / "View2").rename(tmp_path / "elsewhere")
    empty = write_recv_all(tmp_path / "source", "recv_all_20251027_140000", sensor=False)
    for path in (empty / "View5").iterdir():
        path.unlink()
    found = imported(tmp_path / "source")
    assert [one["left_out"] for one in found.report["sessions"]] == [
        None, "view2 is missing", "view5 has no pictures",
    ]  # fmt: skip
    assert "view2 is missing" in found.said
    assert found.dataset.num_episodes == 1
    fewer = imported(tmp_path / "source", views=("view1",), out=tmp_path / "fewer")
    assert fewer.dataset.num_episodes == 3


@pytest.mark.parametrize(
    ("layout", "spoil", "why"),
    [
        ("recv-all", lambda s: next(s.glob("*.csv")).unlink(), "no robot states"),
        ("recv-all", lambda s: next(s.glob("*.csv")).write_text(""), "has no column recv_timestamp"),
        ("recv-all", lambda s: edit_states(s, lambda rows: []), "no robot states"),
        (
            "recv-all",
            lambda s: next(s.glob("*.csv")).write_text("x" * 200_000),
            "has no column recv_timestamp",
        ),
        (
            "recv-all",
            lambda s: next(s.glob("*.csv")).write_text(
                next(s.glob("*.csv")).read_text().replace("pose_r", "r")
            ),
            "has no column pose_r",
        ),
        ("episodes", lambda s: (s / "robot_states.csv").unlink(), "robot_states.csv is missing"),
        ("episodes", lambda s: (s / "images").rename(s / "pictures"), "view1 is missing"),
    ],
)
def test_what_a_session_cannot_do_without_is_told(tmp_path, imported, layout, spoil, why):
    spoil(WRITERS[layout](tmp_path / "source", sensor=False))
    with pytest.raises(UsageError, match=why) as caught:
        imported(tmp_path / "source", layout=layout)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "dataset").exists()


def sensor_file(session):
    return next(session.glob("sensor_data*.npz"))


def respoil(session, **changes) -> None:
    with np.load(sensor_file(session)) as told:
        arrays = dict(told)
    np.savez(
        sensor_file(session), **{**arrays, **{name: change(arrays[name]) for name, change in changes.items()}}
    )


@pytest.mark.parametrize("layout", WRITERS)
@pytest.mark.parametrize(
    ("spoil", "told"),
    [
        (lambda s: sensor_file(s).unlink(), "no sensor data"),
        (lambda s: sensor_file(s).write_bytes(sensor_file(s).read_bytes()[:100_000]), "is damaged"),
        (lambda s: sensor_file(s).write_bytes(b"no zip"), "is damaged"),
        (lambda s: respoil(s, timestamps=lambda t: t.astype(object)), "no array of numbers"),
        (lambda s: respoil(s, timestamps=lambda t: t[:-1]), "do not go together"),
        (lambda s: respoil(s, timestamps=lambda t: t * np.nan), "hold no sample"),
        (lambda s: np.savez(sensor_file(s), other=np.zeros(3)), "no array 'timestamps'"),
    ],
    ids=["missing", "cut off", "no zip", "objects", "lengths", "no times", "other arrays"],
)
def test_a_session_without_its_sensor_is_kept_with_empty_windows(tmp_path, imported, layout, spoil, told):
    spoil(WRITERS[layout](tmp_path / "source", seconds=2))
    found = imported(tmp_path / "source")
    assert told in found.notes
    stream = found.dataset.stream(0, SENSOR)
    assert stream.window(3, found.dataset.sensors[SENSOR]).shape == (0, 1026)
    assert found.report["found"]["frames whose sensor window is empty"] == len(stream.frame_times)


def test_sensor_samples_at_fault_are_dropped_and_counted(tmp_path, imported):
    session = write_recv_all(tmp_path / "source")

    def stamps(times):
        times = times.copy()
        times[700] += 500  # ahead
        times[800] -= 2  # backwards
        times[900] = times[899]
        return times

    def lines(alines):
        alines = alines.copy()
        alines[1000, 5], alines[1001, 6], alines[1002, 7] = np.nan, np.inf, 1e6
        return alines

    respoil(session, timestamps=stamps, alines=lines)
    found = imported(tmp_path / "source")
    assert found.dropped["sensor sample: timestamp twice or backwards"] == 3
    assert found.dropped["sensor sample: not finite"] == 2
    assert found.dropped["sensor sample: too large for 16 bits"] == 1
    assert len(found.dataset.stream(0, SENSOR).times) > 3000


def test_windows_are_taken_apart_where_the_sensor_fell_silent(tmp_path, imported):
    session = write_episode(tmp_path / "source", seconds=6)
    with np.load(session / "sensor_data.npz") as told:
        stamps, data = told["timestamps"], told["data"]
    keep = np.r_[:6, 16 : len(stamps)]  # two seconds without a window: more than a window holds
    np.savez(session / "sensor_data.npz", timestamps=stamps[keep], data=data[keep])
    dataset = imported(tmp_path / "source").dataset
    stream = dataset.stream(0, SENSOR)
    gaps = np.diff(stream.times)
    assert (gaps > 0.01).sum() == 1
    assert gaps.max() == pytest.approx(1.2, abs=0.01)
    times = stream.times + dataset.extra_of(0)["start_time"] - START
    np.testing.assert_allclose(stream.values[:, 0], force(times + LAG), atol=2e-3)


def test_windows_of_a_sensor_that_runs_slow_give_every_sample_once(tmp_path, imported):
    """600 instead of 650 samples a second: what windows share is told by their contents, not by the nominal rate."""
    write_episode(tmp_path / "source", sensor_rate=600.0)
    found = imported(tmp_path / "source")
    stream = found.dataset.stream(0, SENSOR)
    steps = np.diff(stream.values[:, 1].astype(int)) % 1000
    assert set(steps.tolist()) == {1}
    times = stream.times + found.dataset.extra_of(0)["start_time"] - START
    later = times > 0.2  # how the first window's samples were spaced nobody said
    np.testing.assert_allclose(stream.values[later, 0], force(times[later] + LAG), atol=2e-3)
    assert not any(what.startswith("sensor") for what in found.dropped)
