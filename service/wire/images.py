"""JPEG and PNG to RGB arrays and back, with a limit on decoded pixels against decompression bombs."""

from __future__ import annotations

import io
import warnings
from typing import Literal

import numpy as np

from policy.errors import TinyVLAError
from service.wire.arrays import Buffer
from service.wire.values import encodable, malformed

ImageFormat = Literal["raw", "jpeg", "png"]

# Twice a 4K frame. A PNG of one colour packs this into 50 kB, so the limit holds for a whole request.
MAX_PIXELS = 2 * 3840 * 2160
# A progressive JPEG paints its whole area once per scan: ten is usual, and thousands fit into a few kilobytes.
_MAX_SCANS = 32
_MODES = ("RGB", "RGBA", "L", "LA", "P", "1")  # 8-bit ones; 16-bit depth and CMYK are no camera's RGB


class PixelBudget:
    """The pixels that the images of one request may still decode to."""

    def __init__(self, pixels: int = MAX_PIXELS) -> None:
        self._total = self._left = pixels

    def spend(self, width: int, height: int, field: str) -> None:
        """Raise `too_large` when the request's images exceed the budget together."""
        self._left -= width * height
        if self._left < 0:
            raise TinyVLAError(
                "too_large",
                f"{field}: {width} x {height} exceeds the {self._total} pixels that one request may hold",
                field=field,
                expected=f"at most {self._total} pixels in all images together",
                actual=f"{width} x {height}",
            )


def sniff(data: Buffer) -> Literal["jpeg", "png"] | None:
    """The format that the first bytes tell."""
    head = bytes(data[:8])
    if head.startswith(b"\xff\xd8\xff"):
        return "jpeg"
    return "png" if head == b"\x89PNG\r\n\x1a\n" else None


def decode_image(data: Buffer, named: str | None, field: str, budget: PixelBudget) -> np.ndarray:
    """uint8 [H, W, 3] RGB; EXIF orientation is not applied, as no camera driver applies it.

    Args:
        data: a JPEG or PNG file.
        named: the format the sender said it is; None where the encoding leaves it to the bytes.
        field: the request field, for errors.
        budget: pixels that the request may still decode to; checked before any is decoded.

    Raises:
        TinyVLAError: `unsupported_media`, `malformed` or `too_large`.
    """
    kind = sniff(data)
    if named not in (None, "jpeg", "png") or (named is None and kind is None):
        actual = encodable(str(named)[:40]) if named is not None else "another format"
        raise _unsupported(field, actual)
    if kind is None or (named is not None and named != kind):
        raise malformed(field, f"a {named} file", kind or "bytes that are none")
    if kind == "jpeg" and bytes(data).count(b"\xff\xda") > _MAX_SCANS:
        raise malformed(field, f"a jpeg of at most {_MAX_SCANS} scans", "more")
    from PIL import Image  # here: a robot that sends raw arrays does without it

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # our own limit is lower
            with Image.open(io.BytesIO(data), formats=[kind.upper()]) as picture:
                budget.spend(*picture.size, field)
                if picture.mode not in _MODES:
                    raise _unsupported(field, f"{kind} of mode {picture.mode}")
                return np.asarray(picture.convert("RGB"))
    except TinyVLAError:
        raise
    except Image.DecompressionBombError:
        raise TinyVLAError("too_large", f"{field}: too many pixels", field=field) from None
    except Exception:  # Pillow's decoders raise OSError, SyntaxError, ValueError, struct.error, ...
        raise malformed(field, f"a whole {kind} file", "one that does not decode") from None


def encode_image(image: np.ndarray, kind: Literal["jpeg", "png"], quality: int = 90) -> bytes:
    """A JPEG or PNG file of uint8 [H, W, 3] RGB."""
    from PIL import Image

    out = io.BytesIO()
    picture = Image.fromarray(np.ascontiguousarray(image))
    if kind == "jpeg":
        picture.save(out, "JPEG", quality=quality)
    else:
        picture.save(out, "PNG", compress_level=1)
    return out.getvalue()


def _unsupported(field: str, actual: str) -> TinyVLAError:
    return TinyVLAError(
        "unsupported_media",
        f"{field}: images must be JPEG or PNG of 8 bits, or raw uint8; got {actual}",
        field=field,
        expected="jpeg, png or raw uint8",
        actual=actual,
    )
