"""Frames to an mp4 that browsers play: H.264 where the encoder is there, else MPEG-4."""

from __future__ import annotations

from collections.abc import Iterable
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, cast

import numpy as np

if TYPE_CHECKING:
    from av.video.stream import VideoStream


def write_video(path: Path, frames: Iterable[np.ndarray], fps: float) -> int:
    """Write uint8 [H, W, 3] RGB frames; returns how many. Whole or not at all.

    Encoders take even sizes alone: an odd frame loses its last row or column.
    """
    import av

    codec = "libx264" if "libx264" in av.codecs_available else "mpeg4"
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.tmp")
    written = 0
    with av.open(str(temporary), "w", format="mp4", options={"movflags": "+faststart"}) as container:
        stream: VideoStream | None = None
        for frame in frames:
            if stream is None:
                stream = cast(
                    "VideoStream", container.add_stream(codec, rate=Fraction(fps).limit_denominator(1000))
                )
                stream.height, stream.width = (size // 2 * 2 for size in frame.shape[:2])
                stream.pix_fmt = "yuv420p"
                stream.options = {"crf": "20", "preset": "veryfast"} if codec == "libx264" else {"q": "3"}
            even = np.ascontiguousarray(frame[: stream.height, : stream.width])
            for packet in stream.encode(av.VideoFrame.from_ndarray(even, format="rgb24")):
                container.mux(packet)
            written += 1
        if stream is not None:
            for packet in stream.encode():
                container.mux(packet)
    if written:
        temporary.replace(path)
    else:
        temporary.unlink()
    return written
