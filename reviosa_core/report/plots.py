"""Charts for the notebooks and the report. Every function returns a Figure; `style.save` writes it small."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from reviosa_core.data.statistics import Statistics
from reviosa_core.report.style import GREY, INK, PALETTE, STYLE, WIDTH, cycle, done
from reviosa_core.scoring import metrics

SEABORNS: dict[Any, Any] = STYLE | {"figure.constrained_layout.use": False}  # its grids are laid out by itself


def layer_head_selection(
    by_layer: Float[np.ndarray, " l"], by_head: Float[np.ndarray, " h"], layer: int, heads: Sequence[int]
) -> Figure:
    """The paper's Fig. 6: attention to vision tokens (a) by layer, head-averaged, and (b) by head of the chosen layer.

    Layers and heads count from 0; the chosen ones are in colour.
    """
    with plt.rc_context(STYLE):
        figure, (left, right) = plt.subplots(1, 2, figsize=(WIDTH, 2.3))
        for axis, values, chosen, prefix in ((left, by_layer, [layer], "L"), (right, by_head, list(heads), "H")):
            colors = [PALETTE[0] if i in chosen else GREY for i in range(len(values))]
            axis.bar(range(len(values)), values, color=colors, width=0.75)
            ticks = range(0, len(values), 1 if len(values) <= 12 else 2)  # a dozen names fit
            axis.set_xticks(ticks, [f"{prefix}{i:02d}" for i in ticks], fontsize=7)
        left.set_title(f"(a) by layer: L{layer:02d} chosen")
        right.set_title(f"(b) by head of L{layer:02d}: " + ", ".join(f"H{head:02d}" for head in heads))
        left.set_ylabel("attention to vision tokens")
    return done(figure)


def ablation_bars(
    summaries: Mapping[str, Mapping[str, Any]], published: Mapping[str, float] | None = None, setting: str = "RVOS"
) -> Figure:
    """J&F of each experiment in the three settings, with 95 % intervals; `summaries` are those of `metrics.summarise`.

    `published` gives the paper's J&F by experiment in `setting`, drawn as diamonds: other data and other model sizes.
    """
    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(1, 3, figsize=(WIDTH, 2.5), sharey=True)
        names = list(summaries)
        for axis, name in zip(axes, metrics.SETTINGS, strict=True):
            labels = []
            for x, (experiment, color) in enumerate(zip(names, cycle(len(names)), strict=True)):
                entry = summaries[experiment][name]
                if entry is None or entry["J&F"] is None:
                    labels.append(f"{experiment}\n{'no role' if entry is None else 'n = 0'}")
                    continue
                labels.append(f"{experiment}\n{entry['J&F']:.1f}")
                axis.bar(x, entry["J&F"], color=color, width=0.7)
                if entry["interval"]:
                    axis.plot([x, x], entry["interval"], color=INK, linewidth=1)
            axis.set_title(name)
            if published and name == setting:
                shared = {x: published[experiment] for x, experiment in enumerate(names) if experiment in published}
                axis.scatter(list(shared), list(shared.values()), marker="D", s=22, c="white", edgecolors=INK, zorder=3)
                axis.set_title(f"{name} (diamonds: the paper's)")
            axis.set_xticks(range(len(names)), labels, fontsize=7)
            axis.set_xlim(-0.6, len(names) - 0.4)
        axes[0].set_ylabel("J&F, %")
        axes[0].set_ylim(0, None)
    return done(figure)


def subsets(by_subset: Mapping[str, Mapping[str, Mapping[str, Any]]], setting: str = "RVOS") -> Figure:
    """J&F with its 95 % interval on every diagnostic subset; `by_subset` is that of `metrics.by_subset`. A line instead
    where nothing is known of the clips that would tell subsets apart, as of your own."""
    rows = [
        {"subset": column, "value": f"{value} ({score['n'] if score else 0})"}
        | dict(zip(("low", "high"), (score and score["interval"]) or (np.nan, np.nan), strict=True))
        | {"J&F": score["J&F"] if score and score["J&F"] is not None else np.nan}
        for column, values in by_subset.items()
        for value, score in ((value, part["scores"][setting]) for value, part in values.items())
    ]
    if not rows:
        with plt.rc_context(STYLE):
            figure = plt.figure(figsize=(WIDTH, 0.5))
            figure.text(0.5, 0.5, "no subsets: these clips come without notes", ha="center", va="center", color=INK)
        return done(figure)
    height = 0.9 + 0.17 * max(map(len, by_subset.values()))
    with plt.rc_context(SEABORNS | {"axes.grid.axis": "x", "axes.ymargin": 0.08, "ytick.labelsize": 7}):
        facets = {"col": "subset", "col_wrap": 3, "sharey": False, "xlim": (0, 100), "dropna": False}
        grid = sns.FacetGrid(pd.DataFrame(rows), **facets, height=height, aspect=WIDTH / 3 / height)
        grid.map(plt.hlines, "value", "low", "high", color=GREY, linewidth=3)
        grid.map(plt.scatter, "J&F", "value", color=PALETTE[0], s=10, zorder=3)
        grid.set_titles("{col_name}").set_axis_labels("J&F, %", "")
        for axis in grid.axes.flat:
            axis.invert_yaxis()
    return done(grid.figure)


def training_curves(history: pd.DataFrame, smooth: float = 0.1) -> Figure:
    """One panel per loss term, one line per experiment: a mean over the share `smooth` of all rows, centred, over the
    faint raw values.

    `history` has the columns "experiment" and "step"; every other column is a term (NaN where it was not logged).
    """
    curves = history.melt(["experiment", "step"], var_name="term").dropna()
    mean = curves.groupby(["term", "experiment"], sort=False)["value"]
    curves["mean"] = mean.transform(lambda c: c.rolling(max(1, round(smooth * len(c))), 1, center=True).mean())
    with plt.rc_context(SEABORNS):
        facets = {"col": "term", "col_wrap": min(3, curves["term"].nunique()), "hue": "experiment", "sharey": False}
        grid = sns.FacetGrid(curves, **facets, palette=cycle(history["experiment"].nunique()), height=1.9)
        grid.map(plt.plot, "step", "value", alpha=0.2, linewidth=0.7)
        grid.map(plt.plot, "step", "mean", linewidth=1.4)
        grid.set_titles("{col_name}").set_axis_labels("step", "").add_legend(title="")
        grid.figure.set_figwidth(WIDTH)
        grid.tight_layout()
    return done(grid.figure)


def dataset_statistics(found: Statistics) -> Figure:
    """The paper's Fig. A8: (a) words, (b) durations, (c) frames, (d) expressions and (e) objects a video, (f) videos
    with an interaction, (g) interactions a video, (h) objects an interaction; (i) expressions by caption type.
    """
    videos = found.videos
    with plt.rc_context(STYLE):
        figure, axes = plt.subplot_mosaic("abcf\nadeh\naggi", figsize=(WIDTH, 5), width_ratios=[1.1, 1, 1, 1])
        _shares(axes["a"], dict(found.words.most_common(24)), None)
        axes["a"].set_title("(a) frequent words")
        for key, column, title in (
            ("b", "seconds", "(b) seconds"),
            ("c", "frames", "(c) frames"),
            ("d", "expressions", "(d) expressions a video"),
            ("e", "objects", "(e) objects a video"),
            ("g", "interactions", "(g) interactions a video"),
        ):
            axis = axes[key]
            axis.set_title(title)
            if column not in videos:
                axis.set_axis_off()
                axis.text(0.5, 0.5, "frame rate\nnot known", ha="center", va="center", color=INK, fontsize=7)
                continue
            axis.hist(videos[column], bins=_bins(videos[column].to_numpy()), color=PALETTE[0], rwidth=0.9)
            for side in (axis.xaxis, axis.yaxis):
                side.set_major_locator(MaxNLocator(4, integer=True))
            axis.set_ylabel("videos", fontsize=7)
        having = int((videos["interactions"] > 0).sum())
        _shares(axes["f"], {"interactions": having, "none": len(videos) - having}, len(videos))
        axes["f"].set_title("(f) videos with")
        sizes = dict(sorted(found.participants.items()))
        _shares(axes["h"], {f"{size} objects": n for size, n in sizes.items()}, sum(sizes.values()))
        axes["h"].set_title("(h) interactions of")
        _shares(axes["i"], dict(found.caption_types.most_common()), found.caption_types.total())
        axes["i"].set_title("(i) expressions")
    return done(figure)


def _shares(axis: Axes, counts: Mapping[str, int], total: int | None) -> None:
    """Bars that lie, each with its number, and its share of `total`."""
    bars = axis.barh(list(counts), list(counts.values()), color=PALETTE[0], height=0.7)
    labels = [f"{n:,}" + (f" ({n / total:.1%})" if total else "") for n in counts.values()]
    axis.bar_label(bars, labels, padding=2, fontsize=6.5)
    axis.tick_params("y", labelsize=7)
    axis.set_ylim(max(len(counts), 3) - 0.5, -0.5)
    axis.margins(x=0.9 if total else 0.3)
    axis.set_xticks([])
    axis.grid(False)
    axis.spines["bottom"].set_visible(False)


def attention_vs_quality(
    lift: Float[np.ndarray, "n l"],
    quality: Float[np.ndarray, " n"],
    edges: Sequence[float] = (0.0, 0.3, 0.5, 0.7, 1.0),
) -> Figure:
    """The paper's Fig. A1: attention inside the ground-truth mask by layer, for samples grouped by their J&F.

    `lift` is how much of its attention to the video a token gives its object, over the object's share of the area (1:
    what uniform attention gives), head-averaged, per sample and layer; `quality` is J&F in [0, 1].
    """
    with plt.rc_context(STYLE):
        figure, axis = plt.subplots(figsize=(WIDTH * 0.6, 2.4))
        shades = plt.get_cmap("viridis_r")(np.linspace(0.1, 0.95, len(edges) - 1))
        for low, high, color in zip(edges[:-1], edges[1:], shades, strict=True):
            inside = (quality >= low) & ((quality < high) | (high == edges[-1]))
            if inside.any():
                label = f"J&F {low:g}–{high:g} (n = {inside.sum()})"
                axis.plot(lift[inside].mean(0), color=color, marker="o", markersize=3, label=label)
        axis.set_xlabel("layer")
        axis.set_ylabel("attention in the mask,\ntimes its area")
        axis.xaxis.set_major_locator(MaxNLocator(integer=True))
        axis.legend(fontsize=7)
    return done(figure)


AXES = {
    "layer": "AML on layer (–: none)",
    "clips": "training clips (–: all)",
    "rule": "rules",
    "backbone": "backbone (–: the profile's own)",
}


def study(runs: pd.DataFrame, score: str) -> Figure:
    """The runs of a study (`studies.table`): J&F against what varies most of AML's layer, clips, rates, backbones; a
    colour a row of Table 4 and what else varies. Runs that are then on one place, of several seeds, show as their mean
    and range."""
    count = {name: len(runs[name].unique()) for name in ("layer", "clips", "rule", "backbone")}
    along = max(count, key=lambda name: count[name])
    told = runs[list(count)].astype("string").apply(lambda column: column.str.removesuffix(".0").fillna("–"))
    others = [name for name, n in count.items() if n > 1 and name != along]
    series = runs["row"].str.cat([told[name] for name in others], sep=", ") if others else runs["row"]
    shown = runs.assign(**{along: told[along], "row": series})
    with plt.rc_context(STYLE):
        figure, axis = plt.subplots(figsize=(WIDTH * 0.7, 2.8))
        sns.pointplot(shown, x=along, y=score, hue="row", errorbar=("pi", 100), linestyles=":", markersize=4, ax=axis)
        axis.set_xlabel(AXES[along])
        axis.set_ylabel(f"{score} J&F on dev")
        sns.move_legend(axis, "upper left", bbox_to_anchor=(1, 1), title=None)
    return done(figure)


def own_object(measured: Mapping[str, pd.DataFrame]) -> Figure:
    """Does a head know which object is meant? What the own object gets of the attention on any, over its share of their
    area (1: the two alike), by layer and head; a row a system, a column a role. From `selection.measure_attention`."""
    roles = list(dict.fromkeys(next(iter(measured.values()))["role"]))
    lift = {}
    for name, rows in measured.items():
        for role, own in rows.groupby("role"):
            mean = own.groupby(["layer", "head"])[["own", "any", "own_area", "any_area"]].mean()
            lift[name, role] = ((mean.own / mean["any"]) / (mean.own_area / mean.any_area)).unstack("head")
    top = max(3.0, *(grid.max().max() for grid in lift.values()))
    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(
            len(measured), len(roles), figsize=(WIDTH * 0.75, 2.1 * len(measured)), squeeze=False, sharex=True
        )
        for (name, role), grid in lift.items():
            axis = axes[list(measured).index(name), roles.index(role)]
            sns.heatmap(grid, ax=axis, cmap="vlag", center=1, vmin=0, vmax=top, annot=True, fmt=".1f", cbar=False)
            axis.set_title(f"{name}, {role}")
    return done(figure)


def gains(found: pd.DataFrame) -> Figure:
    """What AML adds: a row a run with `study`, `run`, `value`, `low`, `high`, in points; a colour a study."""
    with plt.rc_context(STYLE):
        figure, axis = plt.subplots(figsize=(WIDTH * 0.8, 0.17 * len(found) + 0.8))
        places = np.arange(len(found))[::-1]
        for (name, own), color in zip(found.groupby("study", sort=False), cycle(found.study.nunique()), strict=True):
            at = places[found.study == name]
            axis.hlines(at, own.low, own.high, color=color)
            axis.plot(own.value, at, "o", color=color, markersize=4, label=name)
        axis.axvline(0, color=INK, linewidth=0.8)
        axis.set_yticks(places, found.run, fontsize=7)
        axis.set_xlabel("RVOS J&F with AML minus without, dev, points")
        axis.legend(fontsize=7, title=None)
    return done(figure)


def _bins(values: np.ndarray) -> np.ndarray:
    """Bins centred on whole numbers while those are few, with an empty one at each end; else about twelve equal ones,
    of whole numbers as many each (where one holds three and the next two, a histogram has teeth)."""
    low, high = values.min(), values.max()
    if (values % 1 == 0).all():
        width = 1 if high - low < 20 else -(-(high - low + 1) // 12)
        pad = width == 1
        return np.arange(low - 0.5 - pad, high + width + pad, width)
    return np.linspace(low, high, 13)
