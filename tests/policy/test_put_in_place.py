"""What is replaced is never gone: the old one or the new one is there, whatever kills the process."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest

from policy import put_in_place as module
from policy.bundle import BEFORE, BUILDING
from policy.put_in_place import put_in_place


class Killed(BaseException):
    pass


def made(directory: Path, says: str) -> Path:
    directory.mkdir()
    (directory / "policy.json").write_text(says)
    return directory


def there(root: Path) -> set[str]:
    return {path.read_text() for path in root.glob("*/policy.json")}


@pytest.mark.parametrize("kill_at", range(4))
def test_a_kill_at_any_step_leaves_the_old_bundle_or_the_new_one(tmp_path, monkeypatch, kill_at):
    """An exception that nobody catches stands for the kill."""
    bundle, building = made(tmp_path / "b", "old"), made(tmp_path / f"b{BUILDING}", "new")
    steps = itertools.count()

    def killed_at(step):
        def stepping(*args, **options):
            if next(steps) == kill_at:
                raise Killed
            return step(*args, **options)

        return stepping

    with monkeypatch.context() as killing:
        killing.setattr(Path, "rename", killed_at(Path.rename))
        killing.setattr(module.shutil, "rmtree", killed_at(module.shutil.rmtree))
        with pytest.raises(Killed):
            put_in_place(building, bundle, tmp_path / f"b{BEFORE}")
    if bundle.exists():
        assert (bundle / "policy.json").read_text() in ("old", "new")
    else:
        assert there(tmp_path) == {"old", "new"}
        assert all(path.name.endswith(BUILDING) for path in tmp_path.iterdir())
    if not building.exists():
        building = made(building, "new")
    put_in_place(building, bundle, tmp_path / f"b{BEFORE}")
    assert [path.name for path in tmp_path.iterdir()] == ["b"]
    assert there(tmp_path) == {"new"}
