"""Where a backbone's files lie, and the hash that says they are the ones a policy was trained with."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

from policy.checksums import file_hash
from policy.errors import UsageError

# Weights in safetensors alone: nothing is ever unpickled.
_WEIGHTS = "*.safetensors"
BUNDLED = "backbone"  # a bundle's own copy, in the bundle
_PATTERNS = (_WEIGHTS, "*.json", "*.jinja", "*.txt", "*.model")


@dataclass(frozen=True)
class BackboneFiles:
    """A backbone on this machine."""

    name: str  # absolute directory, or repository on the hub
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
        return digest.hexdigest()


def find_backbone(name: str, revision: str | None = None, *, download: bool) -> BackboneFiles:
    """The files of a directory, or of a repository on the hub.

    Args:
        download: fetch from the hub what this machine's cache of it lacks.

    Raises:
        UsageError: nothing there, or no safetensors among it.
    """
    place = Path(name).expanduser()
    if place.is_dir():
        found = BackboneFiles(str(place.resolve()), None, place.resolve())
    elif place.is_absolute() or name.startswith((".", "~")):
        raise UsageError(f"backbone {name}: no such directory")
    else:
        found = _from_hub(name, revision, download)
    if not (found.directory / "config.json").is_file() or not list(found.directory.glob(_WEIGHTS)):
        raise UsageError(
            f"backbone {name}: {found.directory} holds no config.json with *.safetensors beside it"
        )
    return found


def _from_hub(name: str, revision: str | None, download: bool) -> BackboneFiles:
    try:
        from huggingface_hub import snapshot_download
        from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError
    except ImportError:
        raise UsageError("backbones need transformers; run: pip install 'tinyvla[vlm]'") from None
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
