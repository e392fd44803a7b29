"""Leaving the plateau: golden curves."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from reviosa_core.scoring import plateau


def curve(*values: float) -> pd.DataFrame:
    return pd.DataFrame({"step": np.arange(len(values)) + 1, "dice": values})


def test_the_step_at_which_the_mean_is_down():
    """Means over 2: the second window has .8, three quarters of it are .6, the mean is down to .5 at step 7."""
    assert plateau.left_at(curve(3, 1, 0.8, 0.8, 0.9, 0.7, 0.3, 0.2, 0.9), window=2) == 7


def test_never():
    assert plateau.left_at(curve(*[0.8] * 30), window=2) is None
    assert plateau.left_at(curve(0.1, 0.1, *[0.8] * 30), window=2) is None, "what warms up does not count"


def test_a_run_that_learns_while_it_warms_up():
    """Means over 2: half is gone with the second window already, and less than a quarter of the rest follows."""
    assert plateau.left_at(curve(1, 1, 0.4, 0.4, 0.36, 0.35, 0.34, 0.33, 0.33), window=2) == 4
    assert plateau.left_at(curve(1, 1, 0.7, 0.7, 0.65, 0.65, 0.64, 0.64, 0.64), window=2) is None


@pytest.mark.parametrize(("tau", "floor", "step"), [(20, 0.12, 70), (30, 0.16, 90), (50, 0.2, 220)])
def test_a_run_that_learns_at_once(tau: float, floor: float, step: int):
    """A row every ten steps, from 0.4: most is gone with the first window, of fifty steps."""
    steps = np.arange(10, 410, 10)
    dice = floor + (0.4 - floor) * np.exp(-steps / tau)
    assert plateau.left_at(pd.DataFrame({"step": steps, "dice": dice})) == step


def test_a_short_run_has_shorter_windows():
    assert plateau.left_at(curve(1.0, 1.0, 0.5)) == 3
    assert plateau.left_at(curve(1.0)) is None


def test_a_window_is_of_steps_not_of_rows():
    """A row every ten steps, windows of twenty: as `test_the_step_at_which_the_mean_is_down`."""
    sparse = curve(3, 1, 0.8, 0.8, 0.9, 0.7, 0.3, 0.2, 0.9).assign(step=lambda table: 10 * table["step"])
    assert plateau.left_at(sparse, window=20) == 70
