"""Where demonstrations come from: what each robot's collection makes, says of itself and runs."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

from clients.lerobot_v3 import DatasetFacts
from clients.rig_sim import lockstep
from clients.rig_sim.parameters import DEFAULT_FILE, load_parameters
from clients.robots import metaworld_sim, needle_rig_contract
from policy.bundle import read_spec
from policy.errors import UsageError
from trainer.collection.attempts import Job
from trainer.collection.settings import CollectArgs, parse_tasks
from trainer.collection.worker import run_job, run_rig_job
from trainer.demonstration_needle_rig import sensor_facts
from trainer.evaluation.subject import camera_setup
from trainer.expert import RolloutSettings

# name -> (flag, what goes for the needle rig instead)
_ONLY_METAWORLD = {
    "tasks": ("--tasks", "the needle rig has one task of its own"),
    "size": ("--size", "the needle rig's pictures are as large as --rig-parameters says"),
    "reopen": ("--no-reopen", "the needle rig's expert has no gripper"),
    "takeover": ("--takeover", "the needle rig's expert begins by itself"),
}


@dataclass(frozen=True)
class Source:
    """One robot's demonstrations."""

    wanted: dict[str, int]  # task -> successful episodes
    settings: dict[str, Any]  # what the dataset follows from, JSON-able
    facts: DatasetFacts
    check: Callable[[], None]  # UsageError for a camera or a library that is not there
    run: Callable[[Job], bool]  # one attempt, in a worker process


def metaworld_source(args: CollectArgs) -> Source:
    """MetaWorld's scripted experts.

    Raises:
        UsageError: an unknown task, a bundle that is none, or a flag that only the needle rig knows.
    """
    if args.until != "success":
        raise UsageError("--until is for the needle rig; MetaWorld's demonstrations end with success")
    if args.rig_parameters != DEFAULT_FILE:
        raise UsageError("--rig-parameters is for --robot needle-rig")
    wanted = parse_tasks(args.tasks, args.episodes)
    driven = args.takeover is not None
    rollout = RolloutSettings(
        noise=args.noise,
        image_every=args.image_every,
        quality=args.quality,
        reopen=args.reopen,
        takeover_within=args.takeover_within if driven else 0,
        lead_in=args.takeover_lead if driven else 0,
    )
    settings = {
        "tasks": wanted, "cameras": list(args.cameras), "size": args.size, "seed": args.seed, **asdict(rollout),
    }  # fmt: skip
    if args.takeover is None:
        del settings["takeover_within"], settings["lead_in"]
    else:
        driver = read_spec(args.takeover)
        unseen = sorted(set(camera_setup(driver)[0]) - set(args.cameras))
        if unseen:
            raise UsageError(
                f"--takeover {args.takeover}: it looks at {', '.join(unseen)} too; name them in --cameras"
            )
        settings["takeover"] = driver.label
        if args.takeover_delay:
            settings["takeover_delay"] = args.takeover_delay

    def check() -> None:
        sim = metaworld_sim.MetaWorldSim(next(iter(wanted)), args.cameras, args.size)
        sim.make_renderer().close()
        sim.close()

    facts = DatasetFacts(
        cameras=dict.fromkeys(args.cameras, (args.size, args.size)),
        state_names=metaworld_sim.STATE_NAMES,
        action_names=metaworld_sim.ACTION_NAMES,
        environment_state_names=metaworld_sim.ENVIRONMENT_STATE_NAMES,
        fps=metaworld_sim.CONTROL_RATE_HZ / args.image_every,
        control_rate_hz=metaworld_sim.CONTROL_RATE_HZ,
        actions_per_frame=args.image_every,
        executed_actions=True,
        robot_type="metaworld",
        free={"collect": settings},
    )
    return Source(wanted, settings, facts, check, partial(run_job, args, rollout))


def needle_rig_source(args: CollectArgs) -> Source:
    """The needle rig's scripted expert, on the simulated rig.

    Raises:
        UsageError: nothing to collect, unreadable parameters, or a flag that only MetaWorld knows.
    """
    defaults = CollectArgs(out=args.out)
    for name, (flag, instead) in _ONLY_METAWORLD.items():
        if getattr(args, name) != getattr(defaults, name):
            raise UsageError(f"{flag} is for MetaWorld; {instead}")
    if args.episodes < 1:
        raise UsageError(f"--episodes must be 1 or more, got {args.episodes}")
    parameters = load_parameters(args.rig_parameters)
    cameras = parameters.cameras
    settings = {
        "robot": args.robot, "cameras": list(args.cameras), "size": [cameras.width, cameras.height],
        "seed": args.seed, "noise": args.noise, "image_every": args.image_every, "quality": args.quality,
        "episodes": args.episodes, "parameters": hashlib.sha256(args.rig_parameters.read_bytes()).hexdigest(),
    }  # fmt: skip
    if args.until != "success":
        settings["until"] = args.until
    facts = DatasetFacts(
        cameras=dict.fromkeys(args.cameras, (cameras.height, cameras.width)),
        state_names=needle_rig_contract.STATE_NAMES,
        action_names=needle_rig_contract.ACTION_NAMES,
        environment_state_names=lockstep.ENVIRONMENT_STATE_NAMES,
        fps=needle_rig_contract.CONTROL_RATE_HZ / args.image_every,
        control_rate_hz=needle_rig_contract.CONTROL_RATE_HZ,
        actions_per_frame=args.image_every,
        executed_actions=True,
        robot_type="needle-rig",
        free={
            "collect": settings,
            "sensors": {name: told.to_json() for name, told in sensor_facts().items()},
        },
    )

    def check() -> None:
        lockstep.NeedleRigSim(parameters, args.cameras).make_renderer().close()

    wanted = {needle_rig_contract.TASK: args.episodes}
    return Source(wanted, settings, facts, check, partial(run_rig_job, args))
