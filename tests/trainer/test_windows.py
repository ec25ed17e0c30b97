"""Samples: every frame with its own actions, chunks that end with their episode, episodes never split in two."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trainer.windows import Windows, split_episodes


@given(
    episodes=st.integers(1, 200), share=st.floats(0, 1.5), seed=st.integers(0, 2**31),
)  # fmt: skip
@settings(max_examples=200, deadline=None)
def test_whole_episodes_are_held_out_and_none_is_lost_or_doubled(episodes, share, seed):
    train, held_out = split_episodes(episodes, share, seed)
    assert sorted([*train, *held_out]) == list(range(episodes))
    assert len(train) >= 1
    if share > 0 and episodes > 1:
        assert len(held_out) >= 1
    if share == 0:
        assert len(held_out) == 0


def test_the_share_held_out_is_the_one_asked_for():
    assert len(split_episodes(200, 0.05, 0)[1]) == 10


def test_the_split_follows_from_the_seed():
    assert np.array_equal(split_episodes(50, 0.2, 3)[1], split_episodes(50, 0.2, 3)[1])
    assert not np.array_equal(split_episodes(50, 0.2, 3)[1], split_episodes(50, 0.2, 4)[1])


def test_training_and_validation_share_no_frame_and_no_action(make_cache):
    cache = make_cache([7, 3, 9, 5, 6])
    train, held_out = split_episodes(5, 0.4, 1)
    seen = []
    for episodes in (train, held_out):
        windows = Windows(cache, episodes, horizon=12)
        batch = windows.batch(np.arange(len(windows)))
        seen.append(set(np.abs(batch.actions[batch.valid][:, 0]).astype(int)))
    assert not seen[0] & seen[1]
    assert seen[0] | seen[1] == set(range(2 * 30))


def test_frames_too_far_before_a_demonstration_are_left_out_and_others_say_how_far(make_cache):
    cache = replace(make_cache([5, 4]), demonstrated_from=np.array([5, 0]))  # two actions a frame
    for max_prefix, leads in {0: [0] * 6, 3: [3, 1] + [0] * 6, 32: [5, 3, 1] + [0] * 6}.items():
        windows = Windows(cache, np.arange(2), horizon=4, max_prefix=max_prefix)
        batch = windows.batch(np.arange(len(windows)))
        assert batch.lead.tolist() == leads
        assert len(set(windows.frames)) == len(windows)


@pytest.mark.parametrize("lengths", [[12, 5], [1100]], ids=["12 frames", "1100 frames"])
def test_images_and_actions_stay_paired_where_sorting_by_text_would_mispair_them(
    make_cache, numbers_of, lengths
):
    """Frame 10 sorts before frame 2 as text; the original trained on such pairs."""
    cache = make_cache(lengths)
    windows = Windows(cache, np.arange(len(lengths)), horizon=4)
    batch = windows.batch(np.random.default_rng(0).permutation(len(windows)))
    frames = numbers_of(batch.images[:, 0])
    np.testing.assert_array_equal(batch.actions[:, 0, 0], 2 * frames)
    np.testing.assert_array_equal(batch.state[:, 0], frames)
    np.testing.assert_array_equal(batch.environment_state[:, 2], np.float32(frames / 100))


def test_pairs_survive_many_data_files(make_cache, numbers_of):
    """File 10 sorts before file 2 as text too."""
    cache = make_cache([3] * 14, data_files_size_in_mb=1e-5, chunks_size=5)
    windows = Windows(cache, np.arange(14), horizon=2)
    batch = windows.batch(np.arange(len(windows)))
    np.testing.assert_array_equal(numbers_of(batch.images[:, 0]), np.arange(42))
    np.testing.assert_array_equal(batch.actions[:, 0, 0], 2 * np.arange(42))


def test_every_frame_is_a_sample_and_not_only_first_ones(make_cache, numbers_of):
    cache = make_cache([6, 4, 8])
    windows = Windows(cache, np.arange(3), horizon=4)
    frames = numbers_of(windows.batch(np.arange(len(windows))).images[:, 0])
    assert sorted(frames) == list(range(18))


@pytest.mark.parametrize("per_frame", [1, 2, 5])
def test_a_chunk_is_the_actions_that_follow_and_ends_with_its_episode(make_cache, per_frame):
    lengths, horizon = [4, 6], 11
    cache = make_cache(lengths, per_frame=per_frame)
    windows = Windows(cache, np.arange(2), horizon)
    batch = windows.batch(np.arange(10))
    ends = np.repeat(np.cumsum(lengths) * per_frame, lengths)
    for row in range(10):
        first, end = row * per_frame, ends[row]
        inside = min(horizon, end - first)
        assert batch.valid[row].tolist() == [True] * inside + [False] * (horizon - inside)
        np.testing.assert_array_equal(batch.actions[row, :inside, 0], np.arange(first, first + inside))
        # Past the end: the episode's last action, never the next episode's first.
        assert np.all(batch.actions[row, inside:, 0] == end - 1)


def test_each_sample_has_its_own_episodes_instruction(make_cache):
    from policy.text import tokenize

    windows = Windows(make_cache([3, 3, 3]), np.arange(3), horizon=2)
    tokens = windows.batch(np.arange(9)).tokens
    for row, task in enumerate([0, 0, 0, 1, 1, 1, 0, 0, 0]):
        np.testing.assert_array_equal(tokens[row], tokenize(f"do task {task}"))


def test_cameras_keep_their_order(make_cache):
    batch = Windows(make_cache([3], cameras=("front", "side")), np.arange(1), 2).batch(np.arange(3))
    assert batch.images.shape == (3, 2, 8, 8, 3)
    assert np.all(batch.images[:, 0, ..., 2] == 10)
    assert np.all(batch.images[:, 1, ..., 2] == 11)
