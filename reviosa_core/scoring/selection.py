"""Where to apply the attention mask loss: the paper's layer-head selection protocol, and what attention looks at."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np
import pandas as pd
from jaxtyping import Float
from scipy import stats
from tqdm.auto import tqdm

from reviosa_core import masks
from reviosa_core.data import sampling
from reviosa_core.schema import Clip, Role

# By (expression id, role), then layer: every head's attention to the visual tokens of the frames that are read.
Maps = Mapping[tuple[str, Role], Mapping[int, Float[np.ndarray, "h t p q"]]]


@runtime_checkable
class Attentive(Protocol):
    """A system whose role tokens' attention can be asked for: `ReVIOSa`."""

    frames: int  # how many of a clip's it reads

    def attention(self, clip: Clip) -> Maps: ...


@dataclass(frozen=True)
class Selection:
    """The layer and its heads, counted from 0, as AML takes them."""

    layer: int
    heads: tuple[int, ...]


def measure_attention(system: Attentive, clips: Iterable[Clip]) -> pd.DataFrame:
    """How much each role token looks at the video, at its own object, and at any object, in every layer and head.

    One row per (video, expression, role, layer, head), all shares in [0, 1]: `vision`, attention that falls on visual
    tokens; `own`, the part of it that falls on the role's ground truth (cells weighted by the share the mask covers);
    `any`, the part on any object that the clip has masks of; `own_area` and `any_area`, the shares of the visual grid
    that these cover, which is what uniform attention would give as own / vision and any / vision; `differs`, how far
    where it looks is from where the same head looks for the clip's other sentences: half the sum of absolute
    differences between its map and the mean map, both made to sum to 1 (0: the same for every sentence).

    A token that knows which object is meant has own / any above own_area / any_area; one that only tells objects from
    background has the two alike.
    """
    watched = tqdm(clips, desc="attention", unit="clip", mininterval=5)
    return pd.DataFrame([row for clip in watched for row in rows_of(clip, system.attention(clip), system.frames)])


def rows_of(clip: Clip, found: Maps, frames: int) -> list[dict[str, Any]]:
    """`measure_attention` for one clip, of which `frames` were read and gave the maps `found`."""
    rows = []
    indices = sampling.frame_indices(len(clip), frames)
    by_id = {e.id: e for e in clip.expressions}
    objects = masks.union(clip, clip.masks, indices)
    usual = _mean_maps(found)
    for (expression_id, role), layers in found.items():
        own = masks.by_role(clip, by_id[expression_id], indices)[role]
        grid = next(iter(layers.values())).shape[-2:]
        truth = {"own": masks.area_resize(own, grid), "any": masks.area_resize(objects, grid)}
        named = {"video": clip.id, "expression": expression_id, "role": str(role)}
        areas = {f"{what}_area": float(cells.mean()) for what, cells in truth.items()}
        for layer, maps in layers.items():
            for head, attention in enumerate(maps):
                on = {what: float((attention * cells).sum()) for what, cells in truth.items()}
                differs = 0.5 * float(np.abs(_whole(attention) - usual[role, layer][head]).sum())
                place = {"layer": layer, "head": head, "vision": float(attention.sum()), "differs": differs}
                rows.append(named | place | on | areas)
    return rows


def _whole(attention: Float[np.ndarray, "*h t p q"]) -> Float[np.ndarray, "*h t p q"]:
    """Where it looks, whatever share of all attention that is: made to sum to 1."""
    return attention / attention.sum((-3, -2, -1), keepdims=True).clip(min=1e-12)


def _mean_maps(found: Maps) -> dict[tuple[Role, int], Float[np.ndarray, "h t p q"]]:
    """Over the expressions of a clip, by role and layer."""
    maps: dict[tuple[Role, int], list[np.ndarray]] = {}
    for (_, role), layers in found.items():
        for layer, heads in layers.items():
            maps.setdefault((role, layer), []).append(_whole(heads))
    return {key: np.mean(own, axis=0) for key, own in maps.items()}


# -- Rules ---------------------------------------------------------------------------------------------------------
# From the rows of `measure_attention` to a score for each layer and head [l h]; `choose` takes the layer whose heads
# have the highest mean, then its highest heads. All of them look at [SEG_ACT], as the paper does.


def to_vision(rows: pd.DataFrame) -> Float[np.ndarray, "l h"]:
    """The paper's: attention to the visual tokens. Uniform attention gives them most of all too (they are most of the
    keys), so a layer that looks everywhere can win."""
    return by_layer_and_head(rows, "vision")


def has_read(rows: pd.DataFrame) -> Float[np.ndarray, "l h"]:
    """The paper's, among layers that have read the sentence: where maps differ between the sentences about a clip at
    least half as much as in the layer where they differ most. In layer 0 the query is the token's embedding, the same
    for every sentence: what AML teaches there can be about objects, not about which one."""
    differs = by_layer_and_head(rows, "differs").mean(1, keepdims=True)
    return np.where(differs >= differs.max() / 2, to_vision(rows), -1.0)


def own_object(rows: pd.DataFrame) -> Float[np.ndarray, "l h"]:
    """Where attention already tells the own object from the others: its share of the attention on any object. Where it
    knows which object is meant, AML has something to sharpen."""
    return by_layer_and_head(rows, "own") / by_layer_and_head(rows, "any").clip(min=1e-12)


RULES = {"to_vision": to_vision, "has_read": has_read, "own_object": own_object}


def choose(scores: Float[np.ndarray, "l h"], count: int) -> Selection:
    """The layer with the highest mean over heads, then its `count` highest heads.

    Raises ValueError when the layer has fewer than `count` heads.
    """
    if count > scores.shape[1]:
        raise ValueError(f"{count} heads asked of layers with {scores.shape[1]}")
    layer = int(scores.mean(1).argmax())
    heads = np.argsort(-scores[layer], kind="stable")[:count]
    return Selection(layer, tuple(int(h) for h in heads))


def stability(
    rows: pd.DataFrame,
    rule: Callable[[pd.DataFrame], Float[np.ndarray, "l h"]],
    count: int,
    seed: int,
    draws: int = 200,
) -> dict[str, float]:
    """In which share of the bootstrap's `draws` of whole videos the rule chooses the same layer, and the same set of
    heads in it, as on all of them."""
    chosen, rng = choose(rule(rows), count), np.random.default_rng(seed)
    by_video = [own for _, own in rows.groupby("video")]
    drawn = [
        choose(rule(pd.concat([by_video[i] for i in rng.integers(len(by_video), size=len(by_video))])), count)
        for _ in range(draws)
    ]
    same = [again for again in drawn if again.layer == chosen.layer]
    heads = sum(set(again.heads) == set(chosen.heads) for again in same)
    return {"same layer": len(same) / len(drawn), "same heads": heads / len(drawn)} if drawn else {}


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


def rank_correlation(
    attention: pd.DataFrame, quality: pd.Series, bootstrap: int, seed: int
) -> dict[int, dict[str, Any]]:
    """Does attention on the object go with better masks (Fig. A1)? By layer Spearman's correlation, with a 95 %
    bootstrap interval over whole videos: {layer: {"value", "n", "interval"}}; None where one of the two does not vary.

    `attention` has a column a layer, `quality` the J&F of the same rows; both are indexed by video first.
    """
    codes, videos = pd.factorize(attention.index.get_level_values(0), sort=True)
    rows = [np.flatnonzero(codes == video) for video in range(len(videos))]
    ranked = quality.reindex(attention.index).to_numpy()
    rng, drawn = np.random.default_rng(seed), []
    for _ in range(bootstrap if len(videos) > 1 else 0):
        taken = np.concatenate([rows[video] for video in rng.integers(len(videos), size=len(videos))])
        drawn.append([_spearman(by[taken], ranked[taken]) for by in attention.to_numpy().T])
    found = {}
    for column, layer in enumerate(attention.columns):
        known = [draw[column] for draw in drawn if draw[column] is not None]
        ends = [float(end) for end in np.percentile(known, [2.5, 97.5])] if known else None
        value = _spearman(attention[layer].to_numpy(), ranked)
        found[int(layer)] = {"value": value, "n": len(attention), "interval": ends}
    return found


def _spearman(a: Float[np.ndarray, " n"], b: Float[np.ndarray, " n"]) -> float | None:
    return float(stats.spearmanr(a, b).statistic) if len(a) > 1 and np.ptp(a) and np.ptp(b) else None


def by_layer_and_head(rows: pd.DataFrame, column: str = "vision", role: Role = Role.ACTOR) -> Float[np.ndarray, "l h"]:
    """Mean of a column of `measure_attention` over expressions, for one role's token ([SEG_ACT] in the paper)."""
    table = rows[rows["role"] == role].pivot_table(index="layer", columns="head", values=column)
    return table.sort_index().sort_index(axis=1).to_numpy()
