"""What is read ahead is what the rows consist of, and reading ahead changes nothing."""

from __future__ import annotations

import mmap
from pathlib import Path

import numpy as np
import pytest

from trainer.read_ahead import byte_ranges, read_ahead


@pytest.fixture
def mapped(tmp_path: Path) -> np.memmap:
    """Rows of 3,000 bytes, so that they begin anywhere in a page."""
    values = np.random.default_rng(0).integers(0, 256, (20, 10, 300), np.uint8)
    np.save(tmp_path / "rows.npy", values)
    return np.load(tmp_path / "rows.npy", mmap_mode="r")


def test_the_ranges_hold_the_rows_and_begin_with_a_page(mapped: np.memmap) -> None:
    rows = np.array([7, 0, 19, 7])
    ranges = list(byte_ranges(mapped, rows))
    content = mapped.base[:]
    for row, (first, length) in zip(rows, ranges, strict=True):
        assert first % mmap.PAGESIZE == 0
        assert content[first : first + length].endswith(mapped[row].tobytes())
        assert length < mapped[row].nbytes + mmap.PAGESIZE


def test_reading_ahead_changes_no_value(mapped: np.memmap) -> None:
    before = np.array(mapped)
    read_ahead(mapped, np.arange(20))
    assert np.array_equal(mapped, before)


def test_arrays_in_memory_need_no_reading() -> None:
    array = np.arange(12).reshape(3, 4)
    read_ahead(array, np.array([2]))
    read_ahead(array[1:], np.array([0]))


def test_a_part_of_a_mapped_array_is_left_alone(mapped: np.memmap) -> None:
    read_ahead(mapped[5:], np.array([14]))
