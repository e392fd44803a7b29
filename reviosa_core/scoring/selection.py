"""Where to apply the attention mask loss: the paper's layer-head selection protocol, and what attention looks at."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
import pandas as pd
from jaxtyping import Float
from tqdm.auto import tqdm

from reviosa_core import masks
from reviosa_core.data import sampling
from reviosa_core.schema import Clip, Role


@runtime_checkable
class Attentive(Protocol):
    """A system whose role tokens' attention can be asked for: `ReVIOSa`."""

    frames: int  # how many of a clip's it reads

    def attention(self, clip: Clip) -> Mapping[tuple[str, Role], Mapping[int, Float[np.ndarray, "h t p q"]]]:
        """By (expression id, role), then layer."""
        ...


@dataclass(frozen=True)
class Selection:
    """The layer and its heads, counted from 0, as AML takes them."""

    layer: int
    heads: tuple[int, ...]


def choose(to_vision: Float[np.ndarray, "l h"], count: int) -> Selection:
    """The paper's rule: the layer with the highest head-averaged attention to the visual tokens, then its top heads.

    Raises ValueError when the layer has fewer than `count` heads.
    """
    if count > to_vision.shape[1]:
        raise ValueError(f"{count} heads asked of layers with {to_vision.shape[1]}")
    layer = int(to_vision.mean(1).argmax())
    heads = np.argsort(-to_vision[layer], kind="stable")[:count]
    return Selection(layer, tuple(int(h) for h in heads))


def measure_attention(system: Attentive, clips: Iterable[Clip]) -> pd.DataFrame:
    """How much each role token looks at the video, at its own object, and at any object, in every layer and head.

    One row per (video, expression, role, layer, head), all shares in [0, 1]: `vision`, attention that falls on visual
    tokens; `own`, the part of it that falls on the role's ground truth (cells weighted by the share the mask covers);
    `any`, the part on any object that the clip has masks of; `own_area` and `any_area`, the shares of the visual grid
    that these cover, which is what uniform attention would give as own / vision and any / vision.

    A token that knows which object is meant has own / any above own_area / any_area; one that only tells objects from
    background has the two alike.
    """
    rows = []
    for clip in tqdm(clips, desc="attention", unit="clip", mininterval=5):
        indices = sampling.frame_indices(len(clip), system.frames)
        by_id = {e.id: e for e in clip.expressions}
        objects = masks.union(clip, clip.masks, indices)
        for (expression_id, role), layers in system.attention(clip).items():
            own = masks.by_role(clip, by_id[expression_id], indices)[role]
            grid = next(iter(layers.values())).shape[-2:]
            truth = {"own": masks.area_resize(own, grid), "any": masks.area_resize(objects, grid)}
            named = {"video": clip.id, "expression": expression_id, "role": str(role)}
            areas = {f"{what}_area": float(cells.mean()) for what, cells in truth.items()}
            for layer, maps in layers.items():
                for head, attention in enumerate(maps):
                    on = {what: float((attention * cells).sum()) for what, cells in truth.items()}
                    rows.append(named | {"layer": layer, "head": head, "vision": float(attention.sum())} | on | areas)
    return pd.DataFrame(rows)


def on_objects(rows: pd.DataFrame) -> dict[str, float]:
    """Means of `measure_attention`: to vision, on the own and on any object, and the two shares that say whether a
    token knows which object is meant: what the own one gets of the attention on any, and what it has of their area."""
    mean = rows[["vision", "own", "any", "own_area", "any_area"]].mean()
    return {
        "to vision": float(mean["vision"]),
        "on any object": float(mean["any"]),
        "on the own object": float(mean["own"]),
        "own object's share of that on any": float(mean["own"] / mean["any"]),
        "own object's share of their area": float(mean["own_area"] / mean["any_area"]),
    }


def by_layer_and_head(rows: pd.DataFrame, column: str = "vision", role: Role = Role.ACTOR) -> Float[np.ndarray, "l h"]:
    """Mean of a column of `measure_attention` over expressions, for one role's token ([SEG_ACT] in the paper)."""
    table = rows[rows["role"] == role].pivot_table(index="layer", columns="head", values=column)
    return table.sort_index().sort_index(axis=1).to_numpy()
