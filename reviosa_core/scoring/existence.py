"""Is anything drawn where nothing is meant? Counted for each role, over the rows of `metrics`.

An object is due of a role where its truth has a pixel in some frame. Nothing is due of the actor where a sentence is
about nothing ("the red star" where there is none), as in MeViS and in InterShapes of difficulty `absent`; of the target
there, too, where the partner is not there, and of every sentence without an interaction. Both are told by the masks, of
whatever answer they come; a prediction that is missing counts as wrong. `reviosa evaluate` prints these numbers where
some sentence is about nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pandas as pd

from reviosa_core.schema import Role
from reviosa_core.scoring import intervals


def n_acc(rows: pd.DataFrame) -> pd.DataFrame:
    """Is nothing drawn where a sentence refers to nothing?

    Formula: share of the expressions of which no object of a role is due that are answered with nothing in that role;
    MeViS's number is the actor's.
    Range: 0 to 100, more is better. An always empty answer has 100: read it beside T-acc.
    Empty: an answer is nothing when no frame has a mask pixel. None without such expressions.
    Elsewhere: MeViS v2; GRES (Liu et al., 2023) for images. Of the target role, new here.
    """
    nothing = rows[rows["present"] == 0]
    silent = ~nothing["emitted"]
    return nothing.assign(right=silent & ~nothing["missing"] if "missing" in nothing else silent)


def t_acc(rows: pd.DataFrame) -> pd.DataFrame:
    """Is something drawn where a sentence refers to something?

    Formula: share of the expressions of which an object of a role is due that are answered with something in that role,
    right or wrong: for the target, of the interactions. MeViS's number is the actor's.
    Range: 0 to 100, more is better. An answer that is never empty has 100: read it beside N-acc.
    Empty: an answer is something when a frame has a mask pixel. None without such expressions.
    Elsewhere: MeViS v2; GRES (Liu et al., 2023) for images. Of the target role, new here.
    """
    something = rows[rows["present"] > 0]
    return something.assign(right=something["emitted"])


METRICS: dict[str, Callable[[pd.DataFrame], pd.DataFrame]] = {"N-acc": n_acc, "T-acc": t_acc}


def by_role(rows: pd.DataFrame, bootstrap: int, seed: int) -> dict[str, dict[str, Any] | None]:
    """{"N-acc actor", "T-acc actor", "N-acc target", "T-acc target": {"value", "n", "interval"}}, in percent; of the
    target None for a system without that role. None for a number that no expression counts for. Nothing at all where no
    sentence is about nothing: of the target it would be what `roles` has as detection."""
    if not ((rows["role"] == Role.ACTOR) & (rows["present"] == 0)).to_numpy().any():
        return {}
    return {
        f"{name} {role}": score(rows.loc[rows["role"] == role], metric, bootstrap, seed)
        for role in Role
        for name, metric in METRICS.items()
    }


def score(
    rows: pd.DataFrame, metric: Callable[[pd.DataFrame], pd.DataFrame], bootstrap: int, seed: int
) -> dict[str, Any] | None:
    """One number of one role's rows; None where no expression counts for it."""
    counted = metric(rows)
    return intervals.mean(counted, "right", bootstrap, seed) if len(counted) else None
