"""Frames with something drawn on them: masks by role, attention. Every function returns a Figure or pixels."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Mapping, Sequence

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

from reviosa_core import masks
from reviosa_core.report.style import COLOR, INK, STYLE, WIDTH, done, role_legend
from reviosa_core.schema import RLE, Clip, DataError, Expression, Prediction, Role


def paint(
    frame: UInt8[np.ndarray, "h w 3"], by_role: Mapping[Role, Bool[np.ndarray, "h w"]], opacity: float = 0.4
) -> UInt8[np.ndarray, "h w 3"]:
    """A frame with each role's mask in its colour; where both are, their mixture."""
    painted, covered = frame.copy(), np.zeros(frame.shape[:2], bool)
    for mask in by_role.values():
        covered |= mask
    seen = painted[covered].astype(np.float32)
    for role, mask in by_role.items():
        own = mask[covered]
        seen[own] += opacity * (255 * np.array(to_rgb(COLOR[role])) - seen[own])
    painted[covered] = seen.round()
    return painted


def outlined(
    frame: UInt8[np.ndarray, "h w 3"], by_role: Mapping[Role, Bool[np.ndarray, "h w"]], opacity: float = 0.4
) -> UInt8[np.ndarray, "h w 3"]:
    """`paint`, and each mask's rim in its full colour, a two-hundredth of the frame wide: a blue mask on a blue object
    would not be seen otherwise."""
    painted = paint(frame, by_role, opacity)
    for role, mask in by_role.items():
        painted[_rim(mask, max(1, round(min(mask.shape) / 200)))] = 255 * np.array(to_rgb(COLOR[role]))
    return painted


def _rim(mask: Bool[np.ndarray, "h w"], width: int) -> Bool[np.ndarray, "h w"]:
    """What of a mask is at most `width` pixels, along its row or column, from what is not of it."""
    padded, middle = np.pad(mask, width), slice(width, -width)
    down = padded[: -2 * width, middle] & padded[2 * width :, middle]
    across = padded[middle, : -2 * width] & padded[middle, 2 * width :]
    return mask & ~(down & across)


def overlay(
    frames: UInt8[np.ndarray, "t h w 3"],
    rows: Mapping[str, Mapping[Role, Bool[np.ndarray, "t h w"]]],
    title: str = "",
    columns: int = 5,
    numbers: Sequence[int] | None = None,
) -> Figure:
    """Strips of frames, one per entry of `rows` (e.g. "truth", "ReVIOSa"), actor in blue and target in orange.

    Shows `columns` frames, evenly spread from first to last. A row may lack a role (unsupported). `numbers` of the
    frames, where they are some of a longer clip.
    """
    with plt.rc_context(STYLE):
        shown = spread(len(frames), columns)
        figure, axes = _strips(frames, list(rows), shown, title, numbers)
        for line, by_role in zip(axes, rows.values(), strict=True):
            for axis, index in zip(line, shown, strict=True):
                axis.imshow(paint(frames[index], {role: mask[index] for role, mask in by_role.items()}))
                for role, mask in by_role.items():
                    contour(axis, mask[index], COLOR[role])
        roles = [role for role in Role if any(role in by_role for by_role in rows.values())]
        role_legend(figure, roles)
    return figure


def draw(clip: Clip, predictions: Sequence[Prediction], columns: int = 5) -> Figure:
    """A clip with what was found in it: a strip of `columns` frames, from first to last, for each prediction, its
    sentence at the left; actor in blue, target in orange. DataError for a prediction of another clip."""
    texts = {expression.id: expression.text for expression in clip.expressions}
    rows, shown = {}, spread(len(clip), columns)
    for prediction in predictions:
        if prediction.clip_id != clip.id or prediction.expression_id not in texts:
            raise DataError(f"clip {clip.id} has no expression {prediction.clip_id}/{prediction.expression_id}")
        text = textwrap.fill(texts[prediction.expression_id], 16)
        rows[text if text not in rows else f"{text} ({prediction.expression_id})"] = at(
            prediction.masks, shown, clip.size
        )
    return overlay(np.stack([clip.frames[i] for i in shown]), rows, clip.id, columns, shown)


def truth_and(
    clip: Clip,
    expression: Expression,
    rows: Mapping[str, Mapping[Role, Bool[np.ndarray, "t h w"] | Sequence[RLE]]],
    title: str = "",
    columns: int = 5,
    label: str = "truth",
) -> Figure:
    """`overlay` of an expression's truth, and of `rows`; of the clip, only the frames that are shown are read."""
    shown = spread(len(clip), columns)
    strips = {label: masks.by_role(clip, expression, shown)}
    strips |= {name: at(by_role, shown, clip.size) for name, by_role in rows.items()}
    return overlay(np.stack([clip.frames[i] for i in shown]), strips, title, columns, shown)


def at(
    by_role: Mapping[Role, Bool[np.ndarray, "t h w"] | Sequence[RLE]], frames: Sequence[int], size: tuple[int, int]
) -> dict[Role, Bool[np.ndarray, "n h w"]]:
    """Masks of some frames, from arrays or run lengths."""
    return {role: masks.arrays(found, size, frames) for role, found in by_role.items()}


def contact_sheet(clip: Clip, columns: int = 6) -> Figure:
    """Every expression of a clip as a strip of `columns` frames, from first to last, its sentence above; the frames'
    names stand on top. Actor in blue, target in orange.
    """
    shown = spread(len(clip), columns)
    frames = [clip.frames[i] for i in shown]
    keys = [{Role.ACTOR: e.actor} | ({} if e.target is None else {Role.TARGET: e.target}) for e in clip.expressions]
    drawn = [{role: masks.union(clip, own, shown) for role, own in by_role.items()} for by_role in keys]
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
        for by_role, lines in zip(drawn, said, strict=True):
            figure.text(gap / WIDTH, y / height, "\n".join(lines), va="top", fontsize=8)
            y -= line * len(lines) + picture
            for k, frame in enumerate(frames):
                place = ((gap + k * cell) / WIDTH, y / height, (cell - gap / 2) / WIDTH, picture / height)
                axis = figure.add_axes(place)
                axis.set_axis_off()
                axis.imshow(paint(frame, {role: mask[k] for role, mask in by_role.items()}), aspect="auto")
                for role, mask in by_role.items():
                    contour(axis, mask[k], COLOR[role])
            y -= 2 * gap
        handles = [Patch(color=COLOR[role], label=str(role)) for role in Role]
        figure.legend(handles=handles, loc="upper right", ncols=2, fontsize=7, borderpad=0.2)
    return done(figure)


def gallery(
    clips: Mapping[str, Clip],
    rows: pd.DataFrame,
    predictions: Iterable[tuple[str, Sequence[Prediction]]],
    count: int = 4,
) -> dict[str, Figure]:
    """Overlays of truth and prediction for the worst and the best expressions by J&F: {"worst 1": figure, ...}.

    `rows` are those of `evaluate.score_clip`, `predictions` those of each clip, by id, of which only the shown are
    kept; an expression counts with the mean of the roles that are due.
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
        title = f"{video}/{id}: {expression.text} (J&F {100 * ordered.iloc[place]:.1f})"
        figures[name] = truth_and(clip, expression, {"prediction": kept.get((video, id), {})}, title)
    return figures


def attention_maps(
    frames: UInt8[np.ndarray, "t h w 3"],
    maps: Mapping[str, Mapping[Role, Float[np.ndarray, "t p q"]]],
    truth: Mapping[Role, Bool[np.ndarray, "t h w"]],
    objects: Bool[np.ndarray, "t h w"],
    title: str = "",
    columns: int = 5,
    numbers: Sequence[int] | None = None,
) -> Figure:
    """The paper's Fig. A4: attention of each role's token over the frames, e.g. for "without AML" and "with AML".

    Bright is high on a scale of the row's own; the contour is the role's ground truth. The label says, of the row's
    attention to the video (over all frames, not only the shown ones), how much falls on any of the `objects`, what part
    of that on the role's own one, and what part of their area that one has. `numbers` of the frames, where they are
    some of a longer clip.
    """
    with plt.rc_context(STYLE):
        shown = spread(len(frames), columns)
        strips = [(role, name, by_role[role]) for role in Role for name, by_role in maps.items() if role in by_role]
        labels = []
        for role, name, attention in strips:
            own, every = (masks.area_resize(drawn, attention.shape[1:]) for drawn in (truth[role], objects))
            found = (attention * every).sum()
            share = f"own {(attention * own).sum() / found:.0%} (area {own.sum() / every.sum():.0%})"
            labels.append(f"{role}\n{name}\nobjects {found / attention.sum():.0%}\n{share}")
        figure, axes = _strips(frames, labels, shown, title, numbers)
        for line, (role, _, attention) in zip(axes, strips, strict=True):
            for axis, index in zip(line, shown, strict=True):
                heat(axis, frames[index], attention[index] / attention.max())
                contour(axis, truth[role][index], COLOR[role])
        role_legend(figure, [role for role in Role if any(role == r for r, _, _ in strips)])
    return figure


def heat(axis: Axes, frame: UInt8[np.ndarray, "h w 3"], shares: Float[np.ndarray, "p q"]) -> None:
    """A frame, dimmed, under attention in [0, 1]: opaque where high, so that the picture shows where nobody looks."""
    axis.imshow(frame.mean(-1), cmap="gray", vmin=0, vmax=400)
    shares, extent = np.clip(shares, 0, 1), (-0.5, frame.shape[1] - 0.5, frame.shape[0] - 0.5, -0.5)
    axis.imshow(shares, cmap="inferno", vmin=0, vmax=1, alpha=np.sqrt(shares), extent=extent, interpolation="bilinear")


def spread(frames: int, columns: int) -> list[int]:
    """Up to `columns` distinct positions, first and last included."""
    return sorted({int(round(i)) for i in np.linspace(0, frames - 1, min(columns, frames))})


def _strips(
    frames: np.ndarray, labels: Sequence[str], shown: Sequence[int], title: str, numbers: Sequence[int] | None = None
) -> tuple[Figure, np.ndarray]:
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
        number = index if numbers is None else numbers[index]
        axis.set_title(f"frame {number}", fontsize=7, loc="center", color=INK, pad=2)
    figure.suptitle(title, x=0.01, ha="left", fontsize=9)
    return done(figure), axes


def contour(axis: Axes, mask: np.ndarray, color: str) -> None:
    if mask.any():
        # Padded, so that a mask at the border is closed there too.
        h, w = mask.shape
        padded, x, y = np.pad(mask, 1), np.arange(-1, w + 1), np.arange(-1, h + 1)
        lines = axis.contour(x, y, padded, [0.5], colors=color, linewidths=1.1)
        lines.set_path_effects([withStroke(linewidth=1.9, foreground="white")])  # seen on any background
        axis.set_xlim(-0.5, w - 0.5)
        axis.set_ylim(h - 0.5, -0.5)
