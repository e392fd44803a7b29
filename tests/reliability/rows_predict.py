"""`reviosa predict`: calls and manifests that mean nothing, and folders of its own that `evaluate` cannot score."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from bad_input import H, Row, T, W, dataset, predictions
from PIL import Image

from reviosa_core import outputs


def frames(folder: Path) -> Path:
    (folder / "clip").mkdir()
    for t in range(T):
        Image.fromarray(np.full((H, W, 3), 90, np.uint8)).save(folder / "clip" / f"{t:05d}.png")
    return folder / "clip"


def call(*words: object) -> Callable[[Path], Sequence[object]]:
    """The command, with an empty folder for a checkpoint, and CLIP, DATA and TABLE for a video, data and a manifest."""

    def make(folder: Path) -> Sequence[object]:
        (folder / "checkpoint").mkdir()
        (folder / "data").mkdir()
        (folder / "jobs.csv").write_text("video,text\nclip,a dog\n")
        known = {"CLIP": frames(folder), "DATA": dataset(folder / "data"), "TABLE": folder / "jobs.csv"}
        return ["predict", "--checkpoint", folder / "checkpoint", *(known.get(str(word), word) for word in words)]

    return make


def table(*lines: str, name: str = "jobs.csv") -> Callable[[Path], Sequence[object]]:
    def make(folder: Path) -> Sequence[object]:
        words = call("--manifest", folder / name)(folder)
        (folder / name).write_text("\n".join(lines) + "\n")
        return words

    return make


def jsonl(*lines: object) -> Callable[[Path], Sequence[object]]:
    return table(*map(json.dumps, lines), name="jobs.jsonl")


def report_in_the_way(folder: Path) -> Sequence[object]:
    (folder / "out" / "report.json").mkdir(parents=True)
    return call("--manifest", "TABLE", "--out", folder / "out")(folder)


def results(*changes: dict[str, object]) -> Callable[[Path], Sequence[object]]:
    """`evaluate` of folders that predict wrote about alpha's first sentence, each with a change."""

    def make(folder: Path) -> Sequence[object]:
        (folder / "data").mkdir()
        data = dataset(folder / "data", ("alpha",))
        right = json.loads(predictions(folder / "right.json", ("alpha",)).read_text())["alpha"]["0"]
        about: dict[str, object] = {
            "video": "alpha.mp4",
            "text": "the left one pushing the right one",
            "frames": [f"{t:05d}" for t in range(T)],
            "masks": {"actor": right["prediction_masks_act"], "target": right["prediction_masks_tar"]},
        }
        for i, change in enumerate(changes):
            with outputs.folder(folder / "found" / str(i), "prediction") as new:
                (new / "prediction.json").write_text(json.dumps(about | change))
        return [
            "evaluate",
            "--data",
            data,
            "--predictions",
            folder / "found",
            "--workers",
            1,
            "--allow-missing",
            "zero",
        ]

    return make


FOUND = r"found/0/prediction\.json: "
HEAD = "video,text,id"
ROWS = [
    Row("nothing to predict", call(), "nothing to predict: one of --video, --manifest, --data is needed"),
    Row(
        "a mode nobody knows", call("--video", "CLIP", "--text", "a", "--mode", "live"), "--mode live: whole or stream"
    ),
    Row(
        "a stream's setting for the whole way",
        call("--video", "CLIP", "--text", "a", "--jump", 0.5),
        "--jump: does not go with --mode whole",
    ),
    Row(
        "a stream's setting out of range",
        call("--video", "CLIP", "--text", "a", "--mode", "stream", "--unsure", 1.5),
        "--unsure: should be less than or equal to 1, got 1.5",
    ),
    Row(
        "a stream that must ask before it may",
        call("--video", "CLIP", "--text", "a", "--mode", "stream", "--every", 2, "--gap", 3),
        "--every: must be at least gap 3, got 2",
    ),
    Row("a pipe, the whole way", call("--video", "-", "--text", "a"), "--video -: a pipe .*--mode stream is needed"),
    Row(
        "a pipe to a folder",
        call("--video", "-", "--text", "a", "--mode", "stream", "--out", "there"),
        "--out: does not go with --video -",
    ),
    Row("two things to predict", call("--video", "CLIP", "--data", "DATA"), "--video and --data: one of"),
    Row("a manifest and a sentence", call("--manifest", "TABLE", "--text", "a"), "--text: does not go with --manifest"),
    Row("a split and a sentence", call("--data", "DATA", "--text", "a"), "--text: does not go with --data"),
    Row(
        "a video and a split",
        call("--video", "CLIP", "--text", "a", "--split", "x"),
        "--split: does not go with --video",
    ),
    Row("a split to nowhere", call("--data", "DATA"), "--out: a .json file is needed with --data"),
    Row("a split to a folder", call("--data", "DATA", "--out", "there"), "--out there: a .json file is written"),
    Row(
        "an export nobody knows",
        call("--video", "CLIP", "--text", "a", "--also", "gif"),
        "--also gif: palette, ytvis, webm",
    ),
    Row("a sentence twice", call("--video", "CLIP", "--text", "a", "--text", "a"), "--text 'a' is there twice"),
    Row("one sentence of two empty", call("--video", "CLIP", "--text", "a", "--text", ""), "--text is empty"),
    Row(
        "a part that ends first",
        call("--video", "CLIP", "--text", "a", "--start", 2, "--end", 1),
        "end is 1 s.*start, 2 s",
    ),
    Row(
        "a part behind the end",
        call("--video", "CLIP", "--text", "a", "--start", 2),
        r"clip: no frame from 2 s.*of 5 is at 0\.33 s",
    ),
    Row("a manifest that is not there", call("--manifest", "none.csv"), "none.csv: No such file"),
    Row("a manifest of another kind", call("--manifest", "DATA"), "data: a folder, not a file"),
    Row("a manifest without rows", table(HEAD), "jobs.csv: no rows"),
    Row(
        "a manifest of other columns",
        table("video,sentence", "a,b"),
        r"columns are \['video', 'sentence'\]; needed are",
    ),
    Row(
        "a manifest with a column twice", table("video,text,text", "a,b,c"), r"columns are \['video', 'text', 'text'\]"
    ),
    Row("a manifest with other keys", jsonl({"video": "a", "txt": "b"}), "row 1: the keys are .*'txt'"),
    Row("a manifest of lists", jsonl([1]), "row 1: the keys are list"),
    Row("a manifest row without a sentence", table(HEAD, "clip,a,x", "clip,,y"), "jobs.csv: 1 problem row 3: no text"),
    Row("a manifest row without a video", table(HEAD, ",a,x"), "row 2: no video"),
    Row("a manifest row of too few cells", table(HEAD, "clip,a"), "row 2: 2 cells for 3 columns"),
    Row("a manifest row of numbers", jsonl({"video": "clip", "text": 3}), "row 1: text 3 is not a text"),
    Row("a manifest of a sentence too long", jsonl({"video": "clip", "text": "a" * 4001}), "row 1: .*4,001 characters"),
    Row(
        "a manifest with a time in words",
        table("video,text,start", "clip,a,soon"),
        "row 2: start is 'soon', not a number",
    ),
    Row("a manifest with a time of no end", table("video,text,end", "clip,a,inf"), "row 2: end is inf"),
    Row(
        "a manifest with a rate of true",
        jsonl({"video": "a", "text": "b", "fps": True}),
        "row 1: fps is True, not a number",
    ),
    Row("a manifest with a time beyond numbers", jsonl({"video": "a", "text": "b", "end": 10**400}), "row 1: end is 1"),
    Row("an id that leads elsewhere", table(HEAD, "clip,a,../x"), "row 2: id '../x' names no folder"),
    Row("an id that is hidden", table(HEAD, "clip,a,.x"), "row 2: id '.x' names no folder"),
    Row("an id that is a path", table(HEAD, "clip,a,/etc/x"), "row 2: id '/etc/x' names no folder"),
    Row("an id that is too long", table(HEAD, f"clip,a,{'x' * 121}"), "row 2: id .* at most 120"),
    Row("an id of the report", table(HEAD, "clip,a,report.json"), "row 2: id 'report.json' is the report's"),
    Row("an id twice", table(HEAD, "clip,a,x", "clip,b,X"), "row 3: its folder 'X' is that of row 2"),
    Row("a job twice", table("video,text", "clip,a", "clip,a"), "row 3: its folder .* is that of row 2"),
    Row("a report where a folder is", report_in_the_way, "report.json: is a folder"),
    Row(
        "a result of a video that is none", results({"video": "gamma"}), FOUND + "video 'gamma' is none of the 1 clips"
    ),
    Row("a result of another sentence", results({"text": "a dog"}), FOUND + "clip alpha has no expression 'a dog'"),
    Row("a result of a part", results({"frames": ["0"]}), FOUND + f"1 frames, clip alpha has {T}"),
    Row("a result without masks", results({"masks": {}}), FOUND + "video alpha, expression 0: none of the keys"),
    Row("a result of no masks", results({"masks": []}), FOUND + "'masks' is list"),
    Row(
        "a result of bad run lengths",
        results({"masks": {"actor": [3] * T}}),
        FOUND + "video alpha.*frame 0: not an RLE",
    ),
    Row(
        "a result of an unknown token", results({"written": ["agent"]}), FOUND + r"'written' is \['agent'\], not a list"
    ),
    Row("two results for one expression", results({}, {}), "found/1/prediction.json: .*found/0 holds it, too"),
]
