"""`tinyvla recover`: makes the dataset of a recording that was killed, or that its disk was too full for."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from clients.lerobot_v3.layout import JOURNALS_DIR
from clients.recording.finish import claim, finish
from policy.errors import UsageError
from service.flags import parse_flags


@dataclass(frozen=True)
class RecoverArgs:
    """Finish a recording that was cut off: all but the last second of it becomes a LeRobotDataset v3.0."""

    directory: Annotated[Path, tyro.conf.Positional]
    """What --save-data was given."""


def main(argv: Sequence[str]) -> int:
    """Entry of `tinyvla recover`."""
    root = parse_flags(RecoverArgs, argv, "tinyvla recover").directory
    if not (root / JOURNALS_DIR).is_dir():
        raise UsageError(f"{root}: holds no recording that was cut off")
    with contextlib.closing(claim(root)):
        finish(root, print)
    return 0
