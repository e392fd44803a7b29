"""What of the paper's claims holds here: a row a claim, its number, ours with an interval, and a verdict.

Verdicts follow from the numbers, so that nobody has to remember to change them. Where there is an interval, its place
decides (`verdict`): a gain's beside 0, a target's beside 50, that of a target asked for beside the token's own. A
correlation is that of the layer where it is highest, so its interval is made as wide as for the highest of so many
(`widened`). Which layer looks most, and how far attention moves (`_moved`), are judged as measured, without one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any

import numpy as np
import pandas as pd

from reviosa_core.report.tables import ROW, Scores, bounds, markdown, number, with_interval
from reviosa_core.scoring import plateau

STEPS = (("aml", "baseline"), ("tokens", "baseline"), ("full", "baseline"), ("full", "tokens"), ("full", "aml"))
NOT_YET = "not measured"


@dataclass(frozen=True)
class Finding:
    """One claim. `paper` and `ours` are texts for a reader."""

    claim: str
    paper: str
    ours: str
    verdict: str
    why: str
    where: str


def verdict(difference: Scores | None) -> str:
    """Whether a gain that the paper reports is one here: `holds` or `doesn't` where the 95 % interval is on one side of
    0, `can't tell` where it isn't, or where there is none. Over several runs Student's t has to say the same: of three
    runs a bootstrap knows too little."""
    intervals = [difference[key] for key in ("interval", "t interval") if difference.get(key)] if difference else []
    if not intervals:
        return "can't tell"
    low, high = min(one[0] for one in intervals), max(one[1] for one in intervals)
    return "holds" if low > 0 else "doesn't" if high < 0 else "can't tell"


def beside(score: Scores | None, level: float) -> str:
    """The same of a score beside a level."""
    interval = score.get("interval") if score else None
    return verdict({"interval": [end - level for end in interval]} if interval else None)


def widened(found: Scores, among: int) -> Scores:
    """A value that is the highest `among` so many, with a 95 % interval that allows for the choice: Bonferroni's, which
    holds however they hang together. The ends are moved as those of a normal distribution would be."""
    if not found.get("interval"):
        return found
    normal, value = NormalDist(), found["value"]
    factor = normal.inv_cdf(1 - 0.025 / among) / normal.inv_cdf(0.975)
    return {**found, "interval": [value + factor * (end - value) for end in found["interval"]]}


def steps(
    gains: Mapping[str, Mapping[str, Mapping[str, Scores | None]]],
    paper: Mapping[str, Sequence[float]],
    left: Mapping[str, Sequence[int | None]],
    where: str,
) -> list[Finding]:
    """Table 4's steps, from `gains[row][other][setting]`; `left`: when each run of a row left the plateau
    (`plateau.left_at`); `where` it is seen."""
    found = []
    for row, other in STEPS:
        ours = gains[row][other]["RVOS"]
        found.append(
            Finding(
                f"{ROW[row]} is better than {ROW[other]} (Table 4, RVOS)",
                f"{paper[row][2] - paper[other][2]:+.1f}",
                with_interval(ours, "value")
                + (f", t {bounds(ours, 't interval')}" if ours and ours.get("t interval") else ""),
                verdict(ours),
                _plateau(row, other, left),
                where,
            )
        )
    return found


def _plateau(row: str, other: str, left: Mapping[str, Sequence[int | None]]) -> str:
    """What a difference to a row that has not learned to point means."""
    stuck = [ROW[name] for name in (row, other) if not any(left[name])]
    times = [
        f"{ROW[name]} left the plateau at step {', '.join(str(step or 'never') for step in left[name])}"
        for name in (row, other)
        if any(left[name])
    ]
    said = [f"{' and '.join(stuck)} never left the plateau: the size says who learned to point, not how much better"]
    return "; ".join(times + said * bool(stuck))


def _moved(before: float, after: float, lifted: float) -> str:
    """Of the attention on the own object, before and after; `lifted`: its share of that on any over that of area."""
    if after <= before:
        return "doesn't"
    return "holds" if lifted >= 2 else "partly" if lifted >= 1.25 else "onto objects only"


def attention(shares: Mapping[str, Mapping[str, float]], correlation: Mapping[str, Scores]) -> list[Finding]:
    """Fig. A4: does AML move attention onto the object that is meant? Fig. A1: does attention go with quality?"""
    on, own, area = "on the own object", "own object's share of that on any", "own object's share of their area"
    before, after = shares["without AML"], shares["with AML"]
    known = {layer: found for layer, found in correlation.items() if found["value"] is not None}
    most = max(known.values(), key=lambda found: found["value"], default=None)
    knew = before[area] and before[own] >= 2 * before[area]
    return [
        Finding(
            "AML moves the role token's attention onto its object (Fig. A4)",
            "pictures",
            f"on the own object {before[on]:.1%} of all attention, with AML {after[on]:.1%}; on any "
            f"{before['on any object']:.1%}, with AML {after['on any object']:.1%}. Of that on any the own one has "
            f"{before[own]:.0%}, with AML {after[own]:.0%}; of their area {after[area]:.0%}",
            _moved(before[on], after[on], after[own] / after[area]),
            "`holds`: more of it than before, and the own object gets twice its share of the area"
            + (". The layer knew before which object is meant; AML brings the attention" if knew else ""),
            "`make repro`, figures/attention",
        ),
        Finding(
            "More attention on the object goes with better masks (Fig. A1)",
            "picture",
            ", ".join(f"layer {layer} {found['value']:+.2f}" for layer, found in known.items()) or NOT_YET,
            verdict(most and widened(most, len(known))),
            "attention over area, on the model without AML; the verdict is of the layer where it goes most, its "
            f"interval made as wide as for the highest of {len(known)}",
            "`make repro`, figures/attention_vs_quality.png",
        ),
    ]


def where_aml_helps(points: pd.DataFrame) -> str:
    """The map in a paragraph, from `studies.points`."""
    if points.empty:
        return "No run with AML has a counterpart without it."
    once = points.drop_duplicates("run")  # studies share runs
    most, least = once.loc[once.value.idxmax()], once.loc[once.value.idxmin()]
    said = [f"{row.run}: {row.value:+.1f} [{row.low:+.1f}, {row.high:+.1f}]" for row in (most, least)]
    return (
        f"Of {len(once)} comparisons AML helps in {(once.low > 0).sum()}, costs in {(once.high < 0).sum()}, and in the "
        f"others nothing can be told. It adds most to {said[0]}, and least to {said[1]} (RVOS J&F, points)."
    )


def layers(by_role: Mapping[str, Sequence[float]]) -> list[Finding]:
    """Fig. 6 and A3: one layer looks most at the video, and it is the same for both tokens."""
    top = {role: int(np.argmax(values)) for role, values in by_role.items()}
    return [
        Finding(
            "Both role tokens look most at the video from the same layer (Fig. 6, A3)",
            "layer 22 of 24",
            ", ".join(
                f"{role}: layer {top[role]} of {len(values)} ({100 * max(values):.0f} %)"
                for role, values in by_role.items()
            ),
            "can't tell" if len(top) < 2 else "holds" if len(set(top.values())) == 1 else "doesn't",
            "layers count from 0 here; the paper does not say",
            "`make repro`, tables/selection.md",
        )
    ]


def level(scores: Mapping[str, Scores]) -> list[Finding]:
    """Table 2: the whole model finds actors better than a single-token system, and finds targets at all."""
    rows = {name: scores[name]["InterRVOS-Actor"] for name in ("baseline", "full", "best")}
    return [
        Finding(
            "ReVIOSa segments targets, which single-token systems cannot name (Table 2)",
            "67.4 (1B)",
            f"(iv) {with_interval(scores['full']['InterRVOS-Target'])}, best "
            f"{with_interval(scores['best']['InterRVOS-Target'])}; actors: (i) {number(rows['baseline']['J&F'])}, "
            f"(iv) {number(rows['full']['J&F'])}, best {number(rows['best']['J&F'])}",
            beside(scores["full"]["InterRVOS-Target"], 50.0),
            "their J&F beside 50, half of what can be had",
            "`make repro`, reports/README.md",
        ),
        _asked({name: scores[name].get("targets asked for") for name in ("baseline", "aml")}, scores["full"]),
    ]


def _asked(asked: Mapping[str, Scores | None], full: Mapping[str, Any]) -> Finding:
    """Targets of single-role systems: the sentence is rewritten, and the answer stays below a target's own token where
    even the best one's interval lies below the token's."""
    scored = [a for a in asked.values() if a and a["J&F"] is not None]
    best, own = max(scored, key=lambda a: a["J&F"], default=None), full["InterRVOS-Target"]["interval"]
    ends = best and best.get("interval")
    apart = {"interval": [own[0] - ends[1], own[1] - ends[0]]} if ends and own else None
    return Finding(
        "Single-token systems asked for the target with another sentence stay far behind its own token",
        "13.1–24.2 against 67.4 (1B); the range by a summary of the paper, for VISA, VideoLISA and Sa2VA",
        ", ".join(f"{ROW[name]} {with_interval(own)}" for name, own in asked.items() if own) or NOT_YET,
        NOT_YET if best is None else verdict(apart),
        '"the object being pushed by the circle" is asked for, or "the object pushing the star", as often. With the '
        "name of the target it would be the score for actors: InterShapes says every event both ways"
        if best is not None
        else "",
        "`make repro`, notebook 05",
    )


def table(found: Sequence[Finding]) -> str:
    """How many are how, and a row a claim."""
    rows = [
        {
            "the paper's claim": one.claim,
            "its number": one.paper,
            "ours": one.ours,
            "verdict": one.verdict,
            "why we think so": one.why or "–",
            "where": one.where,
        }
        for one in found
    ]
    kinds = [one.verdict for one in found]
    counts = ", ".join(f"`{kind}` {kinds.count(kind)}" for kind in dict.fromkeys(kinds))
    return f"Of {len(found)} claims: {counts}.\n\n{markdown(rows)}"


def page(found: Sequence[Finding], profile: str, ran: str, caution: str) -> str:
    """The findings as a page. `ran`: what was trained, on what, how; `caution`: what does not follow."""
    lines = [
        "# Findings",
        f"Profile `{profile}`: {ran}. {caution} A gain `holds` where its 95 % interval is above 0, `doesn't` where it "
        "is below, and `can't tell` where it is neither; a target's score likewise beside 50, and a token's own beside "
        "the best that is asked for. A correlation is that of the layer where it is highest, its interval made as wide "
        "as for the highest of so many (Bonferroni). Which layer looks most, and how far attention moves, are judged "
        "as measured, without an interval. Intervals hold over videos, for the one training run a row that `make "
        "repro` makes, and are not corrected for how many claims there are: another seed may say otherwise. The "
        "verdicts over seeds stand at the head of tables/seeds.md (`make seeds`); where the two differ, those count. A "
        "row leaves its plateau, on which its masks learn next to nothing, at the step where its Dice loss has fallen "
        "to "
        f"{plateau.LEVEL:.0%} of what it was at first.",
        table(found),
        "`make studies` writes more claims, which take other trainings to see, at the head of tables/studies.md (on "
        "`dev`). What it answers that nobody has published, when attention supervision helps, on which layers, in "
        "which form, from which backbone, with how much data, and what wrong labels cost, is in docs/attention.md for "
        "the tiny profile, a paragraph each.",
    ]
    return "\n\n".join(lines) + "\n"
