"""A row a bad input: what it is, how to make it, the line a user should read. `test_bad_input` runs all rows of all
tables here: each `rows_<subject>.py` has a list ROWS.

A command given bad input ends with exit code 2 and exactly one line on stderr, which names the file or id that is wrong
and says what was expected. It never ends in a traceback, never hangs, and writes nothing.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from reviosa_core import masks

T, H, W = 5, 12, 16  # frames, pixels


@dataclass(frozen=True)
class Row:
    """`make` gets an empty folder, writes the input into it, and gives the command's words; `line` is a regular
    expression that the one line of stderr matches."""

    what: str
    make: Callable[[Path], Sequence[object]]
    line: str
    code: int = 2


def dataset(folder: Path, videos: Sequence[str] = ("alpha", "beta")) -> Path:
    """A small data set in the InterRVOS-127K format, whole and right, for a row to spoil. In each video object 0 (left)
    pushes object 1 (right): an active and a passive sentence, and one of object 0 alone."""
    meta, rles = {"videos": {}}, {}
    for number, video in enumerate(videos):
        (folder / "JPEGImages" / video).mkdir(parents=True)
        names = [f"{t:05d}" for t in range(T)]
        for name in names:
            Image.fromarray(np.full((H, W, 3), 90, np.uint8)).save(folder / "JPEGImages" / video / f"{name}.jpg")
        a, b = 2 * number, 2 * number + 1
        for key, columns in ((a, slice(1, 6)), (b, slice(9, 15))):
            mask = np.zeros((H, W), bool)
            mask[3:9, columns] = True
            rles[str(key)] = [masks.encode(mask)] * T
        roles = {
            "0": ("the left one pushing the right one", "unidirectional", [0], [1]),
            "1": ("the right one being pushed by the left one", "unidirectional", [1], [0]),
            "2": ("the left one", "single", [0], None),
        }
        meta["videos"][video] = {
            "frames": names,
            "expressions": {
                id: {
                    "exp": text,
                    "caption_type": kind,
                    "subject/object": {
                        "obj_id": {"subject": actor, "object": target},
                        "anno_id": {
                            "subject": [a + k for k in actor],
                            "object": None if target is None else [a + k for k in target],
                        },
                    },
                }
                for id, (text, kind, actor, target) in roles.items()
            },
        }
    (folder / "meta_expressions.json").write_text(json.dumps(meta))
    (folder / "mask_dict.json").write_text(json.dumps(rles))
    return folder


def predictions(file: Path, videos: Sequence[str] = ("alpha", "beta")) -> Path:
    """The right answer to `dataset`, in the released layout."""
    found = {}
    for video in videos:
        left, right, nothing = (np.zeros((H, W), bool) for _ in range(3))
        left[3:9, 1:6] = right[3:9, 9:15] = True
        one, two, none = ([masks.encode(mask)] * T for mask in (left, right, nothing))
        found[video] = {
            id: {"prediction_masks_act": actor, "prediction_masks_tar": target}
            for id, actor, target in (("0", one, two), ("1", two, one), ("2", one, none))
        }
    file.write_text(json.dumps(found))
    return file


def spoil(file: Path, change: Callable[[dict], object]) -> Path:
    """A JSON file after `change` has changed what is in it."""
    content = json.loads(file.read_text())
    change(content)
    file.write_text(json.dumps(content))
    return file
