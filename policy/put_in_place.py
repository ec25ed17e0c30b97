"""A finished directory takes the place of the one before: whatever kills it, one of the two is there."""

from __future__ import annotations

import shutil
from pathlib import Path


def put_in_place(building: Path, directory: Path, before: Path) -> None:
    """Rename `building` to `directory`, and remove what lay there.

    Args:
        building: what is finished.
        directory: where it belongs.
        before: where what lay there is moved for a moment; a kill between the two renames leaves it there.
    """
    if directory.exists():  # otherwise an earlier kill has left what was before as all there is
        shutil.rmtree(before, ignore_errors=True)
        directory.rename(before)
    building.rename(directory)
    shutil.rmtree(before, ignore_errors=True)
