"""Which image files become which arrays, and that a bomb is refused before it is decoded."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest
from PIL import Image

from policy.errors import TinyVLAError
from service.wire.images import PixelBudget, decode_image, encode_image


def png(picture: Image.Image, **options: Any) -> bytes:
    out = io.BytesIO()
    picture.save(out, "PNG", **options)
    return out.getvalue()


def test_png_keeps_every_pixel_in_rgb_order() -> None:
    image = np.random.default_rng(0).integers(0, 256, (7, 5, 3), np.uint8)
    for named in ("png", None):
        decoded = decode_image(encode_image(image, "png"), named, "images.c", PixelBudget())
        np.testing.assert_array_equal(decoded, image)
    assert tuple(
        decode_image(png(Image.new("RGB", (1, 1), (255, 0, 0))), None, "c", PixelBudget())[0, 0]
    ) == (
        255,
        0,
        0,
    )


@pytest.mark.parametrize(
    ("mode", "color"), [("L", 9), ("RGBA", (9, 9, 9, 0)), ("LA", (9, 0)), ("P", 9), ("1", 1)]
)
def test_other_8_bit_modes_become_rgb(mode: str, color: Any) -> None:
    decoded = decode_image(png(Image.new(mode, (4, 3), color)), "png", "images.c", PixelBudget())
    assert (decoded.shape, decoded.dtype) == ((3, 4, 3), np.uint8)


def test_exif_orientation_is_not_applied() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # "rotate by 90 degrees"
    out = io.BytesIO()
    Image.new("RGB", (8, 4)).save(out, "JPEG", exif=exif)
    assert decode_image(out.getvalue(), "jpeg", "images.c", PixelBudget()).shape == (4, 8, 3)


def test_a_bomb_is_refused_before_its_pixels_are_decoded(monkeypatch: pytest.MonkeyPatch) -> None:
    bomb = png(Image.new("1", (9000, 9000)))
    assert len(bomb) < 100_000
    decoded: list[object] = []
    monkeypatch.setattr("PIL.ImageFile.ImageFile.load", lambda self: decoded.append(self))
    with pytest.raises(TinyVLAError) as refusal:
        decode_image(bomb, "png", "images.c", PixelBudget())
    assert (refusal.value.code, refusal.value.field) == ("too_large", "images.c")
    assert decoded == []


def test_a_jpeg_of_thousands_of_scans_is_refused_before_it_is_decoded(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    out = io.BytesIO()
    Image.new("RGB", (64, 64)).save(out, "JPEG", progressive=True)
    good = out.getvalue()
    assert decode_image(good, "jpeg", "images.c", PixelBudget()).shape == (64, 64, 3)
    last = good.rindex(b"\xff\xda")
    bomb = good[:last] + good[last:-2] * 1000 + good[-2:]
    monkeypatch.setattr("PIL.Image.open", lambda *args, **kwargs: pytest.fail("it was opened"))
    with pytest.raises(TinyVLAError) as refusal:
        decode_image(bomb, "jpeg", "images.c", PixelBudget())
    assert (refusal.value.code, refusal.value.field) == ("malformed", "images.c")


def test_a_bomb_that_pillow_itself_refuses_is_too_large_as_well() -> None:
    header = png(Image.new("1", (1, 1)))
    huge = header[:16] + (60_000).to_bytes(4, "big") * 2 + header[24:]
    import zlib

    huge = huge[:29] + zlib.crc32(huge[12:29]).to_bytes(4, "big") + huge[33:]
    with pytest.raises(TinyVLAError) as refusal:
        decode_image(huge, "png", "images.c", PixelBudget())
    assert refusal.value.code == "too_large"
