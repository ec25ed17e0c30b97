"""One episode in memory: encoded camera frames, state and actions that belong together row by row."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from PIL import Image

from clients.lerobot_v3.streams import SensorStream

_MAGIC = {b"\xff\xd8\xff": ".jpg", b"\x89PNG\r\n\x1a\n": ".png"}


@dataclass(frozen=True, eq=False)
class EpisodeArrays:
    """T frames; row t of everything was taken at the same camera instant."""

    task: str  # instruction text
    images: Mapping[str, Sequence[bytes]]  # camera -> T encoded JPEG or PNG
    state: np.ndarray  # float32 [T, D]
    action: np.ndarray  # float32 [T, K*A], the K actions of a frame oldest first
    environment_state: np.ndarray | None = None  # float32 [T, E], privileged
    executed_action: np.ndarray | None = None  # float32 [T, K*A], done where that was not `action`
    extra: Mapping[str, Any] = field(default_factory=dict)  # JSON-able facts about the episode
    sensors: Mapping[str, SensorStream] = field(default_factory=dict)  # name -> stream, at its own rate

    def __len__(self) -> int:
        return len(self.action)

    def arrays(self) -> dict[str, np.ndarray]:
        """The numeric columns by their short names, those that are there."""
        arrays = {"state": self.state, "action": self.action}
        if self.environment_state is not None:
            arrays["environment_state"] = self.environment_state
        if self.executed_action is not None:
            arrays["executed_action"] = self.executed_action
        return arrays

    def check(self) -> None:
        """Raise ValueError unless every part has T >= 1 rows and every number is finite."""
        length = len(self)
        if length == 0:
            raise ValueError("an episode needs at least one frame")
        if not self.task.strip():
            raise ValueError("an episode needs an instruction text")
        for name, array in self.arrays().items():
            if array.dtype != np.float32 or array.ndim != 2 or len(array) != length or not array.shape[1]:
                raise ValueError(
                    f"{name}: expected float32 [{length}, n], got {array.dtype} {list(array.shape)}"
                )
            if not np.isfinite(array).all():
                row = int(np.argwhere(~np.isfinite(array))[0][0])
                raise ValueError(f"{name}: not finite at frame {row}")
        for camera, frames in self.images.items():
            if len(frames) != length:
                raise ValueError(f"images.{camera}: expected {length} frames, got {len(frames)}")

    def image_sizes(self) -> dict[str, tuple[int, int]]:
        """(height, width) of each camera; ValueError where frames are unreadable or differ in size."""
        sizes = {}
        for camera, frames in self.images.items():
            of_frames = [_size(frame, f"images.{camera}, frame {t}") for t, frame in enumerate(frames)]
            if len(set(of_frames)) != 1:
                raise ValueError(f"images.{camera}: frames of different sizes {sorted(set(of_frames))}")
            sizes[camera] = of_frames[0]
        return sizes


def image_suffix(encoded: bytes) -> str | None:
    """`.jpg` or `.png` by the file's first bytes; None for anything else."""
    return next((suffix for magic, suffix in _MAGIC.items() if encoded.startswith(magic)), None)


def encode_rgb(image: np.ndarray, quality: int) -> bytes:
    """uint8 [H, W, 3] to JPEG without chroma subsampling (goal markers are a few pixels), or PNG at quality 0."""
    out = io.BytesIO()
    if quality:
        Image.fromarray(image).save(out, "JPEG", quality=quality, subsampling=0)
    else:
        Image.fromarray(image).save(out, "PNG")
    return out.getvalue()


def decode_rgb(encoded: bytes) -> np.ndarray:
    """uint8 [H, W, 3] of an encoded frame."""
    with Image.open(io.BytesIO(encoded), formats=("JPEG", "PNG")) as image:
        return np.asarray(image.convert("RGB"))


def _size(encoded: bytes, where: str) -> tuple[int, int]:
    if image_suffix(encoded) is None:
        raise ValueError(f"{where}: neither JPEG nor PNG")
    try:
        with Image.open(io.BytesIO(encoded), formats=("JPEG", "PNG")) as image:
            return image.height, image.width
    except (OSError, SyntaxError) as error:
        raise ValueError(f"{where}: unreadable image ({error})") from error
