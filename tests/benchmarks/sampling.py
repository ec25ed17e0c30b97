"""What one chunk costs in each runtime, and whether the sampling loop is best run on the host or inside the ONNX graph.

.venv/bin/python tests/benchmarks/sampling.py [BUNDLE]
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

import numpy as np
import torch
from torch import Tensor, nn

from policy.bundle import load_bundle, read_golden
from policy.export.graphs import denoise_inputs
from policy.export.onnx_graphs import export_onnx
from policy.networks.config import NetworkConfig
from policy.networks.network import PolicyNetwork
from policy.observation import SampleOptions
from policy.runtimes.eager import EagerBackend
from policy.schedule import plan
from policy.spec import PolicySpec

STEPS, RUNS = 10, 15


class UnrolledLoop(nn.Module):
    """All DDIM steps as one graph: what an in-graph loop at its best costs (no loop operator, constants folded)."""

    def __init__(self, network: PolicyNetwork, spec: PolicySpec) -> None:
        super().__init__()
        self.trunk = network.trunk
        assert spec.sampler is not None
        self.updates = plan(spec.sampler.train_steps, spec.sampler.prediction_type, "ddim", STEPS)

    def forward(self, chunk: Tensor, timestep: Tensor, prefix_length: Tensor, context: Tensor) -> Tensor:
        x = chunk
        for update in self.updates:
            out = self.trunk(x, torch.zeros_like(timestep) + update.timestep, prefix_length, context)
            x0 = (update.sample * x + update.output * out).clamp(-1.0, 1.0)
            x = update.to_x0 * x0 + update.to_x * x
        return x


def milliseconds(run: Callable[[], object]) -> float:
    """Median of `RUNS` after two to warm up."""
    times = []
    for number in range(RUNS + 2):
        start = time.perf_counter()
        run()
        if number >= 2:
            times.append((time.perf_counter() - start) * 1e3)
    return median(times)


def in_graph_ms(directory: Path, spec: PolicySpec) -> tuple[float, float]:
    """(host-side loop, in-graph loop): sampling alone, the same ONNX Runtime settings."""
    import onnxruntime as ort

    network = PolicyNetwork(spec, NetworkConfig.from_json(spec.network))
    backend = EagerBackend.from_bundle(directory, spec, "cpu", None)
    network.load_state_dict(backend._network.state_dict())
    names, inputs = denoise_inputs(spec, network, 1)
    with tempfile.TemporaryDirectory() as folder:
        weights = Path(folder) / "model.safetensors"
        weights.write_bytes((directory / "model.safetensors").read_bytes())
        export_onnx(
            UnrolledLoop(network, spec).eval(),
            names,
            inputs,
            "chunk_out",
            Path(folder) / "loop.onnx",
            weights,
        )
        options = ort.SessionOptions()
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        options.log_severity_level = 3
        unrolled = ort.InferenceSession(str(Path(folder) / "loop.onnx"), options, ["CPUExecutionProvider"])
        step = ort.InferenceSession(str(directory / "denoise.onnx"), options, ["CPUExecutionProvider"])
    feed = {name: value.numpy() for name, value in zip(names, inputs, strict=True)}
    known = {node.name for node in unrolled.get_inputs()}

    def host() -> None:
        for _ in range(STEPS):
            step.run(None, feed)

    return milliseconds(host), milliseconds(
        lambda: unrolled.run(None, {k: v for k, v in feed.items() if k in known})
    )


def main() -> None:
    directory = Path(sys.argv[1] if len(sys.argv) > 1 else "bundles/metaworld8")
    times: dict[str, float] = {}
    reusing: dict[str, float] = {}  # what was seen
    for runtime in ("eager", "torchscript", "onnx"):
        policy = load_bundle(directory, runtime, "cpu")
        observation, _ = read_golden(directory / "golden.npz")
        options = [SampleOptions(ddim_steps=STEPS, seed=0)]
        times[runtime] = milliseconds(lambda p=policy, o=observation, s=options: p.predict([o], s))
        if policy.reuses_features:
            seen = [policy.predict([observation], options)[0].features]
            reusing[runtime] = milliseconds(
                lambda p=policy, o=observation, s=options, f=seen: p.predict([o], s, f)
            )
    for runtime, value in times.items():
        print(
            f"{runtime:<12} {value:6.1f} ms a chunk, {STEPS} DDIM steps ({times['eager'] / value:.2f}x eager)"
        )
    for runtime, value in reusing.items():
        print(
            f"{runtime:<12} {value:6.1f} ms with images that are not looked at ({times[runtime] / value:.2f}x)"
        )
    host, graph = in_graph_ms(directory, policy.spec)
    print(
        f"sampling in ONNX Runtime: host-side loop {host:.1f} ms, in-graph loop {graph:.1f} ms ({host / graph:.2f}x)"
    )
    assert np.isfinite(list(times.values())).all()


if __name__ == "__main__":
    main()
