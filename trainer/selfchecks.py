"""The checks of `tinyvla selftest`: each proves one promise on a network made for it and says what it measured."""

from __future__ import annotations

import importlib
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from policy.bundle import GOLDEN_TOLERANCE, load_bundle
from policy.export.write_bundle import golden_observation, round_weights, write_bundle
from policy.loaded import LoadedPolicy
from policy.networks.config import NetworkConfig
from policy.networks.network import PolicyNetwork
from policy.null import null_spec
from policy.observation import Observation, SampleOptions
from policy.runtimes.eager import EagerBackend
from policy.schedule import alphas_cumprod, plan
from policy.spec import PolicySpec, SensorSpec
from trainer.losses import Example, compute_losses, draw_corruption

# The scheduler computes in 32 bits.
_SCHEDULE_TOLERANCE = 1e-6


class CheckFailed(Exception):
    """What was found instead of what was promised."""


def require(holds: bool, otherwise: str) -> None:
    """Raise CheckFailed with `otherwise` unless `holds`."""
    if not holds:
        raise CheckFailed(otherwise)


@dataclass(frozen=True)
class Setup:
    """What the checks share."""

    config: NetworkConfig = field(default_factory=NetworkConfig)
    size: int = 128  # of the images, pixels
    device: str = "cpu"

    def spec(self, head: str = "diffusion") -> PolicySpec:
        """Two cameras, a state, an instruction and a sensor."""
        sensor = SensorSpec(name="force", channels=2, window=65, rate_hz=650.0, units="N")
        spec = null_spec(cameras=("left", "right"), size=self.size, sensors=(sensor,))
        if head == "regression":
            spec = spec.model_copy(update={"head": head, "sampler": None})
        return spec.model_copy(update={"name": "selftest"})

    def network(self, spec: PolicySpec, *, woken: bool) -> PolicyNetwork:
        """A fresh network; `woken` moves the layers that start at zero off it, as training would."""
        torch.manual_seed(0)
        network = PolicyNetwork(spec, self.config).to(self.device)
        if woken:
            with torch.no_grad():
                for parameter in network.parameters():
                    parameter.add_(0.03 * torch.randn_like(parameter))
        return network.eval()

    def policy(self, spec: PolicySpec) -> LoadedPolicy:
        """A woken network as the engine would run it."""
        return LoadedPolicy(spec, EagerBackend(self.network(spec, woken=True), self.device))


def check_schedule(setup: Setup) -> str:
    """Coefficients against `diffusers`, for both samplers."""
    diffusers: Any = importlib.import_module(
        "diffusers"
    )  # it loads its parts by itself, which hides their types
    ours = alphas_cumprod(100)
    theirs = diffusers.DDPMScheduler(num_train_timesteps=100, beta_schedule="squaredcos_cap_v2")
    error = float(np.abs(ours - theirs.alphas_cumprod.numpy()).max())
    require(error < _SCHEDULE_TOLERANCE, f"differs from diffusers by {error:.1e}")
    scheduler = diffusers.DDIMScheduler(
        num_train_timesteps=100, beta_schedule="squaredcos_cap_v2", prediction_type="sample",
        timestep_spacing="trailing",
    )  # fmt: skip
    scheduler.set_timesteps(10)
    x = expected = np.random.default_rng(0).standard_normal((2, 8, 4))
    for update, timestep in zip(plan(100, "sample", "ddim", 10), scheduler.timesteps, strict=True):
        output = np.tanh(x) / (1 + int(timestep))  # any function of the chunk and the timestep
        x0 = np.clip(update.sample * x + update.output * output, -1, 1)
        x = update.to_x0 * x0 + update.to_x * x
        stepped = scheduler.step(torch.from_numpy(output), int(timestep), torch.from_numpy(expected))
        expected = stepped.prev_sample.numpy()
    # The reference divides by small differences of 32-bit numbers, ten times in a row.
    drift = float(np.abs(x - expected).max())
    require(drift < 1e-4, f"10 DDIM steps end {drift:.1e} from diffusers'")
    return f"signal left at the noisiest level {ours[-1]:.1e}; diffusers agrees within {error:.0e}"


def _example(spec: PolicySpec, batch: int, device: str) -> Example:
    generator = torch.Generator().manual_seed(1)
    camera = spec.cameras[0]
    shape = (batch, len(spec.cameras), camera.height, camera.width, 3)
    actions = torch.rand(batch, spec.horizon, spec.action.dim, generator=generator) * 2 - 1
    sensors: list[torch.Tensor] = []
    for sensor in spec.sensors:
        sensors += [torch.randn(batch, sensor.window, sensor.channels, generator=generator)]
        sensors += [torch.ones(batch, sensor.window)]
    example = Example(
        images=torch.randint(0, 256, shape, generator=generator, dtype=torch.uint8),
        tokens=torch.randint(1, 100, (batch, 96), generator=generator),
        state=torch.rand(batch, spec.state.dim, generator=generator) * 2 - 1,
        actions=actions,
        executed=actions,
        lead=torch.zeros(batch, dtype=torch.int64),
        valid=torch.ones(batch, spec.horizon, dtype=torch.bool),
        auxiliary=torch.zeros(batch, 0),
        sensors=tuple(sensors),
    )
    return example.to(device)


def check_head(setup: Setup) -> str:
    """Both heads: the chunk's shape, and a fresh loss that is the target's own variance."""
    told = []
    for head in ("diffusion", "regression"):
        spec = setup.spec(head).model_copy(update={"sensors": ()})
        network = setup.network(spec, woken=False)
        example = _example(spec, 4, setup.device)
        corruption = draw_corruption(
            torch.Generator().manual_seed(0), 4, 2, spec, prefix_probability=0.5, state_noise=0.0, state_dropout=0.0
        ).to(torch.device(setup.device))  # fmt: skip
        context = network.encode(example.images, example.tokens, example.state)
        steps = torch.full((4,), 50, device=setup.device)
        output = network.denoise(example.actions, steps, torch.zeros_like(steps), context)
        wanted = (4, spec.horizon, spec.action.dim)
        require(tuple(output.shape) == wanted, f"{head}: output {tuple(output.shape)}, expected {wanted}")
        loss = float(compute_losses(network, spec, example, corruption).action.detach())
        variance = float(example.actions.square().mean())
        require(
            abs(loss / variance - 1) < 0.2,
            f"{head}: a fresh loss of {loss:.3f}, the target's variance is {variance:.3f}",
        )
        told.append(f"{head} {loss:.2f}")
    return (
        f"[batch, {spec.horizon}, {spec.action.dim}]; fresh losses {', '.join(told)}: the target's variance"
    )


def check_sampling(setup: Setup) -> str:
    """DDPM in 100 evaluations, DDIM in 10: shapes, bounds, repeatability, times."""
    spec = setup.spec()
    policy, observation = setup.policy(spec), golden_observation(setup.spec())
    kinds = {
        "DDPM-100": SampleOptions(sampler="ddpm", seed=1),
        "DDIM-10": SampleOptions(ddim_steps=10, seed=1),
    }
    milliseconds = {}
    for name, options in kinds.items():
        policy.predict([observation], [options])
        start = time.perf_counter()
        (found,) = policy.predict([observation], [options])
        milliseconds[name] = 1e3 * (time.perf_counter() - start)
        require(bool(np.isfinite(found.actions).all()), f"{name}: actions that are not finite")
        require(bool((np.abs(found.actions) <= 1).all()), f"{name}: actions outside their bounds")
    again = policy.predict([observation], [kinds["DDIM-10"]])[0].actions
    require(np.array_equal(found.actions, again), "the same seed gives another chunk")
    prefix = np.full((5, spec.action.dim), 0.25, np.float32)
    (kept,) = policy.predict([observation], [SampleOptions(seed=1, prefix=prefix)])
    require(np.array_equal(kept.actions[:5], prefix), "committed actions do not come back unchanged")
    slow, fast = milliseconds.values()
    return (
        ", ".join(f"{name} {ms:.0f} ms" for name, ms in milliseconds.items()) + f": {slow / fast:.1f}x faster"
    )


def check_sensor(setup: Setup) -> str:
    """A window changes the encoding, what is masked does not, an absent sensor is one learned vector."""
    spec = setup.spec()
    encoder = setup.network(spec, woken=True).encoder.sensors[0]
    sensor = spec.sensors[0]
    generator = torch.Generator().manual_seed(2)
    window = torch.randn(2, sensor.window, sensor.channels, generator=generator).to(setup.device)
    full, none = torch.ones(2, sensor.window).to(setup.device), torch.zeros(2, sensor.window).to(setup.device)
    half = full.clone()
    half[:, : sensor.window // 2] = 0
    with torch.no_grad():
        require(
            not torch.allclose(encoder(window, full)[0], encoder(window, full)[1]), "windows do not matter"
        )
        noisy = window.clone()
        noisy[:, : sensor.window // 2] += 5
        require(torch.allclose(encoder(window, half), encoder(noisy, half)), "masked samples matter")
        absent = encoder(window, none)
    require(torch.allclose(absent[0], absent[1]), "an absent sensor's encoding depends on its window")
    return (
        f"{sensor.window} x {sensor.channels} -> {absent.shape[1]}; masked samples and absence are told apart"
    )


def _moved(spec: PolicySpec) -> dict[str, Observation]:
    """The golden observation with one input changed at a time."""
    whole = golden_observation(spec)
    window = np.ones((spec.sensors[0].window, spec.sensors[0].channels), np.float32)
    inverted = {name: 255 - image for name, image in whole.images.items()}
    return {
        "images": Observation(inverted, whole.state, whole.instruction, whole.sensors),
        "state": Observation(whole.images, whole.state + 0.5, whole.instruction, whole.sensors),
        "instruction": Observation(whole.images, whole.state, "put it somewhere else", whole.sensors),
        "sensor": Observation(whole.images, whole.state, whole.instruction, {spec.sensors[0].name: window}),
        "no sensor": Observation(whole.images, whole.state, whole.instruction, {}),
    }


def check_full_model(setup: Setup) -> str:
    """Every input reaches the actions, every weight gets a gradient."""
    spec = setup.spec()
    policy = setup.policy(spec)
    options = SampleOptions(seed=1)
    before = policy.predict([golden_observation(spec)], [options])[0].actions
    for name, observation in _moved(spec).items():
        after = policy.predict([observation], [options])[0].actions
        require(float(np.abs(after - before).max()) > 1e-5, f"the {name} does not reach the actions")
    network = setup.network(spec, woken=True).train()
    corruption = draw_corruption(
        torch.Generator().manual_seed(0), 4, 2, spec, prefix_probability=0.5, state_noise=0.0, state_dropout=0.5,
        sensor_dropout=0.5,
    ).to(torch.device(setup.device))  # fmt: skip
    compute_losses(network, spec, _example(spec, 4, setup.device), corruption).action.backward()
    dead = [
        name
        for name, parameter in network.named_parameters()
        if not name.startswith("encoder.auxiliary.") and (parameter.grad is None or not parameter.grad.any())
    ]
    require(not dead, f"no gradient reaches {', '.join(dead[:3])}")
    count = sum(parameter.numel() for parameter in network.parameters())
    return f"{count / 1e6:.2f} M parameters; images, state, instruction and sensor reach the actions"


def check_export(setup: Setup) -> str:
    """A bundle's ONNX and TorchScript graphs against eager torch, for several step counts, both samplers, a batch."""
    spec = setup.spec()
    network = setup.network(spec, woken=True).cpu()
    with tempfile.TemporaryDirectory() as place:
        write_bundle(Path(place) / "bundle", network, spec)
        round_weights(network)
        eager = LoadedPolicy(spec, EagerBackend(network, "cpu"))
        observations = [golden_observation(spec), _moved(spec)["images"], _moved(spec)["no sensor"]]
        policies = {r: load_bundle(Path(place) / "bundle", r, "cpu") for r in ("onnx", "torchscript")}
        worst = dict.fromkeys(policies, 0.0)
        for options in (SampleOptions(ddim_steps=1, seed=3), SampleOptions(ddim_steps=7, seed=3),
                        SampleOptions(sampler="ddpm", seed=3)):  # fmt: skip
            expected = eager.predict(observations, [options] * 3)
            for runtime, policy in policies.items():
                for one, other in zip(policy.predict(observations, [options] * 3), expected, strict=True):
                    worst[runtime] = max(worst[runtime], float(np.abs(one.actions - other.actions).max()))
    for runtime, error in worst.items():
        require(error < GOLDEN_TOLERANCE, f"{runtime} is {error:.1e} from eager torch")
    return "; ".join(f"{runtime} within {error:.0e} of eager" for runtime, error in worst.items())


CHECKS: dict[str, Callable[[Setup], str]] = {
    "noise schedule": check_schedule,
    "action heads": check_head,
    "sampling": check_sampling,
    "sensor encoder": check_sensor,
    "full model": check_full_model,
    "export parity": check_export,
}
