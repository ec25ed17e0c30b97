"""Whether a directory may be collected or imported into: empty, or begun or finished by the very same command."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from clients.lerobot_v3.atomic import writable
from clients.lerobot_v3.opening import load_json
from policy.errors import UsageError


def check_resumable(root: Path, settings: dict[str, Any], kind: str = "collect") -> bool:
    """True when the dataset is already complete; refuses to mix what two different commands make.

    Args:
        kind: what makes it, under which `meta/info.json` keeps the settings.
    """
    note = root / ".staging" / "settings.json"
    done = root / "meta" / "info.json"
    if done.exists():
        if (load_json(done).get("tinyvla") or {}).get(kind) == settings:
            return True
        raise UsageError(f"{root} already holds another dataset; give --out an empty directory")
    if note.exists():
        if load_json(note) != settings:
            raise UsageError(
                f"{root} holds a part of a dataset made with other settings; use those or another --out"
            )
        return False
    temporary = note.with_suffix(".tmp")
    if root.exists() and any(path.is_file() and path != temporary for path in root.rglob("*")):
        raise UsageError(f"{root} is not empty and holds no dataset; give --out an empty directory")
    with writable(note):
        note.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_text(json.dumps(settings))
        temporary.replace(note)
    return False
