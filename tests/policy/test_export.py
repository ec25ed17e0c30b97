"""An exported bundle does what eager torch does, in every runtime, for any step count and batch size."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys

import numpy as np
import onnx
import pytest
import torch
from safetensors.numpy import load_file

from policy.bundle import GOLDEN_TOLERANCE, load_bundle, read_golden, read_spec
from policy.errors import UsageError
from policy.export import write_bundle as module
from policy.export.write_bundle import write_bundle
from policy.observation import SampleOptions

NAMES = ("diffusion", "diffusion+sensor", "regression")
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def load(bundles):
    """(bundle, runtime) -> loaded policy, once."""
    loaded = {}

    def get(name: str, runtime: str):
        if (name, runtime) not in loaded:
            loaded[name, runtime] = load_bundle(bundles(name), runtime, "cpu", threads=1)
        return loaded[name, runtime]

    return get


@pytest.mark.parametrize("options", [
    SampleOptions(ddim_steps=1), SampleOptions(ddim_steps=3), SampleOptions(ddim_steps=10),
    SampleOptions(ddim_steps=100), SampleOptions(sampler="ddpm"),
], ids=lambda o: o.sampler + str(o.ddim_steps or ""))  # fmt: skip
@pytest.mark.parametrize("runtime", ["onnx", "torchscript"])
@pytest.mark.parametrize("name", NAMES)
def test_every_runtime_agrees_with_eager_for_any_steps_and_batch(
    load, make_observation, name, runtime, options
):
    eager, exported = load(name, "eager"), load(name, runtime)
    half = (np.asarray(eager.spec.action.high) - np.asarray(eager.spec.action.low)) / 2
    for batch in (1, 2, 5):
        observations = [make_observation(eager.spec, seed=10 * batch + i) for i in range(batch)]
        if batch == 5 and eager.spec.sensors:
            observations[3] = make_observation(eager.spec, seed=3, sensors={})
        prefix = np.float32([[1.0, 2.0, 0.5]])
        asked = [
            SampleOptions(options.ddim_steps, options.sampler, seed=i, prefix=prefix if i == 1 else None)
            for i in range(batch)
        ]
        expected, found = eager.predict(observations, asked), exported.predict(observations, asked)
        for one, other in zip(expected, found, strict=True):
            assert np.max(np.abs(one.actions - other.actions) / half) < 1e-4
            assert np.ptp(one.actions) > 1e-2  # not both silent


@pytest.mark.parametrize("name", NAMES)
def test_a_chunk_does_not_depend_on_what_shares_its_run(load, make_observation, name):
    policy = load(name, "onnx")
    observations = [make_observation(policy.spec, seed=i) for i in range(4)]
    options = [SampleOptions(seed=i, samples=1 + i % 2) for i in range(4)]
    together = policy.predict(observations, options)
    for i in range(4):
        alone = policy.predict([observations[i]], [options[i]])[0]
        np.testing.assert_allclose(together[i].actions, alone.actions, atol=1e-5)


@pytest.mark.parametrize("name", NAMES)
def test_the_image_the_text_and_the_state_reach_the_actions(load, make_observation, name):
    policy = load(name, "onnx")
    base = make_observation(policy.spec)
    flipped = {camera: image[:, ::-1] for camera, image in base.images.items()}
    others = [
        make_observation(policy.spec, images=flipped),
        make_observation(policy.spec, instruction="press the button"),
        make_observation(policy.spec, state=np.float32([-0.4, 0.9])),
    ]
    seeds = [SampleOptions(seed=0)] * 4
    found = [prediction.actions for prediction in policy.predict([base, *others], seeds)]
    for other in found[1:]:
        assert np.abs(found[0] - other).max() > 1e-4


@pytest.mark.parametrize("name", NAMES)
def test_weights_are_stored_once_in_16_bits(bundles, name):
    directory = bundles(name)
    weights = load_file(directory / "model.safetensors")
    others = {p.name: p.read_bytes() for p in directory.iterdir() if p.name != "model.safetensors"}
    large = {key: tensor for key, tensor in weights.items() if tensor.size >= 64 and tensor.std() > 0}
    assert len(large) > 10
    for key, tensor in large.items():
        assert tensor.dtype == np.float16
        for data in (tensor.tobytes(), tensor.astype(np.float32).tobytes()):
            copies = [file for file, content in others.items() if data in content]
            assert copies == [], f"{key} is also in {copies}"
    assert not any(key.startswith("encoder.auxiliary.") for key in weights)  # training only


@pytest.mark.parametrize("name", NAMES)
def test_the_batch_is_a_free_dimension_of_the_onnx_graphs(bundles, name):
    for file in ("see.onnx", "fuse.onnx", "denoise.onnx"):
        model = onnx.load(bundles(name) / file, load_external_data=False)
        for value in (*model.graph.input, *model.graph.output):
            assert value.type.tensor_type.shape.dim[0].dim_param, (file, value.name)
    onnx.checker.check_model(str(bundles(name) / "denoise.onnx"))


def test_a_bundle_runs_without_torch(bundles):
    code = (
        "import sys; sys.modules['torch'] = None; sys.modules['onnx'] = None\n"
        "from policy.bundle import load_bundle\n"
        f"print(load_bundle({str(bundles('diffusion+sensor'))!r}, threads=1).runtime)"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert found.returncode == 0, found.stderr
    assert found.stdout.strip() == "onnx"


@pytest.mark.parametrize("name", NAMES)
def test_the_stored_contract_lists_every_file_and_rebuilds_the_network(bundles, name, tiny_config):
    spec = read_spec(bundles(name))
    listed = {*spec.files, "policy.json", "SHA256SUMS", "README.md"}
    assert listed == {path.name for path in bundles(name).iterdir()}
    assert json.loads(json.dumps(tiny_config.to_json())) == json.loads(json.dumps(spec.network))


def test_the_model_card_is_made_from_the_contract(bundles):
    card = (bundles("diffusion+sensor") / "README.md").read_text()
    for part in ("# small", "camera `front`", "camera `side`", "sensor `force`", "dx | mm | -10 | 10", "80 Hz",
                 "move the hand to the goal", "Not measured yet"):  # fmt: skip
        assert part in card


def test_the_golden_pair_lies_within_the_contract(bundles):
    observation, actions = read_golden(bundles("diffusion+sensor") / "golden.npz")
    assert set(observation.images) == {"front", "side"}
    assert set(observation.sensors) == {"force"}
    assert observation.instruction == "move the hand to the goal"
    assert actions.shape == (8, 3)


def test_a_directory_that_is_no_bundle_is_never_replaced(tmp_path, make_spec, make_network):
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(UsageError, match="is not empty and is no policy bundle"):
        write_bundle(tmp_path, make_network(make_spec()), make_spec())
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


def test_a_failed_export_leaves_the_old_bundle_in_place(
    tmp_path, bundles, make_spec, make_network, monkeypatch
):
    out = tmp_path / "bundle"
    shutil.copytree(bundles("diffusion"), out)

    def fails(*args, **kwargs):
        raise RuntimeError("the exporter gave up")

    monkeypatch.setattr(module, "export_onnx", fails)
    with pytest.raises(RuntimeError, match="gave up"):
        write_bundle(out, make_network(make_spec(), seed=5), make_spec())
    assert read_spec(out) == read_spec(bundles("diffusion"))


def test_a_runtime_that_misses_the_golden_pair_keeps_the_bundle_from_its_place(
    tmp_path, make_spec, make_network, monkeypatch
):
    right = module.write_golden

    def off(path, observation, actions, seen):
        right(path, observation, actions + 50 * GOLDEN_TOLERANCE, seen)

    monkeypatch.setattr(module, "write_golden", off)
    with pytest.raises(UsageError, match="misses the golden pair"):
        write_bundle(tmp_path / "bundle", make_network(make_spec()), make_spec())
    assert not (tmp_path / "bundle").exists()


def test_weights_that_do_not_fit_16_bits_are_refused(tmp_path, make_spec, make_network):
    network = make_network(make_spec())
    with torch.no_grad():
        network.trunk.pool.weight[0, 0] = 1e6
    with pytest.raises(UsageError, match=r"trunk\.pool\.weight does not fit 16 bits"):
        write_bundle(tmp_path / "bundle", network, make_spec())


def test_a_bundle_of_the_same_name_is_replaced(tmp_path, bundles, make_spec, make_network):
    out = tmp_path / "bundle"
    shutil.copytree(bundles("diffusion+sensor"), out)
    spec = write_bundle(out, make_network(make_spec()), make_spec())
    assert load_bundle(out).spec.hash == spec.hash
    assert not out.with_name("bundle.building").exists()
