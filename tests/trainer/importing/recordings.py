"""Small recordings in the layouts that are imported, made from a motion that is known at every instant."""

from __future__ import annotations

import csv
import io
import json
import pickle
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from clients.lerobot_v3 import decode_rgb
from clients.robots.needle_rig_contract import JOINT_NAMES, POSE_NAMES, SENSOR_RATE_HZ

START = 1_761_551_500.174
WIDTH, HEIGHT = 48, 27
CENTER = np.array([1, 2, 3, 10, 20, 180.0])
VIEWS = ("view1", "view2", "view5")
COLUMNS = (
    "recv_timestamp", "origin_timestamp", "send_timestamp", "force_placeholder",
    *JOINT_NAMES, *(f"pose_{name}" for name in POSE_NAMES),
)  # fmt: skip


@dataclass(frozen=True)
class Motion:
    """Where the robot is; `r` swings about ±180 degrees."""

    seed: int = 0

    def unwrapped(self, times: np.ndarray) -> np.ndarray:
        """float64 [N, 6] of seconds since the recording's start."""
        rng = np.random.default_rng(self.seed)
        phase, rate = rng.uniform(0, 2 * np.pi, 6), rng.uniform(0.8, 1.4, 6)
        swing = np.array([0.5, 0.5, 0.4, 0.4, 0.4, 0.5])
        return CENTER + swing * np.sin(np.asarray(times)[:, None] * rate + phase)

    def pose(self, times: np.ndarray) -> np.ndarray:
        pose = self.unwrapped(times)
        pose[:, 3:] = (pose[:, 3:] + 180) % 360 - 180
        return pose

    def joints(self, times: np.ndarray) -> np.ndarray:
        return np.array([-120.0, 70, 265, -150, 25, 105]) + 0.5 * np.sin(np.asarray(times))[:, None]

    def picture(self, time: float, view: int) -> bytes:
        """Six upright bands, each as bright as one coordinate is large, over a brownish ground."""
        moved = self.unwrapped(np.array([time]))[0] - CENTER
        bands = np.repeat(110 + 120 * moved, WIDTH // 6)
        image = np.broadcast_to(bands[:, None] + [40, 0, 5 * view - 40], (HEIGHT, WIDTH, 3))
        out = io.BytesIO()
        Image.fromarray(image.clip(0, 255).astype(np.uint8)).save(out, "JPEG", quality=95)
        return out.getvalue()


def brightness_of(images: Sequence[bytes], coordinate: int) -> np.ndarray:
    """Of one coordinate's band, in pictures of any size."""
    decoded = np.stack([decode_rgb(image) for image in images])
    height, width = decoded.shape[1:3]
    return decoded[:, height // 2, int((coordinate + 0.5) * width / 6), 1].astype(float)


def force(times: np.ndarray) -> np.ndarray:
    """What the sensor feels, seconds since the recording's start."""
    return 0.1 * np.sin(np.asarray(times) * 2)


@dataclass(frozen=True)
class Clocks:
    """What the hosts' clocks show beyond the recorder's."""

    robot: float = 0.0
    camera: float = 0.0
    sensor: float = 0.0


def write_recv_all(
    root: Path,
    name: str = "recv_all_20251027_120000",
    *,
    seconds: float = 5.0,
    motion: Motion | None = None,
    clocks: Clocks | None = None,
    start: float = START,
    sensor: bool = True,
) -> Path:
    """The recorder's layout."""
    motion, clocks = motion or Motion(), clocks or Clocks()
    session = root / name
    for view in VIEWS:
        sides = ("left", "right") if view != "view5" else ("",)
        for side in sides:
            directory = session / view.replace("view", "View") / side
            directory.mkdir(parents=True)
            camera = f"zed_4118273{view[-1]}_{side}" if side else "OAK"
            for time in picture_times(seconds):
                stamp = start + time + clocks.camera
                contents = motion.picture(time, int(view[-1])) if side != "right" else b"not to be read"
                (directory / f"{camera}_{stamp:.3f}.jpg").write_bytes(contents)
    write_states(session / "robot_state_20251027_120000.csv", seconds, motion, start, clocks.robot)
    if not sensor:
        return session
    times, forces, alines = samples(seconds)
    np.savez(
        session / f"sensor_data_20251027_120000_{int(start)}.npz",
        timestamps=start + times + clocks.sensor,
        send_timestamps=start + times + clocks.sensor + 0.004,
        forces=forces,
        alines=alines,
    )
    return session


def write_episode(
    root: Path,
    name: str = "episode_20251030_120000",
    *,
    seconds: float = 5.0,
    motion: Motion | None = None,
    start: float = START,
    sensor: bool = True,
    sensor_clock: float = 0.0,
    sensor_rate: float = SENSOR_RATE_HZ,
) -> Path:
    """The collector's layout."""
    motion = motion or Motion()
    session = root / name
    for view in VIEWS:
        directory = session / "images" / view.replace("view", "View")
        directory.mkdir(parents=True)
        for time in picture_times(seconds):
            (directory / f"{start + time:.6f}.jpg").write_bytes(motion.picture(time, int(view[-1])))
    write_states(session / "robot_states.csv", seconds, motion, start, 0.0, force="force")
    (session / "metadata.json").write_text(
        json.dumps({"episode_name": name, "sensor_hz": 650, "robot_hz": 100})
    )
    if not sensor:
        return session
    times, forces, alines = samples(
        seconds + 1.2, sensor_rate
    )  # the collector's buffer is full when it begins to save
    values, times = np.column_stack([forces, alines]), times - 1.2
    # A window every 0.2 s; the first is full when saving begins.
    ends = np.arange(round(1.2 * sensor_rate), len(times) + 1, round(sensor_rate / 5))
    np.savez(
        session / "sensor_data.npz",
        timestamps=start + times[ends - 1] + sensor_clock,
        data=np.stack([values[end - 650 : end] for end in ends]),
    )
    return session


def picture_times(seconds: float) -> np.ndarray:
    """5 Hz."""
    return np.arange(round(seconds * 5)) / 5 + 0.05


def write_states(
    path: Path, seconds: float, motion: Motion, start: float, clock: float, force: str = "force_placeholder"
) -> None:
    """100 Hz, received 1 to 6 ms after they were sent."""
    times = np.arange(round(seconds * 100)) / 100
    late = 0.001 + np.random.default_rng(1).uniform(0, 0.005, len(times))
    late[::40] = 0.001
    told = np.column_stack([start + times + late, start + times + clock, start + times + clock, 0 * times])
    rows = np.column_stack([told, motion.joints(times), motion.pose(times)])
    with open(path, "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow([force if column == "force_placeholder" else column for column in COLUMNS])
        writer.writerows(rows.tolist())


def samples(seconds: float, rate: float = SENSOR_RATE_HZ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """times [N], forces [N] and A-lines [N, 1025], of which the first point is the sample's number."""
    count = round(seconds * rate)
    times = np.arange(count) / rate
    alines = np.zeros((count, 1025), np.float32)
    alines[:, 0] = np.arange(count) % 1000
    alines[:, 1:] = np.linspace(0, 60, 1024, dtype=np.float32)
    return times, force(times).astype(np.float32), alines


def edit_states(session: Path, change) -> None:
    """Rewrite a session's robot states; `change` takes and gives rows of text."""
    path = next(session.glob("robot_state*.csv"))
    header, *rows = path.read_text().splitlines()
    path.write_text("\n".join([header, *change(rows)]) + "\n")


def write_short(
    root: Path, tasks: dict[str, int], *, steps: int = 20, moving: int = 16, as_lists: bool = False
) -> Path:
    """Short-MetaWorld: task -> trajectories; the last of `moving` steps is repeated up to `steps`."""
    pickles = root / "r3m-processed/r3m_MT10_20"
    pickles.mkdir(parents=True)
    for number, (task, trajectories) in enumerate(tasks.items()):
        actions, states = [], []
        for trajectory in range(trajectories):
            motion = Motion(100 * number + trajectory)
            times = np.minimum(np.arange(steps), moving - 1) / 4
            hand = motion.unwrapped(times)[:, :4]
            state = np.zeros((steps, 39))
            state[:, :4] = hand
            state[:, 4:18] = np.arange(14)
            state[:, 36:39] = [0.1, 0.2, 0.3]
            ahead = motion.unwrapped(times + 0.25)[:, :4]
            action = np.where((np.arange(steps) < moving)[:, None], (ahead - hand) * 3, 0)
            action[moving - 1 :] = action[moving - 1]
            actions.append(action)
            states.append(state)
            directory = root / "img_only" / task / str(trajectory)
            directory.mkdir(parents=True)
            for step, time in enumerate(times):
                (directory / f"{step}.jpg").write_bytes(motion.picture(time, 1))
        data = {"actions": np.array(actions, np.float32), "state": np.array(states, np.float32)}
        if as_lists:
            data = {name: array.tolist() for name, array in data.items()}
        (pickles / f"{task}.pkl").write_bytes(pickle.dumps(data))
    return root
