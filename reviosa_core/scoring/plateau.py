"""When a fine-tuning run leaves the plateau on which its masks learn next to nothing, if it does."""

from __future__ import annotations

import pandas as pd

WINDOW = 50  # steps that are averaged: a step is a few clips, and noisy
LEVEL = 0.75


def left_at(history: pd.DataFrame, window: int = WINDOW, level: float = LEVEL) -> int | None:
    """The step at whose end the Dice loss, averaged over the last `window` steps, is at most `level` times what it was
    in the second window (the first is still warming up); where it never gets there, `level` squared times what it was
    in the first, or else in the first row, for runs that learn while they warm up, or at once; None for a run that gets
    to none of them.

    `history` has columns `step` and `dice`, at even distances; one shorter than three windows gets shorter ones.
    """
    apart = max(1, int(history["step"].diff().median())) if len(history) > 1 else 1
    rows = max(1, min(window // apart, len(history) // 3))
    mean = history["dice"].rolling(rows).mean()
    first = [(min(windows * rows, len(history)) - 1, share) for windows, share in ((2, level), (1, level**2))]
    for last, share in (*first, (0, level**2)):
        down = mean.iloc[last + 1 :] <= share * (mean.iloc[last] if last else history["dice"].iloc[0])
        if down.any():
            return int(history["step"].loc[down.idxmax()])
    return None
