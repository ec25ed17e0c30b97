"""Pictures of chunks over the demonstrated ones: a panel an action, and nothing past the end of an episode."""

from __future__ import annotations

import numpy as np

from policy.spec import ActionSpec
from trainer.chunk_pictures import draw_chunks_and_targets

ACTION = ActionSpec(
    names=("x", "y"), units=("mm", "1"), kind="delta", low=(-1.0, -1.0), high=(1.0, 1.0), rate_hz=80.0
)


def drawn(rows: int = 2, target_end: float = 0.0, chunk: float = 0.5) -> np.ndarray:
    target = np.linspace(0, 1, rows * 8 * 2, dtype=np.float32).reshape(rows, 8, 2)
    target[:, 6:] = target_end
    valid = np.ones((rows, 8), bool)
    valid[:, 6:] = False
    return draw_chunks_and_targets(np.full((3, rows, 8, 2), chunk, np.float32), target, valid, ACTION)


def test_a_picture_is_rgb_and_grows_with_the_samples():
    one, two = drawn(1), drawn(2)
    assert one.dtype == np.uint8
    assert one.shape[2] == 3
    assert two.shape[0] == 2 * one.shape[0]
    assert two.shape[1] == one.shape[1]


def test_other_chunks_give_another_picture_and_what_lies_past_the_episode_does_not():
    assert not np.array_equal(drawn(chunk=0.5), drawn(chunk=-0.5))
    np.testing.assert_array_equal(drawn(target_end=0.0), drawn(target_end=50.0))
