"""Asks the kernel for the rows of a memory-mapped array before they are touched.

Samples come in random order. What is not in memory yet would be read a page at a time, each page waited for, by the
thread that gathers a batch; asked for beforehand, all of a batch is read at once.
"""

from __future__ import annotations

import mmap
from collections.abc import Iterator

import numpy as np


def byte_ranges(array: np.memmap, rows: np.ndarray) -> Iterator[tuple[int, int]]:
    """(first byte, length) of each row in the array's mapping, from the page that it begins in."""
    row_bytes = array.strides[0]
    before = array.offset % mmap.ALLOCATIONGRANULARITY  # a mapping begins at a multiple of that
    for row in rows.tolist():
        begin = before + row * row_bytes
        page = begin - begin % mmap.PAGESIZE
        yield page, begin + row_bytes - page


def read_ahead(array: np.ndarray, rows: np.ndarray) -> None:
    """Have these rows (int [B]) read; returns at once. Does nothing for an array that is in memory anyway."""
    mapping = array.base
    if not (isinstance(array, np.memmap) and isinstance(mapping, mmap.mmap)):
        return
    if hasattr(mmap, "MADV_WILLNEED"):  # not on Windows
        for first, length in byte_ranges(array, rows):
            mapping.madvise(mmap.MADV_WILLNEED, first, length)
