"""ReVOS: meta_expressions_{train,valid}_.json (their names end in an underscore) over one mask_dict.json.

Frames lie in JPEGImages/<video> (VISA's packaging) or directly in <video> (Sa2VA's); a video's name has folders in it,
such as "UVO/all/<id>". Empty lists of ids mean that an expression refers to nothing: its actor is NOTHING. `groups` and
`foregrounds` are what `scoring.benchmarks` asks for.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from reviosa_core.data import jsonfile, mevis_style
from reviosa_core.data.images import check_name
from reviosa_core.data.mevis_style import IMAGES, MASKS
from reviosa_core.data.report import Report
from reviosa_core.schema import RLE, Clip, DataError, Expression

GROUPS = (0, 1, 2)  # type_id: referring, reasoning, about nothing, which enters no J or F
FOREGROUND = "mask_dict_foreground.json"


def splits(root: Path) -> tuple[str, ...]:
    """The splits in a folder. None of another format."""
    return tuple(split for split in ("train", "valid") if _expressions(root, split).is_file())


def read(root: Path | str, split: str, report: Report | None = None) -> list[Clip]:
    """All clips of a split, by video name. Frames and masks stay on disk; mask keys are annotation ids, as strings."""
    root = Path(root)
    folder = root / IMAGES if (root / IMAGES).is_dir() else root
    return mevis_style.read(
        _expressions(root, split), root / MASKS, folder, _expression, report or Report(), _check_nested
    )


def groups(root: Path | str, split: str) -> dict[tuple[str, str], int]:
    """`type_id` of every (video, expression)."""
    videos = jsonfile.get(jsonfile.read_json(_expressions(Path(root), split)), "videos", dict, str(root))
    return {(v, e): raw["type_id"] for v, video in videos.items() for e, raw in video["expressions"].items()}


def foregrounds(root: Path | str) -> Iterator[tuple[str, list[RLE]]]:
    """(video, the union of all its annotated objects in each frame), one at a time."""
    path = Path(root) / FOREGROUND
    for video, entry in jsonfile.items(path):
        yield video, jsonfile.get(entry, "masks_rle", list, f"{path}: video {video!r}")


def _expressions(root: Path, split: str) -> Path:
    return root / f"meta_expressions_{split}_.json"


def _expression(id: str, raw: Any, where: str) -> Expression:
    group = jsonfile.get(raw, "type_id", int, where)
    if group not in GROUPS:
        raise DataError(f"{where}: type_id {group}, not one of {GROUPS}")
    return mevis_style.flat_or_nothing(id, raw, where)


def _check_nested(name: Any, where: str) -> None:
    """Folders in a name are plain names each."""
    for part in name.split("/") if isinstance(name, str) else [name]:
        check_name(part, where)
