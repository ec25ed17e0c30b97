"""What the allocator does with large blocks, in a process of its own: the setting is for good."""

from __future__ import annotations

import subprocess
import sys

import pytest

# Blocks of their own are counted by mallinfo2's fourth field, `hblks`.
_COUNT = """
import ctypes
import numpy as np
from service.freed_memory import give_back, keep_large_apart

class Info(ctypes.Structure):
    _fields_ = [(f"field_{{n}}", ctypes.c_size_t) for n in range(10)]

libc = ctypes.CDLL("libc.so.6")
libc.mallinfo2.restype = Info
{first}
for _ in range(3):  # each free raises the size from which a block is one of its own
    block = np.empty(30 * 2**20, np.uint8)
    del block
before = libc.mallinfo2().field_3
kept = [np.empty(8 * 2**20, np.uint8) for _ in range(4)]
print(libc.mallinfo2().field_3 - before)
give_back()
"""


@pytest.mark.parametrize(("first", "own"), [("", 0), ("keep_large_apart()", 4)])
def test_large_blocks_stay_apart_only_when_told_so(first: str, own: int) -> None:
    done = subprocess.run(
        [sys.executable, "-c", _COUNT.format(first=first)], capture_output=True, text=True, check=True
    )
    assert int(done.stdout) == own
