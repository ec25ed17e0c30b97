"""Images from any camera to what the policy's spec says, identically in training and serving."""

from __future__ import annotations

import numpy as np
from PIL import Image

from policy.spec import CameraSpec

_FILTERS = {"box": Image.Resampling.BOX, "bilinear": Image.Resampling.BILINEAR}


def fit_image(image: np.ndarray, camera: CameraSpec) -> np.ndarray:
    """Crop and resize uint8 [H, W, 3] RGB to uint8 [camera.height, camera.width, 3].

    PIL's filters are area-aware when shrinking, so a marker of a few pixels fades instead of vanishing.
    An image that already has the right size and no crop comes back untouched.
    """
    if camera.crop is not None:
        rows, columns = image.shape[:2]
        top, left, height, width = camera.crop
        y0, x0 = round(top * rows), round(left * columns)
        y1, x1 = max(y0 + 1, round((top + height) * rows)), max(x0 + 1, round((left + width) * columns))
        image = image[y0:y1, x0:x1]
    if image.shape[:2] == (camera.height, camera.width):
        return np.ascontiguousarray(image)

    resample = _FILTERS[camera.filter]
    picture = Image.fromarray(np.ascontiguousarray(image), "RGB")
    if camera.resize == "stretch":
        return np.asarray(picture.resize((camera.width, camera.height), resample))

    scale = min(camera.height / image.shape[0], camera.width / image.shape[1])
    height = max(1, min(camera.height, round(image.shape[0] * scale)))
    width = max(1, min(camera.width, round(image.shape[1] * scale)))
    canvas = np.zeros((camera.height, camera.width, 3), np.uint8)
    top, left = (camera.height - height) // 2, (camera.width - width) // 2
    canvas[top : top + height, left : left + width] = np.asarray(picture.resize((width, height), resample))
    return canvas


def fit_for_sending(image: np.ndarray, camera: CameraSpec) -> np.ndarray:
    """What a client may send instead of `image` to save bytes: `fit_image` makes the same of both.

    A crop is cut once, by the policy, so an image of such a camera stays as it is; so does one that is small
    already, and one that is no image, which the policy refuses by name.
    """
    is_image = image.dtype == np.uint8 and image.ndim == 3 and image.shape[2] == 3
    if not is_image or camera.crop is not None or image.size <= 3 * camera.height * camera.width:
        return image
    return fit_image(image, camera)
