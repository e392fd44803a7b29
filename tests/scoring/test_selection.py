"""Where AML goes, and what attention looks at: values worked by hand."""

from __future__ import annotations

import numpy as np
import pytest

from reviosa_core import masks
from reviosa_core.schema import Clip, Expression, Role
from reviosa_core.scoring import selection

LAYERS, HEADS, T, P = 2, 3, 2, 4  # the grid is P x P, and so is the frame: a cell is a pixel


def clip() -> Clip:
    """Object "a" covers 2 of 16 cells, "b" 4, in both frames; nobody speaks of "c", which covers 2 more."""
    drawn = np.zeros((3, P, P), bool)
    drawn[0, 0, :2] = drawn[1, 2:, :2] = drawn[2, 3, 2:] = True
    rles = {name: [masks.encode(mask)] * 5 for name, mask in zip("abc", drawn, strict=True)}
    names = tuple(f"{t:05d}" for t in range(5))
    said = (Expression("0", "a pushing b", "unidirectional", ("a",), ("b",)),)
    return Clip("clip", np.zeros((5, P, P, 3), np.uint8), names, (P, P), said, rles)


class Looks:
    """[SEG_ACT] gives half of its attention to a's two cells, evenly over the frames, and nothing else to the video, in
    head 1 of layer 1; every other row is uniform over the video, and gives it 0.8."""

    frames = T

    def attention(self, clip: Clip) -> dict[tuple[str, Role], dict[int, np.ndarray]]:
        uniform = np.full((HEADS, T, P, P), 0.8 / (T * P * P), np.float32)
        found = {("0", role): {layer: uniform.copy() for layer in range(LAYERS)} for role in Role}
        found["0", Role.ACTOR][1][1] = 0
        found["0", Role.ACTOR][1][1, :, 0, :2] = 0.5 / 4
        return found


def test_own_object_and_any_object_by_hand():
    rows = selection.measure_attention(Looks(), [clip()]).set_index(["role", "layer", "head"])
    assert len(rows) == 2 * LAYERS * HEADS
    sharp, uniform = rows.loc[("actor", 1, 1)], rows.loc[("target", 1, 1)]
    assert (sharp["vision"], sharp["own"], sharp["any"]) == pytest.approx((0.5, 0.5, 0.5))
    assert (uniform["vision"], uniform["own"], uniform["any"]) == pytest.approx((0.8, 0.2, 0.4))
    assert (sharp["own_area"], uniform["own_area"], uniform["any_area"]) == pytest.approx((2 / 16, 4 / 16, 8 / 16))


def test_a_token_that_tells_objects_apart_and_one_that_does_not():
    rows = selection.measure_attention(Looks(), [clip()])
    one = rows[(rows["layer"] == 1) & (rows["head"] == 1)]
    sharp = selection.on_objects(one[one["role"] == "actor"])
    blind = selection.on_objects(one[one["role"] == "target"])
    share, area = "own object's share of that on any", "own object's share of their area"
    assert (sharp[share], sharp[area]) == pytest.approx((1.0, 0.25))
    assert blind[share] == pytest.approx(blind[area]) == pytest.approx(0.5)


def test_the_papers_rule():
    to_vision = np.array([[0.1, 0.9, 0.2], [0.5, 0.3, 0.6]])
    assert selection.choose(to_vision, 2) == selection.Selection(1, (2, 0)), "means .40 and .47"
    assert selection.choose(np.ones((2, 3)), 2) == selection.Selection(0, (0, 1)), "ties: the first"
    with pytest.raises(ValueError, match="4 heads asked of layers with 3"):
        selection.choose(to_vision, 4)
    rows = selection.measure_attention(Looks(), [clip()])
    table = selection.by_layer_and_head(rows)
    assert table.shape == (LAYERS, HEADS) and table[1] == pytest.approx([0.8, 0.5, 0.8])
    assert selection.choose(table, 1).layer == 0
