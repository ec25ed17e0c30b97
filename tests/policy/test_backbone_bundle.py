"""Bundles of policies with a backbone: torch sees, any runtime acts, and nothing that was altered is served."""

from __future__ import annotations

import gc
import shutil
import sys
import weakref

import numpy as np
import pytest
from safetensors.numpy import load_file

from policy.bundle import load_bundle, read_golden, read_golden_seen, read_spec, write_golden
from policy.checksums import CHECKSUMS, file_hash
from policy.errors import UsageError
from policy.export.write_bundle import write_bundle
from policy.loaded import LoadedPolicy
from policy.networks.backbone import model
from policy.networks.backbone.files import find_backbone
from policy.observation import SampleOptions
from policy.runtimes.eager import EagerBackend
from tests.tiny_backbones import KINDS, write_backbone

RUNTIMES = ("onnx", "torchscript", "eager")


def draw(policy, observation, seen=None):
    return policy.predict([observation], [SampleOptions(seed=3)], [seen])[0]


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_every_runtime_acts_on_what_torch_sees_and_may_reuse_it(backbone_bundle, make_observation, runtime):
    policy = load_bundle(backbone_bundle, runtime, "cpu", threads=1)  # replays the golden pair
    assert (policy.runtime, policy.reuses_features) == (runtime, True)
    first, second = (make_observation(policy.spec, seed=seed) for seed in (0, 1))
    seen = draw(policy, first).features
    assert seen.shape == (96, 32)
    mixed = make_observation(
        policy.spec, seed=1, images=first.images
    )  # the first's images, the second's rest
    reused = draw(policy, second, seen).actions
    np.testing.assert_allclose(reused, draw(policy, mixed).actions, atol=1e-4)
    assert np.abs(reused - draw(policy, second).actions).max() > 1e-3
    assert np.abs(reused - draw(policy, first).actions).max() > 1e-3


def test_runtimes_agree(backbone_bundle, make_observation):
    drawn = []
    for runtime in RUNTIMES:
        policy = load_bundle(backbone_bundle, runtime, "cpu", threads=1)
        drawn.append(draw(policy, make_observation(policy.spec)).actions)
    np.testing.assert_allclose(drawn[1], drawn[0], atol=1e-3)
    np.testing.assert_allclose(drawn[2], drawn[0], atol=1e-3)


@pytest.mark.parametrize("kind", KINDS)
def test_in_16_bits_too_a_chunk_is_the_same_whatever_shares_the_run(
    make_spec, make_network, see_through, make_observation, kind
):
    spec = see_through(make_spec(cameras=("front", "side")), kind, dtype="bf16")
    policy = LoadedPolicy(spec, EagerBackend(make_network(spec), "cpu", threads=1))
    texts = ("go", "pick up the green cube", "open it", "go")  # in one run shorter ones would be padded
    observations = [make_observation(spec, seed=i, instruction=text) for i, text in enumerate(texts)]
    options = [SampleOptions(seed=i) for i in range(4)]
    together = policy.predict(observations, options)
    for observation, option, shared in zip(observations, options, together, strict=True):
        (alone,) = policy.predict([observation], [option])
        np.testing.assert_array_equal(shared.features, alone.features)
        np.testing.assert_allclose(shared.actions, alone.actions, rtol=1e-5, atol=1e-5)


def test_a_bundle_holds_adapters_and_projections_and_names_the_backbone(backbone_bundle):
    spec = read_spec(backbone_bundle)
    assert not any(name.startswith("see.") for name in spec.files)
    names = set(load_file(backbone_bundle / "model.safetensors"))
    assert {"encoder.projection.weight", "encoder.kinds"} <= names
    assert sum(name.startswith("encoder.lora.") for name in names) == 8
    assert not any("vision" in name or "embed_tokens" in name for name in names)
    card = (backbone_bundle / "README.md").read_text()
    assert spec.backbone.name in card
    assert "views in this order: front, side" in card


def test_a_bundle_with_its_own_copy_of_the_backbone_needs_nothing_else_and_nothing_altered(
    tmp_path, make_spec, make_network, see_through, make_observation
):
    original = write_backbone(tmp_path / "own", seed=7)  # which no other test looks through
    sha = find_backbone(str(original), download=False).sha256()
    spec = see_through(make_spec(), name=str(original), sha256=sha)
    bundle = tmp_path / "bundle"
    write_bundle(bundle, make_network(spec), spec, with_backbone=True)
    shutil.rmtree(original)
    gc.collect()
    policy = load_bundle(bundle, "onnx", "cpu", threads=1)
    assert np.isfinite(draw(policy, make_observation(policy.spec)).actions).all()
    del policy
    gc.collect()
    with (bundle / "backbone" / "model.safetensors").open("r+b") as weights:
        weights.seek(-4, 2)
        weights.write(b"\1\2\3\4")
    with pytest.raises(UsageError, match="SHA-256"):
        load_bundle(bundle, "onnx", "cpu", threads=1)
    shutil.rmtree(bundle / "backbone")
    for runtime in RUNTIMES:
        with pytest.raises(UsageError, match="no such directory") as refused:
            load_bundle(bundle, runtime, "cpu", threads=1)
        assert str(original) in str(refused.value)


def changed_golden(bundle, tmp_path, change):
    """A copy of the bundle whose golden pair was changed, hashes included."""
    copied = tmp_path / "changed"
    shutil.copytree(bundle, copied)
    path = copied / "golden.npz"
    observation, actions = read_golden(path)
    write_golden(path, *change(observation, actions, read_golden_seen(path)))
    spec = read_spec(bundle)
    spec = spec.model_copy(update={"files": {**spec.files, path.name: file_hash(path)}})
    (copied / "policy.json").write_text(spec.model_dump_json())
    (copied / CHECKSUMS).unlink(missing_ok=True)
    return copied


def test_a_backbone_that_sees_something_else_is_refused(backbone_bundle, tmp_path):
    """As another version of a processor or of the model's code would."""

    def darker(observation, actions, seen):
        images = {name: image // 2 for name, image in observation.images.items()}
        return (
            type(observation)(images, observation.state, observation.instruction, observation.sensors),
            actions,
            seen,
        )

    with pytest.raises(UsageError, match="away from what was exported"):
        load_bundle(changed_golden(backbone_bundle, tmp_path, darker), "onnx", "cpu", threads=1)


def test_a_head_that_acts_otherwise_is_refused(backbone_bundle, tmp_path):
    def moved(observation, actions, seen):
        return observation, actions + np.float32(0.01), seen

    with pytest.raises(UsageError, match="misses the golden pair"):
        load_bundle(changed_golden(backbone_bundle, tmp_path, moved), "onnx", "cpu", threads=1)


def test_what_16_bit_arithmetic_differs_by_is_no_reason_to_refuse(backbone_bundle, tmp_path):
    def rounded(observation, actions, seen):
        noise = np.random.default_rng(0).normal(0, 0.01, seen.shape).astype(np.float32)
        return observation, actions, seen * (1 + noise)

    copied = changed_golden(backbone_bundle, tmp_path, rounded)
    path = copied / "golden.npz"
    observation, _ = read_golden(path)
    policy = load_bundle(backbone_bundle, "eager", "cpu", threads=1)
    drawn = policy.predict([observation], [SampleOptions(seed=0)], [read_golden_seen(path)])[0].actions
    copied = changed_golden(
        copied, tmp_path / "again", lambda observation, _, seen: (observation, drawn, seen)
    )
    load_bundle(copied, "onnx", "cpu", threads=1)


def test_a_server_without_torch_says_what_to_install(backbone_bundle, monkeypatch):
    monkeypatch.setitem(sys.modules, "policy.runtimes.torch_backbone", None)
    with pytest.raises(UsageError, match=r"\.\[vlm\]"):
        load_bundle(backbone_bundle, "onnx", "cpu", threads=1)


@pytest.mark.parametrize("missing", ["transformers", "peft"])
def test_what_a_backbone_takes_and_is_not_there_is_told_with_the_extra_that_brings_it(
    backbone_bundle, monkeypatch, missing
):
    for name in ("_BACKBONES", "_MODELS"):
        monkeypatch.setattr(model, name, weakref.WeakValueDictionary())  # what another test may still hold
    monkeypatch.setitem(sys.modules, missing, None)
    with pytest.raises(UsageError, match=rf"{missing}; run: .*\.\[vlm\]"):
        load_bundle(backbone_bundle, "onnx", "cpu", threads=1)


def test_a_policy_without_a_backbone_has_none_to_copy(tmp_path, make_spec, make_network):
    with pytest.raises(UsageError, match="no backbone to copy"):
        write_bundle(tmp_path / "bundle", make_network(make_spec()), make_spec(), with_backbone=True)
