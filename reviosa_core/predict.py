"""A video and sentences in, masks and pictures out: what `reviosa predict` runs."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from PIL import Image

from reviosa_core import masks
from reviosa_core.data.video import write_mp4
from reviosa_core.report import drawing, style
from reviosa_core.schema import Clip, DataError, Prediction

RESULT = "prediction.json"  # written last: a folder that has it is whole
SHEET = 8  # frames on the contact sheet


def check_folder(out: Path) -> None:
    """DataError when a prediction written there would lie among somebody's own files."""
    if out.exists() and not (out / RESULT).is_file() and (not out.is_dir() or any(out.iterdir())):
        raise DataError(f"{out}: exists, and is not an earlier prediction; name another folder")


def write(out: Path, clip: Clip, prediction: Prediction, fps: float, origin: Mapping[str, str]) -> None:
    """overlay.mp4, sheet.png, masks/<role>/<frame>.png (0 or 255) and prediction.json: the model's answer, run lengths
    [t] of every role, and `origin`, which says where all that comes from (its "text" stands above the sheet)."""
    by_role = {
        r: m if isinstance(m, np.ndarray) else masks.decode_all(m, clip.size) for r, m in prediction.masks.items()
    }
    out.mkdir(parents=True, exist_ok=True)
    (out / RESULT).unlink(missing_ok=True)
    shutil.rmtree(out / "masks", ignore_errors=True)
    for role, found in by_role.items():
        (out / "masks" / role).mkdir(parents=True)
        for name, mask in zip(clip.frame_names, found, strict=True):
            Image.fromarray(mask.astype(np.uint8) * 255).save(out / "masks" / role / f"{name}.png")
    frames = np.stack([clip.frames[i] for i in range(len(clip))])
    painted = (drawing.paint(frame, {r: m[i] for r, m in by_role.items()}, 0.5) for i, frame in enumerate(frames))
    write_mp4(out / "overlay.mp4", painted, fps)
    style.save(drawing.overlay(frames, {"prediction": by_role}, origin["text"], columns=SHEET), out / "sheet.png")
    about = {
        **origin,
        "answer": prediction.answer,
        "roles": [str(role) for role in by_role],
        "size": list(clip.size),
        "fps": fps,
        "frames": list(clip.frame_names),
        "masks": {str(role): [masks.encode(mask) for mask in found] for role, found in by_role.items()},
    }
    (out / RESULT).write_text(json.dumps(about, indent=1) + "\n")
