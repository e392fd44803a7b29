"""Moving pictures: which pair is shown, and that each frame shows its own masks."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from reviosa_core.report import moving
from reviosa_core.schema import DataError, Role

T, H, W = 4, 9, 15


def rows(scores: dict[tuple[str, str], float], cue: str = "motion") -> pd.DataFrame:
    """A forward and an inverse expression a video ("0" and "1"), actor and target of each; {(video, expression): J}."""
    return pd.DataFrame(
        {"video": v, "expression": e, "inverse": "1" if e == "0" else "0", "role": str(r), "J": j, "F": j, "cue": cue}
        for (v, e), j in scores.items()
        for r in Role
    )


def test_the_pair_is_as_good_as_its_worst_mask():
    table = rows({("a", "0"): 0.9, ("a", "1"): 0.1, ("b", "0"): 0.5, ("b", "1"): 0.6, ("c", "0"): 0.8, ("c", "1"): 0.8})
    assert moving.roles_by_motion(table, 0) == ("a", "0", "1")
    assert moving.roles_by_motion(table, 50) == ("b", "0", "1")
    assert moving.roles_by_motion(table, 100) == ("c", "0", "1")
    assert moving.roles_by_motion(table[table.video == "none"], 50) is None
    assert moving.roles_by_motion(table.assign(cue="appearance"), 50) is None, "names tell who is who"
    assert moving.roles_by_motion(table[table.expression == "0"], 50) is None, "no pair is whole"


def test_frames_show_their_own_masks_and_both_sentences(tmp_path):
    frames = np.full((T, H, W, 3), 100, np.uint8)
    actor, target = np.zeros((2, T, H, W), bool)
    for t in range(T):
        actor[t, :, t] = True
    target[:, :, 10:] = True
    one, other = {Role.ACTOR: actor, Role.TARGET: target}, {Role.ACTOR: target, Role.TARGET: actor}
    found = moving.panels(frames, {"a pushing b": one, "b being pushed by a": other}, scale=4)
    assert found.shape[0] == T and found.shape[2] == 2 * 4 * W + moving.GAP
    high = slice(found.shape[1] - moving.LINE - 4 * H, found.shape[1] - moving.LINE)
    left, right = found[2, high, : 4 * W].astype(int), found[2, high, -4 * W :].astype(int)
    assert (left[:, 42:, 0] > left[:, 42:, 2] + 50).all() and (right[:, 42:, 2] > right[:, 42:, 0] + 50).all()
    assert left[20, 10, 2] > left[20, 10, 0] + 50 and left[20, 1, 2] - left[20, 1, 0] < 20, "the actor is in column 2"
    with pytest.raises(DataError, match="no sentence"):
        moving.panels(frames, {})

    path = moving.save_gif(tmp_path / "a.gif", found, fps=5.0)
    with Image.open(path) as image:
        assert (image.n_frames, image.info["duration"], image.info["loop"]) == (T, 200, 0)
    with pytest.raises(DataError, match="bytes, over 100"):
        moving.save_gif(tmp_path / "b.gif", found, limit=100)
