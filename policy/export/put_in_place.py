"""A finished bundle takes the place of the one before: whatever kills it, one of the two is there."""

from __future__ import annotations

import shutil
from pathlib import Path

from policy.bundle import BUILDING


def put_in_place(building: Path, directory: Path) -> None:
    """Rename `building` to `directory`, and remove what lay there.

    A kill between the two renames leaves both, under names that end in `.building`, which no server loads.
    """
    before = directory.with_name(f"{directory.name}.before{BUILDING}")
    if directory.exists():  # otherwise an earlier kill has left what was before as all there is
        shutil.rmtree(before, ignore_errors=True)
        directory.rename(before)
    building.rename(directory)
    shutil.rmtree(before, ignore_errors=True)
