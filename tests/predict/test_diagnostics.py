"""What is said of a role's masks over time, without any truth."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest

from reviosa_core import masks
from reviosa_core.predict.result import diagnostics
from reviosa_core.scoring import metrics


def test_shares_and_neighbours():
    drawn = np.zeros((6, 10, 20), dtype=bool)
    drawn[1, :2, :5] = drawn[2, :2, :5] = drawn[3, :4, :5] = drawn[5, 0, :4] = True  # 10, 10, 20, none, 4 of 200
    found = diagnostics([masks.encode(mask) for mask in drawn], (10, 20))
    pairs = metrics.region_similarity(drawn[:-1], drawn[1:])  # none and 10; 10 and 10; 10 and 20; 20 and none; ...
    assert pairs.tolist() == [0, 1, 0.5, 0, 0]
    assert found == {
        "frames": 6,
        "frames_visible": 4,
        "share": pytest.approx(44 / 1200, abs=1e-6),
        "median_area": 0.05,
        "median_neighbour_iou": 0.0,
    }
    never = diagnostics([masks.encode(drawn[0])] * 3, (10, 20))
    assert (never["frames_visible"], never["median_area"], never["median_neighbour_iou"]) == (0, None, None)


def test_memory_does_not_grow_with_the_video():
    mask = np.zeros((1000, 1200), dtype=bool)
    mask[200:600, 300:700] = True
    rles = [masks.encode(mask)] * 400  # packed, 60 MB
    tracemalloc.start()
    try:
        diagnostics(rles, mask.shape)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 10e6
