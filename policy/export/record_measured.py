"""Write into a bundle how it was measured; what it does, and its name, stay as they are."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from policy.bundle import BEFORE, BUILDING, read_spec
from policy.checksums import write_checksums
from policy.export.model_card import model_card
from policy.put_in_place import put_in_place
from policy.spec import PolicySpec


def record_measured(directory: Path, protocol: str, rows: Sequence[dict[str, Any]]) -> PolicySpec:
    """Put `rows` (one per task) under `protocol` in policy.json and the model card.

    Rows of the same protocol and task that are there already are replaced, others stay. The bundle is
    replaced as a whole, so that a server watching it never sees half of it.

    Raises:
        UsageError: no bundle, or one whose files were altered.
    """
    directory = directory.resolve()  # a link to a bundle stays one, and `.` gets a name
    spec = read_spec(directory)
    again = {(protocol, row["task"]) for row in rows}
    others = tuple(row for row in spec.measured if (row.get("protocol"), row.get("task")) not in again)
    found = tuple({**row, "protocol": protocol} for row in rows)
    spec = spec.model_copy(update={"measured": (*others, *found)})
    building = directory.with_name(directory.name + BUILDING)
    shutil.rmtree(building, ignore_errors=True)
    shutil.copytree(directory, building)
    (building / "policy.json").write_text(spec.model_dump_json(indent=1) + "\n")
    (building / "README.md").write_text(model_card(spec))
    write_checksums(building, [*spec.files, "policy.json"])
    put_in_place(building, directory, directory.with_name(directory.name + BEFORE))
    return spec
