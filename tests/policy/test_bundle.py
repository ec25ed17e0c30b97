"""A damaged, incomplete or forged bundle is refused in one line that names the file; nothing is unpickled."""

from __future__ import annotations

import gc
import io
import json
import pickle
import shutil
import weakref
from pathlib import Path

import numpy as np
import pytest

from policy import bundle as module
from policy.bundle import load_bundle, read_golden, read_spec, write_golden
from policy.checksums import CHECKSUMS, file_hash, write_checksums
from policy.errors import UsageError
from policy.null import NullPolicy

pytestmark = pytest.mark.slow
LISTED = (
    "model.safetensors",
    "see.onnx",
    "fuse.onnx",
    "denoise.onnx",
    "see.pt",
    "fuse.pt",
    "denoise.pt",
    "golden.npz",
)


@pytest.fixture
def bundle(bundles, tmp_path) -> Path:
    """A copy that a test may damage."""
    return Path(shutil.copytree(bundles("diffusion+sensor"), tmp_path / "bundle"))


def rewrite(bundle: Path, **changes) -> None:
    """Change entries of `policy.json`, as one who forges a bundle would."""
    path = bundle / "policy.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))
    write_checksums(bundle, ["policy.json"])


def rehash(bundle: Path, name: str) -> None:
    """Make the stored hash fit a file again."""
    files = json.loads((bundle / "policy.json").read_text())["files"]
    rewrite(bundle, files={**files, name: file_hash(bundle / name)})


def refusal(bundle: Path, runtime: str = "auto") -> str:
    with pytest.raises(UsageError) as caught:
        load_bundle(bundle, runtime, "cpu")
    assert "\n" not in str(caught.value)
    assert str(bundle) in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("runtime", ["auto", "onnx", "torchscript", "eager"])
def test_a_whole_bundle_loads_in_every_runtime(bundle, runtime):
    policy = load_bundle(bundle, runtime, "cpu")
    assert policy.runtime == ("onnx" if runtime == "auto" else runtime)
    assert policy.device == "cpu"


@pytest.mark.parametrize("runtime", ["onnx", "torchscript", "eager"])
def test_a_policy_that_is_let_go_of_is_freed_at_once(bundle, runtime):
    """A server that swaps policies would otherwise hold many until cycles are looked for."""
    gc.disable()
    try:
        policy = load_bundle(bundle, runtime, "cpu", threads=1)
        backend = weakref.ref(policy._backend)
        del policy
        assert backend() is None
    finally:
        gc.enable()


@pytest.mark.parametrize("name", LISTED)
def test_one_flipped_bit_is_refused_with_the_files_name(bundle, name):
    data = bytearray((bundle / name).read_bytes())
    data[len(data) // 2] ^= 1
    (bundle / name).write_bytes(data)
    assert f"{name} is not the file that was exported" in refusal(bundle)


@pytest.mark.parametrize("name", LISTED)
def test_a_missing_file_is_named(bundle, name):
    (bundle / name).unlink()
    assert f"{name} is missing" in refusal(bundle)


@pytest.mark.parametrize("name", LISTED)
def test_a_truncated_file_is_named(bundle, name):
    data = (bundle / name).read_bytes()
    (bundle / name).write_bytes(data[: len(data) // 2])
    assert f"{name} is not the file that was exported" in refusal(bundle)


def test_a_directory_without_a_contract_is_no_bundle(bundle):
    (bundle / "policy.json").unlink()
    assert "there is no policy.json" in refusal(bundle)


def test_a_place_where_nothing_is_is_no_bundle(tmp_path):
    assert "no policy bundle" in refusal(tmp_path / "nowhere")


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff\xfe\x00", b'{"format": "tinyvla-policy/9"}'])
def test_an_unreadable_contract_is_one_line(bundle, content):
    (bundle / "policy.json").write_bytes(content)
    assert "policy.json is not the file that was written" in refusal(bundle)
    write_checksums(bundle, ["policy.json"])
    assert "policy.json: " in refusal(bundle)


def test_one_flipped_bit_of_the_contract_is_refused(bundle):
    """The golden pair cannot tell: a camera's name, a unit, the control rate are not in its numbers."""
    path = bundle / "policy.json"
    path.write_text(path.read_text().replace('"rate_hz": 80.0', '"rate_hz": 81.0'))
    assert "policy.json is not the file that was written" in refusal(bundle)


@pytest.mark.parametrize("content", [b"", b"0" * 64, b"not hashes\n", b"0" * 64 + b"  README.md\n"])
def test_a_damaged_list_of_hashes_is_refused(bundle, content):
    (bundle / CHECKSUMS).write_bytes(content)
    assert any(word in refusal(bundle) for word in ("SHA256SUMS: damaged", "SHA-256 differs"))


def test_a_bundle_from_before_there_was_a_list_of_hashes_still_loads(bundle):
    (bundle / CHECKSUMS).unlink()
    assert load_bundle(bundle, device="cpu").spec == read_spec(bundle)


def test_a_wrong_entry_of_the_contract_is_named(bundle):
    rewrite(bundle, horizon=-3)
    assert "policy.json: horizon: " in refusal(bundle)


@pytest.mark.parametrize("name", ["../secret", "/etc/hostname", "sub/file", "..", ".", ""])
def test_files_outside_the_bundle_are_never_looked_at(bundle, name):
    (bundle.parent / "secret").write_text("x")
    files = json.loads((bundle / "policy.json").read_text())["files"]
    rewrite(bundle, files={**files, name: "0" * 64})
    message = refusal(bundle)
    assert "is missing" in message
    assert "SHA-256" not in message


@pytest.mark.parametrize(
    ("runtime", "name"),
    [("onnx", "golden.npz"), ("onnx", "model.safetensors"), ("onnx", "denoise.onnx"), ("torchscript", "see.pt"),
     ("eager", "model.safetensors")],
)  # fmt: skip
def test_a_file_that_would_be_used_unverified_is_refused(bundle, runtime, name):
    files = json.loads((bundle / "policy.json").read_text())["files"]
    rewrite(bundle, files={key: value for key, value in files.items() if key != name})
    assert f"policy.json lists no hash of {name}" in refusal(bundle, runtime)


def test_a_golden_chunk_that_is_off_is_refused(bundle):
    observation, actions = read_golden(bundle / "golden.npz")
    write_golden(bundle / "golden.npz", observation, actions + 0.02)  # of a range of 20: 2e-3
    rehash(bundle, "golden.npz")
    for runtime in ("onnx", "torchscript", "eager"):
        assert "misses the golden pair" in refusal(bundle, runtime)


def test_a_golden_chunk_that_is_not_a_number_is_refused(bundle):
    observation, actions = read_golden(bundle / "golden.npz")
    write_golden(bundle / "golden.npz", observation, actions * np.nan)
    rehash(bundle, "golden.npz")
    assert "misses the golden pair" in refusal(bundle)


def test_changed_statistics_are_caught_by_the_golden_pair(bundle):
    """The contract has no hash of its own, yet normalisation skew does not pass."""
    stats = json.loads((bundle / "policy.json").read_text())["normalization"]
    stats["state"]["maximum"] = [0.9, 1.0]
    rewrite(bundle, normalization=stats)
    assert "misses the golden pair" in refusal(bundle)


class Bomb:
    """Tells when it is unpickled."""

    gone_off = False

    def __reduce__(self):
        return setattr, (Bomb, "gone_off", True)


def test_a_golden_file_with_an_object_array_is_refused_and_never_unpickled(bundle):
    payload = np.array([Bomb()], dtype=object)
    np.savez(bundle / "golden.npz", state=payload, instruction=payload, actions=payload)
    rehash(bundle, "golden.npz")
    assert "golden.npz" in refusal(bundle)
    assert not Bomb.gone_off


@pytest.mark.parametrize("name", ["see.pt", "model.safetensors", "denoise.onnx", "golden.npz"])
def test_a_pickle_in_a_files_place_is_refused_and_never_unpickled(bundle, name):
    buffer = io.BytesIO()
    pickle.dump(Bomb(), buffer)
    (bundle / name).write_bytes(buffer.getvalue())
    rehash(bundle, name)
    refusal(bundle, "torchscript" if name.endswith(".pt") else "onnx")
    assert not Bomb.gone_off


def test_a_torch_pickle_in_a_graphs_place_is_refused_and_never_unpickled(bundle):
    import torch

    torch.save({"model": Bomb()}, bundle / "see.pt")
    rehash(bundle, "see.pt")
    refusal(bundle, "torchscript")
    assert not Bomb.gone_off


@pytest.mark.parametrize("runtime", ["onnx", "eager"])
def test_a_contract_that_does_not_fit_the_graphs_is_one_line(bundle, runtime):
    document = json.loads((bundle / "policy.json").read_text())
    rewrite(bundle, cameras=document["cameras"][:1])
    refusal(bundle, runtime)
    rewrite(bundle, cameras=document["cameras"], horizon=4, max_prefix=2)
    refusal(bundle, runtime)


def test_an_unknown_runtime_names_the_known_ones(bundle):
    with pytest.raises(UsageError, match="choose auto, onnx, torchscript or eager"):
        load_bundle(bundle, "tensorrt")


@pytest.mark.parametrize("runtime", ["onnx", "torchscript", "eager"])
def test_cuda_where_there_is_none_is_one_line(bundle, runtime):
    import torch

    if torch.cuda.is_available():
        pytest.skip("this machine has CUDA")
    with pytest.raises(UsageError, match="device cuda: "):
        load_bundle(bundle, runtime, "cuda")


def test_a_bundle_without_onnx_graphs_runs_in_torchscript(bundle):
    files = json.loads((bundle / "policy.json").read_text())["files"]
    for name in ("see.onnx", "fuse.onnx", "denoise.onnx"):
        (bundle / name).unlink()
        del files[name]
    rewrite(bundle, files=files)
    assert load_bundle(bundle).runtime == "torchscript"


def test_a_golden_pair_survives_storing(tmp_path, make_spec, make_observation, force):
    spec = make_spec(cameras=("front", "side"), sensors=(force,))
    observation = make_observation(spec, instruction='öffne die Tür "jetzt"')
    actions = np.random.default_rng(0).normal(size=(8, 3)).astype(np.float32)
    write_golden(tmp_path / "golden.npz", observation, actions)
    found, chunk = read_golden(tmp_path / "golden.npz")
    np.testing.assert_array_equal(chunk, actions)
    assert found.instruction == observation.instruction
    np.testing.assert_array_equal(found.state, observation.state)
    for part in ("images", "sensors"):
        stored, given = getattr(found, part), getattr(observation, part)
        assert set(stored) == set(given)
        for name in given:
            np.testing.assert_array_equal(stored[name], given[name])


def test_the_golden_error_is_a_share_of_the_action_range(tmp_path, make_spec, make_observation):
    spec = make_spec()
    policy = NullPolicy(spec)
    observation = make_observation(spec)
    actions = policy.predict([observation], [module.SampleOptions(seed=module.GOLDEN_SEED)])[0].actions
    actions[2, 0] += 0.5  # dx: half range 10
    write_golden(tmp_path / "golden.npz", observation, actions)
    assert module.golden_error(policy, tmp_path) == pytest.approx(0.05, rel=1e-4)


def test_reading_the_contract_does_not_need_a_runtime(bundle):
    assert read_spec(bundle).name == "small"
