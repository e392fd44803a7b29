"""Images from files: frames, and masks whose pixel value is the object; one reader of each, and what it takes.

Frames are JPEG or PNG, as a viewer shows them: turned as EXIF says, palettes in their colours, of 16 bits the upper 8.
Grey, RGB and bilevel are taken, transparency only where nothing is transparent. Masks are PNGs: of a palette the index,
else the grey level; 0 is nothing. Anything else is refused by name.
"""

from __future__ import annotations

import os
import struct
import sys
import warnings
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property, lru_cache, partial
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, UInt8, UInt16
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError

from reviosa_core import masks
from reviosa_core.data import files
from reviosa_core.data.lazy import Lazy
from reviosa_core.schema import RLE, DataError

FRAMES = ("JPEG", "PNG")
MASKS = ("PNG",)
ALPHA = ("RGBA", "LA", "PA")
LABELS = 32  # grey levels: more different ones, or higher ones together, are soft edges, not objects
VOID = 255  # a label for what belongs to nobody
LABEL_MAPS = 64  # held decoded: a video's objects are asked for one after the other
TURNED = (5, 6, 7, 8)  # EXIF orientations that swap height and width
BROKEN = (OSError, SyntaxError, ValueError, EOFError, struct.error, zlib.error)  # pillow's ways to say so
BOMB = (Image.DecompressionBombError, Image.DecompressionBombWarning)

# Pillow warns of an image of 90 million pixels, and refuses twice that: here one limit holds, and it is said once.
warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)


class Frames:
    """The images of one video, decoded when asked for; `size` is the height and width that they must have."""

    def __init__(
        self, folder: Path, names: Sequence[str], suffix: str = ".jpg", size: tuple[int, int] | None = None
    ) -> None:
        self.folder, self.names, self.suffix, self.size = folder, names, suffix, size

    def __len__(self) -> int:
        return len(self.names)

    def file(self, index: int) -> Path:
        return self.folder / f"{self.names[index]}{self.suffix}"

    def __getitem__(self, index: int, /) -> UInt8[np.ndarray, "h w 3"]:
        """RGB. DataError when the file cannot be decoded, or is of another size."""
        frame = read_frame(self.file(index))
        if self.size is not None and frame.shape[:2] != self.size:
            raise DataError(f"{self.file(index)}: size {frame.shape[:2]}, the first frame has {self.size}")
        return frame


def read_frame(path: Path) -> UInt8[np.ndarray, "h w 3"]:
    """RGB, as a viewer shows it. DataError for what cannot be decoded or is none of the kinds above."""
    with _opened(path, FRAMES) as image:
        if _orientation(image) != 1:
            image = ImageOps.exif_transpose(image)
        _check_opaque(image, path)
        if image.mode == "I;16":
            return np.repeat((np.asarray(image) >> 8).astype(np.uint8)[..., None], 3, axis=2)
        if image.mode not in ("RGB", "L", "1", "P", *ALPHA):
            raise DataError(f"{path}: a frame is grey, RGB or of a palette, this one is {image.mode}")
        return np.asarray(image.convert("RGB"))


def size(path: Path) -> tuple[int, int]:
    """Height and width of a frame as `read_frame` gives it; reads the header only."""
    with _opened(path, FRAMES) as image:
        turned = _orientation(image) in TURNED
        return (image.width, image.height) if turned else (image.height, image.width)


def _orientation(image: Image.Image) -> int:
    return image.getexif().get(ExifTags.Base.Orientation, 1)


def _check_opaque(image: Image.Image, path: Path) -> None:
    if image.mode in ALPHA or "transparency" in image.info:
        alpha = np.asarray(image.convert("RGBA"))[..., 3]
        if hidden := int((alpha < 255).sum()):
            raise DataError(
                f"{path}: {hidden} of {alpha.size} pixels are transparent ({image.mode}); save it without transparency"
            )


@contextmanager
def _opened(path: Path, formats: Sequence[str]) -> Iterator[Image.Image]:
    try:
        with Image.open(files.regular(path), formats=formats) as image:
            if image.width * image.height > (Image.MAX_IMAGE_PIXELS or np.inf):
                raise Image.DecompressionBombError(f"Image size ({image.width * image.height} pixels) exceeds")
            count = 1 if image.format == "MPO" else getattr(image, "n_frames", 1)  # MPO: a phone's JPEG, with extras
            if count > 1:
                raise DataError(f"{path}: an animation of {count} pictures, not one")
            yield image
    except DataError:
        raise
    except BOMB as error:
        found = str(error).partition(" exceeds")[0]  # "Image size (... pixels)"
        raise DataError(f"{path}: {found}, at most {Image.MAX_IMAGE_PIXELS} are read") from None
    except UnidentifiedImageError:
        found = files.kind(files.head(path)) or "something else, or broken"
        if any(name in found for name in formats):
            found = "a broken one"
        elif formats == MASKS and "JPEG" in found:
            found += "; JPEG changes the values of a mask"
        raise DataError(f"{path}: unreadable image ({' or '.join(formats)} is needed, this is {found})") from None
    except BROKEN as error:
        raise DataError(f"{path}: unreadable image ({error})") from None


@dataclass(frozen=True)
class LabelMap:
    """What a mask image holds: pixel values, 0 is nothing. `indexed`: they are indices of a palette, never soft."""

    path: Path
    values: UInt8[np.ndarray, "h w"] | UInt16[np.ndarray, "h w"]
    indexed: bool

    @cached_property
    def levels(self) -> list[int]:
        """The different values above 0."""
        return [int(n) for n in np.flatnonzero(np.bincount(self.values.ravel(), minlength=1)) if n]

    def of(self, value: int) -> Bool[np.ndarray, "h w"]:
        """Where one object is. DataError when there are more grey levels than objects could have."""
        if not self.indexed and len(self.levels) > LABELS:
            self._soft()
        return self.values == value

    def any(self) -> Bool[np.ndarray, "h w"]:
        """Where any object is. DataError for grey levels that are soft edges."""
        if not self.indexed and len(self.levels) > 1 and any(n > LABELS and n != VOID for n in self.levels):
            self._soft()
        return self.values > 0

    def _soft(self) -> None:
        first = ", ".join(map(str, self.levels[:5]))
        raise DataError(
            f"{self.path}: {len(self.levels)} grey levels above 0 ({first} ...): soft edges or probabilities; a mask "
            f"has 0 and one other value, or a small number for each object (at most {LABELS})"
        )


def read_labels(path: Path) -> LabelMap:
    """A mask image. DataError for what cannot be decoded, or means something else than whole numbers a pixel."""
    with _opened(path, MASKS) as image:
        if _orientation(image) != 1:
            raise DataError(f"{path}: EXIF says orientation {_orientation(image)}; a mask is upright as it is stored")
        if image.mode == "P":
            return LabelMap(path, *_indices(image, path))
        _check_opaque(image, path)
        if image.mode in ("1", "L", "I;16"):
            return LabelMap(path, np.asarray(image.convert("L") if image.mode == "1" else image), False)
        pixels = np.asarray(image.convert("RGB")) if image.mode in ("RGB", *ALPHA) else None
        if pixels is None or (pixels != pixels[..., :1]).any():
            found = image.mode if pixels is None else f"{image.mode} in colours"
            raise DataError(f"{path}: a grey or palette PNG is needed, this one is {found}")
        return LabelMap(path, pixels[..., 0], False)


def _indices(image: Image.Image, path: Path) -> tuple[UInt8[np.ndarray, "h w"], bool]:
    """Indices of a palette, and whether they are more than the grey levels of a palette from black to white.

    DataError when a viewer shows black, nothing, where the index says that there is something.
    """
    values, palette = np.asarray(image), np.zeros((256, 3), np.uint8)
    listed = np.array(image.getpalette("RGB") or [], np.uint8).reshape(-1, 3)[:256]
    if not len(listed):
        raise DataError(f"{path}: of a palette that is not there (no PLTE); save it as grey")
    palette[: len(listed)] = listed
    used = np.flatnonzero(np.bincount(values.ravel(), minlength=256))
    black = [int(n) for n in used if n and n < len(listed) and not palette[n].any()]
    if black and palette[0].any():
        raise DataError(
            f"{path}: index 0 of its palette is {tuple(palette[0].tolist())} and index {black[0]} is black; index 0 is "
            "what belongs to no object, so it is not clear which of them that is: save it as grey"
        )
    return values, bool((palette[used] != used[:, None]).any())


def label_track(maps: Frames, value: int, size: tuple[int, int]) -> Lazy:
    """The mask of one object in each frame, where the label map has its value; None where no pixel has it."""
    return Lazy(len(maps), partial(_label_mask, maps, value, size))


def _label_mask(maps: Frames, value: int, size: tuple[int, int], index: int) -> RLE | None:
    labels = _labels(maps.file(index))
    if labels.values.shape != size:
        raise DataError(f"{labels.path}: size {labels.values.shape}, the frame has {size}")
    mask = labels.of(value)
    return masks.encode(mask) if mask.any() else None


@lru_cache(maxsize=LABEL_MAPS)
def _labels(path: Path) -> LabelMap:
    return read_labels(path)


def frame_names(names: Any, where: str) -> tuple[str, ...]:
    """A video's frame list, sorted and of plain names. DataError."""
    if not isinstance(names, list):
        raise DataError(f"{where}: 'frames' is {type(names).__name__}, not a list")
    for name in names:
        check_name(name, f"{where}, frame {name!r}")
    # Masks go by position, and loaders sort the list where evaluators do not: only a sorted one means the same to all.
    if not names or any(a >= b for a, b in zip(names, names[1:], strict=False)):
        raise DataError(f"{where}: 'frames' must be a sorted list without repetition, got {names[:5]}...")
    return tuple(map(sys.intern, names))  # the same few in every video


def check_folder(folder: Path, names: Sequence[str], suffix: str, where: str) -> None:
    """DataError when the folder or one of its images is missing; pixels are not looked at."""
    try:
        there = set(os.listdir(folder))
    except OSError:
        raise DataError(f"{where}: no folder {folder}") from None
    missing = [name for name in names if f"{name}{suffix}" not in there]
    if missing:
        first = ", ".join(f"{name}{suffix}" for name in missing[:3])
        raise DataError(f"{where}: {len(missing)} of {len(names)} frames missing in {folder}, first {first}")


def mask_folder(folder: Path, names: Sequence[str], size: tuple[int, int]) -> Iterator[LabelMap]:
    """The PNGs of a folder that must hold one for each frame of `names` and no other.

    DataError for missing and unknown files, and for images that are no masks or not of `size`.
    """
    there = [file for file in folder.iterdir() if not file.name.startswith(".")]
    found = {file.stem: file for file in there if file.suffix.lower() == ".png"}
    if found.keys() != set(names):
        missing, extra = sorted(set(names) - found.keys()), sorted(found.keys() - set(names))
        others = sorted({file.suffix for file in there} - {file.suffix for file in found.values()})
        raise DataError(
            f"{folder}: {len(found)} PNGs for {len(names)} frames: {len(missing)} missing {missing[:3]}, "
            f"{len(extra)} unknown {extra[:3]}" + (f"; masks are PNGs, not {others[:3]}" if others and missing else "")
        )
    for name in names:
        labels = read_labels(found[name])
        if labels.values.shape != size:
            raise DataError(f"{labels.path}: {labels.values.shape} pixels, the frame has {size}")
        yield labels


def check_whole(values: Any, where: str) -> np.ndarray:
    """Masks out of a file of arrays: these values, if they are whole numbers, none below 0. DataError."""
    kind = values.dtype.kind if isinstance(values, np.ndarray) else ""
    if kind not in tuple("buif") or (kind == "f" and not (values == np.floor(values)).all()) or (values < 0).any():
        found = values.dtype if kind else type(values).__name__
        raise DataError(f"{where}: {found}; whole numbers are needed, 0 is nothing")  # NaN is not whole, either
    return values


def check_name(name: Any, where: str) -> None:
    """Names become paths: they must stay inside the folder. DataError."""
    if not isinstance(name, str) or name in ("", ".", "..") or any(c in name for c in "/\\\0"):
        raise DataError(f"{where}: not a plain file name")
