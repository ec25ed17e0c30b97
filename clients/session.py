"""A run of the receiver from flags to report: connect, check the contract, run episodes, write it down."""

from __future__ import annotations

import contextlib
import os
import threading
import time
import uuid
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from rich.console import Console

from clients.client import PolicyClient
from clients.connect import connect
from clients.contract_check import check_robot
from clients.inprocess import InProcessClient
from clients.live_view import LiveView
from clients.receiver import EpisodeOutcome, Receiver, ReceiverSettings, chunk_policy_for
from clients.receiver_settings import RunSettings
from clients.report import run_report, write_report
from clients.report_table import print_report
from clients.robots.base import Replayable, Robot
from clients.robots.make import make_robot
from clients.timeline import write_timeline
from policy.errors import TinyVLAError, UsageError
from policy.spec import PolicySpec

if TYPE_CHECKING:
    from clients.recording import Recorder

# A server answers `not_ready` while it loads and warms its policy.
READY_WITHIN_S = 60.0
# Control periods per frame of video: 20 frames a second at 80 Hz.
FRAME_EVERY = 4
# Columns of a log or a pipe, which have no width of their own; wide enough for the report.
PLAIN_WIDTH = 120
VIDEO_SIZE = 384  # pixels; MuJoCo's offscreen buffer is 480 high


def run_session(settings: RunSettings, interrupt: threading.Event) -> int:
    """Run all episodes until `interrupt` is set; the exit code.

    Raises:
        UsageError, TinyVLAError: a task, robot, policy or server that will not do.
        ConnectionError: the server cannot be reached before the first episode.
    """
    console = Console(highlight=False)
    if not console.is_terminal:
        console = Console(highlight=False, width=PLAIN_WIDTH, soft_wrap=True)
    client = _connect(settings)
    try:
        spec = _spec(client, console, interrupt)
        return _run_tasks(settings, client, spec, console, interrupt)
    finally:
        client.close()


def _run_tasks(
    settings: RunSettings,
    client: PolicyClient,
    spec: PolicySpec,
    console: Console,
    interrupt: threading.Event,
) -> int:
    if settings.ddim_steps and spec.sampler and settings.ddim_steps > spec.sampler.train_steps:
        raise UsageError(
            f"--ddim-steps {settings.ddim_steps}: the policy allows 1 ... {spec.sampler.train_steps}"
        )
    chunk_policy = chunk_policy_for(spec, settings.chunk_policy)
    if chunk_policy == "rtc" and not spec.max_prefix:
        raise UsageError("--chunk-policy rtc: this policy was not trained to continue a prefix; use receding")
    where = f"in process, {settings.checkpoint}" if settings.checkpoint else settings.server
    console.print(
        f"{spec.label} ({where}): {spec.head}, horizon {spec.horizon}, "
        f"{settings.inference_rate:g} Hz inference, chunk policy {chunk_policy}"
    )
    outcomes: list[EpisodeOutcome] = []
    try:
        _run_episodes(settings, client, spec, console, interrupt, outcomes)
    except BaseException:
        if outcomes:  # what was seen so far is not lost
            write_report(settings.out / "report.json", run_report(outcomes, spec, _shown(settings)))
        raise
    code = _conclude(settings, outcomes, spec, console) if outcomes else 0
    return 130 if interrupt.is_set() else code


def _run_episodes(
    settings: RunSettings,
    client: PolicyClient,
    spec: PolicySpec,
    console: Console,
    interrupt: threading.Event,
    outcomes: list[EpisodeOutcome],
) -> None:
    with contextlib.ExitStack() as stack:
        recorder = None
        if settings.save_data:
            from clients.recording import Recorder

            recorder = stack.enter_context(Recorder(settings.save_data, spec))
        view = stack.enter_context(LiveView(console, plain=settings.plain))
        for task in settings.tasks:
            keep_replay = settings.video or recorder is not None
            robot = make_robot(settings.robot, task, spec, keep_replay=keep_replay)
            with contextlib.closing(robot):
                # One by one, so that those that ended are known when a later one fails.
                for outcome in _run_task(settings, robot, client, spec, view, interrupt, recorder):
                    outcomes.append(outcome)
            if interrupt.is_set():
                break


def _run_task(
    settings: RunSettings,
    robot: Robot,
    client: PolicyClient,
    spec: PolicySpec,
    view: LiveView,
    interrupt: threading.Event,
    recorder: Recorder | None,
) -> Iterator[EpisodeOutcome]:
    for warning in check_robot(spec, robot.info, settings.control_rate):
        view.log(f"note: {warning}")
    if (settings.video or recorder) and not isinstance(robot, Replayable):
        raise UsageError(
            f"--video and --save-data need a robot that can be replayed; {robot.info.name} cannot"
        )
    receiver = Receiver(
        robot,
        client,
        spec,
        ReceiverSettings(
            inference_rate_hz=settings.inference_rate,
            control_rate_hz=settings.control_rate,
            chunk_policy=settings.chunk_policy,
            ddim_steps=settings.ddim_steps,
            instruction=settings.instruction,
            max_change=settings.max_change,
            seed=settings.seed,
        ),
        view.log,
        interrupt,
    )
    frames: list[np.ndarray] = []
    for episode in range(settings.episodes):
        if interrupt.is_set():
            return
        seed = settings.seed + episode
        view.begin(f"{robot.info.task} {episode + 1}/{settings.episodes}")
        session = f"{robot.info.task}-{seed}-{uuid.uuid4().hex[:8]}"
        outcome = receiver.run_episode(seed, session=session, watcher=view)
        view.end(outcome)
        yield outcome
        if outcome.interrupted:
            return
        if recorder is not None:
            recorder.add(robot, outcome, settings.instruction or robot.info.instruction)
        # One video per task: its first success, or its last try.
        if settings.video and not frames and (outcome.success or episode + 1 == settings.episodes):
            frames = _filmed(robot)
            _write_video(settings.out / f"{robot.info.task}.mp4", frames, robot.info.control_rate_hz)


def _filmed(robot: Robot) -> list[np.ndarray]:
    assert isinstance(robot, Replayable)
    camera = robot.info.cameras[0]
    return [f.images[camera] for f in robot.replay(FRAME_EVERY, cameras=(camera,), size=VIDEO_SIZE)]


def _write_video(path: Path, frames: list[np.ndarray], control_rate_hz: float) -> None:
    from clients.video import write_video

    write_video(path, frames, control_rate_hz / FRAME_EVERY)


def _conclude(
    settings: RunSettings, outcomes: list[EpisodeOutcome], spec: PolicySpec, console: Console
) -> int:
    report = run_report(outcomes, spec, _shown(settings))
    write_report(settings.out / "report.json", report)
    print_report(console, report)
    _draw(settings.out / "timeline.png", outcomes, spec, console)
    console.print(f"report, timeline{' and videos' if settings.video else ''} in {settings.out}")
    share = report["overall"]["success_rate"]
    if settings.require_success is not None and share < settings.require_success:
        console.print(
            f"only {share:.0%} of the episodes succeeded; {settings.require_success:.0%} were required"
        )
        return 1
    return 0


def _shown(settings: RunSettings) -> dict[str, object]:
    """The settings as the report holds them: readable, and without the token."""
    named = {name: value for name, value in asdict(settings).items() if name != "token"}
    return {name: str(value) if isinstance(value, Path) else value for name, value in named.items()}


def _draw(path: Path, outcomes: list[EpisodeOutcome], spec: PolicySpec, console: Console) -> None:
    # The first success tells most; without one, the first episode.
    shown = next((outcome for outcome in outcomes if outcome.success), outcomes[0])
    try:
        write_timeline(path, shown, spec)
    except ImportError as error:
        console.print(f"no timeline: {error}; pip install 'tinyvla[sim]' brings matplotlib")


def _connect(settings: RunSettings) -> PolicyClient:
    if settings.checkpoint is not None:
        return InProcessClient.load(settings.checkpoint)
    # Not a flag's default, which --help would print.
    token = settings.token or os.environ.get("TINYVLA_TOKEN")
    return connect(settings.server, token, image_format=settings.image_format, timeout_s=settings.timeout)


def _spec(client: PolicyClient, console: Console, interrupt: threading.Event) -> PolicySpec:
    told, until = False, time.monotonic() + READY_WITHIN_S
    while True:
        try:
            return client.spec()
        except TinyVLAError as error:
            if error.code != "not_ready" or time.monotonic() > until or interrupt.is_set():
                raise
        if not told:
            console.print("the server is still loading its policy; waiting")
            told = True
        time.sleep(0.25)
