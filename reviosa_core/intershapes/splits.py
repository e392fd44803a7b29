"""InterShapes as clips and as files: the InterRVOS-127K format, with what that has no place for beside it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pandas as pd
from tqdm import tqdm

from reviosa_core import masks, outputs
from reviosa_core.config import NOTES, Data, is_own
from reviosa_core.data import interrvos, jsonfile
from reviosa_core.intershapes import absent
from reviosa_core.intershapes.scenes import make_scene
from reviosa_core.intershapes.world import (
    SPLITS,
    Scene,
    Utterance,
)
from reviosa_core.schema import NOTHING, Clip, DataError, Expression

WHAT = "InterShapes split"


def to_clip(scene: Scene, clip_id: str) -> Clip:
    """The scene as a clip in memory; mask keys and expression ids count from "0"."""
    name = [f"{i:05d}" for i in range(len(scene.frames))]
    rles = {}
    for k in range(len(scene.shapes)):
        rles[str(k)] = [masks.encode(m) if m.any() else None for m in scene.labels == k + 1]
    if not all(u.actor for u in scene.utterances):
        rles[NOTHING] = [None] * len(scene.frames)
    expressions = []
    for i, u in enumerate(scene.utterances):
        target = None if u.target is None else tuple(map(str, u.target))
        expressions.append(Expression(str(i), u.text, u.caption_type, tuple(map(str, u.actor)) or (NOTHING,), target))
    height, width = scene.labels.shape[1:]
    return Clip(clip_id, scene.frames, tuple(name), (height, width), tuple(expressions), rles)


def write_splits(config: Data, root: Path, seed: int, progress: bool = True) -> bool:
    """`write_split` for every split of `config`; False when root has somebody's own data, which is left alone.

    A folder without intershapes.json is somebody's own. DataError, before anything is written, when root has such data
    for some splits only (those of MAY_LACK may be absent), or anything of somebody's own beside what InterShapes wrote.
    """
    splits = [Path(root) / name for name in config.splits.model_dump()]
    own = [folder for folder in splits if is_own(folder)]
    if own and (missing := [folder.name for folder in splits if folder not in own and folder.name not in MAY_LACK]):
        raise DataError(f"{own[0]} is not InterShapes, and {root} has no such data for {', '.join(missing)}")
    for folder in splits if not own else ():
        outputs.try_out(folder, WHAT)
    for folder in splits if not own else ():
        write_split(config, folder.name, root, seed, progress)
    return not own


def write_split(config: Data, split: str, root: Path, seed: int, progress: bool = True) -> None:
    """Write root/<split> in the InterRVOS-127K format, with a side file intershapes.json for diagnosis.

    The folder appears when it is whole. DataError when root/<split> holds anything but an earlier run's result.
    """
    notes = {}

    def clips() -> Iterator[Clip]:
        for index in tqdm(range(getattr(config.splits, split)), desc=split, unit="clip", disable=not progress):
            drawn, shift = (seed, SPLITS[split], index), split == "shift"
            scene = absent.told(make_scene(config, drawn, shift), drawn, config.difficulty.absent, shift)
            name = f"intershapes_{split}_{index:05d}"
            notes[name] = {
                "shapes": [asdict(shape) for shape in scene.shapes],
                "centres": np.round(scene.centres.astype(float), 4).tolist(),
                "interactions": [asdict(event) for event in scene.interactions],
                "solos": [asdict(solo) for solo in scene.solos],
                "expressions": {str(i): _note(scene, utterance) for i, utterance in enumerate(scene.utterances)},
            }
            yield to_clip(scene, name)

    with outputs.folder(Path(root) / split, WHAT) as folder:
        interrvos.fill(folder, clips())
        (folder / NOTES).write_text(jsonfile.to_json(notes))


def _note(scene: Scene, utterance: Utterance) -> dict:
    """What the main format has no place for; `actor`, `target` and `objects` count the clip's shapes.

    `hidden`: share of the named objects' area that others cover, of the worst object, mean over frames. `area`: their
    mean visible share of the frame. Both None of a sentence about nothing.
    """
    note = asdict(utterance)
    named = [*utterance.actor, *(utterance.target or ())]
    visible = [(scene.labels == k + 1).mean() for k in named]
    return {key: note[key] for key in ("verb", "form", "level", "cue", "actor", "target", "phrases")} | {
        "hidden": round(float(scene.hidden[named].mean(1).max()), 4) if named else None,
        "area": round(float(np.mean(visible)), 5) if named else None,
    }


def read_side_file(folder: Path) -> dict[str, dict]:
    """What InterShapes knows about a written split, by video: shapes, centres [n t 2], interactions, solos and
    expressions. Empty for a folder that it did not write."""
    path = Path(folder) / NOTES
    return jsonfile.read_json(path) if path.is_file() else {}


MAY_LACK = ("dev", "shift")  # `dev` is for studies only; without `shift` nothing is transferred to but what is named
SUBSETS = ("cue", "verb", "pairs", "occlusion", "object size", "kind")


def read_notes(folder: Path) -> pd.DataFrame:
    """The diagnostic labels of a written split: one row per (video, expression), a column for each of SUBSETS and for
    `form` and `level`. Empty for a folder that InterShapes did not write."""
    rows = []
    for video, clip in read_side_file(folder).items():
        for expression, note in clip["expressions"].items():
            rows.append(
                {"video": video, "expression": expression}
                | {key: note[key] for key in ("cue", "verb", "form", "level")}
                | {
                    "pairs": str(len(clip["interactions"])),
                    "occlusion": _occlusion(note["hidden"]),
                    "object size": None if note["area"] is None else "small" if note["area"] < 0.025 else "large",
                    "kind": _kind(note),
                }
            )
    return pd.DataFrame(rows, columns=["video", "expression", "form", "level", *SUBSETS])


def _occlusion(hidden: float | None) -> str | None:
    return None if hidden is None else "none" if hidden < 0.01 else "under 15 %" if hidden < 0.15 else "more"


def _kind(note: dict) -> str:
    """Type of an expression, finer than the caption type: what its words tell, or the voice; "partner absent". Of one
    about nothing, what it is that is not there: "absent, look", "absent, motion" or "absent, actor"."""
    if not note["actor"]:
        return "absent, actor" if note["verb"] else "absent, look" if note["form"] == "appearance" else "absent, motion"
    count = "several" if len(note["actor"]) > 1 else "one"
    if note["verb"] is None:
        return f"{count}, {note['form']}"
    if note["form"] == "mutual":
        return "mutual"
    return f"{note['form']}, partner absent" if note["target"] is None else note["form"]
