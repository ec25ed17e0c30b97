"""What was seen may stand in for new images; state, sensors and sampling are always fresh."""

from __future__ import annotations

import shutil

import numpy as np
import pytest

from policy.loaded import LoadedPolicy
from policy.observation import SampleOptions


@pytest.fixture
def backend(make_backend):
    return make_backend(splits=True)


def draw(policy, observations, features=None):
    return policy.predict(observations, [SampleOptions(seed=3)] * len(observations), features)


def test_features_give_the_chunk_that_their_images_gave(make_spec, make_observation, backend):
    policy = LoadedPolicy(make_spec(), backend)
    first = make_observation(policy.spec)
    (drawn,) = draw(policy, [first])
    dark = make_observation(policy.spec, images={"front": np.zeros((32, 32, 3), np.uint8)})
    (reused,) = draw(policy, [dark], [drawn.features])
    np.testing.assert_array_equal(reused.actions, drawn.actions)
    np.testing.assert_array_equal(reused.features, drawn.features)
    assert len(backend.pictured) == 1  # the dark image was not looked at
    assert np.abs(draw(policy, [dark])[0].actions - drawn.actions).max() > 1e-3


def test_the_state_is_fresh_although_the_features_are_not(make_spec, make_observation, backend):
    policy = LoadedPolicy(make_spec(), backend)
    (drawn,) = draw(policy, [make_observation(policy.spec)])
    moved = make_observation(policy.spec, state=np.float32([-0.5, 0.9]))
    (reused,) = draw(policy, [moved], [drawn.features])
    np.testing.assert_array_equal(reused.actions, draw(policy, [moved])[0].actions)
    assert np.abs(reused.actions - drawn.actions).max() > 1e-3


def test_in_a_mixed_run_only_the_rows_without_features_are_looked_at(make_spec, make_observation, backend):
    policy = LoadedPolicy(make_spec(), backend)
    observations = [make_observation(policy.spec, seed=i) for i in range(3)]
    alone = [draw(policy, [observation])[0] for observation in observations]
    backend.pictured.clear()
    together = draw(policy, observations, [None, alone[1].features, None])
    (images,) = backend.pictured
    np.testing.assert_array_equal(images[:, 0], [observations[i].images["front"] for i in (0, 2)])
    for one, shared in zip(alone, together, strict=True):
        np.testing.assert_allclose(shared.actions, one.actions, atol=1e-5)


def test_a_policy_with_one_graph_for_both_says_so_and_takes_none(make_spec, make_observation, make_backend):
    policy = LoadedPolicy(make_spec(), make_backend(splits=False))
    (drawn,) = draw(policy, [make_observation(policy.spec)])
    assert not policy.reuses_features
    assert drawn.features is None
    with pytest.raises(ValueError, match="reuses_features"):
        draw(policy, [make_observation(policy.spec)], [np.zeros(1, np.float32)])


@pytest.fixture(scope="session")
def joint_bundle(bundles, tmp_path_factory, make_network):
    """A bundle as written before what was seen could be reused: one graph from images to context."""
    import torch

    from policy.bundle import WEIGHTS, read_spec
    from policy.checksums import CHECKSUMS, file_hash
    from policy.export.graphs import encode_inputs
    from policy.export.onnx_graphs import export_onnx
    from policy.export.torchscript_graphs import export_torchscript

    class Encode(torch.nn.Module):
        def __init__(self, network) -> None:
            super().__init__()
            self.encoder = network.encoder

        def forward(self, images, tokens, state, *sensors):
            return self.encoder.fuse_known(self.encoder.see(images, tokens), state, *sensors)

    directory = tmp_path_factory.mktemp("joint") / "bundle"
    shutil.copytree(bundles("diffusion+sensor"), directory)
    spec = read_spec(directory)
    network = make_network(spec)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.copy_(parameter.half().float())
    graph, (names, inputs) = Encode(network), encode_inputs(spec, 2)
    used = [n for n, _ in graph.named_parameters() if not n.startswith("encoder.auxiliary.")]
    export_torchscript(graph, used, inputs, directory / "encode.pt")
    export_onnx(graph, names, inputs, "context", directory / "encode.onnx", directory / WEIGHTS)
    files = {name: known for name, known in spec.files.items() if not name.startswith(("see.", "fuse."))}
    files |= {name: file_hash(directory / name) for name in ("encode.pt", "encode.onnx")}
    for name in ("see.pt", "see.onnx", "fuse.pt", "fuse.onnx"):
        (directory / name).unlink()
    spec = spec.model_copy(update={"files": files})
    (directory / "policy.json").write_text(spec.model_dump_json())
    (directory / CHECKSUMS).unlink()
    return directory


@pytest.mark.slow
@pytest.mark.parametrize("runtime", ["onnx", "torchscript", "eager"])
def test_a_bundle_with_one_graph_for_both_still_loads(joint_bundle, make_observation, runtime):
    from policy.bundle import load_bundle

    policy = load_bundle(joint_bundle, runtime, "cpu", threads=1)  # replays the golden pair
    assert policy.reuses_features == (
        runtime == "eager"
    )  # which rebuilds the network instead of loading graphs
    (drawn,) = draw(policy, [make_observation(policy.spec)])
    assert (drawn.features is not None) == policy.reuses_features


@pytest.mark.slow
@pytest.mark.parametrize("runtime", ["onnx", "torchscript", "eager"])
def test_every_runtime_reuses_what_it_saw(bundles, make_observation, runtime):
    from policy.bundle import load_bundle

    policy = load_bundle(bundles("diffusion+sensor"), runtime, "cpu", threads=1)
    assert policy.reuses_features
    first, second = (make_observation(policy.spec, seed=i) for i in (0, 1))
    (seen,) = draw(policy, [first])
    (reused,) = draw(policy, [second], [seen.features])
    (fresh,) = draw(policy, [second])
    mixed = make_observation(
        policy.spec, seed=1, images=first.images
    )  # the first's images, the second's rest
    np.testing.assert_allclose(reused.actions, draw(policy, [mixed])[0].actions, atol=1e-5)
    assert np.abs(reused.actions - fresh.actions).max() > 1e-4
