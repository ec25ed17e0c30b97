"""Images of any size become what the spec says: cropped, letterboxed or stretched, or left as they are."""

from __future__ import annotations

import numpy as np
import pytest

from policy.preprocess import fit_image
from policy.spec import CameraSpec


def camera(height: int = 8, width: int = 8, **changes) -> CameraSpec:
    return CameraSpec(name="front", height=height, width=width, **changes)


def plain(height: int, width: int, colour=(200, 100, 50)) -> np.ndarray:
    return np.broadcast_to(np.uint8(colour), (height, width, 3)).copy()


@pytest.mark.parametrize("resize", ["letterbox", "stretch"])
def test_an_image_that_fits_comes_back_untouched(resize):
    image = np.random.default_rng(0).integers(0, 256, (8, 8, 3), np.uint8)
    np.testing.assert_array_equal(fit_image(image, camera(resize=resize)), image)


def test_a_view_of_another_array_comes_back_as_memory_of_its_own_order():
    image = np.random.default_rng(0).integers(0, 256, (8, 8, 3), np.uint8)[::-1, ::-1]
    fitted = fit_image(image, camera())
    assert fitted.flags.c_contiguous
    np.testing.assert_array_equal(fitted, image)


@pytest.mark.parametrize(
    ("shape", "rows", "columns"),
    [
        ((4, 16), slice(3, 5), slice(0, 8)),
        ((16, 4), slice(0, 8), slice(3, 5)),
        ((2, 4), slice(2, 6), slice(0, 8)),
    ],
)
def test_letterboxing_keeps_the_aspect_and_centres_on_black(shape, rows, columns):
    fitted = fit_image(plain(*shape), camera())
    np.testing.assert_array_equal(fitted[rows, columns], plain(8, 8)[rows, columns])
    outside = fitted.copy()
    outside[rows, columns] = 0
    assert not outside.any()


@pytest.mark.parametrize("shape", [(4, 16), (16, 4), (1, 1), (100, 3)])
def test_stretching_fills_the_whole_image(shape):
    np.testing.assert_array_equal(fit_image(plain(*shape), camera(resize="stretch")), plain(8, 8))


def test_a_crop_takes_the_named_share_of_the_incoming_image():
    image = np.random.default_rng(0).integers(0, 256, (16, 32, 3), np.uint8)
    cropped = fit_image(image, camera(crop=(0.25, 0.5, 0.5, 0.25)))
    np.testing.assert_array_equal(cropped, image[4:12, 16:24])


def test_a_crop_smaller_than_a_pixel_still_takes_one():
    assert fit_image(plain(2, 2), camera(crop=(0.0, 0.0, 0.01, 0.01))).shape == (8, 8, 3)


def test_rows_and_columns_are_not_swapped_and_nothing_is_mirrored():
    image = np.zeros((64, 64, 3), np.uint8)
    image[:32, :, 0] = 255  # upper half red
    image[:, 32:, 2] = 255  # right half blue
    fitted = fit_image(image, camera(height=16, width=16))
    assert fitted[2, 2].tolist() == [255, 0, 0]
    assert fitted[2, 13].tolist() == [255, 0, 255]
    assert fitted[13, 2].tolist() == [0, 0, 0]
    assert fitted[13, 13].tolist() == [0, 0, 255]


@pytest.mark.parametrize("filter_", ["box", "bilinear"])
def test_a_marker_of_a_few_pixels_fades_instead_of_vanishing(filter_):
    """Shrinking by sampling single pixels would lose it for most positions."""
    for place in range(0, 60, 7):
        image = np.zeros((64, 64, 3), np.uint8)
        image[place : place + 3, 30:33] = 255
        fitted = fit_image(image, camera(filter=filter_))
        assert fitted.max() > 10


@pytest.mark.parametrize("shape", [(1, 1), (1, 500), (333, 7), (720, 1280)])
@pytest.mark.parametrize("resize", ["letterbox", "stretch"])
def test_every_size_gives_the_size_of_the_spec(shape, resize):
    fitted = fit_image(plain(*shape), camera(height=6, width=10, resize=resize))
    assert fitted.shape == (6, 10, 3)
    assert fitted.dtype == np.uint8
