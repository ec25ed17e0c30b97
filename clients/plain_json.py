"""Anything as strict JSON can hold it, for files that one odd number must not cost."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np


def plain(told: object) -> Any:
    """NumPy's numbers as numbers, what is not finite (JSON has no NaN) as null, the rest as text."""
    if isinstance(told, Mapping):
        return {str(name): plain(value) for name, value in told.items()}
    if isinstance(told, np.ndarray | np.generic):
        told = told.tolist()
    if isinstance(told, list | tuple):
        return [plain(value) for value in told]
    if isinstance(told, float):
        return told if math.isfinite(told) else None
    return told if told is None or isinstance(told, bool | int | str) else str(told)
