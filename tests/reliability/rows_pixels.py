"""Images whose pixels mean something else than they seem to."""

from __future__ import annotations

import io
import os
import struct
import zlib
from collections.abc import Callable, Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from bad_input import H, Row, T, W, dataset
from PIL import Image

MASK = np.zeros((H, W), np.uint8)
MASK[3:9, 1:6] = 255
SOFT = np.linspace(0, 255, H * W).astype(np.uint8).reshape(H, W)
FAINT = np.where(MASK, 255, 0).astype(np.uint8)
FAINT[2, 1:6], FAINT[9, 1:6] = 64, 128


def bomb(file: Path) -> None:
    """A PNG that claims to be 100,000 pixels wide and high."""
    parts = ((b"IHDR", struct.pack(">IIBBBBB", 100_000, 100_000, 8, 0, 0, 0, 0)), (b"IDAT", zlib.compress(b"")))
    chunks = (struct.pack(">I", len(d)) + k + d + struct.pack(">I", zlib.crc32(k + d)) for k, d in parts)
    file.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(chunks))


def without_palette() -> bytes:
    """MASK as indices of a palette, whose chunk is taken out."""
    picture, file = Image.fromarray(MASK // 255), io.BytesIO()
    picture.putpalette((0, 0, 0, 255, 255, 255))
    picture.save(file, format="PNG")
    raw = file.getvalue()
    at = raw.index(b"PLTE") - 4
    return raw[:at] + raw[at + 12 + int.from_bytes(raw[at : at + 4], "big") :]


def pipe(file: Path) -> None:
    file.unlink(missing_ok=True)
    os.mkfifo(file)


def saved(array: np.ndarray, mode: str | None = None, **options: object) -> Callable[[Path], None]:
    picture = Image.fromarray(array) if mode is None else Image.fromarray(array).convert(mode)
    return lambda file: picture.save(file, **options)


def palette(*colours: int) -> Callable[[Path], None]:
    def write(file: Path) -> None:
        picture = Image.fromarray(MASK // 255)
        picture.putpalette(colours)
        picture.save(file)

    return write


def clear(array: np.ndarray, colour: int = 255) -> np.ndarray:
    """A picture of one colour, transparent where the array is 0."""
    return np.dstack([np.full((*array.shape, 3), colour, np.uint8), array])


def animation(file: Path) -> None:
    first, second = (Image.fromarray(m) for m in (MASK, 255 - MASK))
    first.save(file, format="PNG", save_all=True, append_images=[second])


def tree(write: Callable[[Path], None], name: str = "00003.png") -> Callable[[Path], Sequence[object]]:
    """`evaluate` of a tree of masks, one of which is written by `write`."""

    def make(folder: Path) -> Sequence[object]:
        (folder / "data").mkdir()
        data = dataset(folder / "data", ("alpha",))
        for id in "012":
            (folder / "tree" / "alpha" / id).mkdir(parents=True)
            for t in range(T):
                Image.fromarray(MASK).save(folder / "tree" / "alpha" / id / f"{t:05d}.png")
        (folder / "tree" / "alpha" / "1" / "00003.png").unlink()
        write(folder / "tree" / "alpha" / "1" / name)
        return ["evaluate", "--data", data, "--predictions", folder / "tree", "--workers", 1]

    return make


def frame(write: Callable[[Path], None], number: int = 2) -> Callable[[Path], Sequence[object]]:
    """`data show` of a data set, one of whose frames is written by `write`."""

    def make(folder: Path) -> Sequence[object]:
        (folder / "data").mkdir()
        dataset(folder / "data", ("alpha",))
        write(folder / "data" / "JPEGImages" / "alpha" / f"{number:05d}.jpg")
        return ["data", "show", folder / "data", "alpha"]

    return make


def video(write: Callable[[Path], None], name: str = "v.mp4") -> Callable[[Path], Sequence[object]]:
    def make(folder: Path) -> Sequence[object]:
        write(folder / name)
        (folder / "checkpoint").mkdir()
        return ["predict", "--video", folder / name, "--text", "a dog", "--checkpoint", folder / "checkpoint"]

    return make


def oblong(file: Path) -> None:
    with av.open(str(file), "w") as container:
        stream = container.add_stream("mpeg4", rate=10)
        assert isinstance(stream, av.VideoStream)
        stream.width, stream.height, stream.pix_fmt = W, H, "yuv420p"
        stream.codec_context.sample_aspect_ratio = Fraction(16, 15)
        container.mux(stream.encode(av.VideoFrame.from_ndarray(np.zeros((H, W, 3), np.uint8), format="rgb24")))
        container.mux(stream.encode(None))


def moving(count: int = 30, codec: str = "mpeg4", form: str = "yuv420p", **options: str) -> Callable[[Path], None]:
    """A video of noise, all of it there."""

    def write(file: Path) -> None:
        rng = np.random.default_rng(0)
        with av.open(str(file), "w", options=options) as container:
            stream = container.add_stream(codec, rate=10, options={"g": "1"})
            assert isinstance(stream, av.VideoStream)
            stream.width, stream.height, stream.pix_fmt = W, H, form
            for _ in range(count):
                pixels = rng.integers(0, 255, (H, W, 4)).astype(np.uint8)
                container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgba").reformat(format=form)))
            container.mux(stream.encode(None))

    return write


def broken_off(write: Callable[[Path], None]) -> Callable[[Path], None]:
    def change(file: Path) -> None:
        write(file)
        os.truncate(file, file.stat().st_size * 6 // 10)

    return change


def playlist(file: Path) -> None:
    moving()(file.with_name("secret.mp4"))
    file.write_text("ffconcat version 1.0\nfile secret.mp4\n")


COLOURS = np.dstack([MASK, 255 - MASK, MASK])
AT, FRAME = "tree/alpha/1/00003.png: ", "alpha/00002.jpg: "
ROWS = [
    Row("a mask in transparency", tree(saved(clear(MASK))), AT + r".*162 of 192 pixels are transparent \(RGBA\)"),
    Row("a grey mask in transparency", tree(saved(clear(MASK), "LA")), AT + ".*transparent .LA"),
    Row("a mask in colours", tree(saved(COLOURS)), AT + "a grey or palette PNG is needed, this one is RGB in"),
    Row("a mask whose palette is reversed", tree(palette(255, 255, 255, 0, 0, 0)), AT + "index 0 .* index 1 is black"),
    Row("a mask with soft edges", tree(saved(SOFT)), AT + "191 grey levels above 0 .*soft edges"),
    Row("a mask with a few soft edges", tree(saved(FAINT)), AT + r"3 grey levels above 0 \(64, 128, 255"),
    Row("soft edges as a palette", tree(saved(SOFT, "P")), AT + "191 grey levels"),
    Row("soft edges of 16 bits", tree(saved(FAINT.astype(np.uint16) * 257)), AT + "3 grey levels"),
    Row("a JPEG called PNG", tree(saved(MASK, format="JPEG")), AT + ".*this is a JPEG image; JPEG changes the values"),
    Row("a mask as JPEG", tree(saved(MASK), "00003.jpg"), "1 missing .*masks are PNGs, not .'.jpg'"),
    Row("a mask of floats", tree(saved(MASK.astype(np.float32), format="TIFF")), AT + ".*this is a TIFF image"),
    Row("a mask that moves", tree(animation), AT + "an animation of 2 pictures"),
    Row("a mask that is huge", tree(bomb), AT + r".*10000000000 pixels\), at most 89478485 are read"),
    Row("a mask that is a pipe", tree(pipe), AT + "a named pipe, not a file"),
    Row("a frame with transparency", frame(saved(clear(MASK), format="PNG")), FRAME + "162 of 192 pixels are transp"),
    Row("a frame for print", frame(saved(COLOURS, "CMYK")), FRAME + "a frame is grey, RGB or .*, this one is CMYK"),
    Row("a frame that is WebP", frame(saved(COLOURS, format="WEBP")), FRAME + ".*this is a WebP image"),
    Row("a frame that is huge", frame(bomb), FRAME + ".*at most 89478485 are read"),
    Row("a first frame that is huge", frame(bomb, 0), "alpha/00000.jpg: .*at most 89478485 are read"),
    Row("a frame that is a pipe", frame(pipe), FRAME + "a named pipe, not a file"),
    Row("a first frame that is a pipe", frame(pipe, 0), "alpha/00000.jpg: a named pipe, not a file"),
    Row(
        "a frame that is a pointer",
        frame(lambda file: file.write_bytes(b"version https://git-lfs.github.com/spec/v1\n")),
        FRAME + ".*this is a Git LFS pointer",
    ),
    Row("a video of oblong pixels", video(oblong), "v.mp4: its pixels are 16:15, not square; make them so .*ffmpeg"),
    Row("a video that is a pipe", video(pipe), "v.mp4: a named pipe, not a file"),
    Row(
        "a video that is a pointer",
        video(lambda file: file.write_bytes(b"version https://git-lfs.github.com/spec/v1\n")),
        "v.mp4: unreadable video .a Git LFS pointer",
    ),
    Row(
        "a mask of a palette that is not there",
        tree(lambda file: file.write_bytes(without_palette())),
        AT + "of a palette that is not there",
    ),
    Row(
        "an MP4 that broke off while it was fetched",
        video(broken_off(moving(movflags="faststart"))),
        r"v.mp4: cut off: it has [\d,]+ bytes, and says that it has [\d,]+",
    ),
    Row(
        "an MP4 in pieces that broke off",
        video(broken_off(moving(movflags="frag_keyframe+empty_moov"))),
        "v.mp4: cut off: it has",
    ),
    Row("a Matroska file that broke off", video(broken_off(moving()), "v.mkv"), "v.mkv: cut off: it has"),
    Row("an AVI that broke off", video(broken_off(moving()), "v.avi"), "v.avi: cut off: it has"),
    Row("a list of other videos", video(playlist), "v.mp4: unreadable video"),
    Row(
        "text that FFmpeg would draw",
        video(lambda file: file.write_text("\x1b[31mhello\n" * 99), "v.nfo"),
        "v.nfo: unreadable video",
    ),
    Row(
        "a video with transparency",
        video(moving(2, "ffv1", "bgra"), "v.mkv"),
        "v.mkv: frame 0: 19. of 192 pixels are transparent .bgra.",
    ),
]
