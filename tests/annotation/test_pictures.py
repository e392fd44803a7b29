"""What a model is shown: outlines, and the numbers that questions call objects by."""

from __future__ import annotations

import numpy as np

from reviosa_core.annotation import pictures

H, W = 60, 90


def ring() -> np.ndarray:
    y, x = np.mgrid[:H, :W]
    away = np.hypot(y - 30, x - 40)
    return (away < 26) & (away > 12)


def test_a_number_is_drawn_inside_its_object():
    """The middle of a ring is not the ring's."""
    mask, frame = ring(), np.full((H, W, 3), 120, np.uint8)
    shown, bare = (pictures.outlined(frame, {3: mask}, side=W, numbers=numbers) for numbers in (True, False))
    drawn = (shown != bare).any(-1)
    assert drawn.sum() > 20 and not (bare == shown).all()
    y, x = (places.mean() for places in drawn.nonzero())
    assert mask[round(y), round(x)], "and not in the hole"
    assert (shown[drawn] == pictures.COLORS[2]).all(-1).any(), "in the colour of its number"
    other = pictures.outlined(frame, {4: mask}, side=W)
    assert ((other != pictures.outlined(frame, {4: mask}, side=W, numbers=False)).any(-1) != drawn).any(), "another one"
