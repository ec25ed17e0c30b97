"""`tinyvla replay`: a recording played back through the receiver, its observations in, the actions compared.

By default in simulated time, where the same command gives the same numbers; with --realtime through the receiver's
own threads and clock.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import tyro
from rich.console import Console
from rich.table import Table

from clients.chunk_buffer import ChunkPolicy
from clients.client import PolicyClient
from clients.console import make_console
from clients.contract_check import check_robot
from clients.episode import Episode
from clients.episode_settings import ReceiverSettings, chunk_policy_for, episode_settings
from clients.lerobot_v3 import LeRobotDataset
from clients.policy_flags import PolicyFlags, check_steps, open_policy, wait_for_spec
from clients.receiver import Receiver
from clients.replay_errors import DimensionError, Replayed, dimension_errors
from clients.replay_robot import ReplayRobot
from clients.report import check_out, write_report
from clients.simulated_time import SimulatedClock, run_simulated
from policy.errors import UsageError
from policy.spec import PolicySpec
from service.flags import parse_flags

FORMAT = "tinyvla-replay/1"


@dataclass(frozen=True, kw_only=True)
class ReplayArgs(PolicyFlags):
    """Play a recording back through the receiver and compare what the policy commands with what was recorded.

    The robot does not move: observations are the recorded ones, whatever is commanded.
    """

    dataset: Annotated[Path, tyro.conf.Positional]
    """LeRobotDataset v3.0, such as --save-data leaves; demonstrations will do as well."""
    episode: Annotated[tuple[int, ...], tyro.conf.UseAppendAction] = ()
    """Number of an episode to play, repeatable; default all."""
    inference_rate: float = 5.0
    """Chunks asked for per second."""
    delay: float = 0.0
    """Milliseconds from an observation to its chunk, in simulated time."""
    chunk_policy: ChunkPolicy | None = None
    """How chunks follow each other; default rtc where the policy was trained for it, else receding."""
    ddim_steps: int | None = None
    """Denoising steps; default the policy's."""
    realtime: bool = False
    """Play at the recording's own speed through the receiver's threads."""
    seed: int = 0
    """Of the sampler's noise."""
    out: Path = Path("runs/replay")
    """Where replay.json goes."""


def main(argv: Sequence[str]) -> int:
    """Entry of `tinyvla replay`; 130 when interrupted."""
    args = parse_flags(ReplayArgs, argv, "tinyvla replay")
    for flag, value, low, high in (
        ("--inference-rate", args.inference_rate, 0.01, 1000.0),
        ("--delay", args.delay, 0.0, 60_000.0),
        ("--ddim-steps", args.ddim_steps or 1, 1, 1000),
        ("--timeout", args.timeout, 0.01, 600.0),
        ("--seed", args.seed, 0, 2**31),
    ):
        if not low <= value <= high:
            raise UsageError(f"{flag}: expected {low:g} ... {high:g}, got {value:g}")
    if args.realtime and args.delay:
        raise UsageError("--delay is for simulated time; in real time inference takes what it takes")
    dataset = LeRobotDataset(args.dataset)
    for number in args.episode:
        if not 0 <= number < dataset.num_episodes:
            raise UsageError(f"--episode {number}: the dataset has 0 ... {dataset.num_episodes - 1}")
    check_out(args.out)
    try:
        client = open_policy(args)
        try:
            return replay(args, dataset, client)
        finally:
            client.close()
    except ConnectionError as error:
        raise UsageError(f"no policy server answers: {error}") from None


def replay(args: ReplayArgs, dataset: LeRobotDataset, client: PolicyClient) -> int:
    """Play the episodes, print the table, leave replay.json: also of those before an interruption, which gives 130."""
    console = make_console()
    spec = wait_for_spec(client, console.print)
    check_steps(args.ddim_steps, spec)
    chunk_policy_for(spec, args.chunk_policy)  # one that it cannot have shows here, before anything is played
    played: list[Replayed] = []
    code = 0
    try:
        for one in _episodes(args, dataset, client, spec, console):
            played.append(one)
            console.print(
                f"episode {one.number} ({one.task}): {one.counted.sum()} of {len(one.counted)} periods compared"
            )
    except KeyboardInterrupt:
        code = 130
    if not played:
        return code
    report = _report(args, dataset, spec, played)
    _print(console, dimension_errors(played, spec.action), spec)
    write_report(args.out / "replay.json", report)
    console.print(f"the numbers, by episode too, in {args.out / 'replay.json'}")
    return code


def _episodes(
    args: ReplayArgs, dataset: LeRobotDataset, client: PolicyClient, spec: PolicySpec, console: Console
) -> Iterator[Replayed]:
    settings = ReceiverSettings(
        inference_rate_hz=args.inference_rate,
        chunk_policy=args.chunk_policy,
        ddim_steps=args.ddim_steps,
        seed=args.seed,
    )
    told: set[str] = set()
    for number in args.episode or range(dataset.num_episodes):
        clock = SimulatedClock()
        robot = (
            ReplayRobot(dataset, number, spec) if args.realtime else ReplayRobot(dataset, number, spec, clock)
        )
        for warning in check_robot(spec, robot.info, other_rate="a recording is played at its own rate"):
            if warning not in told:
                console.print(f"note: {warning}")
            told.add(warning)
        if not args.realtime:
            _simulate(robot, client, spec, settings, clock, number, args)
            yield _compared(robot, number)
            continue
        receiver = Receiver(robot, client, spec, settings, console.print)
        outcome = receiver.run_episode(args.seed + number, session=f"replay-{number}")
        yield _compared(robot, number)
        if outcome.interrupted:  # the receiver has taken the Ctrl-C for itself
            raise KeyboardInterrupt


def _simulate(
    robot: ReplayRobot,
    client: PolicyClient,
    spec: PolicySpec,
    settings: ReceiverSettings,
    clock: SimulatedClock,
    number: int,
    args: ReplayArgs,
) -> None:
    asked = episode_settings(robot.info, spec, settings, args.seed + number, f"replay-{number}")
    episode = Episode(robot, spec, asked, started=clock.now)
    run_simulated(
        robot, client, episode, clock,
        delay_s=lambda request: args.delay / 1e3, inference_rate_hz=settings.inference_rate_hz,
    )  # fmt: skip
    refused = {key: count for key, count in episode.trace.outcomes.items() if key not in _USUAL}
    if not episode.trace.outcomes.get("accepted"):
        raise UsageError(
            f"episode {number}: the policy gave not one chunk: {refused or 'none was asked for'}"
        )


_USUAL = ("accepted", "late", "spent")


def _compared(robot: ReplayRobot, number: int) -> Replayed:
    played = len(robot.given)  # fewer than recorded where the episode was stopped
    held = robot.recorded_held[:played] | np.asarray(robot.given_held, bool)
    given = np.asarray(robot.given, np.float32).reshape(played, robot.recorded.shape[1])
    return Replayed(number, robot.info.task, robot.recorded[:played], given, ~held)


def _report(
    args: ReplayArgs, dataset: LeRobotDataset, spec: PolicySpec, played: Sequence[Replayed]
) -> dict[str, Any]:
    def summary(episodes: Sequence[Replayed]) -> dict[str, Any]:
        return {
            "periods": int(sum(len(one.counted) for one in episodes)),
            "compared": int(sum(one.counted.sum() for one in episodes)),
            "dimensions": [asdict(error) for error in dimension_errors(episodes, spec.action)],
        }

    asked = {name: value for name, value in asdict(args).items() if name != "token"}
    return {
        "format": FORMAT,
        "policy": spec.label,
        "settings": json.loads(json.dumps(asked, default=str)),
        "control_rate_hz": dataset.facts.control_rate_hz,
        "overall": summary(played),
        "episodes": [{"episode": one.number, "task": one.task, **summary([one])} for one in played],
    }


def _print(console: Console, errors: Sequence[DimensionError], spec: PolicySpec) -> None:
    table = Table(title=f"{spec.label}: commanded less recorded", title_justify="left")
    table.add_column("dimension")
    table.add_column("unit")
    for column in ("mean |error|", "rms", "p95", "max", "bias", "recorded std", "of range"):
        table.add_column(column, justify="right")
    for error in errors:
        numbers = (error.mean_abs, error.rms, error.p95_abs, error.max_abs, error.bias, error.recorded_std)
        shown = ["–" if number is None else f"{number:.4g}" for number in numbers]
        share = "–" if error.share_of_range is None else f"{error.share_of_range:.1%}"
        table.add_row(error.name, error.unit, *shown, share)
    console.print(table)
