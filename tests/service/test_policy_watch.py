"""A watched directory: appearing, changing, going, half-copied and broken bundles, and who is active."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from policy.errors import TinyVLAError
from policy.null import NullPolicy
from policy.spec import PolicySpec
from service.engine import Engine
from service.policy_loader import PolicyLoader
from service.policy_watch import PolicyWatch, scan
from tests.service.bundles import open_fake, touch, write_fake

PATIENCE_S = 20.0


@pytest.fixture
def engine() -> Iterator[Engine]:
    made = Engine()
    made.start()
    yield made
    assert made.drain(PATIENCE_S)


@pytest.fixture
def watch(tmp_path: Path, engine: Engine) -> Iterator[PolicyWatch]:
    """Looks when it is told to."""
    loader = PolicyLoader(engine, max_batch=1)
    loader.start()
    yield PolicyWatch(tmp_path, engine, loader, open_fake)
    loader.close(PATIENCE_S)


@pytest.fixture
def put(tmp_path: Path, everything: PolicySpec) -> Callable[..., Path]:
    """Write a bundle into the directory."""

    def write(directory: str, name: str | None = None, *, broken: str = "", at: int | None = None) -> Path:
        write_fake(tmp_path / directory, everything, name=name, broken=broken)
        if at is not None:
            touch(tmp_path / directory, at)
        return tmp_path / directory

    return write


def names(engine: Engine) -> list[str]:
    return [policy.spec.name for policy in engine.policies]


def active(engine: Engine) -> str:
    return engine.policy.spec.name


def look_twice(watch: PolicyWatch) -> None:
    watch.look()
    watch.look()


def test_at_first_everything_is_loaded_and_the_newest_is_active(
    watch: PolicyWatch, engine: Engine, put: Callable[..., Path]
) -> None:
    put("b", at=2000)
    put("a", at=1000)
    watch.look()
    assert names(engine) == ["a", "b"]
    assert active(engine) == "b"


def test_an_empty_or_absent_directory_waits_for_its_first_bundle(
    watch: PolicyWatch, engine: Engine, put: Callable[..., Path], tmp_path: Path
) -> None:
    tmp_path.rmdir()
    look_twice(watch)
    assert not engine.ready.done()
    put("a")
    look_twice(watch)
    assert active(engine) == "a"


def test_beside_a_policy_given_at_the_start_the_directory_does_not_take_over_by_itself(
    watch: PolicyWatch, engine: Engine, put: Callable[..., Path], everything: PolicySpec
) -> None:
    engine.install(NullPolicy(everything), activate=True)
    put("a")
    look_twice(watch)
    assert (active(engine), names(engine)) == ("null", ["null", "a"])
    put("b")
    look_twice(watch)
    assert active(engine) == "b"  # but what is put there later does


def test_a_bundle_that_changes_takes_its_own_place(
    watch: PolicyWatch, engine: Engine, put: Callable[..., Path]
) -> None:
    put("a", "first")
    watch.look()
    put("a", "second")
    watch.look()
    assert active(engine) == "first"  # it may still be being copied
    watch.look()
    assert names(engine) == ["second"]


def test_a_bundle_that_changes_becomes_active_but_not_one_whose_policy_stays_the_same(
    watch: PolicyWatch, engine: Engine, put: Callable[..., Path]
) -> None:
    a, _ = put("a", at=1000), put("b", at=2000)
    watch.look()
    touch(a, 3000)  # as `tinyvla evaluate --record` does
    look_twice(watch)
    assert (active(engine), names(engine)) == ("b", ["a", "b"])
    put("a", "second")
    look_twice(watch)
    assert (active(engine), names(engine)) == ("second", ["b", "second"])


def test_what_is_being_copied_waits_until_it_is_whole(
    watch: PolicyWatch, engine: Engine, put: Callable[..., Path]
) -> None:
    put("a")
    watch.look()
    half = put("b")
    for size in range(3):
        (half / "model.safetensors").write_bytes(b"x" * size)
        watch.look()
        assert names(engine) == ["a"]
    watch.look()
    assert names(engine) == ["a", "b"]


def test_a_broken_bundle_is_refused_once_and_the_old_one_keeps_serving(
    watch: PolicyWatch, engine: Engine, put: Callable[..., Path], caplog: pytest.LogCaptureFixture
) -> None:
    put("a", "first")
    watch.look()
    put("a", "second", broken="model.safetensors is not the file that was exported (SHA-256 differs)")
    for _ in range(5):
        watch.look()
    assert names(engine) == ["first"]
    told = [record.getMessage() for record in caplog.records if "SHA-256" in record.getMessage()]
    assert len(told) == 1
    put("a", "third")
    look_twice(watch)
    assert names(engine) == ["third"]


def test_what_is_taken_away_is_unloaded_but_never_the_active_one(
    watch: PolicyWatch, engine: Engine, put: Callable[..., Path]
) -> None:
    old, new = put("a", at=1000), put("b", at=2000)
    watch.look()
    shutil.rmtree(old)
    watch.look()
    assert names(engine) == ["a", "b"]  # an export replaces a bundle by way of a moment without one
    look_twice(watch)
    assert names(engine) == ["b"]
    shutil.rmtree(new)
    for _ in range(3):
        watch.look()
    assert active(engine) == "b"
    put("c")
    for _ in range(3):
        watch.look()
    assert names(engine) == ["c"]


def test_the_file_active_says_who_answers(
    watch: PolicyWatch, engine: Engine, put: Callable[..., Path], tmp_path: Path
) -> None:
    (tmp_path / "active").write_text("a\n")
    put("a", at=1000)
    put("b", at=2000)
    watch.look()
    assert active(engine) == "a"
    put("c")
    look_twice(watch)
    assert (active(engine), names(engine)) == ("a", ["a", "b", "c"])
    (tmp_path / "active").write_text("b")
    watch.look()
    assert active(engine) == "b"


def test_a_name_in_the_file_active_that_is_no_bundle_is_told_once_and_changes_nothing(
    watch: PolicyWatch,
    engine: Engine,
    put: Callable[..., Path],
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    put("a")
    (tmp_path / "active").write_text("../a")
    for _ in range(3):
        watch.look()
    assert active(engine) == "a"
    assert sum("'../a'" in record.getMessage() for record in caplog.records) == 1


def test_what_was_unloaded_by_hand_is_loaded_again_when_it_is_to_be_active(
    watch: PolicyWatch, engine: Engine, put: Callable[..., Path], tmp_path: Path
) -> None:
    put("old", at=100)
    put("new", at=200)
    watch.look()
    engine.unload("old")
    (tmp_path / "active").write_text("old\n")
    watch.look()
    assert active(engine) == "old"


def test_the_same_policy_from_elsewhere_is_left_to_elsewhere(
    watch: PolicyWatch, engine: Engine, put: Callable[..., Path]
) -> None:
    copied = put("copy", "null")
    engine.install(open_fake(copied), activate=True, source="bundles/null")
    engine.install(open_fake(put("other")), activate=True)
    watch.look()
    shutil.rmtree(copied)
    for _ in range(3):
        watch.look()
    assert "null" in names(engine)


def test_what_is_being_exported_is_no_bundle_yet(put: Callable[..., Path], tmp_path: Path) -> None:
    put("a")
    put("a.building")
    put(".hidden")
    (tmp_path / "notes").mkdir()
    (tmp_path / "file").touch()
    assert list(scan(tmp_path).bundles) == ["a"]


def test_a_share_that_is_away_changes_nothing_and_neither_does_its_return(
    watch: PolicyWatch,
    engine: Engine,
    put: Callable[..., Path],
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    put("a", at=1000)
    put("b", at=2000)
    watch.look()
    engine.activate(next(policy.label for policy in engine.policies if policy.spec.name == "a"))
    away = tmp_path.with_name("away")
    for mounted_on_an_empty_directory in (False, True):
        tmp_path.rename(away)
        if mounted_on_an_empty_directory:
            tmp_path.mkdir()
        for _ in range(4):
            watch.look()
        if mounted_on_an_empty_directory:
            tmp_path.rmdir()
        away.rename(tmp_path)
        look_twice(watch)
        assert (active(engine), names(engine)) == ("a", ["a", "b"])
    assert sum("cannot be read" in record.getMessage() for record in caplog.records) == 1


def test_what_cannot_be_read_keeps_nobody_else_from_being_served(
    watch: PolicyWatch,
    engine: Engine,
    put: Callable[..., Path],
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    put("a")
    watch.look()
    (tmp_path / "a" / "dangling").symlink_to(tmp_path / "nowhere")
    (tmp_path / "lost+found").mkdir()
    (tmp_path / "lost+found" / "dangling").symlink_to(tmp_path / "nowhere")
    put("b")
    for _ in range(4):
        watch.look()
    assert names(engine) == ["a", "b"]
    told = [record.getMessage() for record in caplog.records if "cannot be read" in record.getMessage()]
    assert len(told) == 2


def test_a_bundle_that_is_renamed_is_served_on_under_its_new_name(
    watch: PolicyWatch, engine: Engine, put: Callable[..., Path], tmp_path: Path
) -> None:
    put("a", at=1000)
    put("b", at=2000)
    watch.look()
    (tmp_path / "a").rename(tmp_path / "z")
    for _ in range(4):
        watch.look()
    assert sorted(names(engine)) == ["a", "b"]
    (tmp_path / "active").write_text("z")
    watch.look()
    assert active(engine) == "a"
    (tmp_path / "active").write_text("b")
    watch.look()
    shutil.rmtree(tmp_path / "z")
    for _ in range(3):
        watch.look()
    assert names(engine) == ["b"]


def test_looking_goes_on_after_an_error(
    watch: PolicyWatch, engine: Engine, put: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    import service.policy_watch as module

    monkeypatch.setattr(module, "INTERVAL_S", 0.001)
    real, failures = scan, iter([OSError("the share is away"), TinyVLAError("internal", "unforeseen")])

    def failing(directory: Path) -> object:
        for failure in failures:
            raise failure
        return real(directory)

    monkeypatch.setattr(module, "scan", failing)
    put("a")
    watch.start()
    assert engine.ready.result(PATIENCE_S).spec.name == "a"
    watch.stop()
