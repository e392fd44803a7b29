"""What an interval over videos says where all videos agree."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import binomtest

from reviosa_core.scoring import intervals


@pytest.mark.parametrize("videos", [2, 7, 120])
@pytest.mark.parametrize("value", [0.0, 1.0])
def test_all_videos_at_an_end_give_the_exact_interval(videos: int, value: float):
    """Four expressions a video are one observation, and a video without any says nothing."""
    of = np.repeat(np.arange(videos + 1), 4)
    under = (of < videos).astype(float)
    found = intervals.ratio(of, value * under, under, 100, 0)
    exact = binomtest(round(value * videos), videos).proportion_ci(method="exact")
    assert found["value"] == 100 * value and found["n"] == 4 * videos
    assert found["interval"] == pytest.approx([100 * exact.low, 100 * exact.high])


@pytest.mark.parametrize(("value", "interval"), [(-1.0, [-100, -38.3]), (0.0, [0, 0]), (1.0, [38.3, 100])])
def test_a_difference_ends_at_minus_one(value: float, interval: list[float]):
    """Twice as wide a range, so twice as far; between the ends all draws are taken at their word."""
    found = intervals.ratio(np.arange(10).repeat(2), np.full(20, value), np.ones(20), 100, 0, least=-1.0)
    assert found["interval"] == pytest.approx(interval, abs=0.01)


def test_one_video_that_differs_is_left_to_the_draws():
    over = np.repeat([1.0] * 9 + [0.75], 2)
    found = intervals.ratio(np.arange(10).repeat(2), over, np.ones(20), 1000, 0)
    assert found["interval"] == pytest.approx([92.5, 100]), "97.5 on average; three draws of the other in 2.5 %"
