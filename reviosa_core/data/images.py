"""Folders of images: frames, and label maps whose pixel value is the object. Names are checked, pixels wait."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from reviosa_core import masks
from reviosa_core.data.lazy import Lazy
from reviosa_core.schema import RLE, DataError

LABEL_MAPS = 64  # held decoded: a video's objects are asked for one after the other


class Frames:
    """The images of one video, decoded when asked for."""

    def __init__(self, folder: Path, names: Sequence[str], suffix: str = ".jpg") -> None:
        self.folder, self.names, self.suffix = folder, names, suffix

    def __len__(self) -> int:
        return len(self.names)

    def file(self, index: int) -> Path:
        return self.folder / f"{self.names[index]}{self.suffix}"

    def __getitem__(self, index: int, /) -> UInt8[np.ndarray, "h w 3"]:
        """RGB. DataError when the file cannot be decoded."""
        return _pixels(self.file(index), "RGB")


def label_track(maps: Frames, value: int, size: tuple[int, int]) -> Lazy:
    """The mask of one object in each frame, where the label map has its value; None where no pixel has it."""
    return Lazy(len(maps), partial(_label_mask, maps, value, size))


def _label_mask(maps: Frames, value: int, size: tuple[int, int], index: int) -> RLE | None:
    path = maps.file(index)
    labels = _labels(path)
    if labels.shape != size:
        raise DataError(f"{path}: size {labels.shape}, the frame has {size}")
    mask = labels == value
    return masks.encode(mask) if mask.any() else None


@lru_cache(maxsize=LABEL_MAPS)
def _labels(path: Path) -> UInt8[np.ndarray, "h w"]:
    return _pixels(path, None)


def _pixels(path: Path, mode: str | None) -> np.ndarray:
    """In the given mode, or as stored: of a palette PNG the indices."""
    with _opened(path) as image:
        if mode is None and image.mode not in ("P", "L"):
            raise DataError(f"{path}: a label map is one channel of whole numbers (P or L), got {image.mode}")
        return np.asarray(image.convert(mode) if mode else image)


@contextmanager
def _opened(path: Path) -> Iterator[Image.Image]:
    try:
        with Image.open(path) as image:
            yield image
    except (OSError, SyntaxError) as error:  # pillow's two ways to say that pixels are broken
        raise DataError(f"{path}: {error}") from None


def size(path: Path) -> tuple[int, int]:
    """Height and width; reads the header only."""
    with _opened(path) as image:
        return image.height, image.width


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


def pngs(folder: Path, names: Sequence[str], size: tuple[int, int]) -> Iterator[tuple[Path, np.ndarray]]:
    """The PNGs of a folder that must hold one for each frame of `names` and no other, as stored: [h w] or [h w c].

    DataError for missing and unknown files, and for pixels that cannot be decoded or are not of `size`.
    """
    there, due = {file.stem for file in folder.glob("*.png")}, set(names)
    if there != due:
        missing, extra = sorted(due - there), sorted(there - due)
        raise DataError(
            f"{folder}: {len(there)} PNGs for {len(due)} frames: {len(missing)} missing {missing[:3]}, "
            f"{len(extra)} unknown {extra[:3]}"
        )
    for name in names:
        path = folder / f"{name}.png"
        with _opened(path) as image:
            pixels = np.asarray(image)
        if pixels.shape[:2] != size:
            raise DataError(f"{path}: {pixels.shape[:2]} pixels, the frame has {size}")
        yield path, pixels


def check_name(name: Any, where: str) -> None:
    """Names become paths: they must stay inside the folder. DataError."""
    if not isinstance(name, str) or name in ("", ".", "..") or any(c in name for c in "/\\\0"):
        raise DataError(f"{where}: not a plain file name")
