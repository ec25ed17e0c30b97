"""Instruction text to token ids: hashed character trigrams, as in fastText (Bojanowski et al., 2017).

No vocabulary file, no unknown words; a misspelt instruction keeps most of its trigrams.
"""

from __future__ import annotations

import re
import zlib

import numpy as np

BUCKETS = 1024  # id 0 is padding
MAX_TOKENS = 96


def tokenize(text: str) -> np.ndarray:
    """int64 [MAX_TOKENS], zero-padded; case, punctuation and spacing do not matter."""
    ids: list[int] = []
    for word in re.findall(r"[a-z0-9]+", text.lower()):
        marked = f"<{word}>"
        for start in range(len(marked) - 2):
            ids.append(zlib.crc32(marked[start : start + 3].encode()) % (BUCKETS - 1) + 1)
    out = np.zeros(MAX_TOKENS, np.int64)
    out[: min(len(ids), MAX_TOKENS)] = ids[:MAX_TOKENS]
    return out
