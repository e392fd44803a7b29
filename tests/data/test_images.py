"""Frames are what a viewer shows, masks are what the numbers say; what could be read in two ways is refused."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from reviosa_core.data import images
from reviosa_core.schema import DataError

H, W = 7, 11
MASK = np.zeros((H, W), np.uint8)
MASK[2:5, 3:9] = 1
PICTURE = np.random.default_rng(0).integers(0, 256, (H, W, 3), dtype=np.uint8)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "a.png"


def oriented(orientation: int) -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return exif


# What a viewer does with the stored picture.
TURNS = {
    1: lambda p: p,
    2: lambda p: p[:, ::-1],
    3: lambda p: p[::-1, ::-1],
    4: lambda p: p[::-1],
    5: lambda p: p.transpose(1, 0, 2),
    6: lambda p: np.rot90(p, -1),
    7: lambda p: np.rot90(p, -1)[:, ::-1][::-1, ::-1],
    8: lambda p: np.rot90(p),
}


@pytest.mark.parametrize("orientation", TURNS)
def test_frames_stand_as_exif_says(file: Path, orientation: int):
    Image.fromarray(PICTURE).save(file, exif=oriented(orientation))
    due = TURNS[orientation](PICTURE)
    assert images.size(file) == due.shape[:2] and (images.read_frame(file) == due).all()


def test_frames_of_every_kind(file: Path):
    opaque = np.dstack([PICTURE, np.full((H, W), 255, np.uint8)])
    grey = PICTURE[..., 0]
    shown = np.repeat(grey[..., None], 3, axis=2)
    sixteen = grey.astype(np.uint16) << 8 | 77
    kinds = {
        "RGB": (Image.fromarray(PICTURE), PICTURE),
        "RGBA, opaque": (Image.fromarray(opaque), PICTURE),
        "grey": (Image.fromarray(grey), shown),
        "grey and alpha, opaque": (Image.fromarray(np.dstack([grey, opaque[..., 3]])), shown),
        "16 bits": (Image.fromarray(sixteen), shown),
        "black and white": (Image.fromarray(MASK > 0), np.repeat(MASK[..., None] * 255, 3, axis=2)),
    }
    for kind, (picture, due) in kinds.items():
        picture.save(file)
        assert (images.read_frame(file) == due).all(), kind
    picture = Image.fromarray(MASK)
    picture.putpalette([9, 8, 7, 200, 100, 50])
    picture.save(file)
    assert (images.read_frame(file) == np.array([[9, 8, 7], [200, 100, 50]])[MASK]).all()
    picture.save(file, transparency=0)
    with pytest.raises(DataError, match=rf"a.png: {(MASK == 0).sum()} of {MASK.size} pixels are transparent \(P\)"):
        images.read_frame(file)


def whole(picture: Image.Image, file: Path, **options: object) -> images.LabelMap:
    picture.save(file, **options)
    return images.read_labels(file)


def coloured(values: np.ndarray, *colours: int) -> Image.Image:
    picture = Image.fromarray(values)
    picture.putpalette(colours)
    return picture


def test_masks_of_every_kind(file: Path):
    three, opaque = np.repeat(255 * MASK[..., None], 3, axis=2), np.full((H, W, 1), 255, np.uint8)
    for kind, picture in {
        "0 and 1": Image.fromarray(MASK),
        "0 and 255": Image.fromarray(255 * MASK),
        "0 and any other": Image.fromarray(128 * MASK),
        "black and white": Image.fromarray(MASK > 0),
        "16 bits": Image.fromarray(MASK.astype(np.uint16) * 65535),
        "grey in RGB": Image.fromarray(three),
        "grey in opaque RGBA": Image.fromarray(np.concatenate([three, opaque], axis=2)),
        "grey and alpha, opaque": Image.fromarray(np.concatenate([255 * MASK[..., None], opaque], axis=2)),
        "a palette": coloured(MASK, 0, 0, 0, 128, 0, 0),
        "a palette on white": coloured(MASK, 255, 255, 255, 200, 0, 0),
        "a palette that ends black": coloured(MASK, 255, 255, 255, 200, 0, 0, 0, 0, 0),
        "a palette of black": coloured(MASK, *[0] * 6),
    }.items():
        assert (whole(picture, file).any() == (MASK > 0)).all(), kind
    assert (whole(coloured(MASK, 0, 0, 0, 9, 9, 9), file, transparency=0).any() == (MASK > 0)).all()


def test_labels(file: Path):
    """Objects of a label map are kept apart, and together they are a mask: of a palette any, of grey small numbers."""
    values = np.arange(H * W, dtype=np.uint8).reshape(H, W)
    for picture in (
        coloured(values, *[0] * 3, *([50, 0, 0] * 255)),
        Image.fromarray(np.where(values > 3, 255, values)),
    ):
        labels = whole(picture, file)
        assert labels.of(2).sum() == 1 and labels.any().sum() == H * W - 1
    spread = whole(Image.fromarray(50 * (values % 4)), file)
    assert spread.levels == [50, 100, 150] and (spread.of(100) == (values % 4 == 2)).all(), "named, they may be any"
    with pytest.raises(DataError, match=r"a.png: 3 grey levels above 0 \(50, 100, 150 ...\): soft edges"):
        spread.any()
    with pytest.raises(DataError, match="a.png: 76 grey levels above 0"):
        whole(Image.fromarray(values), file).of(2)


def test_a_mask_is_not_turned(file: Path):
    with pytest.raises(DataError, match="a.png: EXIF says orientation 6; a mask is upright as it is stored"):
        whole(Image.fromarray(MASK), file, exif=oriented(6))


def test_an_image_between_pillows_two_limits(file: Path):
    """Of which it only warns: here it is an error, and nothing is said beside it."""
    Image.fromarray(PICTURE).save(file)
    code = f"""
import pathlib
from PIL import Image
from reviosa_core.data import images
Image.MAX_IMAGE_PIXELS = {H * W - 1}
for read in (images.size, images.read_frame, images.read_labels):
    try:
        read(pathlib.Path({str(file)!r}))
    except ValueError as error:
        print(error)
"""
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout == 3 * f"{file}: Image size ({H * W} pixels), at most {H * W - 1} are read\n" and not run.stderr


def test_suffixes_in_capitals(tmp_path: Path):
    for name in ("0.PNG", "1.png"):
        Image.fromarray(MASK).save(tmp_path / name)
    (tmp_path / "._0.png").write_text("a file manager's shadow, ignored")
    assert [labels.path.name for labels in images.mask_folder(tmp_path, ("0", "1"), (H, W))] == ["0.PNG", "1.png"]


def test_what_is_no_image(file: Path):
    Image.fromarray(MASK).save(file)
    for content, found in {
        file.read_bytes()[:8] + b"\0\0\0\0\1\1\1\1": "this is a broken one",
        b"text": "this is something else, or broken",
        b"GIF89a": "this is a GIF image",
    }.items():
        file.write_bytes(content)
        for read, due in ((images.read_frame, "JPEG or PNG"), (images.read_labels, "PNG")):
            with pytest.raises(DataError, match=rf"a.png: unreadable image \({due} is needed, {found}"):
                read(file)
