"""Predictions: files that are not what they should be."""

from __future__ import annotations

import gzip
import json
import os
import zipfile
from collections.abc import Callable
from pathlib import Path

from bad_input import H, Row, T, W, dataset, predictions, spoil

ACT = "prediction_masks_act"
AREA = H * W


def whole(folder: Path, *words: object) -> list[object]:
    """The command, on right predictions in found.json."""
    (folder / "data").mkdir()
    file = predictions(folder / "found.json")
    return ["evaluate", "--data", dataset(folder / "data"), "--predictions", file, "--workers", 1, *words]


def evaluate(folder: Path, change: Callable[[dict], object]) -> list[object]:
    """The command, on predictions that `change` has changed."""
    words = whole(folder)
    spoil(folder / "found.json", change)
    return words


def rewritten(change: Callable[[bytes], bytes]) -> Callable[[Path], list[object]]:
    """The command, on the bytes of a file of predictions that `change` has changed."""

    def make(folder: Path) -> list[object]:
        words, file = whole(folder), folder / "found.json"
        file.write_bytes(change(file.read_bytes()))
        return words

    return make


def piped(folder: Path) -> list[object]:
    words = whole(folder)
    (folder / "found.json").unlink()
    os.mkfifo(folder / "found.json")
    return words


def zipped(folder: Path) -> list[object]:
    words = whole(folder)
    with zipfile.ZipFile(folder / "found.zip", "w") as archive:
        archive.write(folder / "found.json", "found.json")
    (folder / "found.zip").replace(folder / "found.json")
    return words


def paired(what: str, pairs: object, line: str) -> Row:
    def make(folder: Path) -> list[object]:
        (folder / "pairs.json").write_text(json.dumps({"alpha": pairs}))
        return whole(folder, "--pairs", folder / "pairs.json")

    return Row(f"pairs that are {what}", make, f"pairs: clip alpha.*{line}")


def submit(to: str, change: Callable[[dict], object]) -> Callable[[Path], list[object]]:
    def make(folder: Path) -> list[object]:
        _, *words, _, _ = evaluate(folder, change)
        return ["submit", "--to", to, *words, "--out", folder / ("s.json" if to == "interrvos" else "s.zip")]

    return make


def one(**rle: object) -> Callable[[dict], object]:
    """One mask of video beta becomes another."""
    return lambda c: c["beta"]["1"][ACT].__setitem__(3, {"size": [H, W], "counts": [AREA]} | rle)


LATE = r"found.json: video beta, expression 1: prediction_masks_act, frame 3: "
RLES = {
    "whose size is one number": (one(size=96), "mask size 96 is not two whole numbers"),
    "whose size is null": (one(size=None), "mask size None is not"),
    "whose size is text": (one(size=["12", "16"]), "mask size .* is not"),
    "whose size is of floats": (one(size=[12.0, 16]), r"mask size \[12.0, 16\] is not"),
    "that fill a part": (one(counts=[50, 50]), f"cover 100 pixels, the frame has {AREA}"),
    "that fill more": (one(counts=[AREA, 8]), f"cover {AREA + 8} pixels, the frame has {AREA}"),
    "with a negative run": (one(counts=[AREA + 9, -9]), f"a run of -9 pixels, the frame has {AREA}"),
    "that wrap at 32 bits": (one(counts=[2**32, AREA]), f"cover {2**32 + AREA} pixels"),
    "that wrap at 64 bits": (one(counts=[2**64, AREA]), f"cover {2**64 + AREA} pixels"),
    "of fractions": (one(counts=[50.5, AREA - 50.5]), "not all are whole numbers"),
    "of text": (one(counts=["50", str(AREA - 50)]), "not all are whole numbers"),
    "of lists": (one(counts=[[50], [AREA - 50]]), "not all are whole numbers"),
    "of true and false": (one(counts=[True, AREA - 1]), "not all are whole numbers"),
    "without counts": (one(counts=None), "a list or a text is needed, got NoneType"),
    "with a text that is cut off": (one(counts="o"), "not COCO's alphabet, or cut off"),
    "with a number that is too long": (one(counts="P" * 20 + "1"), "a number of 21 groups"),
    "that are null": (lambda c: c["beta"]["1"][ACT].__setitem__(3, None), "not an RLE"),
}

ROWS = [
    Row(
        "a score that is no number",
        lambda f: evaluate(f, lambda c: c["alpha"]["0"].update(score="high")),
        r"found\.json: video alpha, expression 0: score is 'high', not a finite number",
    ),
    Row(
        "an expression without a prediction",
        lambda f: evaluate(f, lambda c: c["beta"].pop("1")),
        "no prediction for 1 of 6.*beta/1",
    ),
    Row(
        "a video that the data does not have",
        lambda f: evaluate(f, lambda c: c.update(gamma={})),
        "unknown video 'gamma'",
    ),
    Row(
        "masks that are no list",
        lambda f: evaluate(f, lambda c: c["beta"]["0"].update(prediction_masks_act="x")),
        "video beta, expression 0.*not a list",
    ),
    *(
        Row(f"run lengths {what}", lambda f, change=change: evaluate(f, change), LATE + f".*{line}")
        for what, (change, line) in RLES.items()
    ),
    *(
        Row(f"run lengths {what}, to {to}", submit(to, change), LATE + f".*{line}")
        for to in ("mevis", "interrvos")
        for what, (change, line) in RLES.items()
        if what in ("that wrap at 32 bits", "of fractions", "whose size is one number", "that are null")
    ),
    Row(
        "masks of another size",
        lambda f: evaluate(f, one(size=[W, H])),
        r"clip beta, expression 1, actor: frame 3: mask size \(16, 12\) differs from frame size \(12, 16\)",
    ),
    Row(
        "a submission with a video without expressions",
        submit("mevis", lambda c: c.update(gamma={})),
        "1 unexpected: gamma$",
    ),
    Row("two files one after the other", rewritten(lambda b: b + b), "found.json: more behind the end of the object"),
    Row("a word behind the end", rewritten(lambda b: b + b"\nend"), "found.json: more behind the end.*at character"),
    Row("predictions in UTF-16", rewritten(lambda b: b.decode().encode("utf-16")), "found.json: this is UTF-16"),
    Row("UTF-16 without a mark", rewritten(lambda b: b.decode().encode("utf-16-le")), "found.json: this is UTF-16"),
    Row("compressed predictions", rewritten(gzip.compress), r"found.json: this is compressed \(gzip\); unpack it"),
    Row("zipped predictions", zipped, "found.json: this is a zip archive"),
    Row(
        "a pointer in place of predictions",
        rewritten(lambda b: b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n"),
        "found.json: this is a Git LFS pointer",
    ),
    Row("a web page", rewritten(lambda b: b"\n<!DOCTYPE html><p>404</p>"), "found.json: this is a web page"),
    Row("nested predictions", rewritten(lambda b: b'{"a": ' + b"[" * 100_000), "found.json: nested too deeply"),
    Row(
        "NaN for a number",
        rewritten(lambda b: b.replace(str(H).encode(), b"NaN", 1)),
        "found.json: NaN is not a number of JSON",
    ),
    Row("a pipe in place of predictions", piped, "found.json: a named pipe, not a file"),
    Row(
        "what predict wrote for one video",
        rewritten(lambda b: json.dumps({"video": "a.mp4", "masks": {"actor": []}}).encode()),
        "found.json: video video.*what `reviosa predict` wrote for one video",
    ),
    paired("a number", 3, "a list of .* is needed, got 3"),
    paired("null", None, "is needed, got None"),
    paired("threes", [["0", "1", "2"]], "is needed"),
    paired("texts", ["01"], "is needed"),
    paired("lists of lists", [[["0"], "1"]], "unknown"),
]
assert T > 3
