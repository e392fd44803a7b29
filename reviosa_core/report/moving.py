"""Moving pictures: what a model segments, frame by frame, small enough for a README."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping
from pathlib import Path

import matplotlib
import numpy as np
import pandas as pd
from jaxtyping import Bool, UInt8
from PIL import Image, ImageDraw, ImageFont

from reviosa_core import outputs
from reviosa_core.report.drawing import paint
from reviosa_core.report.style import COLOR, INK
from reviosa_core.schema import DataError, Role

HOLD = 3  # how many times as long the last frame stays
LINE = 22  # pixels of a line of text
GAP = 10  # pixels between panels


def roles_by_motion(rows: pd.DataFrame, percentile: int) -> tuple[str, str, str] | None:
    """(video, expression, its inverse) in which actor and target are called the same, so that only motion tells who is
    who: the pair at this percentile of quality, so that nobody has picked it.

    `rows` are those of `evaluate.score_clip` with InterShapes' `cue`. A pair is as good as the worst of its four masks,
    by J&F. None where there is no such pair.
    """
    asked = rows[(rows["cue"] == "motion") & rows["inverse"].notna()]
    worst: dict[tuple[str, str], float] = {}
    inverse: dict[tuple[str, str], str] = {}
    for row in asked.to_dict("records"):
        key, score = (row["video"], row["expression"]), (row["J"] + row["F"]) / 2
        worst[key], inverse[key] = min(worst.get(key, 1.0), score), row["inverse"]
    pairs = [
        (min(worst[video, one], worst[video, other]), video, one, other)
        for (video, one), other in inverse.items()
        if one < other and (video, other) in worst
    ]
    return sorted(pairs)[round(percentile / 100 * (len(pairs) - 1))][1:] if pairs else None


def panels(
    frames: UInt8[np.ndarray, "t h w 3"],
    said: Mapping[str, Mapping[Role, Bool[np.ndarray, "t h w"]]],
    scale: int = 2,
) -> UInt8[np.ndarray, "t high wide 3"]:
    """The same frames once for each sentence of `said`, side by side, with its masks painted in and the sentence above;
    actor blue, target orange. DataError for no sentence."""
    if not said:
        raise DataError("no sentence to show")
    height, width = frames.shape[1] * scale, frames.shape[2] * scale
    wrapped = [textwrap.wrap(text, max(width // 9, 8)) for text in said]
    top = LINE * max(map(len, wrapped)) + 8
    size = (len(said) * (width + GAP) - GAP, top + height + LINE)
    font = ImageFont.truetype(Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf", 14)
    pictures = []
    for t, frame in enumerate(frames):
        picture = Image.new("RGB", size, "white")
        draw = ImageDraw.Draw(picture)
        for number, (lines, by_role) in enumerate(zip(wrapped, said.values(), strict=True)):
            left = number * (width + GAP)
            for row, line in enumerate(lines):
                draw.text((left, row * LINE + 2), line, INK, font)
            painted = Image.fromarray(paint(frame, {role: mask[t] for role, mask in by_role.items()}, 0.65))
            picture.paste(painted.resize((width, height), Image.Resampling.BICUBIC), (left, top))
            x = left
            for role in by_role:
                draw.text((x, top + height + 2), f"■ {role}", COLOR[role], font)
                x += 90
        pictures.append(np.asarray(picture))
    return np.stack(pictures)


def save_gif(path: Path, frames: UInt8[np.ndarray, "t h w 3"], fps: float = 4.0, limit: int = 1_000_000) -> Path:
    """A GIF that plays for ever, its last frame held. DataError when it is over `limit` bytes: it lives in git."""
    milliseconds = [round(1000 / fps)] * (len(frames) - 1) + [round(HOLD * 1000 / fps)]
    # One palette for all: frames with palettes of their own flicker.
    palette = Image.fromarray(frames.reshape(-1, *frames.shape[2:])).quantize(255, Image.Quantize.MAXCOVERAGE)
    first, *rest = (Image.fromarray(f).quantize(palette=palette, dither=Image.Dither.NONE) for f in frames)
    with outputs.file(path) as new:
        first.save(new, "GIF", save_all=True, append_images=rest, duration=milliseconds, loop=0, optimize=False)
        if (size := new.stat().st_size) > limit:
            raise DataError(f"{path}: {size} bytes, over {limit}")
    return path
