"""Which bundle directories may be loaded by name while the server runs, and loading them."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from policy.errors import TinyVLAError
from policy.predictor import Predictor
from service.policy_loader import Load, PolicyLoader
from service.policy_set import ServedPolicy

OpenBundle = Callable[
    [Path], Predictor
]  # verifies and loads a bundle with the server's runtime, device and threads


@dataclass(frozen=True)
class BundleSource:
    """Where policies may come from while the server runs."""

    open: OpenBundle
    roots: tuple[Path, ...] = ()  # beneath which the admin API may load bundles
    watch: Path | None = None  # directory whose bundles are served


class BundleShelf:
    """Bundles beneath the allowed roots.

    Args:
        loader: loads them beside serving.
        open_bundle: how.
        roots: directories; what lies outside, links followed, is refused. Without any nothing may be loaded.
    """

    def __init__(self, loader: PolicyLoader, open_bundle: OpenBundle, roots: Sequence[Path]) -> None:
        self._loader, self._open = loader, open_bundle
        self._roots = [root.resolve() for root in roots]

    def load(self, asked: str, *, activate: bool) -> Future[list[ServedPolicy]]:
        """Load a bundle; see `PolicyLoader.load`.

        Raises:
            TinyVLAError: `forbidden` outside the roots, `unknown_policy` where there is no bundle, `overloaded`.
        """
        path = self.find(asked)
        return self._loader.load(Load(partial(self._open, path), str(path), activate))

    def find(self, asked: str) -> Path:
        """The bundle that a name means: beneath the first root that has it, or an absolute path beneath any."""
        if not self._roots:
            raise TinyVLAError(
                "forbidden",
                "the server was started without --bundle-root, so no bundle may be loaded by name",
            )
        try:
            candidates = [(root / asked).resolve() for root in self._roots]
        except (OSError, ValueError):  # a name that no file system takes
            candidates = []
        inside = [path for path in candidates if any(path.is_relative_to(root) for root in self._roots)]
        if candidates and not inside:
            raise TinyVLAError(
                "forbidden", f"{asked[:200]!r} lies outside --bundle-root", field="bundle", actual=asked[:200]
            )
        for path in inside:
            if os.path.isfile(path / "policy.json"):  # which raises for no name, unlike Path.is_file
                return path
        raise TinyVLAError(
            "unknown_policy",
            f"there is no policy bundle {asked[:200]!r} beneath --bundle-root",
            field="bundle",
            expected="a directory with a policy.json",
            actual=asked[:200],
        )
