"""One attempt in a worker process, which keeps its scene, its expert and its driving policy for the next one."""

from __future__ import annotations

from pathlib import Path

from clients.lerobot_v3 import stage_episode
from clients.rig_sim.lockstep import NeedleRigSim
from clients.rig_sim.parameters import load_parameters
from clients.rig_sim.scene import RigRenderer
from clients.robots import metaworld_sim
from policy.bundle import load_bundle
from trainer.collection.attempts import Job, attempt_seed, failed_marker
from trainer.collection.driver import TakeoverDriver
from trainer.collection.settings import CollectArgs
from trainer.demonstration_needle_rig import demonstrate_needle_rig
from trainer.expert import Attempt, RolloutSettings, demonstrate, make_expert

_WORKER: dict[str, tuple] = {}
_RIG: list[tuple[NeedleRigSim, RigRenderer]] = []  # one, once it is made
_DRIVERS: dict[tuple[Path, int], TakeoverDriver] = {}


def _driver(args: CollectArgs) -> TakeoverDriver | None:
    """The driving policy of this process, on one thread."""
    if args.takeover is None:
        return None
    key = (args.takeover, args.takeover_delay)
    if key not in _DRIVERS:
        _DRIVERS[key] = TakeoverDriver(load_bundle(args.takeover, threads=1), args.takeover_delay)
    return _DRIVERS[key]


def run_job(args: CollectArgs, settings: RolloutSettings, job: Job) -> bool:
    """One attempt, in a worker process; leaves a staged episode or a failure marker behind."""
    if job.task not in _WORKER:
        for _, renderer, _ in _WORKER.values():
            renderer.close()
        _WORKER.clear()
        sim = metaworld_sim.MetaWorldSim(job.task, args.cameras, args.size)
        _WORKER[job.task] = (sim, sim.make_renderer(), make_expert(job.task))
    sim, renderer, expert = _WORKER[job.task]
    seed = attempt_seed(args.seed, job.task, job.attempt)
    return _staged(args, job, demonstrate(sim, renderer, expert, seed, settings, _driver(args)))


def run_rig_job(args: CollectArgs, job: Job) -> bool:
    """The same on the simulated needle rig."""
    if not _RIG:
        made = NeedleRigSim(load_parameters(args.rig_parameters), args.cameras)
        _RIG.append((made, made.make_renderer()))
    rig, renderer = _RIG[0]
    attempt = demonstrate_needle_rig(
        rig,
        renderer,
        attempt_seed(args.seed, job.task, job.attempt),
        noise=args.noise,
        frame_every=args.image_every,
        quality=args.quality,
        until=args.until,
    )
    return _staged(args, job, attempt)


def _staged(args: CollectArgs, job: Job, attempt: Attempt) -> bool:
    if attempt.episode is None:
        failed_marker(args.out, job.key).touch()
    else:
        stage_episode(args.out, job.key, attempt.episode)
    return attempt.success
