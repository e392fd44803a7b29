"""Files of videos from outside: which kinds are taken, and whether one is all there.

FFmpeg gives the frames that it finds, and does not say that the file goes on: a download that broke off is a shorter
video to it. What a file says of its own length is compared with it here. (MPEG-TS, FLV and what is written while it
plays say nothing.)
"""

from __future__ import annotations

import os
import struct
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

from reviosa_core.schema import DataError

# Files that hold pictures themselves. FFmpeg also reads lists of other files and addresses, and draws text as a video.
TAKEN = (
    *("mov", "matroska", "avi", "mpegts", "mpeg", "mpegvideo", "m4v", "h264", "hevc", "ivf", "obu", "ogg", "asf"),
    *("flv", "gif", "mjpeg", "mxf", "nut", "yuv4mpegpipe", "wav"),  # wav: to say that it is sound
)
BOXES = (b"ftyp", b"styp", b"moov", b"moof", b"mdat", b"sidx", b"free", b"skip", b"wide", b"uuid", b"pnot", b"mfra")
EBML, SEGMENT = b"\x1aE\xdf\xa3", b"\x18S\x80g"  # Matroska's outermost elements


def check_whole(path: Path) -> None:
    """DataError with both lengths where an MP4, Matroska or AVI file is shorter than it says. OSError."""
    size = path.stat().st_size
    with path.open("rb") as file:
        head = file.read(12)
        end = _ending(head)(file, size) if len(head) == 12 else 0
    if end > size:
        raise DataError(f"{path}: cut off: it has {size:,} bytes, and says that it has {end:,}")


def _ending(head: bytes) -> Callable[[BinaryIO, int], int]:
    if head[4:8] in BOXES:
        return _boxes
    if head.startswith(EBML):
        return _segment
    return _riff if head.startswith(b"RIFF") else lambda file, size: 0


def _boxes(file: BinaryIO, size: int) -> int:
    """Where the last of an MP4's outermost boxes ends. What is no such box was put behind the video."""
    at = 0
    while at + 16 <= size:
        file.seek(at)
        length, kind, long = struct.unpack(">I4sQ", file.read(16))
        length = long if length == 1 else length
        if kind not in BOXES or length < 8:  # 0: to the end, however long that is
            break
        at += length
    return at


def _segment(file: BinaryIO, size: int) -> int:
    """Where the Segment behind a Matroska's header ends; 0 where its length was not known when it was written."""
    file.seek(len(EBML))
    file.seek(_number(file) or 0, os.SEEK_CUR)
    if file.read(len(SEGMENT)) != SEGMENT:
        return 0
    length = _number(file)
    return 0 if length is None else file.tell() + length


def _number(file: BinaryIO) -> int | None:
    """EBML's: as many bytes as the first has leading zeros, and one. None where all bits are set: not known."""
    first = (file.read(1) or b"\0")[0]
    more = 8 - first.bit_length()
    rest = file.read(more)
    if not first or len(rest) < more:
        return None
    value, bits = int.from_bytes(bytes([first]) + rest, "big"), 7 * (more + 1)
    value &= (1 << bits) - 1
    return None if value == (1 << bits) - 1 else value


def _riff(file: BinaryIO, size: int) -> int:
    file.seek(4)
    return 8 + int.from_bytes(file.read(4), "little")
