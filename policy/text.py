"""Instruction text to token ids: hashed character trigrams, as in fastText (Bojanowski et al., 2017).

No vocabulary file, no unknown words; a misspelt instruction keeps most of its trigrams. A vision-language backbone
has a tokenizer of its own and is handed the text itself, as bytes.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Callable

import numpy as np

BUCKETS = 1024  # id 0 is padding
MAX_TOKENS = 96
MAX_BYTES = 512


def tokenize(text: str) -> np.ndarray:
    """int64 [MAX_TOKENS], zero-padded; case, punctuation and spacing do not matter."""
    ids: list[int] = []
    for word in re.findall(r"[^\W_]+", text.lower()):
        marked = f"<{word}>"
        for start in range(len(marked) - 2):
            ids.append(zlib.crc32(marked[start : start + 3].encode()) % (BUCKETS - 1) + 1)
    out = np.zeros(MAX_TOKENS, np.int64)
    out[: min(len(ids), MAX_TOKENS)] = ids[:MAX_TOKENS]
    return out


def to_bytes(text: str) -> np.ndarray:
    """int64 [MAX_BYTES], the text in UTF-8, zero-padded; what is longer is cut at a character."""
    encoded = text.replace("\0", "").encode(errors="ignore")[:MAX_BYTES]
    encoded = encoded.decode(errors="ignore").encode()
    out = np.zeros(MAX_BYTES, np.int64)
    out[: len(encoded)] = np.frombuffer(encoded, np.uint8)
    return out


def from_bytes(tokens: np.ndarray) -> str:
    """Inverse of `to_bytes`."""
    return tokens[tokens > 0].astype(np.uint8).tobytes().decode(errors="ignore")


def text_encoder(has_backbone: bool) -> Callable[[str], np.ndarray]:
    """How a policy's network takes an instruction."""
    return to_bytes if has_backbone else tokenize
