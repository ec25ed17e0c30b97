"""The needle rig driver's configuration file: addresses, ports, camera names, limits of age."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from policy.errors import UsageError

DEFAULT_FILE = Path(__file__).with_name("needle_rig.toml")

Port = Annotated[int, Field(ge=0, le=65535)]
Seconds = Annotated[float, Field(gt=0, le=3600)]
Name = Annotated[str, Field(min_length=1, max_length=128)]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Ports(_Part):
    """Cameras and sensor are bound here (0 takes a free one), the others are the rig's."""

    cameras: Port
    state: Port
    sensor: Port
    commands: Port


class StaleAfter(_Part):
    """Seconds after which a stream is too old to move by."""

    cameras: Seconds
    state: Seconds
    sensor: Seconds


class EpisodeConfig(_Part):
    """How an episode begins and ends."""

    needs_sensor: bool
    ready_within: Seconds
    time_limit: Seconds


class RigConfig(_Part):
    """The whole file; needle_rig.toml says what each entry means."""

    rig: Name
    listen: Name
    ports: Ports
    cameras: dict[Name, Name] = Field(min_length=1)
    stale_after: StaleAfter
    episode: EpisodeConfig


def load_config(path: Path | None = None) -> RigConfig:
    """Read a configuration; None is the one for the simulated rig on this machine.

    Raises:
        UsageError: unreadable, or the first entry that will not do.
    """
    path = path or DEFAULT_FILE
    try:
        config = RigConfig.model_validate(tomllib.loads(path.read_text()))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise UsageError(f"--robot-config {path}: {getattr(error, 'strerror', None) or error}") from None
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise UsageError(f"--robot-config {path}: {where}: {first['msg']}") from None
    names = list(config.cameras.values())
    if len(set(names)) != len(names):
        raise UsageError(f"--robot-config {path}: cameras: two views are the same camera of the rig")
    return config
