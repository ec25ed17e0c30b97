"""Camera images small enough to keep and to send once a second."""

from __future__ import annotations

import base64

import numpy as np

from service.wire.images import encode_image

_SIDE = 256  # pixels of the longer side, at most
_QUALITY = 70


class Frame:
    """A small image, encoded the first time that somebody wants to see it, by who wants to."""

    def __init__(self, image: np.ndarray, height: int, width: int) -> None:
        self.image = image  # uint8 [h, w, 3]
        self.height, self.width = height, width  # as it came
        self._url: str | None = None

    def data_url(self) -> str:
        """A JPEG as a `data:` URL."""
        if self._url is None:
            jpeg = encode_image(self.image, "jpeg", _QUALITY)
            self._url = "data:image/jpeg;base64," + base64.b64encode(jpeg).decode("ascii")
        return self._url


def reduce_frame(image: np.ndarray) -> Frame:
    """Every n-th pixel, copied: on the engine's thread, resizing well would cost some fifty times as much."""
    height, width = image.shape[:2]
    step = -(-max(height, width) // _SIDE)
    return Frame(image[::step, ::step].copy(), height, width)
