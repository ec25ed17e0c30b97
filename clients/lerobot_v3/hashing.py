"""A dataset's identity: one SHA-256 over the contents of its files."""

from __future__ import annotations

import hashlib
from pathlib import Path

from clients.lerobot_v3.layout import dataset_files


def dataset_hash(root: str | Path) -> str:
    """SHA-256 over path and contents of every file of the dataset, in the order of their paths.

    Staged episodes and files that others put beside the dataset do not count.
    """
    root = Path(root)
    digest = hashlib.sha256()
    for path in dataset_files(root):
        with open(path, "rb") as file:
            content = hashlib.file_digest(file, "sha256").hexdigest()
        digest.update(f"{path.relative_to(root).as_posix()}\0{content}\n".encode())
    return digest.hexdigest()
