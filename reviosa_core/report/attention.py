"""What one token looks at, in one frame: pictures and numbers for an expression, a role, a layer and some heads.

Pure: everything is given. `panel` puts widgets above it, `notebooks/inspect_attention.ipynb` both on a page.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from jaxtyping import Bool, Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from reviosa_core import masks
from reviosa_core.data import sampling
from reviosa_core.report.drawing import contour, heat, paint
from reviosa_core.report.style import COLOR, INK, STYLE, WIDTH, done
from reviosa_core.schema import Clip, Expression, Role, System
from reviosa_core.scoring import selection

ORDER = [
    "on the own object",
    "on any object",
    "own object's share of that on any",
    "own object's share of their area",
]  # of `selection.on_objects`
ANNOTATED = 80  # cells of layer and head; more numbers than these nobody reads


@runtime_checkable
class Watched(System, selection.Attentive, Protocol):
    """What can be looked at: `ReVIOSa`."""


@dataclass(frozen=True)
class Question:
    """Which expression of a clip, which role's token, which of the frames that the system reads, which layer, and over
    which heads to take the mean. Frames, layers and heads count from 0."""

    clip: Clip
    expression: Expression
    role: Role
    frame: int
    layer: int
    heads: tuple[int, ...]


@dataclass(frozen=True)
class Seen:
    """What a system does with a clip. `rows` are those of `selection.measure_attention`, `indices` the positions in the
    clip of the frames it reads."""

    indices: tuple[int, ...]
    maps: selection.Maps
    rows: pd.DataFrame

    def knows(self, asked: Question) -> bool:
        """Whether it has a token for this role here: not without the role, nor for a target of no interaction."""
        return (asked.expression.id, asked.role) in self.maps

    def map_of(self, asked: Question) -> Float[np.ndarray, "t p q"]:
        """Attention to every cell of every frame it reads, in shares of all its attention."""
        layers = self.maps[asked.expression.id, asked.role]
        return layers[asked.layer][list(asked.heads)].mean(0)


def see(system: Watched, clip: Clip) -> Seen:
    """Attention of every token of every expression of a clip."""
    found = system.attention(clip)
    indices = tuple(sampling.frame_indices(len(clip), system.frames))
    return Seen(indices, found, pd.DataFrame(selection.rows_of(clip, found, system.frames)))


def shares(asked: Question, by_name: Mapping[str, Seen]) -> pd.DataFrame:
    """How much of its attention a system's token gives to the video, the own object and any, over all frames it reads,
    beside their shares of the area; a row a system that has this token."""
    found = {name: selection.on_objects(_of_heads(asked, seen)) for name, seen in by_name.items() if seen.knows(asked)}
    return pd.DataFrame.from_dict(found, orient="index")


def _of_heads(asked: Question, seen: Seen) -> pd.DataFrame:
    rows = _of_token(asked, seen)
    return rows.loc[(rows["layer"] == asked.layer) & rows["head"].isin(asked.heads)]


def _of_token(asked: Question, seen: Seen) -> pd.DataFrame:
    return seen.rows.loc[(seen.rows["expression"] == asked.expression.id) & (seen.rows["role"] == asked.role)]


def rules(seen: Seen, heads: int) -> pd.DataFrame:
    """What each selection rule would choose of this clip alone, and the score it gives there; a row a rule."""
    rows = []
    for name, rule in selection.RULES.items():
        scores = rule(seen.rows)
        choice = selection.choose(scores, heads)
        chosen = ", ".join(f"H{head:02d}" for head in choice.heads)
        rows.append(
            {"rule": name, "layer": f"L{choice.layer:02d}", "heads": chosen, "score": scores[choice.layer].mean()}
        )
    return pd.DataFrame(rows).set_index("rule")


def side_by_side(
    asked: Question, by_name: Mapping[str, Seen], drawn: Mapping[str, Mapping[Role, Bool[np.ndarray, "t h w"]]]
) -> Figure:
    """For each system the frame with the mask it draws, and with what the token looks at; the contour is the truth.

    `drawn` has the masks over all frames of the clip. Attention is bright where it is high, on a scale of this frame's
    own; the numbers below are shares of all the token's attention, over all frames it reads.
    """
    table = shares(asked, by_name)
    with plt.rc_context(STYLE):
        height = WIDTH / 4 * asked.clip.size[0] / asked.clip.size[1] + 1.05
        figure, axes = plt.subplots(1, 2 * len(by_name), figsize=(WIDTH / 2 * len(by_name), height), squeeze=False)
        for number, (name, seen) in enumerate(by_name.items()):
            left, right = axes[0, 2 * number : 2 * number + 2]
            index = seen.indices[asked.frame]
            frame = asked.clip.frames[index]
            truth = masks.by_role(asked.clip, asked.expression, [index])[asked.role][0]
            mask = drawn[name].get(asked.role)
            left.imshow(frame if mask is None else paint(frame, {asked.role: mask[index]}, 0.6))
            left.set_title(name)
            left.set_xlabel("no such role" if mask is None else f"mask, IoU {_iou(mask[index], truth):.2f}")
            if seen.knows(asked):
                attention, found = seen.map_of(asked), table.loc[name]
                heat(right, frame, attention[asked.frame] / attention[asked.frame].max())
                own, every, of_any, of_area = found[ORDER]
                right.set_xlabel(
                    f"own object {own:.1%}, any {every:.1%}\nown of any {of_any:.0%} (of area {of_area:.0%})\n"
                    f"this frame {attention[asked.frame].sum() / attention.sum():.0%}"
                )
            else:
                right.imshow(frame)
                right.set_xlabel("no such token")
            right.set_title(_where(asked))
            for axis in (left, right):
                contour(axis, truth, COLOR[asked.role])
                _bare(axis)
        title = f"{asked.expression.text}: {asked.role}, frame {seen.indices[asked.frame]}"
        figure.suptitle(title, x=0.01, ha="left", fontsize=9)
    return done(figure)


def layers_by_heads(asked: Question, by_name: Mapping[str, Seen]) -> Figure:
    """A line a system that has the token: its attention over the frame in every layer (down) and head (across), each on
    its own scale; and the own object's share of what it gives to any object, all frames together. What is asked for is
    framed."""
    known = {name: seen for name, seen in by_name.items() if seen.knows(asked)}
    with plt.rc_context(STYLE | {"axes.grid": False}):
        figure, axes = plt.subplots(max(len(known), 1), 2, figsize=(WIDTH, 3.2 * max(len(known), 1)), squeeze=False)
        for (left, right), (name, seen) in zip(axes, known.items(), strict=False):
            layers = seen.maps[asked.expression.id, asked.role]
            tiles = np.stack([layers[layer][:, asked.frame] for layer in sorted(layers)])  # [l h p q]
            tiles = tiles / tiles.max((-2, -1), keepdims=True).clip(min=1e-12)
            tiles = np.pad(tiles, ((0, 0), (0, 0), (0, 1), (0, 1)), constant_values=np.nan)  # a gap between them
            count, heads, p, q = tiles.shape
            left.imshow(tiles.transpose(0, 2, 1, 3).reshape(count * p, heads * q), cmap="inferno", vmin=0, vmax=1)
            left.set_xticks((np.arange(heads) + 0.5) * q - 1, [f"H{head:02d}" for head in range(heads)], fontsize=7)
            left.set_yticks((np.arange(count) + 0.5) * p - 1, [f"L{layer:02d}" for layer in range(count)], fontsize=7)
            left.set_title(f"{name}: where each looks")
            left.spines[:].set_visible(False)
            _frame(left, asked, float(q), float(p), -0.5)
            token = _of_token(asked, seen)
            scores = token.assign(share=token["own"] / token["any"]).pivot(
                index="layer", columns="head", values="share"
            )
            few = scores.size <= ANNOTATED
            sns.heatmap(scores, vmin=0, vmax=1, cmap="viridis", annot=few, fmt=".0%", ax=right, annot_kws={"size": 7})
            area = token["own_area"].mean() / token["any_area"].mean()
            right.set_title(f"own object's share of that on any (of area: {area:.0%})")
            _frame(right, asked, 1.0, 1.0, 0.0)
        for axis in axes.flat[2 * len(known) :]:
            axis.set_axis_off()
            axis.set_title("no such token")
    return done(figure)


def _frame(axis: Axes, asked: Question, width: float, height: float, start: float) -> None:
    """Around the cells of a grid of heads (across) by layers (down) that are asked for."""
    for head in asked.heads:
        corner = (start + head * width, start + asked.layer * height)
        axis.add_patch(Rectangle(corner, width, height, fill=False, edgecolor=COLOR[asked.role], lw=1.6, clip_on=False))


def _where(asked: Question) -> str:
    return f"L{asked.layer:02d}, " + ", ".join(f"H{head:02d}" for head in asked.heads)


def _iou(mask: Bool[np.ndarray, "h w"], truth: Bool[np.ndarray, "h w"]) -> float:
    """1 where both are empty, as the scores have it."""
    union = (mask | truth).sum()
    return float((mask & truth).sum() / union) if union else 1.0


def _bare(axis: Axes) -> None:
    axis.set_xticks([])
    axis.set_yticks([])
    axis.spines[:].set_visible(False)
    axis.xaxis.label.set(fontsize=7, color=INK)
