"""The study of annotation errors: its shares with intervals, as a table and as a figure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.figure import Figure

from reviosa_core.report.style import INK, PALETTE, STYLE, WIDTH, done
from reviosa_core.report.tables import markdown, with_interval
from reviosa_core.scoring import intervals

# Name -> the columns of `annotation.study.counts` that it is the ratio of.
SHARES = {
    "events: precision": ("right", "events"),
    "events: recall": ("right", "there"),
    "with roles: precision": ("roles", "events"),
    "with roles: recall": ("roles", "there"),
    "texts that hold": ("true", "texts"),
}


def shares(rows: pd.DataFrame, bootstrap: int, seed: int) -> list[dict[str, Any]]:
    """One entry a condition: `flips`, `wrong` (None: no verifier) and each of SHARES in percent, with its 95 % interval
    over videos. `rows` are those of `annotation.study.run`."""
    found = []
    for _, own in rows.groupby(["flips", "wrong"], dropna=False, sort=True):
        videos, flips, wrong = own["video"].to_numpy(), *own[["flips", "wrong"]].iloc[0]
        about: dict[str, Any] = {"flips": float(flips), "wrong": None if pd.isna(wrong) else float(wrong)}
        about["texts"] = int(own["texts"].sum())
        for name, (over, under) in SHARES.items():
            pair = (own[column].to_numpy(dtype=float) for column in (over, under))
            about[name] = intervals.ratio(videos, *pair, bootstrap, seed)
        found.append(about)
    return found


def _named(wrong: float | None) -> str:
    return "none" if wrong is None else f"wrong in {100 * wrong:g} %"


def table(found: list[dict[str, Any]]) -> str:
    """A row a condition."""
    rows = [
        {"roles flipped": f"{100 * f['flips']:g} %", "verifier": _named(f["wrong"]), "texts with a target": f["texts"]}
        | {name: with_interval(f[name], "value") for name in SHARES}
        for f in found
    ]
    return markdown(rows)


def figure(found: list[dict[str, Any]]) -> Figure:
    """Precision and recall of events with their roles, and the share of texts that hold, over the share of flips."""
    panels = {
        "events with roles: precision": "with roles: precision",
        "events with roles: recall": "with roles: recall",
        "texts with a target that hold": "texts that hold",
    }
    entries = {title: [{**f, **f[name]} for f in found] for title, name in panels.items()}
    drawn = by_flips(entries, "roles flipped in the answers, %")
    drawn.axes[0].set_ylim(None, 102)
    return drawn


def by_flips(panels: Mapping[str, Sequence[Mapping[str, Any]]], along: str, *, alike: bool = True) -> Figure:
    """A panel a title, over the share of flips, a line a verifier: entries with `flips`, `wrong` (share of the claims
    that the verifier judges wrongly; None: there is none), `value` and `interval` in percent. `along` is what the axis
    of the flips says; `alike`: all panels on one scale."""
    verifiers = {f["wrong"] for entries in panels.values() for f in entries}
    ordered = sorted(verifiers, key=lambda wrong: -1 if wrong is None else wrong)
    with plt.rc_context(STYLE):
        drawn, axes = plt.subplots(1, len(panels), figsize=(WIDTH, 2.4), sharey=alike)
        for axis, (title, entries) in zip(axes, panels.items(), strict=True):
            for k, wrong in enumerate(ordered):
                own = [f for f in entries if f["wrong"] == wrong and f["value"] is not None]
                at = [100 * f["flips"] + 0.3 * (k - (len(ordered) - 1) / 2) for f in own]
                values = [f["value"] for f in own]
                axis.plot(at, values, "o-", color=PALETTE[k], markersize=3, lw=1, label=_named(wrong))
                for x, f in zip(at, own, strict=True):
                    if f["interval"]:
                        axis.plot([x, x], f["interval"], color=PALETTE[k], lw=1.5, alpha=0.5)
            axis.set_title(title)
        axes[0].set_ylabel("%")
        drawn.supxlabel(along, fontsize=8, color=INK)
        axes[0].legend(title="verifier", fontsize=7, title_fontsize=7, loc="lower left")
    return done(drawn)
