"""Where a backbone's files lie, and the hash that says they are the ones a policy was trained with."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path

from policy.checksums import file_hash
from policy.errors import UsageError
from policy.spec import BackboneSpec

# Weights in safetensors alone: nothing is ever unpickled.
_WEIGHTS = "*.safetensors"
BUNDLED = "backbone"  # a bundle's own copy, in the bundle
DIRECTORY = "TINYVLA_BACKBONE_DIR"  # in the environment: where directories of backbones lie
_SEEN: dict[str, Path] = {}  # hash -> where it was, when somebody looked
_PATTERNS = (_WEIGHTS, "*.json", "*.jinja", "*.txt", "*.model")


@dataclass(frozen=True)
class BackboneFiles:
    """A backbone on this machine."""

    name: str  # of the directory, without where it lies; or repository on the hub
    revision: str | None  # commit on the hub
    directory: Path

    def listed(self) -> list[Path]:
        """Every file that decides what it computes."""
        found = {path for pattern in _PATTERNS for path in self.directory.glob(pattern)}
        return sorted(path for path in found if path.is_file())

    def sha256(self) -> str:
        """Hash over names and contents."""
        digest = hashlib.sha256()
        for path in self.listed():
            digest.update(f"{file_hash(path)}  {path.name}\n".encode())
        expect_backbone(digest.hexdigest(), self.directory)
        return digest.hexdigest()


def expect_backbone(sha256: str, directory: Path) -> None:
    """Look here, in this process, for the backbone with this hash."""
    _SEEN[sha256] = directory


def seen_backbone(sha256: str) -> Path | None:
    """Where this process has seen the backbone with this hash."""
    return _SEEN.get(sha256)


def find_backbone(name: str, revision: str | None = None, *, download: bool) -> BackboneFiles:
    """The files of a directory, or of a repository on the hub.

    Args:
        download: fetch from the hub what this machine's cache of it lacks.

    Raises:
        UsageError: nothing there, or no safetensors among it.
    """
    place = Path(name).expanduser()
    if place.is_dir():
        found = BackboneFiles(place.resolve().name, None, place.resolve())
    elif place.is_absolute() or name.startswith((".", "~")):
        raise UsageError(f"backbone {name}: no such directory")
    else:
        found = _from_hub(name, revision, download)
    if not _is_backbone(found.directory):
        raise UsageError(
            f"backbone {name}: {found.directory} holds no config.json with *.safetensors beside it"
        )
    return found


def find_recorded(wanted: BackboneSpec) -> BackboneFiles:
    """The files that a contract names: in `TINYVLA_BACKBONE_DIR`, where this process saw them, or in the hub's cache.

    Raises:
        UsageError: they are not on this machine, or are not those that the policy was trained with.
    """
    found = _look_for(wanted)
    if found.sha256() != wanted.sha256:
        raise UsageError(
            f"backbone {wanted.name}: {found.directory} holds another one than this policy was trained with "
            "(SHA-256 differs)"
        )
    return found


def _look_for(wanted: BackboneSpec) -> BackboneFiles:
    own = Path(wanted.name).name
    given = os.environ.get(DIRECTORY)
    told = [] if not given else [Path(given).expanduser() / own, Path(given).expanduser()]
    seen = [_SEEN[wanted.sha256]] if wanted.sha256 in _SEEN else []
    recorded = [Path(wanted.name)] if Path(wanted.name).is_absolute() else []  # as older contracts have it
    # A directory that is itself the model may have any name; for one of the hub, its cache goes before that.
    told_now = told if wanted.revision is None else told[:1]
    for place in (*told_now, *recorded, *seen):
        if _is_backbone(place):
            return BackboneFiles(own, None, place)
    try:
        if wanted.revision is not None:
            return find_backbone(wanted.name, wanted.revision, download=False)
    except UsageError:
        if not told:
            raise
    if told and _is_backbone(told[1]):
        return BackboneFiles(own, None, told[1])
    raise UsageError(
        f"backbone {wanted.name}: no such directory on this machine; say what it lies in with {DIRECTORY} "
        "(tinyvla serve: --backbone-dir)"
    )


def _is_backbone(directory: Path) -> bool:
    return (directory / "config.json").is_file() and any(directory.glob(_WEIGHTS))


def _from_hub(name: str, revision: str | None, download: bool) -> BackboneFiles:
    try:
        from huggingface_hub import snapshot_download
        from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError
    except ImportError:
        raise UsageError(
            "backbones need transformers; run: pip install -c constraints.txt -e '.[vlm]'"
        ) from None
    try:
        at = snapshot_download(
            name, revision=revision, allow_patterns=list(_PATTERNS), local_files_only=not download
        )
    except (HFValidationError, HfHubHTTPError, LocalEntryNotFoundError, OSError) as error:
        wanted = f"{name} --revision {revision}" if revision else name
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise UsageError(
            f"backbone {name}: neither a directory nor in this machine's cache of the hub; run: hf download {wanted} "
            f"({reason})"
        ) from None
    return BackboneFiles(name, Path(at).name, Path(at))
