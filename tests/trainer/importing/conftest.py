"""Imports in one line."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from clients.lerobot_v3 import LeRobotDataset
from tests.trainer.importing.recordings import VIEWS
from trainer.import_command import import_dataset
from trainer.importing.settings import ImportArgs


class Imported:
    """A dataset, its report and what was said."""

    def __init__(self, root: Path, said: str) -> None:
        self.root = root
        self.dataset = LeRobotDataset(root)
        self.report: dict[str, Any] = json.loads((root / "import-report.json").read_text())
        self.dropped: dict[str, int] = self.report["dropped"]
        self.said = said

    @property
    def notes(self) -> str:
        return "\n".join(note for one in self.report["sessions"] for note in one["notes"])


@pytest.fixture
def imported(tmp_path: Path) -> Callable[..., Imported]:
    """Import a directory; flags as of the command."""

    def run(source: Path, **flags: Any) -> Imported:
        out = io.StringIO()
        root = flags.pop("out", tmp_path / "dataset")
        args = ImportArgs(source, root, **{"views": VIEWS, "size": "32x18", **flags})
        import_dataset(args, Console(file=out, width=200))
        return Imported(root, out.getvalue())

    return run
