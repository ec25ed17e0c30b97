"""SHA256SUMS: the hashes of the files beside it, in the form that `sha256sum -c` reads."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable
from pathlib import Path

from policy.errors import UsageError

CHECKSUMS = "SHA256SUMS"
_LINE = re.compile(r"([0-9a-f]{64})  ([^/\0]+)")


def file_hash(path: Path) -> str:
    """SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_checksums(directory: Path, names: Iterable[str]) -> None:
    """Write SHA256SUMS over `names`; what covers a file must be written after it."""
    lines = [f"{file_hash(directory / name)}  {name}\n" for name in sorted(names)]
    (directory / CHECKSUMS).write_text("".join(lines))


def check_checksums(directory: Path, only: Iterable[str] | None = None) -> None:
    """Compare the listed files, or those of `only`, with their hashes.

    Directories written before there were checksums have none, and pass.

    Raises:
        UsageError: a file that was altered since, is gone or is not listed, or a SHA256SUMS that is none.
    """
    path = directory / CHECKSUMS
    if not path.exists():
        return
    lines = path.read_bytes().decode(errors="replace").split("\n")
    found = [_LINE.fullmatch(line) for line in lines[:-1]]
    if not found or None in found or lines[-1]:
        raise UsageError(f"{path}: damaged; it should hold lines as sha256sum writes them")
    listed = {match[2]: match[1] for match in found if match}
    for name in sorted(listed) if only is None else only:
        if not (directory / name).is_file():
            raise UsageError(f"{directory}: {name} is missing")
        if file_hash(directory / name) != listed.get(name):
            raise UsageError(f"{directory}: {name} is not the file that was written (SHA-256 differs)")
