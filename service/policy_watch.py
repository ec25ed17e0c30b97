"""A directory whose bundles are served: what appears is loaded, what changes is swapped, what goes is unloaded.

A bundle that appears, or changes into another policy, becomes the active one, unless the directory has a file `active`
whose one line names the bundle that is to be. Looked at every second rather than watched by the kernel, whose notices
do not cross the network file systems and volume mounts that bundles come by.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from policy.bundle import BUILDING
from policy.errors import TinyVLAError, UsageError
from service.bundle_shelf import OpenBundle
from service.engine import Engine
from service.freed_memory import give_back
from service.policy_loader import Load, PolicyLoader

log = logging.getLogger(__name__)

ACTIVE = "active"
INTERVAL_S = 1.0

Marks = Mapping[str, Hashable]  # bundle's directory -> names, sizes and times of its files


@dataclass(frozen=True)
class Found:
    """What one look at a directory showed."""

    bundles: Marks  # oldest contract first
    unreadable: Mapping[str, OSError]  # directories that may be bundles


def scan(directory: Path) -> Found:
    """What lies in a directory; raises OSError where it cannot be listed."""
    bundles: list[tuple[int, str, Hashable]] = []
    unreadable: dict[str, OSError] = {}
    for path in directory.iterdir():
        if path.name.startswith(".") or path.name.endswith(BUILDING):
            continue
        try:
            files = {file.name: file.stat() for file in path.iterdir()} if path.is_dir() else {}
        except OSError as error:  # also what goes between two of these lines
            unreadable[path.name] = error
            continue
        if "policy.json" in files:
            mark = tuple(sorted((name, stat.st_size, stat.st_mtime_ns) for name, stat in files.items()))
            bundles.append((files["policy.json"].st_mtime_ns, path.name, mark))
    return Found({name: mark for _, name, mark in sorted(bundles, key=lambda one: one[:2])}, unreadable)


def settled(last: Marks, now: Marks) -> tuple[Marks, set[str]]:
    """(bundles, directories that are gone), each the same in two looks: what is being copied has to wait."""
    return (
        {name: mark for name, mark in now.items() if last.get(name) == mark},
        {name for name in last if name not in now},
    )


class PolicyWatch:
    """Looks at a directory on a thread of its own.

    Args:
        directory: whose subdirectories are bundles.
        engine: serves them.
        loader: loads them beside serving.
        open_bundle: how.
    """

    def __init__(
        self, directory: Path, engine: Engine, loader: PolicyLoader, open_bundle: OpenBundle
    ) -> None:
        self._directory, self._engine = directory, engine
        self._loader, self._open = loader, open_bundle
        self._last: Marks | None = None
        self._gone: set[str] = set()  # at the last look
        self._tried: dict[str, Hashable] = {}  # what was loaded or refused
        self._labels: dict[str, str] = {}  # directory -> the policy in it, wherever it was loaded from
        self._loaded: set[str] = set()  # the policies that are served because they lie here
        self._complained_of: str | None = None  # what the file `active` names in vain
        self._unread: set[str] = set()  # what could not be read at the last look
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._main, name="watch", daemon=True)

    def start(self) -> None:
        """Look until `stop`."""
        self._thread.start()

    def stop(self) -> None:
        """Look no more."""
        self._stop.set()

    def look(self) -> None:
        """One look, and what follows from it. The first one takes everything for settled."""
        if (now := self._scan()) is None:
            return
        bundles, gone = settled(now if self._last is None else self._last, now)
        # Who was given a policy at the start means that one.
        takes_over = self._last is not None or not self._engine.policies
        for name, mark in bundles.items():
            if self._tried.get(name) != mark:
                self._tried[name] = mark
                self._load(name, becomes_active=takes_over)
        for name in list(self._tried):
            if name not in now and name in self._gone:
                self._forget(name)
        # Gone for two looks: an export replaces a bundle by way of a moment without one.
        self._gone = gone | (self._gone - set(now))
        self._last = now
        self._follow(self._wanted())

    def _scan(self) -> Marks | None:
        """The bundles; None where nothing is known of them, so that nothing is to follow.

        What is there and cannot be read is as it was. A directory that has become empty says nothing either: the place
        of a share that is not mounted is empty too.
        """
        try:
            found = scan(self._directory)
        except OSError as error:
            self._cannot_read({"": error})
            return None
        self._cannot_read(found.unreadable)
        last = self._last or {}
        kept = {name: last[name] for name in found.unreadable if name in last}
        bundles = kept | dict(found.bundles)
        return None if last and not bundles else bundles

    def _cannot_read(self, unreadable: Mapping[str, OSError]) -> None:
        for name in unreadable.keys() - self._unread:
            log.warning("%s cannot be read: %s", self._directory / name, unreadable[name])
        self._unread = set(unreadable)

    def _main(self) -> None:
        while True:
            try:
                self.look()
            except Exception:
                log.exception("looking at %s failed; the next look may not", self._directory)
            if self._stop.wait(INTERVAL_S):
                return

    def _wanted(self) -> str | None:
        """The bundle that the file `active` names."""
        try:
            return (self._directory / ACTIVE).read_text("utf-8", "replace").strip() or None
        except OSError:
            return None

    def _load(self, name: str, *, becomes_active: bool) -> None:
        path, before = self._directory / name, self._labels.get(name)
        own = self._is_active(before)
        try:
            (policy,) = self._loader.load(Load(partial(self._open, path), str(path), activate=own)).result()
        except (UsageError, TinyVLAError) as error:
            log.error("%s is not served: %s", path, error)
            return
        except Exception:
            log.exception("%s is not served", path)
            return
        self._labels[name] = policy.label
        if policy.source == str(path):  # otherwise the same policy is there already, from elsewhere
            self._loaded.add(policy.label)
        if before == policy.label:  # its measured figures were recorded, or its files copied anew
            return
        if before is not None:
            self._unload(before)
        if becomes_active and self._wanted() is None and not self._is_active(policy.label):
            self._engine.activate(policy.label)

    def _forget(self, name: str) -> None:
        label = self._labels.get(name)
        elsewhere = [its for other, its in self._labels.items() if other != name]
        if self._is_active(label) and label not in elsewhere:
            return  # it answers until another one is active
        self._labels.pop(name, None)
        del self._tried[name]
        if label is not None:
            self._unload(label)

    def _unload(self, label: str) -> None:
        """Serve it no longer, unless it is from elsewhere or lies here still: a renamed one has two names at first."""
        if label not in self._loaded or label in self._labels.values():
            return
        self._loaded.discard(label)
        try:
            self._engine.unload(label)
        except TinyVLAError as error:
            log.info("%s stays loaded: %s", label, error)
        else:
            give_back()

    def _follow(self, wanted: str | None) -> None:
        if wanted is None:
            return
        label = self._labels.get(wanted)
        if label is not None and all(policy.label != label for policy in self._engine.policies):
            del self._labels[wanted]  # unloaded by who has the admin token, but it lies here still
            self._load(wanted, becomes_active=False)
            label = self._labels.get(wanted)
        if label is None:
            if wanted != self._complained_of:
                log.warning("%s names %r, which is not served", self._directory / ACTIVE, wanted[:200])
            self._complained_of = wanted
        elif not self._is_active(label):
            log.info("%s says that %s is to be active", self._directory / ACTIVE, label)
            self._engine.activate(label)

    def _is_active(self, label: str | None) -> bool:
        try:
            return label is not None and self._engine.named(None).label == label
        except TinyVLAError:  # nothing is loaded yet
            return False
