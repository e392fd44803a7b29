"""The folder of one prediction: what is in it, and whether it is the one that is asked for.

prediction.json is the result; masks and pictures are made from it and from the video, and can be made again.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from reviosa_core import masks, outputs
from reviosa_core.data import files
from reviosa_core.data.jsonfile import read_json, to_json
from reviosa_core.data.video import files_of
from reviosa_core.predict import exports
from reviosa_core.predict.calibration import Calibration, score
from reviosa_core.predict.jobs import Job
from reviosa_core.predict.streamed import Question, Stream, Streamed
from reviosa_core.schema import RLE, Clip, Confidence, DataError, Prediction, Role
from reviosa_core.scoring import bitmasks, metrics

WHAT, RESULT = "prediction", "prediction.json"
WEIGHTS = (".safetensors", ".bin", ".pt", ".pth", ".json")
DIGITS = 4  # of shares in prediction.json


@dataclass(frozen=True)
class Settings:
    """What all jobs of a call share. `also` are names of `exports.ALSO`; a mask of less confidence than
    `min_confidence` is left out of its frame."""

    checkpoint: Path
    model: str  # its hash
    min_confidence: float = 0.0
    also: tuple[str, ...] = ()
    calibration: Calibration | None = None
    stream: Stream | None = None  # None: the whole clip is looked at before anything is said
    half: bool = False  # computed in bfloat16


def model_hash(checkpoint: Path) -> str:
    """SHA-256 of a file, or of the names and hashes of a folder's weights and descriptions."""
    if not checkpoint.is_dir():
        with files.regular(checkpoint).open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    found = hashlib.sha256()
    for file in sorted(f for f in checkpoint.iterdir() if f.suffix in WEIGHTS and f.is_file()):
        found.update(f"{file.name} {model_hash(file)}\n".encode())
    return found.hexdigest()


def origin(job: Job, checkpoint: Path) -> dict[str, str]:
    return {"video": str(job.video), "checkpoint": str(checkpoint), "text": job.text}


def made_from(job: Job, settings: Settings) -> dict[str, Any]:
    """What decides the masks, and the pictures' speed. A video counts by size and time of change: one that was replaced
    is predicted again."""
    count, size, changed = files.stamp(files_of(job.video))
    return {
        "model": settings.model,
        "video_files": count,
        "video_bytes": size,
        "video_changed": changed,
        "start": job.start,
        "end": job.end,
        "fps": job.fps,
        "min_confidence": settings.min_confidence,
        **({"stream": settings.stream.model_dump()} if settings.stream else {}),
        **({"half": True} if settings.half else {}),
        **({"calibration": settings.calibration.digest} if settings.calibration else {}),
    }


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


def made(job: Job, settings: Settings) -> dict[str, Any] | None:
    """The content of prediction.json, when that is there and made from the same; else None. OSError where the video
    cannot be looked at, DataError as `check_folder`."""
    outputs.try_out(job.out, WHAT)
    if (job.out / RESULT).is_file():
        about, now = read_json(job.out / RESULT), made_from(job, settings)
        named = about.get("text") == job.text and Path(str(about.get("video"))).name == job.video.name
        if named and about.get("made_from") == now:  # from wherever it is called, by whatever copy of the checkpoint
            return about
    check_folder(job.out, origin(job, settings.checkpoint))
    return None


def lacking(job: Job, settings: Settings, about: Mapping[str, Any]) -> bool:
    """Is there a folder or picture that is not there, as when one was not drawn, or more is asked for now?"""
    own = [f"masks/{role}" for role in about["roles"]]
    return not all((job.out / name).exists() for name in (*own, *exports.names(settings.also)))


def content(
    job: Job,
    clip: Clip,
    times: Sequence[float],
    fps: float,
    prediction: Prediction,
    settings: Settings,
    made_from: Mapping[str, Any],
) -> dict[str, Any]:
    """prediction.json: the model's answer, run lengths [t] of every role, how sure it is, frame names and times,
    diagnostics, and what all that comes from: `made_from` as it was before the model ran. DataError when a confidence
    is asked for of a system that gives none."""
    by_role = {
        r: [masks.encode(m) for m in own] if isinstance(own, np.ndarray) else list(own)
        for r, own in prediction.masks.items()
    }
    sure, left_out = prediction.confidence, dict.fromkeys(map(str, by_role), 0)
    if settings.min_confidence and sure is None:
        raise DataError(f"{settings.checkpoint}: this system does not say how sure it is; leave out --min-confidence")
    if settings.min_confidence and sure is not None:
        nothing = masks.encode(np.zeros(clip.size, bool))
        for role, own in by_role.items():
            for t in np.flatnonzero(sure[role].frames < settings.min_confidence):
                left_out[role] += own[t] != nothing
                own[t] = nothing
    return {
        **origin(job, settings.checkpoint),
        "answer": prediction.answer,
        "written": None if prediction.written is None else sorted(map(str, prediction.written)),
        "score": prediction.score,
        "roles": [str(role) for role in by_role],
        "size": list(clip.size),
        "fps": job.fps or fps,
        "frames": list(clip.frame_names),
        "times": [round(t, 6) for t in times],
        "made_from": made_from,
        "diagnostics": {str(role): diagnostics(own, clip.size) for role, own in by_role.items()},
        "left_out": left_out,
        "confidence": sure
        and {
            str(role): {
                "token": round(own.token, DIGITS),
                "iou": own.iou.round(DIGITS).tolist(),
                "present": own.present.round(DIGITS).tolist(),
                "frames": own.frames.round(DIGITS).tolist(),
                **_calibrated(role, own, settings.calibration),
            }
            for role, own in sure.items()
        },
        **({"questions": [_question(q) for q in prediction.questions]} if isinstance(prediction, Streamed) else {}),
        "masks": {str(role): own for role, own in by_role.items()},
    }


def _calibrated(role: Role, sure: Confidence, calibration: Calibration | None) -> dict[str, list[float]]:
    curve = calibration.roles.get(role) if calibration else None
    return {"present_calibrated": curve.of(score(sure)).round(DIGITS).tolist()} if curve else {}


def _question(asked: Question) -> dict[str, Any]:
    token = {str(role): round(share, DIGITS) for role, share in asked.token.items()}
    return {"frame": asked.frame, "why": asked.why, "answer": asked.answer, "token": token}


def diagnostics(rles: Sequence[RLE], size: tuple[int, int]) -> dict[str, Any]:
    """How a role's mask behaves over time, without any truth: in how many frames there is one, its share of all pixels,
    its median share of a frame that has one, and the median IoU of neighbouring frames (of those pairs in which either
    has one; low where masks jump or flicker). None where there is nothing to take a median of."""
    before, found, pairs = None, [], []
    for rle in rles:  # packed, two at a time: all of a long video would be too many
        (mask,) = bitmasks.pack([rle], size)
        if before is not None and (before.any or mask.any):
            pairs += metrics.region_similarity([before], [mask]).tolist()
        found.append(mask.area)
        before = mask
    areas = np.array(found) / (size[0] * size[1])
    there = areas > 0
    return {
        "frames": len(areas),
        "frames_visible": int(there.sum()),
        "share": round(float(areas.mean()), 6),
        "median_area": round(float(np.median(areas[there])), 6) if there.any() else None,
        "median_neighbour_iou": round(float(np.median(pairs)), 6) if len(pairs) else None,
    }


def write(out: Path, clip: Clip, about: Mapping[str, Any], also: Sequence[str] = ()) -> list[str]:
    """prediction.json (`content`), masks/<role>/<frame>.png (0 or 255) and what else is asked for, in the place of an
    earlier prediction of the same origin. Then the pictures: what keeps one from being drawn is given back, a line
    each. Holds one frame at a time."""
    check_folder(out, {key: about[key] for key in ("video", "checkpoint", "text")})
    by_role = {Role(role): own for role, own in about["masks"].items()}
    with outputs.folder(out, WHAT) as new:
        (new / RESULT).write_text(to_json(about) + "\n")
        for role, found in by_role.items():
            (new / "masks" / role).mkdir(parents=True)
            for name, rle in zip(clip.frame_names, found, strict=True):
                mask = masks.decode(rle, clip.size)
                Image.fromarray(mask.astype(np.uint8) * 255).save(new / "masks" / role / f"{name}.png")
        for name in also:
            if fill := exports.FILES.get(name):
                fill(new / exports.ALSO[name], clip, by_role, about)
    pictures = exports.PICTURES | {exports.ALSO[n]: exports.LATER[n] for n in also if n in exports.LATER}
    drawn = (
        _decorate(out, name, lambda path, draw=draw: draw(path, clip, by_role, about))
        for name, draw in pictures.items()
    )
    return [line for line in drawn if line]


def _decorate(out: Path, name: str, draw: Callable[[Path], None]) -> str | None:
    try:
        with outputs.added(out, name, WHAT) as path:
            draw(path)
    except Exception as error:  # whatever it is: the masks are there
        return f"{out / name} is not drawn: {type(error).__name__}: {' '.join(str(error).split())}"
