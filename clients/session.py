"""A run of the receiver from flags to report: connect, check the contract, run episodes, write it down."""

from __future__ import annotations

import contextlib
import threading
import uuid
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
from rich.console import Console

from clients.client import PolicyClient
from clients.console import make_console
from clients.contract_check import check_robot
from clients.delayed_client import DelayedClient
from clients.onlookers import Onlookers
from clients.operator import TerminalOperator
from clients.policy_flags import check_steps, open_policy, wait_for_spec
from clients.receiver import EpisodeOutcome, Receiver, chunk_policy_for
from clients.receiver_settings import RunSettings, asked_of_receiver
from clients.report import check_out, run_report, write_report
from clients.report_table import print_report
from clients.robots.base import Replayable, Reporting, Robot, RobotRequest
from clients.robots.dry_run import DryRun
from clients.robots.make import make_robot
from clients.timeline import write_timeline
from policy.errors import UsageError
from policy.spec import PolicySpec

# Control periods per frame of video: 20 frames a second at 80 Hz.
FRAME_EVERY = 4
VIDEO_SIZE = 384  # pixels; MuJoCo's offscreen buffer is 480 high


def run_session(settings: RunSettings, interrupt: threading.Event) -> int:
    """Run all episodes until `interrupt` is set; the exit code.

    Raises:
        UsageError, TinyVLAError: a task, robot, policy, server or place for the report that will not do.
        ConnectionError: the server cannot be reached before the first episode.
    """
    console = make_console()
    check_out(settings.out)
    client = open_policy(settings)
    if settings.inject_delay:
        client = DelayedClient(client, settings.inject_delay / 1e3)
    try:
        spec = wait_for_spec(client, console.print, interrupt.is_set)
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
    check_steps(settings.ddim_steps, spec)
    chunk_policy = chunk_policy_for(spec, settings.chunk_policy)
    console.print(
        f"{spec.label} ({settings.where}): {spec.head}, horizon {spec.horizon}, "
        f"{settings.inference_rate:g} Hz inference, chunk policy {chunk_policy}"
    )
    outcomes: list[EpisodeOutcome] = []
    onlookers = Onlookers(settings, spec, console)
    try:
        with onlookers:
            _run_episodes(settings, client, spec, onlookers, interrupt, outcomes)
    except BaseException:
        if outcomes:  # what was seen so far is not lost
            report = run_report(outcomes, spec, _shown(settings), onlookers.recorded())
            try:
                write_report(settings.out / "report.json", report)
            except UsageError as unwritten:  # what ended the run matters more
                console.print(str(unwritten))
        raise
    code = _conclude(settings, outcomes, spec, onlookers, console) if outcomes else 0
    return 130 if interrupt.is_set() else code


def _run_episodes(
    settings: RunSettings,
    client: PolicyClient,
    spec: PolicySpec,
    onlookers: Onlookers,
    interrupt: threading.Event,
    outcomes: list[EpisodeOutcome],
) -> None:
    for task in settings.tasks:
        request = RobotRequest(task, spec, settings.robot_config, keep_replay=settings.video)
        robot = make_robot(settings.robot, request)
        with contextlib.closing(robot):
            # One by one, so that those that ended are known when a later one fails.
            for outcome in _run_task(settings, robot, client, spec, onlookers, interrupt):
                outcomes.append(outcome)
                _forget_undrawn(outcomes)
        if interrupt.is_set():
            break


def _run_task(
    settings: RunSettings,
    robot: Robot,
    client: PolicyClient,
    spec: PolicySpec,
    onlookers: Onlookers,
    interrupt: threading.Event,
) -> Iterator[EpisodeOutcome]:
    for warning in check_robot(spec, robot.info, settings.control_rate):
        onlookers.log(f"note: {warning}")
    if settings.video:
        _check_video(robot)
    if isinstance(robot, Reporting):
        robot.log_to(onlookers.log)
    tapped = onlookers.tap(robot)
    receiver = Receiver(
        DryRun(tapped) if settings.dry_run else tapped,
        client,
        spec,
        asked_of_receiver(settings, spec),
        onlookers.log,
        interrupt,
        TerminalOperator(onlookers.log) if settings.on_uncertain == "ask" else None,
    )
    # A recording that is gone on with gets other scenes than those it holds.
    first_seed = settings.first_seed + (onlookers.recorded_before if settings.seed is None else 0)
    frames: list[np.ndarray] = []
    for episode in range(settings.episodes):
        if interrupt.is_set():
            return
        seed = first_seed + episode
        onlookers.begin(f"{robot.info.task} {episode + 1}/{settings.episodes}")
        session = f"{robot.info.task}-{seed}-{uuid.uuid4().hex[:8]}"
        outcome = receiver.run_episode(seed, session=session, watcher=onlookers)
        onlookers.end(outcome)
        if isinstance(robot, Reporting):
            outcome = replace(outcome, robot=robot.episode_report())
        yield outcome
        if outcome.interrupted:
            return
        # One video per task: its first success, or its last try.
        if settings.video and not frames and (outcome.success or episode + 1 == settings.episodes):
            frames = _filmed(robot)
            _write_video(settings.out / f"{robot.info.task}.mp4", frames, robot.info.control_rate_hz)


def _check_video(robot: Robot) -> None:
    """Raise UsageError where no video can be made: before the robot moves, not after."""
    if not isinstance(robot, Replayable):
        raise UsageError(f"--video needs a robot that can be replayed; {robot.info.name} cannot")
    try:
        import av  # noqa: F401
    except ImportError as error:
        raise UsageError(
            f"--video: {error}; pip install -c constraints.txt -e '.[sim]' brings what it needs"
        ) from None


def _filmed(robot: Robot) -> list[np.ndarray]:
    assert isinstance(robot, Replayable)
    camera = robot.info.cameras[0]
    return [f.images[camera] for f in robot.replay(FRAME_EVERY, cameras=(camera,), size=VIDEO_SIZE)]


def _write_video(path: Path, frames: list[np.ndarray], control_rate_hz: float) -> None:
    from clients.video import write_video

    write_video(path, frames, control_rate_hz / FRAME_EVERY)


def _conclude(
    settings: RunSettings,
    outcomes: list[EpisodeOutcome],
    spec: PolicySpec,
    onlookers: Onlookers,
    console: Console,
) -> int:
    report = run_report(outcomes, spec, _shown(settings), onlookers.recorded())
    print_report(console, report)  # first: it needs no disk
    write_report(settings.out / "report.json", report)
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


def _drawn(outcomes: list[EpisodeOutcome]) -> EpisodeOutcome:
    """The first success tells most; without one, the first episode."""
    return next((outcome for outcome in outcomes if outcome.success), outcomes[0])


def _forget_undrawn(outcomes: list[EpisodeOutcome]) -> None:
    """What only a picture needs would pile up over a long run; called after every episode."""
    drawn = _drawn(outcomes)
    for outcome in (outcomes[0], outcomes[-1]):  # the others have been looked at before
        if outcome is not drawn:
            outcome.trace.frames.clear()
            outcome.trace.steps.clear()


def _draw(path: Path, outcomes: list[EpisodeOutcome], spec: PolicySpec, console: Console) -> None:
    try:
        write_timeline(path, _drawn(outcomes), spec)
    except ImportError as error:
        console.print(f"no timeline: {error}; pip install -c constraints.txt -e '.[sim]' brings matplotlib")
    except OSError as error:
        console.print(f"no timeline: {path} cannot be written ({error.strerror or error})")
