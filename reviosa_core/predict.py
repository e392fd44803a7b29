"""A video and sentences in, masks and pictures out: what `reviosa predict` runs."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
from PIL import Image

from reviosa_core import masks, outputs
from reviosa_core.data.jsonfile import read_json, to_json
from reviosa_core.data.video import write_mp4
from reviosa_core.report import drawing, style
from reviosa_core.schema import Clip, DataError, Prediction

WHAT, RESULT = "prediction", "prediction.json"
SHEET = 8  # frames on the contact sheet
LETTERS = 60  # of a sentence, in the name of a folder


def folder_of(video: Path, text: str) -> Path:
    """Where a prediction goes by default: runs/predict/<name of the video>--<the sentence>.

    The name has its suffix; the sentence is in small letters and single dashes, with six hex digits of its hash where
    that leaves something out: videos of other names, and other sentences, have other folders.
    """
    words = "-".join(re.findall(r"\w+", text.lower()))[:LETTERS].strip("-")
    if words.replace("-", " ") != text:
        words = f"{words}-{hashlib.sha256(text.encode()).hexdigest()[:6]}".strip("-")
    return Path("runs/predict") / f"{video.resolve().name}--{words}"


def check_folder(out: Path, origin: Mapping[str, str]) -> None:
    """Can the prediction be written there? DataError when it would replace somebody's own files, or a prediction of
    another origin: another video, checkpoint or sentence."""
    outputs.try_out(out, WHAT)
    if (out / RESULT).is_file():
        there = read_json(out / RESULT)
        for key, new in origin.items():
            old = str(there.get(key))
            if old != new and (key == "text" or Path(old).resolve() != Path(new).resolve()):
                raise DataError(
                    f"{out}: holds the prediction for {key} {old!r}, this is for {new!r}; name another --out"
                )


def write(out: Path, clip: Clip, prediction: Prediction, fps: float, origin: Mapping[str, str]) -> list[str]:
    """prediction.json (the model's answer, run lengths [t] of every role, and `origin`, which says where all that comes
    from) and masks/<role>/<frame>.png (0 or 255), in the place of an earlier prediction of the same origin. Then
    overlay.mp4, and sheet.png with origin's "text" above: what keeps these from being drawn is given back, a line each.
    """
    check_folder(out, origin)
    by_role = {
        r: m if isinstance(m, np.ndarray) else masks.decode_all(m, clip.size) for r, m in prediction.masks.items()
    }
    about = {
        **origin,
        "answer": prediction.answer,
        "roles": [str(role) for role in by_role],
        "size": list(clip.size),
        "fps": fps,
        "frames": list(clip.frame_names),
        "masks": {str(role): [masks.encode(mask) for mask in found] for role, found in by_role.items()},
    }
    with outputs.folder(out, WHAT) as new:
        (new / RESULT).write_text(to_json(about) + "\n")
        for role, found in by_role.items():
            (new / "masks" / role).mkdir(parents=True)
            for name, mask in zip(clip.frame_names, found, strict=True):
                Image.fromarray(mask.astype(np.uint8) * 255).save(new / "masks" / role / f"{name}.png")

    def overlay(path: Path) -> None:
        painted = (drawing.paint(clip.frames[i], {r: m[i] for r, m in by_role.items()}, 0.5) for i in range(len(clip)))
        write_mp4(path, painted, fps)

    def sheet(path: Path) -> None:
        frames = np.stack([clip.frames[i] for i in range(len(clip))])
        style.save(drawing.overlay(frames, {"prediction": by_role}, origin["text"], columns=SHEET), path)

    failed = [_decorate(out, "overlay.mp4", overlay), _decorate(out, "sheet.png", sheet)]
    return [line for line in failed if line]


def _decorate(out: Path, name: str, draw: Callable[[Path], None]) -> str | None:
    try:
        with outputs.added(out, name, WHAT) as path:
            draw(path)
    except Exception as error:  # whatever it is: the masks are there
        return f"{out / name} is not drawn: {type(error).__name__}: {' '.join(str(error).split())}"
