"""The alias table: what a peer's keys mean to the policy, as ``--alias observation/image=corner4`` says."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from policy.errors import UsageError
from policy.spec import PolicySpec

_VECTOR = re.compile(r"(state|action)(?:\[(\d+):(\d+)\])?")
_SENSOR = "sensors."


@dataclass(frozen=True)
class Part:
    """Entries `start` to `stop` of the policy's state or action; all of it when `stop` is None."""

    vector: str  # "state" or "action"
    start: int = 0
    stop: int | None = None

    def bounds(self, dim: int) -> tuple[int, int]:
        """First entry and the one after the last, for a vector of `dim` entries."""
        return self.start, dim if self.stop is None else self.stop

    def lies_in(self, dim: int) -> bool:
        """Whether a vector of `dim` entries has the part."""
        start, stop = self.bounds(dim)
        return start < stop <= dim


@dataclass(frozen=True)
class Alias:
    """One row: the peer's key, and a camera, a part of the state or action, a sensor, or the instruction."""

    key: str
    target: str  # as written
    part: Part | None  # set where the target is a part of a vector

    @property
    def sensor(self) -> str | None:
        """The sensor that is meant, if one is."""
        return self.target.removeprefix(_SENSOR) if self.target.startswith(_SENSOR) else None

    def fits(self, spec: PolicySpec) -> bool:
        """Whether the policy has what the alias names."""
        if self.part is not None:
            return self.part.lies_in(spec.state.dim if self.part.vector == "state" else spec.action.dim)
        if self.sensor is not None:
            return self.sensor in {sensor.name for sensor in spec.sensors}
        return self.target == "instruction" or self.target in {camera.name for camera in spec.cameras}

    def __str__(self) -> str:
        return f"{self.key}={self.target}"


Aliases = tuple[Alias, ...]


def read_aliases(rows: Iterable[str]) -> Aliases:
    """The table from its ``KEY=TARGET`` rows.

    Raises:
        UsageError: a row that does not read, or one that names a key twice for the same target.
    """
    found = tuple(_read_row(row) for row in rows)
    for i, alias in enumerate(found):
        if alias in found[:i]:
            raise UsageError(f"--alias {alias}: given twice")
    return found


def _read_row(row: str) -> Alias:
    key, separator, target = (part.strip() for part in row.partition("="))
    if not (key and separator and target):
        raise UsageError(f"--alias {row!r}: expected KEY=TARGET, such as observation/image=corner4")
    vector = _VECTOR.fullmatch(target)
    if vector is None:
        if "[" in target:
            raise UsageError(f"--alias {row!r}: parts are written state[0:3] or action[0:3]")
        return Alias(key, target, None)
    name, start, stop = vector.groups()
    part = Part(name) if stop is None else Part(name, int(start), int(stop))
    if part.stop is not None and part.stop <= part.start:
        raise UsageError(f"--alias {row!r}: {part.start}:{part.stop} is empty")
    return Alias(key, target, part)


def foreign(aliases: Aliases, spec: PolicySpec) -> list[str]:
    """The rows that name something the policy does not have, for a warning: another policy may have it."""
    return [str(alias) for alias in aliases if not alias.fits(spec)]
