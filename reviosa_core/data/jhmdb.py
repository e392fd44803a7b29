"""JHMDB-Sentences as MTTR packs it: jhmdb_sentences_samples_metadata.json, Rename_Images/<action>/<video>/<frame>.png
and puppet_mask/<action>/<video>/puppet_mask.mat (key part_mask, h x w x t).

A row is [video, frame path, mask path, frames, text]; frames count from 1, and the paths may be those of the machine
that wrote the file: their ends count. One frame is scored, so a clip is one frame: its id is v_<video>_f_<frame>.
"""

from __future__ import annotations

import io
import re
import struct
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import scipy.io

from reviosa_core import masks
from reviosa_core.data import files, jsonfile
from reviosa_core.data.images import Frames, check_name, check_whole, size
from reviosa_core.data.lazy import Lazy
from reviosa_core.data.report import Report, expression_at
from reviosa_core.schema import RLE, Clip, DataError

LIMIT = 2**28  # bytes of a mask file, unpacked; real ones have a few million
COMPRESSED = 15  # an element of a MATLAB 5 file whose bytes are packed by zlib
METADATA, IMAGES, MASKS = "jhmdb_sentences_samples_metadata.json", "Rename_Images", "puppet_mask"


def splits(root: Path) -> tuple[str, ...]:
    """Its only split, "test". None of another format."""
    return ("test",) * (root / METADATA).is_file()


def read(root: Path | str, split: str = "test", report: Report | None = None) -> list[Clip]:
    """A clip a row, in the order of the file. Pixels and masks stay on disk."""
    root, report, clips = Path(root), report or Report(), {}
    for number, row in enumerate(jsonfile.read_rows(root / METADATA, report)):
        with report.each():
            where = f"{root / METADATA}: row {number}"
            clip = _clip(root, row, where)
            if clip.id in clips:
                raise DataError(f"{where}: {clip.id} occurs twice")
            clips[clip.id] = clip
    return list(clips.values())


def _clip(root: Path, row: Any, where: str) -> Clip:
    if not isinstance(row, list) or [type(item) for item in row] != [str, str, str, int, str]:
        raise DataError(f"{where}: not [video, frame path, mask path, frames, text]: {str(row)[:80]}")
    video, frame_path, mask_path, count, text = row
    action, folder, file = _ending(frame_path, IMAGES, where)
    stem, suffix = Path(file).stem, Path(file).suffix
    if folder != video or not re.fullmatch("[0-9]{1,9}", stem) or not 1 <= int(stem) <= count:
        raise DataError(f"{where}: {frame_path} is no frame from 1 to {count} of video {video!r}")
    frames = Frames(root / IMAGES / action / folder, (stem,), suffix)
    extent = size(frames.file(0))
    mask_file = root.joinpath(MASKS, *_ending(mask_path, MASKS, where))
    shape = _shape(mask_file)
    if (
        len(shape) != 3 or shape[:2] != extent or shape[2] < count
    ):  # there may be more masks than images; rows count what has both
        raise DataError(f"{mask_file}: masks {shape}, the video has {(*extent, count)} (height, width, frames)")
    expression = expression_at(where, "0", text, "undefined", ("0",))
    track = Lazy(1, partial(_mask, mask_file, int(stem) - 1))
    return Clip(f"v_{video}_f_{int(stem)}", frames, (stem,), extent, (expression,), {"0": track})


def _ending(path: str, parent: str, where: str) -> tuple[str, str, str]:
    """Action, video and file at the end of a path."""
    parts = path.replace("\\", "/").split("/")
    if parent not in parts or len(parts) - parts.index(parent) != 4:
        raise DataError(f"{where}: path {path!r} does not end in {parent}/<action>/<video>/<file>")
    for part in parts[-3:]:
        check_name(part, f"{where}: path {path!r}")
    return parts[-3], parts[-2], parts[-1]


@lru_cache(maxsize=1)
def _shape(path: Path) -> tuple[int, ...]:
    """Of part_mask, without loading it. A video's rows follow each other."""
    with _named(path):
        known = {name: shape for name, shape, _ in scipy.io.whosmat(_unpacked(path))}
        if "part_mask" not in known:
            raise DataError(f"{path}: no part_mask, only {sorted(known)[:5]}")
        return tuple(known["part_mask"])


@lru_cache(maxsize=2)
def _part_mask(path: Path) -> np.ndarray:
    with _named(path):
        found = scipy.io.loadmat(_unpacked(path), variable_names=["part_mask"])["part_mask"]
        return check_whole(found, f"{path}: part_mask")


def _mask(path: Path, frame: int, _: int) -> RLE:
    return masks.encode(_part_mask(path)[:, :, frame] > 0)


@contextmanager
def _named(path: Path) -> Iterator[None]:
    try:
        yield
    except DataError:
        raise
    except Exception as error:  # scipy has no error of its own: on broken files it raises whatever comes
        raise DataError(f"{path}: no MATLAB file, or a broken one ({type(error).__name__}: {error})") from None


def _unpacked(path: Path) -> io.BytesIO:
    """A MATLAB 5 file with nothing packed in it: scipy unpacks without a limit. DataError above LIMIT."""
    if (size := files.regular(path).stat().st_size) > LIMIT:
        raise DataError(f"{path}: {size:,} bytes, more than the {LIMIT:,} that are read")
    raw = path.read_bytes()
    if files.kind(raw[: files.HEAD]):
        raise DataError(f"{path}: this is {files.kind(raw[: files.HEAD])}")
    order = {b"IM": "<", b"MI": ">"}.get(raw[126:128])
    if order is None:
        raise DataError(f"{path}: not a MATLAB 5 file")
    out, at = bytearray(raw[:128]), 128
    while at + 8 <= len(raw):
        kind, length = struct.unpack(f"{order}II", raw[at : at + 8])
        if kind == COMPRESSED:
            element = zlib.decompressobj().decompress(raw[at + 8 : at + 8 + length], LIMIT - len(out) + 1)
            at += 8 + length
        else:
            stop = at + 8 + length + (-length % 8)
            element, at = raw[at:stop], stop
        out += element
        if len(out) > LIMIT:
            raise DataError(f"{path}: unpacks to more than the {LIMIT:,} bytes that are read")
    return io.BytesIO(out)
