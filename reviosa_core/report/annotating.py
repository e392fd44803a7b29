"""The study of annotation errors: its shares with intervals, as a table and as a figure."""

from __future__ import annotations

from typing import Any

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.figure import Figure

from reviosa_core.report.style import PALETTE, STYLE, WIDTH, done
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
    panels = ("with roles: precision", "with roles: recall", "texts that hold")
    verifiers = list(dict.fromkeys(f["wrong"] for f in found))
    verifiers.sort(key=lambda wrong: -1 if wrong is None else wrong)
    with plt.rc_context(STYLE):
        drawn, axes = plt.subplots(1, len(panels), figsize=(WIDTH, 2.4), sharey=True)
        for axis, name in zip(axes, panels, strict=True):
            for k, wrong in enumerate(verifiers):
                own = [f for f in found if f["wrong"] == wrong and f[name]["value"] is not None]
                at = [100 * f["flips"] + 0.3 * (k - (len(verifiers) - 1) / 2) for f in own]
                values = [f[name]["value"] for f in own]
                axis.plot(at, values, "o-", color=PALETTE[k], markersize=3, lw=1, label=_named(wrong))
                for x, f in zip(at, own, strict=True):
                    if f[name]["interval"]:
                        axis.plot([x, x], f[name]["interval"], color=PALETTE[k], lw=1.5, alpha=0.5)
            axis.set_title(f"events {name}" if name.startswith("with") else "texts with a target that hold")
            axis.set_xlabel("roles flipped in the answers, %")
        axes[0].set_ylabel("%")
        axes[0].set_ylim(None, 102)
        axes[0].legend(title="verifier", fontsize=7, title_fontsize=7, loc="lower left")
    return done(drawn)
