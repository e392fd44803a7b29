"""Whether the roles point the right way: a function a metric, on tables that `both_roles`, `pairs`, `detected` make.

In formulas A and T are the true masks of actor and target, a and t the predicted ones; J and F are means over all
frames of the clip. None of these metrics exists for a system without the target role.
"""

from __future__ import annotations

from collections.abc import Callable

import pandas as pd

from reviosa_core.schema import DataError, Role

ABOVE = 0.5  # J&F beyond which a mask counts as found
ALIKE = 1e-9  # sums of J that differ by less are a tie: frames are averaged in floating point
_OF_A_ROLE = ["J", "F", "present", "J_present", "F_present", "J_cross", "J_inverse"]
_OF_BOTH = ["inverse", "overlap", "overlap_true"]


def both_roles(rows: pd.DataFrame) -> pd.DataFrame:
    """One row per interaction expression: what both roles share, and the rest by role ("J actor", "J target" ...).

    Raises DataError where a role's row is missing.
    """
    interactions = rows.loc[rows["is_interaction"]]
    actor, target = (
        interactions.loc[interactions["role"] == role].set_index(["video", "expression"]).sort_index()
        for role in (Role.ACTOR, Role.TARGET)
    )
    if not actor.index.equals(target.index):
        raise DataError(f"{len(actor.index.symmetric_difference(target.index))} interactions have one role's row only")
    own = (part[_OF_A_ROLE].add_suffix(f" {role}") for role, part in ((Role.ACTOR, actor), (Role.TARGET, target)))
    return actor[_OF_BOTH].join([*own]).reset_index()


def pairs(both: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The forward and the inverse expression of each pair that is there as a whole: two tables like `both`, row i of
    one belongs to row i of the other."""
    paired = both.loc[both["inverse"].notna()]
    forward = paired.loc[paired["expression"] < paired["inverse"]]  # each pair is found from both its ends
    by_id = paired.set_index(["video", "expression"])
    ends = pd.MultiIndex.from_frame(forward[["video", "inverse"]], names=by_id.index.names)
    there = ends.isin(by_id.index)
    return forward.loc[there].reset_index(drop=True), by_id.loc[ends[there]].reset_index()


def detected(rows: pd.DataFrame) -> pd.DataFrame:
    """One row per expression: is a target `due`, and is one given, as `emitted` and as `answered` says.

    A system decides from the sentence whether there is a target at all: one is due for an interaction. There are two
    ways to see what it decided, and both are reported. `detection ...` goes by the mask: a target is given when one
    pixel of one frame is drawn, a stray one too. `detection ... by token` goes by the text: a target is given when its
    token is written, whatever is drawn for it. That is known of systems that say so (`Prediction.written`), and from
    folders that `reviosa predict` wrote, not from JSON in the released layout or trees of PNGs: there it is None.
    """
    target = rows.loc[rows["role"] == Role.TARGET]
    return target.assign(due=target["is_interaction"])


def _j_and_f(both: pd.DataFrame, role: Role) -> pd.Series:
    return (both.loc[:, f"J {role}"] + both.loc[:, f"F {role}"]) / 2


def _found(both: pd.DataFrame, role: Role) -> pd.Series:
    """Whether the role's mask is above 0.5 where there is something to find; of nothing, whether nothing is drawn."""
    good = (both.loc[:, f"J_present {role}"] + both.loc[:, f"F_present {role}"]) / 2 > ABOVE
    # J with an empty truth is the share of frames without a mask; a missing prediction has 0.
    return good.where(both[f"present {role}"] > 0, both[f"J {role}"] == 1)


def _fits(both: pd.DataFrame, role: Role) -> pd.Series:
    """Whether the role's mask fits its own truth better than the other role's."""
    return both.loc[:, f"J {role}"] - both.loc[:, f"J_cross {role}"] > ALIKE


def _right(both: pd.DataFrame) -> pd.Series:
    return both_above(both) & _fits(both, Role.ACTOR) & _fits(both, Role.TARGET)


def _sum(both: pd.DataFrame, column: str) -> pd.Series:
    return both.loc[:, f"{column} actor"] + both.loc[:, f"{column} target"]


# --- of an expression -------------------------------------------------------------------------------------------------


def joint(both: pd.DataFrame) -> pd.Series:
    """How good is the worse of the two masks? A sentence about two objects is understood when both are found.

    Formula: `min(J&F of a with A, J&F of t with T)`; mean over interaction expressions.
    Range: 0 to 100, more is better; never above InterRVOS-Actor or InterRVOS-Target.
    Empty: a mask that is not emitted scores 1 on the frames where its object is absent, as in J and F.
    Elsewhere: nowhere; new here.
    """
    actor, target = (_j_and_f(both, role) for role in (Role.ACTOR, Role.TARGET))
    return actor.where(actor <= target, target)


def both_above(both: pd.DataFrame) -> pd.Series:
    """Are both masks found, where there is something to find?

    Formula: share of interaction expressions with `J&F present of a with A > 0.5` and `J&F present of t with T > 0.5`:
    each role on the frames where its own truth is not empty, so that silence while the object is away earns nothing.
    Range: 0 to 100, more is better. One mask around both objects can pass: strict pair accuracy does not let it.
    Empty: a role whose truth is empty in every frame counts as found when nothing is drawn in any frame; no expression
    is left out.
    Elsewhere: nowhere; new here. The strict > is that of P@0.5.
    """
    return _found(both, Role.ACTOR) & _found(both, Role.TARGET)


def confusion(both: pd.DataFrame) -> pd.Series:
    """Do the two masks fit the roles better the wrong way round?

    Formula: 1 where `J(a, T) + J(t, A) > J(a, A) + J(t, T)`, 0.5 where the two sums are equal, else 0; mean over
    interaction expressions.
    Range: 0 to 100, less is better. 50 is what a coin has, and an answer that does not tell the roles apart: one mask
    for both (the union, one of the two objects, a third), or silence. Read it beside joint J&F.
    Empty: frames where both masks of a J are empty count as 1, as in J. Where the truth itself is the same for both
    roles, every answer is a tie.
    Elsewhere: nowhere; new here.
    """
    wrong = _sum(both, "J_cross") - _sum(both, "J")
    return (wrong > ALIKE) + 0.5 * (wrong.abs() <= ALIKE)


def leakage(both: pd.DataFrame) -> pd.Series:
    """Do the two predicted masks share pixels that the true ones do not share?

    Formula: `overlap(a, t) - overlap(A, T)`; mean over interaction expressions.
    Range: -100 to 100; 0 is right. 100: one mask for both roles. Negative: objects that do overlap are kept apart.
    Empty: 0 on frames where both masks are empty, so that silence does not leak.
    Elsewhere: nowhere; new here.
    """
    return both.loc[:, "overlap"] - both.loc[:, "overlap_true"]


# --- of a pair --------------------------------------------------------------------------------------------------------


def strict_pair_accuracy(forward: pd.DataFrame, inverse: pd.DataFrame) -> pd.Series:
    """When the sentence is turned round, do the masks follow? A pair is two expressions of a clip about the same
    objects in swapped roles.

    Formula: share of pairs where, in both directions, both masks are above 0.5 (see there) and each fits its own role
    better than the other: `J(a, A) > J(a, T)` and `J(t, T) > J(t, A)`.
    Range: 0 to 100, more is better. The same answer to both directions cannot score, nor can one mask for both roles.
    Empty: as for both above 0.5; and since silence fits two objects alike that are never there, such a pair is not met.
    Elsewhere: the consistency of contrast sets (Gardner et al., 2020), for masks.
    """
    return _right(forward) & _right(inverse)


def swap_consistency(forward: pd.DataFrame, inverse: pd.DataFrame) -> pd.Series:
    """Is the actor of one direction the target of the other, right or wrong?

    Formula: `(J(a, t of the inverse) + J(t, a of the inverse)) / 2`; mean over pairs. No truth enters.
    Range: 0 to 100. Read it beside strict pair accuracy: one mask for everything is consistent too.
    Empty: 1 on frames where both are empty; two missing predictions score 0.
    Elsewhere: nowhere; new here.
    """
    return _sum(forward, "J_inverse") / 2


# --- of a target: what is summed above and what below, by expression --------------------------------------------------


def detection_precision(given: pd.Series, due: pd.Series) -> tuple[pd.Series, pd.Series]:
    """Of the expressions that a target is given for, how many have one?

    Formula: `given and due / given`, over all expressions.
    Range: 0 to 100, more is better; `n` counts the given.
    Empty: None where no target is given at all.
    Elsewhere: the usual precision; of the target role, new here.
    """
    return given & due, given


def detection_recall(given: pd.Series, due: pd.Series) -> tuple[pd.Series, pd.Series]:
    """Of the interactions, how many are given a target?

    Formula: `given and due / due`, over all expressions.
    Range: 0 to 100, more is better; `n` counts the interactions. A target for every sentence has 100: read precision.
    Empty: None without interactions.
    Elsewhere: the usual recall; of the target role, new here.
    """
    return given & due, due


def detection_f1(given: pd.Series, due: pd.Series) -> tuple[pd.Series, pd.Series]:
    """Precision and recall of the target in one number, their harmonic mean.

    Formula: `2 (given and due) / (given + due)`, over all expressions.
    Range: 0 to 100, more is better; `n` counts the expressions that are given a target or due one.
    Empty: None where no target is given and none is due.
    Elsewhere: the usual F1; of the target role, new here.
    """
    return 2 * (given & due), given.astype(int) + due


PER_EXPRESSION: dict[str, Callable[[pd.DataFrame], pd.Series]] = {
    "joint J&F": joint,
    "both above 0.5": both_above,
    "role confusion": confusion,
    "role leakage": leakage,
}
LEAST = {"role leakage": -1.0}  # of the others 0
PER_PAIR: dict[str, Callable[[pd.DataFrame, pd.DataFrame], pd.Series]] = {
    "strict pair accuracy": strict_pair_accuracy,
    "swap consistency": swap_consistency,
}
DETECTION: dict[str, Callable[[pd.Series, pd.Series], tuple[pd.Series, pd.Series]]] = {
    "detection precision": detection_precision,
    "detection recall": detection_recall,
    "detection F1": detection_f1,
}
BY_TOKEN = {f"{name} by token": metric for name, metric in DETECTION.items()}
