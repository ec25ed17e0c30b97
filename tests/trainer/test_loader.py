"""The order of the data follows from the seed alone, and the thread that prepares it fails where it can be seen."""

from __future__ import annotations

import threading

import numpy as np
import pytest

from trainer.loader import Samples, batches_per_epoch, prefetch, rows_of_batch
from trainer.windows import Windows


@pytest.mark.parametrize(("samples", "batch_size"), [(10, 5), (10, 3), (1, 8), (17, 16)])
def test_every_sample_comes_once_per_epoch(samples, batch_size):
    per_epoch = batches_per_epoch(samples, batch_size)
    for epoch in range(3):
        numbers = range(epoch * per_epoch, (epoch + 1) * per_epoch)
        rows = np.concatenate([rows_of_batch(number, samples, batch_size, 7) for number in numbers])
        assert sorted(rows) == list(range(samples))


def test_every_epoch_and_every_seed_has_its_own_order():
    orders = [rows_of_batch(n, 50, 50, seed).tolist() for n, seed in ((0, 0), (1, 0), (0, 1))]
    assert orders[0] != orders[1]
    assert orders[0] != orders[2]


def test_a_batch_does_not_depend_on_which_were_asked_before():
    straight = [rows_of_batch(number, 20, 6, 3).tolist() for number in range(8)]
    for number in (7, 2, 5, 0):
        assert rows_of_batch(number, 20, 6, 3).tolist() == straight[number]


def test_several_datasets_are_one_sequence(make_cache, numbers_of):
    caches = [make_cache([4, 3], name="one"), make_cache([5], name="two", scale=1.0)]
    samples = Samples([Windows(cache, np.arange(cache.num_episodes), 4) for cache in caches])
    assert len(samples) == 12
    batch = samples.batch(np.array([11, 0, 8, 3]))
    frames = numbers_of(batch.images[:, 0])
    assert sorted(frames) == [0, 1, 3, 4]  # 0 and 3 of the first, 8 - 7 and 11 - 7 of the second
    np.testing.assert_array_equal(batch.actions[:, 0, 0], 2 * frames)
    assert {len(getattr(batch, name)) for name in vars(batch) if name != "sensors"} == {4}


def test_prepared_items_come_in_order():
    assert list(prefetch(lambda n: n * n, range(3, 40))) == [n * n for n in range(3, 40)]


def test_an_error_of_the_producer_is_raised_where_the_batch_is_used():
    def make(number):
        if number == 5:
            raise ValueError("batch 5 is broken")
        return number

    items = prefetch(make, range(10))
    assert [next(items) for _ in range(5)] == [0, 1, 2, 3, 4]
    with pytest.raises(ValueError, match="batch 5 is broken"):
        next(items)


def test_the_producer_stops_when_nobody_wants_more():
    made, before = [], threading.active_count()
    items = prefetch(lambda number: made.append(number) or number, range(1000), ahead=3)
    assert next(items) == 0
    items.close()  # joins the thread
    assert threading.active_count() == before
    assert len(made) < 10


def test_no_more_is_prepared_than_asked_for():
    """A slow optimiser must not fill the memory with batches."""
    made = []
    items = prefetch(lambda number: made.append(number) or number, range(1000), ahead=2)
    for taken in range(1, 30):
        next(items)
        assert len(made) <= taken + 2 + 1  # in the queue, and the one in hand
    items.close()


def test_an_empty_range_gives_nothing():
    assert list(prefetch(lambda n: n, range(0))) == []
