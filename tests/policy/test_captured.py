"""Replaying a recorded run gives what running gives: padding, held contexts, and the buffers of both runtimes.

Recording itself needs a GPU. What surrounds it is the same code on the processor, and is tested here.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import ClassVar

import numpy as np
import pytest

from policy.runtimes.captured import CapturedDenoiser, pad_rows, padded_size


def plain(chunk, timestep, prefix_length, context):
    """Mixes everything it is given, row by row."""
    rest = timestep + 10.0 * prefix_length
    return (chunk + rest[:, None, None] + context.sum((1, 2))[:, None, None]).astype(np.float32)


class Recording:
    """Buffers of one size, as a runtime has them, and what was copied into them."""

    made: list[Recording]

    def __init__(self, arrays):
        self.buffers = [np.array(array) for array in arrays]
        self.copied: list[list[bool]] = []
        self.made.append(self)

    def run(self, inputs):
        self.copied.append([array is not None for array in inputs])
        for buffer, array in zip(self.buffers, inputs, strict=True):
            if array is not None:
                np.copyto(buffer, array)
        return plain(*self.buffers)


@pytest.fixture
def recording():
    class Fresh(Recording):
        made: ClassVar[list[Recording]] = []

    return Fresh


def inputs(rows, seed=0):
    rng = np.random.default_rng(seed)
    return (
        rng.normal(size=(rows, 8, 3)).astype(np.float32),
        rng.integers(0, 100, rows),
        rng.integers(0, 4, rows),
        rng.normal(size=(rows, 2, 24)).astype(np.float32),
    )


def test_batches_are_padded_to_powers_of_two():
    assert [padded_size(rows) for rows in (1, 2, 3, 4, 5, 8, 9)] == [1, 2, 4, 4, 8, 8, 16]
    np.testing.assert_array_equal(pad_rows(np.arange(3), 4), [0, 1, 2, 2])


def test_any_batch_gives_what_an_unrecorded_run_gives_from_few_recordings(recording):
    denoise = CapturedDenoiser(recording, plain)
    for seed, rows in enumerate((3, 1, 4, 3, 2, 1)):
        given = inputs(rows, seed)
        np.testing.assert_allclose(denoise(*given), plain(*given), rtol=1e-6)
    assert sorted(len(one.buffers[0]) for one in recording.made) == [1, 2, 4]


def test_the_context_is_copied_once_for_all_steps_of_a_chunk(recording):
    denoise = CapturedDenoiser(recording, plain)
    chunk, timestep, prefix_length, context = inputs(2)
    for step in range(3):
        found = denoise(chunk + step, timestep - step, prefix_length, context)
        np.testing.assert_allclose(
            found, plain(chunk + step, timestep - step, prefix_length, context), rtol=1e-6
        )
    assert [copied[3] for copied in recording.made[0].copied] == [True, False, False]


def test_a_new_context_is_never_taken_for_the_one_held(recording):
    denoise = CapturedDenoiser(recording, plain)
    for seed in range(20):  # fresh arrays each time, so that one may get the address of one freed
        given = inputs(2, seed)
        np.testing.assert_allclose(denoise(*given), plain(*given), rtol=1e-6)


@pytest.mark.parametrize(("of_one_thread", "made"), [(True, 2), (False, 1)])
def test_another_thread_records_anew_where_it_has_to(recording, of_one_thread, made):
    denoise = CapturedDenoiser(recording, plain, of_one_thread=of_one_thread)
    given = inputs(2)
    denoise(*given)
    with ThreadPoolExecutor(1) as other:
        for _ in range(3):
            np.testing.assert_allclose(other.submit(denoise, *given).result(), plain(*given), rtol=1e-6)
    assert len(recording.made) == made


def test_very_large_batches_are_not_recorded(recording):
    denoise = CapturedDenoiser(recording, plain, largest=4)
    given = inputs(5)
    np.testing.assert_allclose(denoise(*given), plain(*given))
    assert recording.made == []


@pytest.fixture(scope="module")
def directory(bundles):
    return bundles("diffusion")


@pytest.mark.slow
def test_onnx_runtimes_bound_buffers_give_what_a_plain_run_gives(directory):
    ort = pytest.importorskip("onnxruntime")
    from policy.runtimes.onnx import session_options
    from policy.runtimes.onnx_replay import OnnxReplay, run_plain

    session = ort.InferenceSession(
        str(directory / "denoise.onnx"), session_options(ort, 1), ["CPUExecutionProvider"]
    )
    denoise = CapturedDenoiser(
        lambda arrays: OnnxReplay(ort, session, arrays, "cpu", "1"), lambda *a: run_plain(ort, session, a)
    )
    earlier = None
    for seed, rows in enumerate((1, 3, 3, 2)):
        given = inputs(rows, seed)
        found = denoise(*given)
        np.testing.assert_allclose(found, run_plain(ort, session, given), atol=1e-5)
        if earlier is not None:  # an answer is not written over by the next run
            np.testing.assert_array_equal(*earlier)
        earlier = (found, found.copy())


@pytest.mark.slow
def test_torchs_buffers_give_what_a_plain_call_gives(make_spec, make_network):
    import torch

    from policy.runtimes.torch_replay import TorchReplay, denoiser

    cpu = torch.device("cpu")
    function = make_network(make_spec()).denoise
    plainly = denoiser(function, cpu)
    assert not isinstance(plainly, CapturedDenoiser)  # the processor launches nothing
    denoise = CapturedDenoiser(lambda arrays: TorchReplay(function, arrays, cpu), plainly)
    for seed, rows in enumerate((1, 3, 3, 2)):
        given = inputs(rows, seed)
        np.testing.assert_allclose(denoise(*given), plainly(*given), atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("runtime", ["onnx", "torchscript", "eager"])
def test_on_a_gpu_recorded_steps_replay_the_golden_pair(directory, runtime):
    """Loading compares with the golden chunk, which eager torch gave on a processor."""
    import torch

    from policy.bundle import load_bundle

    if not torch.cuda.is_available():
        pytest.skip("needs a CUDA device")
    assert load_bundle(directory, runtime, "cuda").device == "cuda"
