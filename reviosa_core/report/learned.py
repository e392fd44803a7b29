"""What a notebook's numbers say, in one paragraph, for its end. Every sentence follows from numbers, by one rule
(`findings.verdict`): a difference is one where its 95 % interval is on one side of 0. `moved` has no interval, and says
what was measured."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from reviosa_core.report import tables
from reviosa_core.report.findings import beside, verdict
from reviosa_core.report.tables import Scores, number, with_interval
from reviosa_core.scoring.metrics import SETTINGS
from reviosa_core.scoring.plateau import left_at

STUCK = (
    "**Row (iii) never left its plateau**: it has not learned to point, so what it started from was asked instead "
    "(docs/attention.md: on another backbone)."
)
ROW = {**tables.ROW, "best": "best: (iv)"}  # in any profile, whatever `best` has otherwise
ENOUGH = 20  # expressions; the score of fewer is an anecdote


def difference(name: str, other: str, gain: Scores | None, what: str) -> str:
    """`(iv) ReVIOSa is ahead of (i) one token by 46.0 [43.0, 49.2] points of RVOS J&F.`"""
    if not gain or gain["value"] is None:
        return f"{name} and {other} share nothing to compare in {what}."
    if (found := verdict(gain)) == "can't tell":
        return f"{name} and {other} cannot be told apart in {what} (difference {with_interval(gain, 'value')})."
    size = {"value": abs(gain["value"]), "interval": sorted(abs(end) for end in gain["interval"])}
    where = "ahead of" if found == "holds" else "behind"
    return f"{name} is {where} {other} by {with_interval(size, 'value')} points of {what}."


def against(score: Scores, chance: float) -> str:
    """Where a share in percent stands to chance: above it, below it, or not told from it."""
    said = {"holds": "above chance", "doesn't": "below chance", "can't tell": "not told from chance"}
    return said[beside(score, chance)]


def dataset(counts: Sequence[Mapping[str, Any]], blind: pd.DataFrame | None, orders: pd.DataFrame | None) -> str:
    """Of 01: how much there is, what the best blind predictor gets, and what the order of frames is worth."""
    clips, said = (sum(count[key] for count in counts) for key in ("clips", "expressions"))
    text = f"{said:,} sentences about {clips:,} clips in {len(counts)} splits."
    if blind is None or orders is None:
        return f"{text} They are your own: what can be guessed about them is not known."
    made = [row for row in blind[blind["against"]].to_dict("records") if row["n"]]
    if made:
        best = max(made, key=lambda row: abs(row["accuracy"] - row["chance"]))
        stands = against(best, best["chance"])
        holds = {
            "above chance": "it games the benchmark",
            "below chance": "turned round it games the benchmark",
            "not told from chance": "the benchmark holds against it",
        }[stands]
        text += (
            f" Of the predictors that see too little, {best['predictor']!r} gets furthest on sentences made against it "
            f"({best['question']} {with_interval(best, 'accuracy')} %, chance {number(best['chance'])}): {stands}; "
            f"{holds}."
        )
    known = {row["frames"]: row for row in orders.to_dict("records") if row["n"]}
    if {"in order", "shuffled"} <= known.keys() and against(known["in order"], 50.0) == "above chance":
        right, mixed = (known[name]["accuracy"] for name in ("in order", "shuffled"))
        kept = "needs little of" if right - mixed < 5 else "rests on"
        text += (
            f" Who knows every place and the verb says who acts in {number(right)} %, and with frames shuffled in "
            f"{number(mixed)} %: who acts {kept} their order."
        )
    return text


def selection(choices: Mapping[str, Any], rule: str, left: int | None) -> str:
    """Of 04: where AML goes, and whether another rule (`scoring.selection.RULES`) would put it elsewhere. `left` is the
    step at which row (iii) left its plateau; where it never did, its backbone was asked."""
    chosen = choices[rule]
    heads = " and ".join(f"H{head:02d}" for head in chosen.heads)
    others = [name for name, choice in choices.items() if choice.layer != chosen.layer]
    agree = "every rule names that layer" if not others else f"{' and '.join(others)} would name another"
    text = f"AML goes on layer L{chosen.layer:02d}, heads {heads}, by the rule {rule}; {agree}."
    return f"{text} {STUCK}" if left is None else text


def beside_one_frame(confusion: Scores, still: Mapping[str, Scores]) -> str:
    """Where a role confusion below chance stands to those that one frame and the text allow, of `blind.confusion`."""
    known = [own["role confusion"] for own in still.values()]
    if not known:
        return "less often than chance; how often from one still frame is not known"
    least = min(known, key=lambda wrong: wrong["value"])
    beside = f"one still frame and the text allow ({with_interval(least, 'value')} %)"
    if all(wrong["interval"] and confusion["interval"][1] < wrong["interval"][0] for wrong in known):
        return f"less often than {beside}: it sees who acts"
    return f"less often than chance, but not clearly less than {beside}: that it watches is not shown"


def evaluation(
    row: str,
    scores: Scores,
    direction: Scores,
    by_subset: Mapping[str, Mapping[str, Any]],
    still: Mapping[str, Scores],
) -> str:
    """Of 05: how good one system is, whether it knows who is who, and where it is weakest."""
    named, due = ROW.get(row, row), [name for name in SETTINGS if scores[name] and scores[name]["n"]]
    levels = ", ".join(f"{name} {with_interval(scores[name])}" for name in due)
    text = f"{named} has J&F {levels}." + ("" if scores["InterRVOS-Target"] else " It has no target to segment.")
    motion = by_subset.get("cue", {}).get("motion", {}).get("direction") or direction
    known = "where only motion tells the roles apart" if motion is not direction else "in interactions"
    if confusion := motion.get("role confusion"):
        stands = {
            "above chance": "more often than chance has it: it follows something else",
            "below chance": "less often than chance",
            "not told from chance": "not told from chance: that it sees who acts is not shown",
        }[against(confusion, 50.0)]
        if stands == "less often than chance" and motion is not direction:
            stands = beside_one_frame(confusion, still)
        text += f" It has them the wrong way round in {with_interval(confusion, 'value')} % {known}, {stands}."
    parts = {
        f"{value} ({column})": part["scores"]["RVOS"]["J&F"]
        for column, values in by_subset.items()
        for value, part in values.items()
        if part["scores"]["RVOS"] and part["scores"]["RVOS"]["n"] >= ENOUGH
    }
    if parts:
        low, high = min(parts, key=parts.__getitem__), max(parts, key=parts.__getitem__)
        text += f" It is weakest on {low}, {number(parts[low])}, and strongest on {high}, {number(parts[high])}."
    return text


def ablation(gains: Mapping[str, Mapping[str, Mapping[str, Scores | None]]]) -> str:
    """Of 06, from `metrics.differences`: what each part of the method is worth, on its own and on top of the other."""
    return " ".join(
        difference(ROW[row], ROW[other], gains[row][other]["RVOS"], "RVOS J&F")
        for row, other in (("aml", "baseline"), ("tokens", "baseline"), ("full", "tokens"), ("full", "aml"))
        if other in gains.get(row, {})
    )


def moved(shares: Mapping[str, Mapping[str, float]], before: str, after: str) -> str:
    """Whether attention on the own object is another with AML than without, from `scoring.selection.on_objects`."""
    own, part, area = (
        "on the own object",
        "own object's share of that on any",
        "own object's share of their area",
    )
    old, new = shares[before], shares[after]
    apart, times = round(100 * new[own], 1) - round(100 * old[own], 1), new[part] / new[area]
    ways = "more than" if apart > 0 else "less than" if apart < 0 else "as much as"
    knows = "knows" if times >= 2 else "leans to" if times >= 1.25 else "does not tell"
    knows = f"it {knows} {'the object that' if knows == 'leans to' else 'which object'} is meant"
    return (
        f"Of the token's attention {100 * new[own]:.1f} % ({after}) falls on its own object, {ways} "
        f"{100 * old[own]:.1f} % ({before}). Of what falls on any object the own one gets {100 * new[part]:.0f} %, "
        f"of their area it has {100 * new[area]:.0f} %: {knows}."
    )


def transfer(results: Mapping[str, Mapping[str, Mapping[str, Any]]]) -> str:
    """Of 07: on each dataset the system that gets furthest, and whether the next one's interval reaches its own."""
    said = []
    for dataset, by_row in results.items():
        known = {row: scores["RVOS"] for row, scores in by_row.items() if scores["RVOS"] and scores["RVOS"]["n"]}
        if not known:
            continue
        said.append(f"On {dataset} {furthest(known)}")
    return " ".join(said) or "Nothing was tested."


def furthest(known: Mapping[str, Scores]) -> str:
    """Who has the highest score of RVOS, and whether each other's interval reaches its own. Also of 14 and 15."""
    first, *others = sorted(known, key=lambda row: -known[row]["J&F"])
    text = f"{ROW.get(first, first)} gets furthest, RVOS {with_interval(known[first])}"
    for row in others:
        low, high = known[first]["interval"], known[row]["interval"]
        apart = "clearly below" if low and high and high[1] < low[0] else "not clearly below"
        text += f"; {ROW.get(row, row)}, {with_interval(known[row])}, is {apart}"
    return text + "."


def training(histories: Mapping[str, pd.DataFrame]) -> str:
    """Of 02, 03 and 12: what each phase or row begins and ends with; and when the masks of fine-tuning begin to fit."""
    said = []
    for name, history in histories.items():
        first, last = history.iloc[0], history.iloc[-1]
        at_end = f"{last['loss']:.2f} at step {last['step']:.0f}."
        if len(history) == 1:
            said.append(f"{ROW.get(name, name)}: the loss is {at_end}")
            continue
        way = "falls" if last["loss"] < first["loss"] else "does not fall"
        text = (
            f"{ROW.get(name, name)}: the loss {way}, from {first['loss']:.2f} at step {first['step']:.0f} to {at_end}"
        )
        if "dice" in history:
            left = left_at(history)
            text += f" Its masks begin to fit at step {left}." if left else " Its masks never begin to fit."
        said.append(text)
    return " ".join(said)


def seeds(name: str, runs: Mapping[int, Mapping[str, Scores | None]]) -> str:
    """Of 09 and 13: one system's scores with each seed, and how far they are apart."""
    known = {seed: run["RVOS"]["J&F"] for seed, run in runs.items() if run["RVOS"]}
    if not known:
        return "No seed was asked for."
    listed = ", ".join(f"{number(value)} with seed {seed}" for seed, value in known.items())
    text = f"{ROW.get(name, name)} has RVOS J&F {listed}"
    return text + (f": {max(known.values()) - min(known.values()):.1f} apart." if len(known) > 1 else ".")


def annotation(shares: Sequence[Mapping[str, Any]]) -> str:
    """Of 11: what a verifier that errs saves where most roles are turned round. From `annotating.shares`."""
    what, most = "with roles: precision", max(entry["flips"] for entry in shares)
    by_verifier = {entry["wrong"]: entry[what] for entry in shares if entry["flips"] == most}
    bare = by_verifier.pop(None)
    text = f"With the roles of {100 * most:g} % of the events turned round, {with_interval(bare, 'value')} % of the "
    text += "events that are written have them right without a verifier"
    for wrong, own in sorted(by_verifier.items()):
        apart = bare["interval"] and own["interval"] and own["interval"][0] > bare["interval"][1]
        errs = f"wrong in {100 * wrong:g} % of its claims" if wrong else "always right"
        text += f"; with one that is {errs} {with_interval(own, 'value')} %, "
        text += "clearly more" if apart else "not clearly more"
    return text + "."


def report(scores: Mapping[str, Scores], gains: Mapping[str, Mapping[str, Mapping[str, Scores | None]]]) -> str:
    """Of 08: the best row, and what stands between the whole method and the single token."""
    known = {row: found["RVOS"]["J&F"] for row, found in scores.items() if found["RVOS"]["J&F"] is not None}
    best = max(known, key=known.__getitem__)
    levels = ", ".join(f"{name} {with_interval(scores[best][name])}" for name in SETTINGS if scores[best][name])
    text = f"{ROW.get(best, best)} is the best row: {levels}."
    if "baseline" in gains.get("full", {}):
        text += " " + difference(ROW["full"], ROW["baseline"], gains["full"]["baseline"]["RVOS"], "RVOS J&F")
    return text
