"""One needle rig episode in a worker process, which keeps its policy and its scene from one to the next."""

from __future__ import annotations

from dataclasses import dataclass

from clients.rig_sim.lockstep import NeedleRigSim
from clients.rig_sim.parameters import load_parameters
from clients.robots.needle_rig_contract import ACTION_NAMES, STATE_NAMES
from policy.errors import UsageError
from policy.spec import PolicySpec
from trainer.evaluation.rig_actors import RigActor, RigPolicyActor, RigReferenceActor
from trainer.evaluation.rig_rollout import RigEpisode, run_rig_episode
from trainer.evaluation.settings import EvaluateArgs
from trainer.evaluation.subject import load_policy, written


@dataclass(frozen=True)
class RigJob:
    """One episode to run."""

    actor: str
    episode: int


def rig_views(spec: PolicySpec) -> tuple[str, ...]:
    """The views that the rig must render for a policy.

    Raises:
        UsageError: the policy is for another robot.
    """
    if tuple(spec.state.names) != STATE_NAMES or tuple(spec.action.names) != ACTION_NAMES:
        raise UsageError(
            f"policy {spec.name} is not for the needle rig: its state is {', '.join(spec.state.names)}"
        )
    return tuple(camera.name for camera in spec.cameras)


# One, once it is made; of a checkpoint as it was written then.
_ACTORS: dict[tuple[EvaluateArgs, int | None], tuple[NeedleRigSim, RigPolicyActor]] = {}
_SIMS: dict[EvaluateArgs, NeedleRigSim] = {}


def policy_actor(args: EvaluateArgs) -> tuple[NeedleRigSim, RigPolicyActor]:
    """A rig with the policy's views, and the policy on one thread."""
    policy = load_policy(args)
    sim = NeedleRigSim(load_parameters(args.rig_parameters), rig_views(policy.spec))
    actor = RigPolicyActor(
        policy,
        sim.make_renderer(),
        args.steps_per_chunk,
        args.ddim_steps,
        args.instruction,
        sensor=args.sensor,
    )
    return sim, actor


def run_rig_job(args: EvaluateArgs, job: RigJob) -> RigEpisode:
    """Run one episode."""
    actor: RigActor
    if job.actor == "policy":
        wanted = (args, written(args.checkpoint))
        if wanted not in _ACTORS:
            for _, replaced in _ACTORS.values():
                replaced.close()
            _ACTORS.clear()
            _ACTORS[wanted] = policy_actor(args)
        sim, actor = _ACTORS[wanted]
    else:
        if args not in _SIMS:
            _SIMS[args] = NeedleRigSim(load_parameters(args.rig_parameters))
        sim, actor = _SIMS[args], RigReferenceActor(job.actor)
    return run_rig_episode(sim, actor, job.actor, job.episode, args.first_seed + job.episode)
