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
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from reviosa_core.data.statistics import Statistics
from reviosa_core.report.style import GREY, INK, PALETTE, STYLE, WIDTH, cycle, done
from reviosa_core.report.tables import ROW
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
    """One panel per loss term, one line per experiment: a mean over the faint raw values, centred, over as many rows in
    every line of a panel, the share `smooth` of the shortest: a wider one would make a long run look slower.

    `history` has the columns "experiment" and "step"; every other column is a term (NaN where it was not logged).
    """
    curves = history.melt(["experiment", "step"], var_name="term").dropna()
    lines = curves.groupby(["term", "experiment"], sort=False)["value"]
    rows = {term: max(1, round(smooth * counts.min())) for term, counts in lines.size().groupby("term")}
    curves["mean"] = lines.transform(lambda c: c.rolling(rows[curves.loc[c.index[0], "term"]], 1, center=True).mean())
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
    with an interaction, (g) interactions a video, (h) objects an interaction, where every sentence of two roles counts
    as one, as there; (i) expressions by caption type.
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
            ("g", "interactions", "(g) sentences of two roles a video"),
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
        axes["h"].set_title("(h) objects in each")
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
                label = f"J&F {100 * low:g}–{100 * high:g} (n = {inside.sum()})"
                axis.plot(lift[inside].mean(0), color=color, marker="o", markersize=3, label=label)
        axis.set_xlabel("layer, counted from 0")
        axis.set_ylabel("attention in the mask,\nover its share of the area")
        axis.xaxis.set_major_locator(MaxNLocator(integer=True))
        axis.legend(fontsize=7)
    return done(figure)


def study(runs: pd.DataFrame) -> Figure:
    """RVOS J&F on `dev` of a study's runs, with 95 % intervals over videos: those of one `name`, what is otherwise in
    them, beside each other, a colour a row of Table 4. Hollow: it never left its plateau. `runs` has `name`, `row`,
    `value`, `low`, `high` (NaN: no interval) and `stuck`, a line a run."""
    names = list(dict.fromkeys([*ROW.values(), *runs["row"]]))  # a row has one colour in all studies
    colors = {row: color for row, color in zip(names, cycle(len(names)), strict=True) if row in set(runs["row"])}
    groups = dict(list(runs.groupby("name", sort=False)))
    *starts, end = np.cumsum([0.0, *(len(own) + 0.7 for own in groups.values())])
    with plt.rc_context(STYLE | {"axes.grid.axis": "x"}):
        figure, axis = plt.subplots(figsize=(WIDTH * 0.8, 0.8 + 0.16 * end))
        for start, own in zip(starts, groups.values(), strict=True):
            shades = own["row"].map(colors)
            places = start + np.arange(len(own))
            axis.hlines(places, own["low"], own["high"], color=shades)
            faces = shades.where(~own["stuck"], "white")
            axis.scatter(own["value"], places, s=18, color=faces, edgecolors=shades, zorder=3)
        middles = [start + (len(own) - 1) / 2 for start, own in zip(starts, groups.values(), strict=True)]
        axis.set_yticks(middles, list(groups), fontsize=7)
        axis.set_ylim(end - 0.7, -0.7)
        axis.set_xlabel("RVOS J&F on dev, %; bars: 95 % over videos")
        marks = {row: {"color": color} for row, color in colors.items()}
        if runs["stuck"].to_numpy().any():
            marks["never left its plateau"] = {"color": "white", "markeredgecolor": INK}
        dot = {"marker": "o", "linestyle": "", "markersize": 4}
        keys = [Line2D([], [], label=name, **dot, **own) for name, own in marks.items()]
        figure.legend(handles=keys, loc="outside right upper", fontsize=7)
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
    """What AML adds, with 95 % intervals: a row a run with `study`, `run`, `value`, `low`, `high`, in points, under its
    study's name; in colour where the interval leaves 0 out."""
    lines: list[tuple[str, Any]] = []  # a heading or a run
    for name, own in found.groupby("study", sort=False):
        lines += [(str(name), None), *((run.run, run) for run in own.itertuples())]
    with plt.rc_context(STYLE | {"axes.grid.axis": "x"}):
        figure, axis = plt.subplots(figsize=(WIDTH * 0.8, 0.14 * len(lines) + 0.8))
        for place, (_, own) in enumerate(lines):
            if own is not None:
                color = PALETTE[2] if own.low > 0 else PALETTE[5] if own.high < 0 else GREY
                axis.hlines(place, own.low, own.high, color=color)
                axis.plot(own.value, place, "o", color=color, markersize=4)
        axis.axvline(0, color=INK, linewidth=0.8)
        axis.set_yticks(range(len(lines)), [name for name, _ in lines], fontsize=7)
        for label, (_, own) in zip(axis.get_yticklabels(), lines, strict=True):
            label.set_fontweight("bold" if own is None else "normal")
        axis.set_ylim(len(lines) - 0.5, -0.5)
        axis.set_xlabel("RVOS J&F with AML minus without, dev, points; bars: 95 % over videos")
        marks = {"helps": PALETTE[2], "costs": PALETTE[5], "can't tell": GREY}
        keys = [Line2D([], [], marker="o", color=color, markersize=4, label=name) for name, color in marks.items()]
        axis.legend(handles=keys, fontsize=7)
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
