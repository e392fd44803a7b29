"""Sentences, and files of ours given to the wrong command."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from bad_input import Row, dataset, spoil
from PIL import Image


def video(folder: Path) -> Path:
    (folder / "clip").mkdir()
    Image.fromarray(np.zeros((12, 16, 3), np.uint8)).save(folder / "clip" / "0.png")
    return folder / "clip"


def predict(folder: Path, text: str) -> list[object]:
    (folder / "checkpoint").mkdir()
    return ["predict", "--video", video(folder), "--text", text, "--checkpoint", folder / "checkpoint"]


def said(folder: Path, text: str) -> list[object]:
    """A command on a data set one of whose sentences is another."""
    (folder / "data").mkdir()
    file = dataset(folder / "data") / "meta_expressions.json"
    spoil(file, lambda meta: meta["videos"]["beta"]["expressions"]["1"].update(exp=text))
    return ["data", "stats", folder / "data"]


def prediction(folder: Path, *command: object) -> list[object]:
    """A command given a folder as `reviosa predict` leaves it."""
    for name in ("data", "predicted/masks/actor"):
        (folder / name).mkdir(parents=True)
    (folder / "predicted" / "prediction.json").write_text('{"video": "clip.mp4", "masks": {}}')
    data = dataset(folder / "data")
    return [*command, "--data", data, "--predictions", folder / "predicted"]


ROWS = [
    Row(
        "a sentence of 20000 words",
        lambda f: predict(f, "word " * 20_000),
        "expression 0: a text of (100,000|99,999) characters, at most 4,000 are read",
    ),
    Row("a sentence with half a character", lambda f: predict(f, "the \udce4 one"), "expression 0: .*is not text"),
    Row(
        "a data set with a sentence that is too long",
        lambda f: said(f, "x" * 4001),
        "meta_expressions.json: video 'beta', expression 1: .*4,001 characters, at most 4,000",
    ),
    Row(
        "a data set with a sentence that has half a character",
        lambda f: said(f, "the \ud83d one"),
        "meta_expressions.json: video 'beta', expression 1: .*is not text",
    ),
    Row(
        "the folder of predict evaluated",
        lambda f: prediction(f, "evaluate"),
        "predicted/prediction.json: video 'clip.mp4' is none of the 2 clips of the data",
    ),
    Row(
        "the folder of predict submitted",
        lambda f: prediction(f, "submit", "--to", "mevis", "--out", f / "s.zip"),
        "predicted/prediction.json: video 'clip.mp4' is none of the 2 clips of the data",
    ),
]
