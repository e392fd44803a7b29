"""Means and shares in percent, each with the number of expressions it is over and an interval.

A number is a ratio of two sums over expressions: of scores to their count for a mean, of right answers to all answers
for a precision. Every expression weighs the same, however long its video is and however many others that has. `n` says
how many expressions the lower sum counts; without any, the number is None, not 0.

`interval` is a 95 % bootstrap interval: as many whole videos as there are, are drawn again with replacement,
`bootstrap` times, and the number is taken of each draw; the 2.5th and the 97.5th percentile are the ends. Expressions
of one video share its objects and its difficulty, so they are not independent draws: videos are. A draw where the
number is undefined (0 / 0) is left out. It is None for fewer than two videos, or without draws. Where every video has
the lowest value that is possible, or every one the highest, all draws are alike and say nothing of the next video; the
interval is exact there: its other end is as far off as a number can be for which v such videos in a row still have a
chance of 2.5 % (Clopper and Pearson's; 41 points for 7 videos, 3 for 120). It holds over videos: what another training
run would give, it does not say.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float
from scipy import stats

from reviosa_core.schema import DataError


def mean(table: pd.DataFrame, column: str, bootstrap: int, seed: int, least: float = 0.0) -> dict[str, Any]:
    """Mean of a column, whose values are in [least, 1], by `video`: {"value", "n", "interval"}, in percent.

    DataError when a value is undefined.
    """
    values = table[column].to_numpy(dtype=float)
    if np.isnan(values).any():
        raise DataError(f"{column}: {np.isnan(values).sum()} of {len(values)} values are undefined")
    return ratio(table["video"].to_numpy(), values, np.ones(len(values)), bootstrap, seed, least)


def ratio(
    videos: np.ndarray,
    over: Float[np.ndarray, " n"],
    under: Float[np.ndarray, " n"],
    bootstrap: int,
    seed: int,
    least: float = 0.0,
) -> dict[str, Any]:
    """sum(over) / sum(under), in [least, 1]: {"value", "n", "interval"}, in percent. Row i belongs to `videos[i]`."""
    n = int(np.count_nonzero(under))
    if n == 0:
        return {"value": None, "n": 0, "interval": None}
    codes, names = pd.factorize(videos, sort=True)  # sorted: the draws do not depend on the order of the rows
    above, below = np.bincount(codes, weights=over), np.bincount(codes, weights=under)  # [videos]
    interval = None
    if bootstrap and len(names) > 1:
        draws = np.random.default_rng(seed).multinomial(len(names), np.full(len(names), 1 / len(names)), bootstrap)
        with np.errstate(invalid="ignore"):
            values = (draws @ above) / (draws @ below)
        if not np.isnan(values).all():
            interval = [100 * float(q) for q in np.nanpercentile(values, [2.5, 97.5])]
            known, far = below > 0, 100 * (1 - least) * (1 - 0.025 ** (1 / int(np.count_nonzero(below))))
            if (above == least * below)[known].all():
                interval = [100 * least, 100 * least + far]
            elif (above == below)[known].all():
                interval = [100 - far, 100.0]
    return {"value": 100 * float(above.sum() / below.sum()), "n": n, "interval": interval}


def over_runs(
    videos: np.ndarray,
    over: Float[np.ndarray, "run n"],
    under: Float[np.ndarray, "run n"],
    bootstrap: int,
    seed: int,
) -> dict[str, Any]:
    """The mean over training runs of sum(over) / sum(under), with an interval that holds over runs *and* videos (of one
    run: over videos).

    Hierarchical bootstrap: runs are drawn with replacement, and whole videos, the same ones for all runs, since every
    run is asked about the same videos. With few runs a bootstrap knows too little of how they spread, so
    "t interval" stands beside it: Student's t over the runs' own values, None for fewer than two. {"value", "n" (of
    one run), "runs", "interval", "t interval"}, in percent.
    """
    n, runs = int(np.count_nonzero(under[0])), len(over)
    if n == 0:
        return {"value": None, "n": 0, "runs": runs, "interval": None, "t interval": None}
    codes, names = pd.factorize(videos, sort=True)
    above, below = (np.stack([np.bincount(codes, weights=run) for run in table]) for table in (over, under))  # [r v]
    values = 100 * above.sum(1) / below.sum(1)
    interval = spread = None
    if bootstrap and len(names) > 1:
        rng = np.random.default_rng(seed)
        weights = rng.multinomial(len(names), np.full(len(names), 1 / len(names)), bootstrap)  # [draw v]
        picked = rng.multinomial(runs, np.full(runs, 1 / runs), bootstrap) / runs  # [draw r]
        with np.errstate(invalid="ignore"):
            drawn = (picked * ((weights @ above.T) / (weights @ below.T))).sum(1)
        if not np.isnan(drawn).all():
            interval = [100 * float(q) for q in np.nanpercentile(drawn, [2.5, 97.5])]
    if runs > 1:
        half = float(stats.t.ppf(0.975, runs - 1) * values.std(ddof=1) / np.sqrt(runs))
        spread = [float(values.mean()) - half, float(values.mean()) + half]
    return {"value": float(values.mean()), "n": n, "runs": runs, "interval": interval, "t interval": spread}
