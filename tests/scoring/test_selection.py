"""Where AML goes, and what attention looks at: values worked by hand."""

from __future__ import annotations

import dataclasses
from typing import get_args

import numpy as np
import pandas as pd
import pytest

from reviosa_core import config, masks
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


class Reads(Looks):
    """Four layers of two heads. 0 looks at everything and most of all, the same for every sentence; 1 has read, and
    looks at the other object; 2 has read, and looks at the own one, a little less; 3 hardly looks at the video."""

    def attention(self, clip: Clip) -> dict[tuple[str, Role], dict[int, np.ndarray]]:
        def on(key: str, share: float) -> np.ndarray:
            drawn = masks.union(clip, {key: clip.masks[key]}, [0, 4]).astype(np.float32)
            return np.stack([0.5 * share * drawn / drawn.sum(), share * drawn / drawn.sum()])

        everywhere = np.full((2, T, P, P), 0.9 / (T * P * P), np.float32)
        return {
            (e.id, Role.ACTOR): {0: everywhere, 1: on(other, 0.8), 2: on(own, 0.7), 3: on(own, 0.1) + 1e-3 * everywhere}
            for e, own, other in zip(clip.expressions, "ab", "ba", strict=True)
        }


def test_rules_that_mend_the_papers():
    first = clip()
    said = (*first.expressions, Expression("1", "b pushed by a", "unidirectional", ("b",), ("a",)))
    rows = selection.measure_attention(Reads(), [dataclasses.replace(first, expressions=said)])
    differs = rows.groupby("layer").differs.mean()
    assert differs[0] == pytest.approx(0, abs=1e-6) and differs[1] == pytest.approx(0.5), (
        "half of the mean map is the other's"
    )
    chosen = {name: selection.choose(rule(rows), 1) for name, rule in selection.RULES.items()}
    assert chosen["to_vision"] == selection.Selection(0, (0,)), "the most diffuse layer wins"
    assert chosen["has_read"] == selection.Selection(1, (1,)), "of the head that looks most"
    assert chosen["own_object"].layer == 2
    assert chosen.keys() == set(get_args(config.Selection.model_fields["rule"].annotation))


def test_rank_correlation_by_layer():
    """Layer 0 goes with quality, layer 1 against it, layer 2 has nothing to do with it."""
    rng = np.random.default_rng(2)
    index = pd.MultiIndex.from_product([range(30), range(4)], names=["video", "expression"])
    quality = pd.Series(rng.random(120), index)
    attention = pd.DataFrame({0: quality**3, 1: 2 - quality, 2: rng.random(120)}, index)
    found = selection.rank_correlation(attention.sample(frac=1, random_state=0), quality, 100, 0)
    assert found[0]["value"] == pytest.approx(1) and found[0]["interval"] == pytest.approx([1, 1])
    assert found[1]["value"] == pytest.approx(-1) and found[1]["n"] == 120
    low, high = found[2]["interval"]
    assert low < 0 < high and high - low == pytest.approx(2 * 1.96 / np.sqrt(119), rel=0.3)
    alone = selection.rank_correlation(attention.loc[[0]], quality, 100, 0)
    assert alone[0]["interval"] is None, "one video says nothing of videos"
    same = selection.rank_correlation(attention, quality * 0, 10, 0)
    assert same[0] == {"value": None, "n": 120, "interval": None}


def test_how_stable_a_choice_is():
    """Nine clips say layer 1, head 2; one says layer 0 so loudly that a draw with many of it follows."""

    def clip(video: str, top: int, loud: float) -> pd.DataFrame:
        values = [[0.1, 0.1, 0.1], [0.1, 0.2, 0.3]]
        values[top] = [loud, loud, loud + 0.1]
        return pd.DataFrame(
            {"video": video, "role": "actor", "layer": layer, "head": head, "vision": value}
            for layer, heads in enumerate(values)
            for head, value in enumerate(heads)
        )

    sure = pd.concat([clip(str(i), 1, 0.5) for i in range(9)])
    assert selection.stability(sure, selection.to_vision, 1, seed=0, draws=40) == {"same layer": 1.0, "same heads": 1.0}
    torn = pd.concat([sure, clip("loud", 0, 3.0)])
    found = selection.stability(torn, selection.to_vision, 1, seed=0, draws=300)
    assert 0.5 < found["same layer"] < 0.95 and found["same heads"] == found["same layer"]
    assert selection.stability(torn, selection.to_vision, 1, seed=0, draws=0) == {}


@pytest.mark.parametrize(("share", "chosen"), [(0.4, 1), (0.6, 0)])
def test_a_layer_has_read_where_maps_differ_half_as_much_as_where_they_differ_most(share: float, chosen: int):
    """Layer 0 looks more at the video, its maps differ `share` times as much as layer 1's."""
    rows = pd.DataFrame(
        {"role": "actor", "layer": [0, 1], "head": 0, "vision": [0.9, 0.5], "differs": [share * 0.3, 0.3]}
    )
    assert selection.choose(selection.has_read(rows), 1).layer == chosen
