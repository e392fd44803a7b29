"""Frames out of a container: upright, of one size, with their times, or an error that says what is wrong."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import av
import numpy as np
from av.container import InputContainer
from av.error import FFmpegError
from av.sidedata.sidedata import SideDataContainer, Type
from jaxtyping import UInt8

from reviosa_core.data import containers, files
from reviosa_core.schema import DataError

PIPE = Path("-")  # the name of a video that is still coming
PIPED = "no video that can be read as it comes: MP4 and MOV only with -movflags faststart or frag_keyframe"
PIPED_BYTES = 4096  # of it at once
AT_ONCE = {"probesize": "32"}  # FFmpeg's own is 5 MB: seconds of a video before its first frame is given
TAKEN = {"format_whitelist": ",".join(containers.TAKEN)}
NOT_SQUARE = 0.01  # of a pixel's side: less is what scaling to whole pixels leaves
BROKEN = (FFmpegError, OSError, ValueError, IndexError)  # ValueError: what PyAV does not know, or cannot decode as text


@contextmanager
def reading(path: Path, done: Callable[[], int] = int) -> Iterator[None]:
    """What FFmpeg and PyAV raise in here, as a DataError that names the file and how many frames it gave."""
    try:
        yield
    except DataError:
        raise
    except BROKEN as error:
        after = f" after {done()} frames" if done() else ""
        known = PIPED if path == PIPE and not done() else path != PIPE and files.kind(files.head(path))
        reason = known or getattr(error, "strerror", None) or str(error)
        raise DataError(f"{path}: unreadable video{after} ({reason})") from None


def container(path: Path) -> InputContainer:
    """An open video file of a kind that is taken. DataError where it is shorter than it says."""
    containers.check_whole(path)
    return av.open(str(path), options=TAKEN)


def rate(stream: av.VideoStream, otherwise: float) -> float:
    """Frames per second, on average."""
    return float(stream.average_rate or stream.guessed_rate or otherwise)


def pictures(container: InputContainer, path: Path) -> av.VideoStream:
    """The first video stream. DataError without one."""
    if not container.streams.video:
        raise DataError(f"{path}: no video stream in this file")
    return container.streams.video[0]


def decoded(
    container: InputContainer, path: Path, stored: bool
) -> Iterator[tuple[UInt8[np.ndarray, "h w 3"], float | None]]:
    """Every frame, upright, and its time. DataError where pixels are not square, unless they are wanted as `stored`,
    where they are transparent, and where a frame has not the size of the first."""
    stream, size = pictures(container, path), None
    for number, raw in enumerate(container.decode(stream)):
        # What comes by a pipe says so with its first frame.
        aspect = stream.sample_aspect_ratio or stream.codec_context.sample_aspect_ratio
        if not (number or stored) and aspect and abs(aspect - 1) > NOT_SQUARE:
            raise DataError(
                f"{path}: its pixels are {aspect.numerator}:{aspect.denominator}, not square; make them so (ffmpeg -i "
                "IN -vf scale=iw*sar:ih,setsar=1 OUT)"
            )
        if any(part.is_alpha for part in raw.format.components):
            alpha = raw.to_ndarray(format="rgba")[..., 3]
            if hidden := int((alpha < 255).sum()):
                raise DataError(
                    f"{path}: frame {number}: {hidden} of {alpha.size} pixels are transparent ({raw.format.name}); "
                    "save it without transparency"
                )
        # Phones store frames lying down, with the turn that makes them upright. By raw.side_data a frame would hold
        # what holds it, and hundreds would wait for Python to look for circles.
        frame, turn = raw.to_ndarray(format="rgb24"), SideDataContainer(raw).get(Type.DISPLAYMATRIX)
        if turn is not None:
            frame = np.ascontiguousarray(_upright(frame, np.frombuffer(turn, np.int32), path))
        size = size or frame.shape[:2]
        if frame.shape[:2] != size:
            raise DataError(f"{path}: frame {number} is {frame.shape[:2]}, the first is {size}")
        yield frame, raw.time


def piped(
    file: io.RawIOBase | io.BufferedIOBase, otherwise: float
) -> Iterator[tuple[UInt8[np.ndarray, "h w 3"], float]]:
    """Frames of a video that is still coming, as soon as each is there, upright, with its time in seconds from the
    first one: by the rate, where the video does not say, and by `otherwise`, where it says no rate either. Whether all
    of it came cannot be known. DataError as `open_video`, also for formats that must be read from their end."""
    done, first = 0, None
    with (
        reading(PIPE, lambda: done),
        av.open(file, options=TAKEN | AT_ONCE, buffer_size=PIPED_BYTES) as container,
    ):
        stream = pictures(container, PIPE)
        stream.thread_type = "SLICE"  # whole frames at once would come later by as many as there are threads
        fps = rate(stream, otherwise)
        for frame, time in decoded(container, PIPE, stored=False):
            first = time if first is None else first
            yield frame, done / fps if time is None or first is None else time - first
            done += 1
    if not done:
        raise DataError(f"{PIPE}: no frames in this video")


def _upright(frame: UInt8[np.ndarray, "h w 3"], matrix: np.ndarray, path: Path) -> UInt8[np.ndarray, "p q 3"]:
    """A stored frame as its display matrix shows it: a pixel at (x, y) goes to x (a, b) + y (c, d).

    Only turns by 90 degrees and mirrors: DataError for others.
    """
    a, b, c, d = (int(matrix[i]) for i in (0, 1, 3, 4))
    one = 1 << 16
    if sorted(map(abs, (a, d))) == [one, one] and b == c == 0:
        return frame[:: np.sign(d), :: np.sign(a)]
    if sorted(map(abs, (b, c))) == [one, one] and a == d == 0:
        return frame.transpose(1, 0, 2)[:: np.sign(b), :: np.sign(c)]
    turn = [round(n / one, 3) for n in (a, b, c, d)]
    raise DataError(f"{path}: is to be shown turned or stretched by {turn}; only turns by 90 degrees and mirrors are")
