"""Random shifts move each image by its own few pixels and repeat its edge."""

from __future__ import annotations

import numpy as np

from trainer.augment import random_shift, shifted


def images(batch: int = 40, views: int = 2, size: int = 12) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (batch, views, size, size, 3), np.uint8)


def offset_of(shifted: np.ndarray, image: np.ndarray, most: int) -> tuple[int, int]:
    """The one (dy, dx) that explains a shifted image, edges included."""
    size = len(image)
    found = []
    for dy in range(-most, most + 1):
        for dx in range(-most, most + 1):
            rows, columns = (
                np.clip(np.arange(size) + dy, 0, size - 1),
                np.clip(np.arange(size) + dx, 0, size - 1),
            )
            if np.array_equal(shifted, image[rows][:, columns]):
                found.append((dy, dx))
    assert len(found) == 1
    return found[0]


def test_each_image_of_each_camera_is_shifted_by_its_own_offset_within_the_limit():
    given = images()
    moved = random_shift(given, 2, np.random.default_rng(1))
    offsets = [offset_of(moved[b, v], given[b, v], 2) for b in range(40) for v in range(2)]
    assert {dy for dy, _ in offsets} == {dx for _, dx in offsets} == {-2, -1, 0, 1, 2}
    assert len({tuple(offsets[i : i + 2]) for i in range(0, 80, 2)}) > 20  # views are not tied to each other


def test_the_largest_shift_leaves_a_row_and_a_column():
    (image,) = images(1, 1)[0]
    out = np.empty_like(image)
    shifted(image, 11, -11, out)
    rows, columns = np.clip(np.arange(12) + 11, 0, 11), np.clip(np.arange(12) - 11, 0, 11)
    np.testing.assert_array_equal(out, image[rows][:, columns])


def test_no_shift_leaves_images_alone():
    given = images(3)
    np.testing.assert_array_equal(random_shift(given, 0, np.random.default_rng(0)), given)


def test_the_shift_follows_from_the_generator_and_leaves_its_input_alone():
    given = images(4)
    kept = given.copy()
    one, again, other = (random_shift(given, 3, np.random.default_rng(seed)) for seed in (5, 5, 6))
    np.testing.assert_array_equal(one, again)
    assert not np.array_equal(one, other)
    np.testing.assert_array_equal(given, kept)
    assert one.dtype == np.uint8
