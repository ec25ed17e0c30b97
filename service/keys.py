"""`tinyvla keys`: make the two key files of a server or of one robot, for ZeroMQ CURVE."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import tyro

from policy.errors import UsageError
from service.flags import parse_flags
from service.wire.curve_keys import write_keys


@dataclass(frozen=True)
class KeysArgs:
    """Make a pair of keys for ZeroMQ CURVE: NAME.key to give away and NAME.key_secret to keep."""

    name: tyro.conf.Positional[str]
    """Whose keys: `server`, or a robot's name."""
    out: Path = Path("keys")
    """Directory; made where it does not exist."""


def main(argv: list[str]) -> int:
    """Entry of `tinyvla keys`; raises `UsageError`."""
    args = parse_flags(KeysArgs, argv, "tinyvla keys")
    if Path(args.name).name != args.name:
        raise UsageError(f"{args.name!r} is no name; a file name is expected, such as server")
    public, secret = write_keys(args.out, args.name)
    print(f"{secret}: keep it where it was made")
    print(f"{public}: for the other side")
    return 0
