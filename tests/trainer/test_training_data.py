"""Validation holds out whole sessions where a dataset knows them, and is split as ever where it does not."""

from __future__ import annotations

import dataclasses

import numpy as np

from tests.trainer.dots import write_dots
from trainer.training_data import open_training_data
from trainer.windows import split_episodes


def in_sessions(episodes):
    """Three to a session, the sessions lying mixed."""
    return [
        dataclasses.replace(one, extra={**one.extra, "session": f"recording-{number % 4}"})
        for number, one in enumerate(episodes)
    ]


def test_no_session_is_on_both_sides(tmp_path):
    dataset = write_dots(tmp_path / "dots", frames=4, change=in_sessions)
    seen = set()
    for seed in range(6):
        data = open_training_data([dataset], 8, 4, 0.25, seed)
        train, held_out = data.splits[0]
        assert sorted([*train, *held_out]) == list(range(12))
        assert {number % 4 for number in train}.isdisjoint(number % 4 for number in held_out)
        assert len(held_out) == 3
        seen.add(tuple(held_out))
    assert len(seen) > 1


def test_one_session_is_never_split(tmp_path):
    def one_session(episodes):
        return [dataclasses.replace(one, extra={"session": "only"}) for one in episodes]

    dataset = write_dots(tmp_path / "dots", episodes=3, frames=4, change=one_session)
    train, held_out = open_training_data([dataset], 8, 4, 0.5, 0).splits[0]
    assert list(train) == [0, 1, 2]
    assert len(held_out) == 0


def test_without_sessions_the_split_is_that_of_episodes(tmp_path):
    dataset = write_dots(tmp_path / "dots", frames=4)
    for found, expected in zip(
        open_training_data([dataset], 8, 4, 0.3, 5).splits[0], split_episodes(12, 0.3, 5), strict=True
    ):
        np.testing.assert_array_equal(found, expected)
