"""Figures for the notebooks and the report. Every function returns a Figure; `save` writes it small."""

from __future__ import annotations

import io
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from jaxtyping import Bool, Float, UInt8
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.patches import Patch
from matplotlib.patheffects import withStroke
from matplotlib.ticker import MaxNLocator
from PIL import Image

from reviosa_core import masks, metrics
from reviosa_core.data.statistics import Statistics
from reviosa_core.schema import Clip, Prediction, Role

# Okabe and Ito's palette, told apart under the common colour blindnesses.
PALETTE = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00")
COLOR = {Role.ACTOR: PALETTE[0], Role.TARGET: PALETTE[1]}
GREY, INK = "#B8BCC2", "#333333"
STYLE: dict[Any, Any] = {
    "font.size": 8,
    "axes.titlesize": 9,
    "axes.titlelocation": "left",
    "axes.labelcolor": INK,
    "axes.edgecolor": GREY,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.grid.axis": "y",
    "axes.axisbelow": True,
    "grid.color": "#E8EAED",
    "xtick.color": INK,
    "ytick.color": INK,
    "xtick.major.size": 0,
    "ytick.major.size": 0,
    "legend.frameon": False,
    "figure.constrained_layout.use": True,
}
WIDTH = 7.5  # inches: the report's column


def save(figure: Figure, path: str | Path, dpi: int = 110, limit: int = 200_000) -> Path:
    """Write a PNG with a palette of 256 colours; where that is still over `limit` bytes, at a lower resolution.

    Figures live in git, and photographs make large PNGs.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    while True:
        buffer = io.BytesIO()
        figure.savefig(buffer, format="png", dpi=dpi)
        with Image.open(buffer) as picture:
            # Maximum coverage keeps the few pixels of a contour; the default merges rare colours into frequent ones.
            small = picture.convert("RGB").quantize(256, Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE)
        small.save(path, optimize=True)
        if path.stat().st_size <= limit or dpi < 60:
            return path
        dpi = int(0.85 * dpi)


def paint(
    frame: UInt8[np.ndarray, "h w 3"], by_role: Mapping[Role, Bool[np.ndarray, "h w"]], opacity: float = 0.4
) -> UInt8[np.ndarray, "h w 3"]:
    """A frame with each role's mask in its colour; where both are, their mixture."""
    painted = frame.astype(np.float32)
    for role, mask in by_role.items():
        painted[mask] += opacity * (255 * np.array(to_rgb(COLOR[role])) - painted[mask])
    return painted.round().astype(np.uint8)


def overlay(
    frames: UInt8[np.ndarray, "t h w 3"],
    rows: Mapping[str, Mapping[Role, Bool[np.ndarray, "t h w"]]],
    title: str = "",
    columns: int = 5,
) -> Figure:
    """Strips of frames, one per entry of `rows` (e.g. "truth", "ReVIOSa"), actor in blue and target in orange.

    Shows `columns` frames, evenly spread from first to last. A row may lack a role (unsupported).
    """
    with plt.rc_context(STYLE):
        shown = _spread(len(frames), columns)
        figure, axes = _strips(frames, list(rows), shown, title)
        for line, by_role in zip(axes, rows.values(), strict=True):
            for axis, index in zip(line, shown, strict=True):
                axis.imshow(paint(frames[index], {role: mask[index] for role, mask in by_role.items()}))
                for role, mask in by_role.items():
                    _contour(axis, mask[index], COLOR[role])
        roles = [role for role in Role if any(role in by_role for by_role in rows.values())]
        _role_legend(figure, roles)
    return figure


def contact_sheet(clip: Clip, columns: int = 6) -> Figure:
    """Every expression of a clip as a strip of `columns` frames, from first to last, its sentence above; the frames'
    names stand on top. Actor in blue, target in orange.
    """
    shown = _spread(len(clip), columns)
    frames = [clip.frames[i] for i in shown]
    gap, line = 0.04, 0.15  # inches
    cell = (WIDTH - 2 * gap) / max(len(shown), 4)
    picture = cell * clip.size[0] / clip.size[1]
    said = [textwrap.wrap(f"{e.id} ({e.caption_type})  {e.text}", 120) for e in clip.expressions]
    height = 3.1 * line + sum(line * len(lines) + picture + 2 * gap for lines in said)
    with plt.rc_context(STYLE):
        figure = plt.figure(figsize=(WIDTH, height), layout="none")
        figure.text(gap / WIDTH, 1 - gap / height, f"{clip.id}: {len(clip)} frames", fontsize=9, va="top")
        for k, index in enumerate(shown):
            x = (gap + (k + 0.5) * cell) / WIDTH
            figure.text(x, 1 - 2.65 * line / height, clip.frame_names[index], fontsize=6.5, ha="center", color=INK)
        y = height - 3.1 * line
        for expression, lines in zip(clip.expressions, said, strict=True):
            figure.text(gap / WIDTH, y / height, "\n".join(lines), va="top", fontsize=8)
            y -= line * len(lines) + picture
            by_role = {Role.ACTOR: masks.union(clip, expression.actor, shown)}
            if expression.target is not None:
                by_role[Role.TARGET] = masks.union(clip, expression.target, shown)
            for k, frame in enumerate(frames):
                place = ((gap + k * cell) / WIDTH, y / height, (cell - gap / 2) / WIDTH, picture / height)
                axis = figure.add_axes(place)
                axis.set_axis_off()
                axis.imshow(paint(frame, {role: mask[k] for role, mask in by_role.items()}), aspect="auto")
                for role, mask in by_role.items():
                    _contour(axis, mask[k], COLOR[role])
            y -= 2 * gap
        handles = [Patch(color=COLOR[role], label=str(role)) for role in Role]
        figure.legend(handles=handles, loc="upper right", ncols=2, fontsize=7, borderpad=0.2)
    return _done(figure)


def gallery(
    clips: Mapping[str, Clip],
    rows: pd.DataFrame,
    predictions: Iterable[tuple[str, Sequence[Prediction]]],
    count: int = 4,
) -> dict[str, Figure]:
    """Overlays of truth and prediction for the worst and the best expressions by J&F: {"worst 1": figure, ...}.

    `rows` are those of `evaluate.score`, `predictions` those of each clip, by id, of which only the shown are kept; an
    expression counts with the mean of the roles that are due.
    """
    due = rows[(rows["role"] == Role.ACTOR) | rows["is_interaction"]]
    quality = due.assign(score=(due["J"] + due["F"]) / 2).groupby(["video", "expression"])["score"].mean()
    ordered = quality.sort_values(kind="stable")
    count = min(count, len(ordered) // 2) or 1
    named = [(f"worst {i + 1}", i) for i in range(count)] + [
        (f"best {i + 1}", len(ordered) - 1 - i) for i in range(count)
    ]
    where = ordered.index.to_list()
    shown = {where[place] for _, place in named}
    kept = {(v, p.expression_id): p.masks for v, given in predictions for p in given if (v, p.expression_id) in shown}
    figures = {}
    for name, place in named:
        video, id = where[place]
        clip = clips[video]
        expression = next(e for e in clip.expressions if e.id == id)
        truth = {Role.ACTOR: masks.union(clip, expression.actor), Role.TARGET: masks.union(clip, expression.target)}
        given = kept.get((video, id), {})
        guess = {r: m if isinstance(m, np.ndarray) else masks.decode_all(m, clip.size) for r, m in given.items()}
        frames = np.stack([clip.frames[i] for i in range(len(clip))])
        title = f"{video}/{id}: {expression.text} (J&F {100 * ordered.iloc[place]:.1f})"
        figures[name] = overlay(frames, {"truth": truth, "prediction": guess}, title)
    return figures


def attention_maps(
    frames: UInt8[np.ndarray, "t h w 3"],
    maps: Mapping[str, Mapping[Role, Float[np.ndarray, "t p q"]]],
    truth: Mapping[Role, Bool[np.ndarray, "t h w"]],
    title: str = "",
    columns: int = 5,
) -> Figure:
    """The paper's Fig. A4: attention of each role's token over the frames, e.g. for "without AML" and "with AML".

    Bright is high on a scale of the row's own; the contour is the role's ground truth. The label gives the share of
    the row's attention (over all frames, not only the shown ones) that falls on that object.
    """
    with plt.rc_context(STYLE):
        shown = _spread(len(frames), columns)
        strips = [(role, name, by_role[role]) for role in Role for name, by_role in maps.items() if role in by_role]
        labels = []
        for role, name, attention in strips:
            cells = masks.area_resize(truth[role], attention.shape[1:])
            labels.append(f"{role}\n{name}\n{(attention * cells).sum() / attention.sum():.0%} on it")
        figure, axes = _strips(frames, labels, shown, title)
        extent = (-0.5, frames.shape[2] - 0.5, frames.shape[1] - 0.5, -0.5)
        for line, (role, _, attention) in zip(axes, strips, strict=True):
            for axis, index in zip(line, shown, strict=True):
                axis.imshow(frames[index].mean(-1), cmap="gray", vmin=0, vmax=400)  # dimmed: the heat is the message
                heat = np.clip(attention[index] / attention.max(), 0, 1)
                # Opaque where high, so that the picture shows through where the token does not look.
                axis.imshow(
                    heat, cmap="inferno", vmin=0, vmax=1, alpha=np.sqrt(heat), extent=extent, interpolation="bilinear"
                )
                _contour(axis, truth[role][index], COLOR[role])
        _role_legend(figure, [role for role in Role if any(role == r for r, _, _ in strips)])
    return figure


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
    return _done(figure)


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
            for x, (experiment, color) in enumerate(zip(names, _cycle(len(names)), strict=True)):
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
    return _done(figure)


def subsets(by_subset: Mapping[str, Mapping[str, Mapping[str, Any]]], setting: str = "RVOS") -> Figure:
    """J&F with its 95 % interval on every diagnostic subset; `by_subset` is that of `metrics.by_subset`."""
    with plt.rc_context(STYLE | {"axes.grid.axis": "x"}):
        columns = 3
        heights = [len(values) for values in by_subset.values()]
        rows = -(-len(by_subset) // columns)
        figure, axes = plt.subplots(
            rows, columns, figsize=(WIDTH, 0.9 * rows + 0.17 * max(heights) * rows), squeeze=False
        )
        for axis, (column, values) in zip(axes.flat, by_subset.items(), strict=False):
            scores = [part["scores"][setting] for part in values.values()]
            for y, score in enumerate(scores):
                if score and score["J&F"] is not None:
                    axis.plot(
                        score["interval"] or [score["J&F"]], [y] * len(score["interval"] or [0]), color=GREY, lw=3
                    )
                    axis.plot(score["J&F"], y, "o", color=PALETTE[0], markersize=4)
            names = [f"{name} ({s['n'] if s else 0})" for name, s in zip(values, scores, strict=True)]
            axis.set_yticks(range(len(names)), names, fontsize=7)
            axis.set_ylim(len(names) - 0.4, -0.6)
            axis.set_xlim(0, 100)
            axis.set_title(column)
        for axis in axes.flat[len(by_subset) :]:
            axis.set_visible(False)
        for axis in axes[-1]:
            axis.set_xlabel("J&F, %")
    return _done(figure)


def training_curves(history: pd.DataFrame, smooth: float = 0.1) -> Figure:
    """One panel per loss term, one line per experiment: a mean over the share `smooth` of all rows, centred, over the
    faint raw values.

    `history` has the columns "experiment" and "step"; every other column is a term (NaN where it was not logged).
    """
    with plt.rc_context(STYLE):
        terms = [name for name in history.columns if name not in ("experiment", "step")]
        columns = min(len(terms), 3)
        rows = -(-len(terms) // columns)
        figure, axes = plt.subplots(rows, columns, figsize=(WIDTH, 1.9 * rows + 0.2), squeeze=False)
        experiments = list(history["experiment"].unique())
        for axis, term in zip(axes.flat, terms, strict=False):
            for experiment, color in zip(experiments, _cycle(len(experiments)), strict=True):
                curve = history.loc[history["experiment"] == experiment].set_index("step")[term].dropna()
                if len(curve):
                    axis.plot(curve.index, curve, color=color, alpha=0.2, linewidth=0.7)
                    mean = curve.rolling(max(1, round(smooth * len(curve))), min_periods=1, center=True).mean()
                    axis.plot(curve.index, mean, color=color, linewidth=1.4)
            axis.set_title(term)
        for axis in axes.flat[len(terms) :]:
            axis.set_visible(False)
        axes[-1, 0].set_xlabel("step")
        handles = [Patch(color=c, label=e) for e, c in zip(experiments, _cycle(len(experiments)), strict=True)]
        figure.legend(handles=handles, loc="outside upper right", ncols=len(handles))
    return _done(figure)


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
    return _done(figure)


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
    mass: Float[np.ndarray, "n l"],
    quality: Float[np.ndarray, " n"],
    edges: Sequence[float] = (0.0, 0.3, 0.5, 0.7, 1.0),
) -> Figure:
    """The paper's Fig. A1: mean attention inside the ground-truth mask by layer, for samples grouped by their J&F.

    `mass` is the attention that falls in the mask, head-averaged, per sample and layer; `quality` is J&F in [0, 1].
    """
    with plt.rc_context(STYLE):
        figure, axis = plt.subplots(figsize=(WIDTH * 0.6, 2.4))
        shades = plt.get_cmap("viridis_r")(np.linspace(0.1, 0.95, len(edges) - 1))
        for low, high, color in zip(edges[:-1], edges[1:], shades, strict=True):
            inside = (quality >= low) & ((quality < high) | (high == edges[-1]))
            if inside.any():
                label = f"J&F {low:g}–{high:g} (n = {inside.sum()})"
                axis.plot(mass[inside].mean(0), color=color, marker="o", markersize=3, label=label)
        axis.set_xlabel("layer")
        axis.set_ylabel("attention in the mask")
        axis.xaxis.set_major_locator(MaxNLocator(integer=True))
        axis.legend(fontsize=7)
    return _done(figure)


def _done(figure: Figure) -> Figure:
    plt.close(figure)  # pyplot forgets it: no double display in a notebook, no memory held
    return figure


def _cycle(n: int) -> list[str]:
    return [PALETTE[i % len(PALETTE)] for i in range(n)]


def _spread(frames: int, columns: int) -> list[int]:
    """Up to `columns` distinct positions, first and last included."""
    return sorted({int(round(i)) for i in np.linspace(0, frames - 1, min(columns, frames))})


def _bins(values: np.ndarray) -> np.ndarray:
    """Bins centred on whole numbers while those are few, with an empty one at each end; else about twelve equal ones,
    of whole numbers as many each (where one holds three and the next two, a histogram has teeth)."""
    low, high = values.min(), values.max()
    if (values % 1 == 0).all():
        width = 1 if high - low < 20 else -(-(high - low + 1) // 12)
        pad = width == 1
        return np.arange(low - 0.5 - pad, high + width + pad, width)
    return np.linspace(low, high, 13)


def _strips(frames: np.ndarray, labels: Sequence[str], shown: Sequence[int], title: str) -> tuple[Figure, np.ndarray]:
    """Empty axes [row, column] for pictures in the frames' proportions, labelled left and above."""
    cell = (WIDTH - 0.9) / max(len(shown), 4)
    height = len(labels) * (cell * frames.shape[1] / frames.shape[2] + 0.05) + 0.65
    size = (cell * len(shown) + 0.9, height)
    tight = ConstrainedLayoutEngine(w_pad=0.02, h_pad=0.02, wspace=0.0, hspace=0.0)
    figure, axes = plt.subplots(len(labels), len(shown), figsize=size, squeeze=False, layout=tight)
    for axis in axes.flat:
        axis.set_xticks([])
        axis.set_yticks([])
        axis.spines[:].set_visible(False)
    for axis, label in zip(axes[:, 0], labels, strict=True):
        axis.set_ylabel(label, fontsize=7.5)
    for axis, index in zip(axes[0], shown, strict=True):
        axis.set_title(f"frame {index}", fontsize=7, loc="center", color=INK, pad=2)
    figure.suptitle(title, x=0.01, ha="left", fontsize=9)
    return _done(figure), axes


def _contour(axis: Axes, mask: np.ndarray, color: str) -> None:
    if mask.any():
        # Padded, so that a mask at the border is closed there too.
        h, w = mask.shape
        padded, x, y = np.pad(mask, 1), np.arange(-1, w + 1), np.arange(-1, h + 1)
        lines = axis.contour(x, y, padded, [0.5], colors=color, linewidths=1.1)
        lines.set_path_effects([withStroke(linewidth=1.9, foreground="white")])  # seen on any background
        axis.set_xlim(-0.5, w - 0.5)
        axis.set_ylim(h - 0.5, -0.5)


def _role_legend(figure: Figure, roles: Sequence[Role]) -> None:
    handles = [Patch(color=COLOR[role], label=str(role)) for role in roles]
    figure.legend(handles=handles, loc="outside lower right", ncols=len(handles), fontsize=7)
