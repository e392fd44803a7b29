"""MeViS: <split>/{JPEGImages/<video>/<frame>.jpg, meta_expressions.json, mask_dict.json}.

Splits train, valid_u (local evaluation), valid and test (scored by a server: no masks, every actor is UNKNOWN). Empty
lists of ids mean that an expression refers to nothing (version 2): its actor is NOTHING.
"""

from __future__ import annotations

from pathlib import Path

from reviosa_core.data import interrvos, mevis_style
from reviosa_core.data.mevis_style import EXPRESSIONS, IMAGES, MASKS
from reviosa_core.data.report import Report
from reviosa_core.schema import Clip

RELEASED = "meta_expressions_release.json"  # the test split's


def splits(root: Path) -> tuple[str, ...]:
    """The splits in a folder; "." for the folder itself. None of another format."""
    folders = (root, *(root / name for name in ("train", "valid_u", "valid", "test")))
    files = {folder: _expressions(folder) for folder in folders if folder.is_dir()}
    found = (str(folder.relative_to(root)) for folder, file in files.items() if file)
    others = interrvos.splits(root)
    return tuple(split for split in found if split not in others)


def read(root: Path | str, split: str = ".", report: Report | None = None) -> list[Clip]:
    """All clips of a split, by video name. Frames and masks stay on disk; mask keys are annotation ids, as strings."""
    folder = Path(root) / split
    expressions = _expressions(folder) or folder / EXPRESSIONS
    own = mevis_style.flat_or_nothing
    return mevis_style.read(expressions, folder / MASKS, folder / IMAGES, own, report or Report())


def _expressions(folder: Path) -> Path | None:
    return next((file for name in (EXPRESSIONS, RELEASED) if (file := folder / name).is_file()), None)
