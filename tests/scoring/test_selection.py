"""The paper's rule for where AML goes, and what it is measured on, by hand."""

from __future__ import annotations

import numpy as np
import pytest

from reviosa_core import masks
from reviosa_core.schema import Clip, Expression, Role
from reviosa_core.scoring import selection


def test_the_layer_that_looks_most_then_its_heads_counted_from_zero():
    to_vision = np.array([[0.9, 0.1, 0.1], [0.3, 0.2, 0.7], [0.0, 0.6, 0.1]])  # means .37, .40, .23
    assert selection.choose(to_vision, 2) == selection.Selection(1, (2, 0))
    assert selection.choose(to_vision, 3) == selection.Selection(1, (2, 0, 1))
    assert selection.choose(np.ones((2, 3)), 2) == selection.Selection(0, (0, 1)), "ties: the first"
    with pytest.raises(ValueError, match="4 heads asked of layers with 3"):
        selection.choose(to_vision, 4)


class Looking:
    """Two layers, one head; layer 1 looks twice as much, and all of it at the left half."""

    frames = 2

    def attention(self, clip: Clip):
        spread, left = np.full((1, 2, 2, 2), 0.05), np.zeros((1, 2, 2, 2))
        left[..., 0] = 0.2
        return {("0", Role.ACTOR): {0: spread, 1: left}, ("0", Role.TARGET): {0: spread, 1: left}}


def test_what_a_token_looks_at_is_measured_against_its_own_object():
    half, none = np.zeros((4, 4), bool), np.zeros((4, 4), bool)
    half[:, :2] = True
    tracks = {"a": [masks.encode(half)] * 3, "b": [masks.encode(none)] * 3}
    one = Expression("0", "a pushes b", "unidirectional", ("a",), ("b",))
    clip = Clip("v", np.zeros((3, 4, 4, 3), np.uint8), ("0", "1", "2"), (4, 4), (one,), tracks)
    rows = selection.measure_attention(Looking(), [clip])
    found = rows.set_index(["role", "layer"])[["vision", "object", "area"]]
    for (role, layer), want in {
        ("actor", 0): (0.4, 0.2, 0.5),
        ("actor", 1): (0.8, 0.8, 0.5),
        ("target", 0): (0.4, 0.0, 0.0),
        ("target", 1): (0.8, 0.0, 0.0),
    }.items():
        assert found.loc[(role, layer)].tolist() == pytest.approx(want)
    assert selection.by_layer_and_head(rows) == pytest.approx(np.array([[0.4], [0.8]]))
    assert selection.by_layer_and_head(rows, "object", Role.TARGET) == pytest.approx(np.zeros((2, 1)))
