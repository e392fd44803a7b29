"""Stage 0: which objects there are, as masks through the clip, and whether they are good enough to go on with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np
from jaxtyping import Int64

from reviosa_core import masks
from reviosa_core.annotation.records import Line, Track
from reviosa_core.config import Annotation
from reviosa_core.masks import runs
from reviosa_core.schema import RLE, Clip, DataError
from reviosa_core.schema import Track as Masks

SAME = 0.7  # IoU from which on two tracks are one object


def areas(track: Masks, size: tuple[int, int], where: str) -> Int64[np.ndarray, " t"]:
    """Pixels in each frame. DataError naming the frame."""
    found = []
    for index, rle in enumerate(track):
        try:
            found.append(0 if rle is None else int(np.subtract(*runs(rle, size)[::-1]).sum()))
        except DataError as error:
            raise DataError(f"{where}, frame {index}: {error}") from None
    return np.array(found, np.int64)


def measure(
    id: str, pixels: Int64[np.ndarray, " t"], size: tuple[int, int], source: str, settings: Annotation
) -> Track:
    """A track's quality, and the reason why it is poor, if it is."""
    there = pixels > 0
    presence = float(there.mean())
    area = float(pixels[there].mean() / (size[0] * size[1])) if there.any() else 0.0
    both = there[1:] & there[:-1]
    pairs = np.stack([pixels[1:], pixels[:-1]])[:, both]
    stability = float((pairs.min(0) / pairs.max(0)).mean()) if both.any() else 1.0
    poor = None
    for name, value in (("presence", presence), ("area", area), ("stability", stability)):
        if value < (least := getattr(settings, name)):
            poor = f"{name} {value:.4g}, at least {least:g} is wanted"
            break
    values = {"area": round(area, 6), "presence": round(presence, 4), "stability": round(stability, 4)}
    return Track(id=id, source=source, poor=poor, **values)


def twins(clip: Clip, ids: Sequence[str]) -> dict[str, str]:
    """Tracks that are where an earlier one of `ids` is: id -> that one. IoU of all frames together, SAME at least."""
    both = np.zeros((len(ids), len(ids)))
    for index in range(len(clip)):
        there = np.stack([masks.decode(clip.masks[id][index], clip.size).ravel() for id in ids]).astype(np.float32)
        both += there @ there.T
    own = np.diag(both)
    overlap = both / np.maximum(own[:, None] + own[None] - both, 1)
    found: dict[str, str] = {}
    for k, id in enumerate(ids):
        earlier = [j for j in range(k) if ids[j] not in found and overlap[k, j] >= SAME]
        if earlier:
            found[id] = ids[earlier[0]]
    return found


def run(
    clip: Clip, settings: Annotation, made_from: str, source: Literal["given", "box", "grid"] = "given"
) -> Line[Track]:
    """A record a track of the clip. What several points of a grid have found goes on once; of more good ones than a
    question can show, the largest go on."""
    pixels = {id: areas(track, clip.size, f"clip {clip.id}, mask {id}") for id, track in clip.masks.items()}
    for id, found in pixels.items():
        if len(found) != len(clip):
            raise DataError(f"clip {clip.id}, mask {id}: {len(found)} entries for {len(clip)} frames")
    found = [measure(id, counted, clip.size, source, settings) for id, counted in pixels.items()]
    if source == "grid" and (first := [track.id for track in found if track.poor is None]):
        again = twins(clip, first)
        found = [t.model_copy(update={"poor": f"as track {again[t.id]}"}) if t.id in again else t for t in found]
    good = sorted((track for track in found if track.poor is None), key=lambda track: -track.area)
    beyond = {track.id for track in good[settings.objects :]}
    reason = f"{len(good)} good tracks, of which the {settings.objects} largest go on"
    items = [track.model_copy(update={"poor": reason}) if track.id in beyond else track for track in found]
    return Line[Track](clip=clip.id, made_from=made_from, items=tuple(items))


def plain(tracks: Mapping[str, Masks]) -> dict[str, Sequence[RLE | None]]:
    """Masks as lists, for a hash and for JSON."""
    return {id: list(track) for id, track in tracks.items()}
