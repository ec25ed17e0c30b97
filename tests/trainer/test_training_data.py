"""Validation holds out whole sessions where a dataset knows them, and is split as ever where it does not."""

from __future__ import annotations

import dataclasses

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from clients.lerobot_v3.layout import VECTOR_COLUMNS
from policy.errors import UsageError
from tests.trainer.dots import write_dots
from trainer.train import Trainer
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


@pytest.mark.parametrize(
    ("which", "told", "value"),
    [
        ("state", "state", np.nan),
        ("action", "action", np.inf),
        ("environment_state", "environment state", np.nan),
    ],
)
def test_a_number_that_is_none_is_told_with_its_place_before_anything_is_trained(
    make_args, make_dataset, tmp_path, which, told, value
):
    """Its episode held out or not: every batch would be skipped, or no epoch be better than another."""
    data = make_dataset(tmp_path / "data", [8] * 6, size=32)
    for path in (data / "data").rglob("*.parquet"):
        rows = pq.read_table(path)
        column = VECTOR_COLUMNS[which]
        numbers = rows[column].to_pylist()
        numbers[21][-1] = value
        field = rows.schema.field(column)
        array = pa.array(numbers, type=field.type)
        pq.write_table(rows.set_column(rows.schema.get_field_index(column), field, array), path)
    with pytest.raises(UsageError, match=f"data: the {told} of episode 2 is not finite at frame 5"):
        Trainer(make_args(dataset_dir=(data,)))
