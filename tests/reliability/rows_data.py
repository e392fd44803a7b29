"""Data sets and tables of scores that are not what they should be."""

from __future__ import annotations

import os
import struct
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path

import layouts
import numpy as np
import scipy.io
from bad_input import H, Row, W, dataset, spoil
from PIL import Image

META, MASKS = "meta_expressions.json", "mask_dict.json"
COLUMNS = "video,expression,role,caption_type,is_interaction,J,F\n"


def show(change: Callable[[Path], object]) -> Callable[[Path], Sequence[object]]:
    """`data show` of a data set that `change` has changed: it reads frames and masks as training does."""

    def make(folder: Path) -> Sequence[object]:
        (folder / "data").mkdir()
        change(dataset(folder / "data"))
        return ["data", "show", folder / "data", "alpha"]

    return make


def rewrite(name: str, change: Callable[[bytes], bytes]) -> Callable[[Path], object]:
    return lambda data: (data / name).write_bytes(change((data / name).read_bytes()))


def mask(**rle: object) -> Callable[[Path], object]:
    """One mask of video alpha, object 0, becomes another."""
    whole = {"size": [H, W], "counts": [H * W]}
    return lambda data: spoil(data / MASKS, lambda c: c["0"].__setitem__(2, whole | rle))


def pipe(name: str) -> Callable[[Path], object]:
    def change(data: Path) -> None:
        (data / name).unlink()
        os.mkfifo(data / name)

    return change


def compare(content: str) -> Callable[[Path], Sequence[object]]:
    def make(folder: Path) -> Sequence[object]:
        for name in ("a.csv", "b.csv"):
            (folder / name).write_text(content)
        return ["compare", folder / "a.csv", folder / "b.csv"]

    return make


def decimals(folder: Path) -> Sequence[object]:
    (folder / "video").mkdir()
    for name in ("0.25", "0.5", "0.75"):
        Image.new("RGB", (W, H)).save(folder / "video" / f"{name}.jpg")
    (folder / "checkpoint").mkdir()
    return ["predict", "--video", folder / "video", "--text", "a dog", "--checkpoint", folder / "checkpoint"]


def matlab(change: Callable[[Path], object]) -> Callable[[Path], Sequence[object]]:
    """`data show` of JHMDB-Sentences with a mask file that `change` has changed."""

    def make(folder: Path) -> Sequence[object]:
        data = folder / "data"
        layouts.jhmdb(data)
        change(data / "puppet_mask" / "push" / "v1" / "puppet_mask.mat")
        return ["data", "show", data, "v_v1_f_1"]

    return make


def unpacking(size: int) -> Callable[[Path], object]:
    """A compressed array that states its own size rightly, and has so many bytes of zeros."""

    def write(file: Path) -> None:
        shape = scipy.io.loadmat(file)["part_mask"].shape
        flags, name = struct.pack("<IIII", 6, 8, 9, 0), struct.pack("<II", 1, 9) + b"part_mask".ljust(16, b"\0")
        head = flags + struct.pack("<II3iI", 5, 12, *shape, 0) + name
        packer = zlib.compressobj()
        packed = packer.compress(struct.pack("<II", 14, len(head) + 8 + size) + head + struct.pack("<II", 2, size))
        packed += b"".join(packer.compress(bytes(2**20)) for _ in range(size // 2**20)) + packer.flush()
        start = b"MATLAB 5.0 MAT-file".ljust(124) + struct.pack("<H", 0x0100) + b"IM"
        file.write_bytes(start + struct.pack("<II", 15, len(packed)) + packed)

    return write


def hollow(file: Path) -> None:
    found = scipy.io.loadmat(file)["part_mask"].astype(float)
    scipy.io.savemat(file, {"part_mask": np.where(found > 0, np.nan, 0.0)})


AT = "mask_dict.json: mask 0 of video 'alpha', entry 2: "
ROWS = [
    Row("a mask that fills a part", show(mask(counts=[50, 50])), AT + f".*cover 100 pixels, the frame has {H * W}"),
    Row("a mask with a negative run", show(mask(counts=[201, -9])), AT + ".*a run of -9 pixels"),
    Row("a mask of fractions", show(mask(counts=[100.5, 91.5])), AT + ".*not all are whole numbers"),
    Row("a mask of texts", show(mask(counts=["192"])), AT + ".*not all are whole numbers"),
    Row("a mask that wraps", show(mask(counts=[2**32, H * W])), AT + f".*cover {2**32 + H * W} pixels"),
    Row("a mask whose text is cut off", show(mask(counts="o")), AT + ".*not COCO's alphabet, or cut off"),
    Row("a mask whose size is a number", show(mask(size=96)), "entry 2 .*mask size 96 is not two whole numbers"),
    Row("a mask whose size is null", show(mask(size=None)), "entry 2 .*mask size None is not two whole numbers"),
    Row("masks behind the end", show(rewrite(MASKS, lambda b: b + b)), "mask_dict.json: more behind the end"),
    Row("expressions behind the end", show(rewrite(META, lambda b: b + b" {}")), f"{META}: more behind the end"),
    Row(
        "expressions in UTF-16",
        show(rewrite(META, lambda b: b.decode().encode("utf-16"))),
        f"{META}: this is UTF-16; save it as UTF-8",
    ),
    Row("nested expressions", show(rewrite(META, lambda b: b'{"a":' + b"[" * 100_000)), f"{META}: nested too deeply"),
    Row("nested masks", show(rewrite(MASKS, lambda b: b'{"0":' + b"[" * 100_000)), f"{MASKS}: nested too deeply"),
    Row("masks without an end", show(rewrite(MASKS, lambda b: b[:-9])), f"{MASKS}: "),
    Row(
        "a pointer in place of masks",
        show(rewrite(MASKS, lambda b: b"version https://git-lfs.github.com/spec/v1\n")),
        f"{MASKS}: this is a Git LFS pointer",
    ),
    Row("a pipe in place of masks", show(pipe(MASKS)), f"{MASKS}: a named pipe, not a file"),
    Row("frames that are called like decimals", decimals, "video: counted, 0.5.jpg comes before 0.25.jpg"),
    Row("scores without a column", compare("video,expression\na,b\n"), r"a.csv: no columns \['role'"),
    Row("scores that are empty", compare(""), "a.csv: no table of rows"),
    Row("scores in text", compare(COLUMNS + "a,0,actor,single,False,x,1\n"), "a.csv: video a, expression 0: J is x"),
    Row("scores above 1", compare(COLUMNS + "a,0,actor,single,False,0.5,99\n"), "a.csv: .*F is 99.*from 0 to 1"),
    Row("endless scores", compare(COLUMNS + "a,0,actor,single,False,-inf,1\n"), "a.csv: .*J is -inf"),
    Row("scores of one expression twice", compare(COLUMNS + 2 * "a,0,actor,single,False,1,1\n"), r"a.csv: 1 of 2 rows"),
    Row(
        "scores that are missing",
        compare(COLUMNS + "a,0,actor,single,False,,1\n"),
        r"a.csv: 1 of 1 rows have no J or F",
    ),
    Row(
        "scores with a column twice",
        compare("video," + COLUMNS + "a,a,0,actor,single,False,1,1\n"),
        "a.csv: its 8 columns have 7 different names",
    ),
    Row(
        "a frame of another size in a data set",
        show(lambda data: Image.new("RGB", (W, H + 1)).save(data / "JPEGImages" / "alpha" / "00002.jpg")),
        rf"alpha/00002.jpg: size \({H + 1}, {W}\), the first frame has \({H}, {W}\)",
    ),
    Row(
        "a MATLAB file cut off",
        matlab(lambda f: os.truncate(f, f.stat().st_size - 200)),
        "mask.mat: no MATLAB file, or",
    ),
    Row("a MATLAB file that is text", matlab(lambda f: f.write_text("no")), "mask.mat: not a MATLAB 5 file"),
    Row("a MATLAB file of another kind", matlab(lambda f: scipy.io.savemat(f, {"x": 1})), "mask.mat: no part_mask"),
    Row("a MATLAB file with NaN", matlab(hollow), "mask.mat: part_mask: float64; whole numbers are needed"),
    Row(
        "a MATLAB file of two axes", matlab(lambda f: scipy.io.savemat(f, {"part_mask": np.eye(3)})), r"masks \(3, 3\)"
    ),
    Row(
        "a MATLAB file that unpacks to hundreds of times its size",
        matlab(unpacking(2**29)),
        "mask.mat: unpacks to more than the 268,435,456 bytes",
    ),
]
