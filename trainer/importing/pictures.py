"""The pictures of one camera on disk: their times read from their names as numbers, their contents checked."""

from __future__ import annotations

import re
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from clients.lerobot_v3 import decode_rgb, encode_rgb
from policy.preprocess import fit_image
from policy.spec import CameraSpec
from trainer.importing.report import SessionReport

# `zed_41182735_left_1761551500.174.jpg`, `1761551500.174000.jpg`, `17.jpg`
_NUMBERED = re.compile(r"(?:.*_)?(\d+(?:\.\d+)?)\.jpe?g", re.IGNORECASE)


@dataclass(frozen=True)
class Pictures:
    """N pictures in order of time."""

    times: np.ndarray  # float64 [N], s, strictly ascending
    paths: Sequence[Path]

    def __len__(self) -> int:
        return len(self.times)


def list_pictures(directory: Path, report: SessionReport) -> Pictures:
    """The JPEGs of a directory by the number that ends their names: a time, or a step.

    Sorted as numbers: as text, 10 comes before 2 and 1000.5 before 999.5.
    """
    numbered: dict[float, Path] = {}
    files = [path for path in directory.iterdir() if path.suffix.lower() in (".jpg", ".jpeg")]
    report.found["pictures"] += len(files)
    for path in files:
        match = _NUMBERED.fullmatch(path.name)
        if match is None:
            report.drop("picture: no time in its name", 1)
        elif float(match[1]) in numbered:
            report.drop("picture: same time as another", 1)
        else:
            numbered[float(match[1])] = path
    times = sorted(numbered)
    return Pictures(np.array(times, np.float64), [numbered[time] for time in times])


def read_picture(path: Path, size: tuple[int, int], quality: int) -> bytes | None:
    """The picture at (height, width), encoded; the file itself where it has that size. None if it is not whole."""
    try:
        encoded = path.read_bytes()
        image = decode_rgb(encoded)  # every pixel: a cut-off file has a sound header
    except (OSError, EOFError, ValueError, SyntaxError, struct.error, Image.DecompressionBombError):
        return None
    if image.shape[:2] == size:
        return encoded
    return encode_rgb(fit_image(image, CameraSpec(name="import", height=size[0], width=size[1])), quality)
