"""What a question shows: frames of a clip with objects outlined and numbered, as JPEG."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping
from functools import lru_cache

import numpy as np
from jaxtyping import Bool, UInt8
from matplotlib import font_manager
from PIL import Image, ImageDraw, ImageFont
from scipy import ndimage

# By number, from 1: told apart from each other, and bright, so that a dark rim sets them off.
COLORS = (
    (255, 40, 40), (40, 255, 40), (80, 120, 255), (255, 255, 40), (255, 40, 255), (40, 255, 255),
    (255, 150, 0), (170, 80, 255), (160, 255, 150), (255, 170, 200), (190, 130, 60), (255, 255, 255),
)  # fmt: skip
QUALITY = 90


def scaled(frame: UInt8[np.ndarray, "h w 3"], side: int) -> UInt8[np.ndarray, "p q 3"]:
    """The frame with its longer side at `side` pixels."""
    height, width = _size(frame.shape[:2], side)
    return np.asarray(Image.fromarray(frame).resize((width, height), Image.Resampling.BICUBIC))


def rim(mask: Bool[np.ndarray, "h w"], side: int) -> Bool[np.ndarray, "p q"]:
    """Where the outline of a mask is drawn on the scaled frame: just outside of it, two pixels wide or more."""
    height, width = _size(mask.shape, side)
    large = np.asarray(Image.fromarray(mask).resize((width, height), Image.Resampling.NEAREST))
    return ndimage.binary_dilation(large, iterations=max(2, side // 256)) & ~large


def outlined(
    frame: UInt8[np.ndarray, "h w 3"], masks: Mapping[int, Bool[np.ndarray, "h w"]], side: int, numbers: bool = True
) -> UInt8[np.ndarray, "p q 3"]:
    """The scaled frame with each object's outline in the colour of its number, and the number beside it."""
    picture = scaled(frame, side).copy()
    for number, mask in masks.items():
        picture[rim(mask, side)] = COLORS[number - 1]
    image = Image.fromarray(picture)
    draw, font = ImageDraw.Draw(image), _font(max(11, side // 32))
    for number, mask in masks.items() if numbers else ():
        if mask.any():
            draw.text(_place(mask, side), str(number), COLORS[number - 1], font, "mm", stroke_width=2, stroke_fill=0)
    return np.asarray(image)


def jpeg(picture: UInt8[np.ndarray, "h w 3"]) -> bytes:
    found = io.BytesIO()
    Image.fromarray(picture).save(found, "JPEG", quality=QUALITY, subsampling=0)
    return found.getvalue()


def data_url(raw: bytes) -> str:
    return f"data:image/jpeg;base64,{base64.b64encode(raw).decode('ascii')}"


def from_data_url(url: str) -> UInt8[np.ndarray, "h w 3"]:
    raw = base64.b64decode(url.partition(",")[2], validate=True)
    with Image.open(io.BytesIO(raw)) as image:
        return np.array(image.convert("RGB"))


def _size(shape: tuple[int, ...], side: int) -> tuple[int, int]:
    scale = side / max(shape)
    return max(1, round(shape[0] * scale)), max(1, round(shape[1] * scale))


def _place(mask: Bool[np.ndarray, "h w"], side: int) -> tuple[float, float]:
    """Inside the object, as far from its edge as can be: the middle of a ring is not the ring's."""
    depth = np.asarray(ndimage.distance_transform_edt(np.pad(mask, 1)))[1:-1, 1:-1]
    y, x = np.unravel_index(int(depth.argmax()), mask.shape)
    scale = side / max(mask.shape)
    return (float(x) + 0.5) * scale, (float(y) + 0.5) * scale


@lru_cache
def _font(size: int) -> ImageFont.FreeTypeFont:
    return ImageFont.truetype(font_manager.findfont("DejaVu Sans:bold"), size)  # comes with matplotlib
