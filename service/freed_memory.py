"""Gives the memory that unloaded policies left back to the system, which glibc by itself does only partly."""

from __future__ import annotations

import contextlib
import ctypes

_M_MMAP_THRESHOLD = -3  # of malloc.h
# Bytes: above a raw 720p image, which comes with every request and is not worth its page faults.
_LARGE = 4 * 2**20


def keep_large_apart() -> None:
    """From now on large blocks come from the system one by one and go back as soon as they are freed.

    glibc raises the size from which that is so, up to 32 MiB, whenever such a block is freed: the weights of every
    policy after the first would then lie among small things that outlive them.
    """
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL("libc.so.6").mallopt(_M_MMAP_THRESHOLD, _LARGE)


def give_back() -> None:
    """A few milliseconds, without Python's lock; nothing where the C library has no `malloc_trim`."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL("libc.so.6").malloc_trim(0)
