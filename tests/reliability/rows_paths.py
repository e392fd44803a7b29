"""Places to write to and names: what cannot be written is said before the work, and nobody's own file is replaced."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from bad_input import H, Row, T, W, dataset, predictions
from PIL import Image

from reviosa_core import outputs


def evaluate(option: str, out: Callable[[Path], object]) -> Callable[[Path], Sequence[object]]:
    def make(folder: Path) -> Sequence[object]:
        (folder / "data").mkdir()
        words = ["evaluate", "--data", dataset(folder / "data"), "--predictions", predictions(folder / "found.json")]
        return [*words, "--workers", 1, option, out(folder)]

    return make


def data(*words: str, out: Callable[[Path], object]) -> Callable[[Path], Sequence[object]]:
    """A command on `dataset`: its words, with "DATA" for the folder and "OUT" for where to write."""

    def make(folder: Path) -> Sequence[object]:
        (folder / "data").mkdir()
        known = {"DATA": dataset(folder / "data"), "OUT": out(folder)}
        return [known.get(word, word) for word in words]

    return make


def a_folder(folder: Path) -> Path:
    (folder / "there").mkdir()
    return folder / "there"


def below_a_file(folder: Path) -> Path:
    (folder / "file").write_text("mine")
    return folder / "file" / "out.json"


def of_somebody(folder: Path) -> Path:
    (folder / "there").mkdir()
    (folder / "there" / "thesis.txt").write_text("years")
    return folder / "there"


def frames(folder: Path, name: str = "clip") -> Path:
    (folder / name).mkdir()
    for t in range(T):
        Image.fromarray(np.full((H, W, 3), 90, np.uint8)).save(folder / name / f"{t:05d}.png")
    return folder / name


def predict(folder: Path, *more: object, video: Path | None = None) -> Sequence[object]:
    """The command; its checkpoint is an empty folder, so that what comes after the rows' line is another line."""
    (folder / "checkpoint").mkdir()
    return ["predict", "--video", video or frames(folder), "--text", "a", "--checkpoint", folder / "checkpoint", *more]


def with_a_bad_frame(folder: Path, size: tuple[int, int] | None) -> Path:
    video = frames(folder)
    if size:
        Image.new("RGB", size).save(video / "00003.png")
    else:
        (video / "00003.png").write_bytes((video / "00002.png").read_bytes()[:40])
    return video


def predicted(folder: Path, **origin: str) -> Path:
    about = {"video": str(folder / "clip"), "checkpoint": str(folder / "checkpoint"), "text": "a"} | origin
    with outputs.folder(folder / "out", "prediction") as new:
        (new / "prediction.json").write_text(str(about).replace("'", '"'))
    return folder / "out"


def split_with_own_clips(folder: Path) -> Path:
    """As in the project's folder data/<profile>/train: own frames beside what was generated."""
    with outputs.folder(folder / "train", "InterShapes split") as new:
        (new / "intershapes.json").write_text("{}")
    (folder / "train" / "JPEGImages").mkdir()
    (folder / "train" / "JPEGImages" / "mine.jpg").write_bytes(b"precious")
    return folder


def imported(folder: Path) -> Sequence[object]:
    (folder / "table.csv").write_text("video,expression,caption_type,actor,target\n")
    return ["data", "import", folder / "table.csv", of_somebody(folder)]


def intershapes(folder: Path, out: Path) -> Sequence[object]:
    """From within the project: its parameters are found from the folder this file lies in."""
    project = Path(__file__).parents[2]
    (folder / "params.yaml").write_bytes((project / "params.yaml").read_bytes())
    return ["data", "intershapes", out, "--split", "train", "--clips", 1, "--profile", "smoke"]


ROWS = [
    Row("scores into a folder", evaluate("--out", a_folder), "there: is a folder; a file is written here"),
    Row("rows into a folder", evaluate("--rows", lambda f: a_folder(f).rename(f / "r.csv")), "r.csv: is a folder"),
    Row("scores below a file", evaluate("--out", below_a_file), "file: Not a directory"),
    Row(
        "scores where nothing can be made",
        evaluate("--out", lambda f: "/proc/none/s.json"),
        "/proc/none/s.json: No such",
    ),
    Row("scores into a device", evaluate("--out", lambda f: "/dev/null"), "/dev/null: is no plain file"),
    Row(
        "pictures among somebody's files",
        evaluate("--pictures", of_somebody),
        "there: exists, and is not an earlier gallery",
    ),
    Row("a name too long", evaluate("--out", lambda f: f / f"{'x' * 250}.json"), "x.json: File name too long"),
    Row("a report into a folder", data("data", "verify", "DATA", "--out", "OUT", out=a_folder), "there: is a folder"),
    Row("statistics into a folder", data("data", "stats", "DATA", "--out", "OUT", out=a_folder), "there: is a folder"),
    Row("a table into a folder", data("data", "stats", "DATA", "--rows", "OUT", out=a_folder), "there: is a folder"),
    Row(
        "a sheet below a file",
        data("data", "show", "DATA", "alpha", "--out", "OUT", out=below_a_file),
        "file: Not a dir",
    ),
    Row("an import among somebody's files", imported, "there: exists, and is not an earlier import"),
    Row(
        "generated data over own data",
        lambda f: intershapes(f, split_with_own_clips(f)),
        "mine.jpg: does not come with",
    ),
    Row(
        "a frame of another size",
        lambda f: predict(f, video=with_a_bad_frame(f, (W + 1, H))),
        "00003.png: .*16.*17|17.*16",
    ),
    Row("a frame cut off", lambda f: predict(f, video=with_a_bad_frame(f, None)), "00003.png: "),
    Row(
        "a prediction among somebody's files",
        lambda f: predict(f, "--out", of_somebody(f)),
        "not an earlier prediction",
    ),
    Row(
        "a prediction of another sentence",
        lambda f: predict(f, "--out", predicted(f, text="b")),
        "holds the prediction for text 'b', this is for 'a'",
    ),
    Row(
        "a prediction of another video",
        lambda f: predict(f, "--out", predicted(f, video="b.mp4")),
        "holds the prediction for video 'b.mp4', this is for .*clip",
    ),
    Row(
        "a prediction by another checkpoint",
        lambda f: predict(f, "--out", predicted(f, checkpoint="b")),
        "holds the prediction for checkpoint 'b'",
    ),
    Row("a device that is none", lambda f: predict(f, "--device", "gpu"), "--device gpu: cpu, cuda"),
    Row("a device without numbers", lambda f: predict(f, "--device", "meta"), "--device meta: cpu, cuda"),
]
