"""When a fine-tuning run leaves the plateau on which every token segments everything, if it does."""

from __future__ import annotations

import pandas as pd

WINDOW = 20  # steps that are averaged: a step is a few clips, and noisy
LEVEL = 0.75


def left_at(history: pd.DataFrame, window: int = WINDOW, level: float = LEVEL) -> int | None:
    """The step at whose end the Dice loss, averaged over the last `window` steps, is at most `level` times what it was
    in the second window (the first is still warming up); None for a run that never gets there.

    `history` has a row a step, with columns `step` and `dice`; one shorter than three windows gets shorter ones.
    """
    window = max(1, min(window, len(history) // 3))
    mean = history["dice"].rolling(window).mean()
    later = mean.iloc[2 * window :]
    down = later <= level * mean.iloc[min(2 * window, len(history)) - 1]
    return int(history["step"].loc[down.idxmax()]) if down.any() else None
