"""What is where: targets on the grid of visual tokens, in words and places."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from reviosa_core import masks
from reviosa_core.intershapes import language, verbs, world
from reviosa_core.model import mllm
from reviosa_core.model.prompts import place

BACKGROUND = "background"


STILL = 0.04  # displacement in frame sides under which an object counts as still


@dataclass(frozen=True)
class Grounded:
    """A clip as the language model's pretraining sees it."""

    coverage: Float[np.ndarray, "k t p p"]  # share of each token's cell that object k covers
    looks: tuple[tuple[str, str], ...]  # colour and kind of each object
    deeds: tuple[tuple[str, ...], ...]  # what each object does: heading, and its part in an interaction
    cells: tuple[tuple[int, ...], ...]  # cell of each object's centre, by frame
    utterances: tuple[world.Utterance, ...]


def ground(scene: world.Scene, grid: int, frames: Sequence[int], rng: np.random.Generator | None = None) -> Grounded:
    """Everything the labels say about some frames of a scene, at the resolution of the visual tokens.

    To the scene's own expressions come the plain names of its objects ("the red circle", whether or not it is the only
    one), and its interactions without any name ("the object pushing another object"): elsewhere names often suffice.
    """
    count, shown = len(scene.shapes), list(frames)
    covered = np.stack([masks.area_resize(scene.labels[shown] == k + 1, (grid, grid)) for k in range(count)])
    moves = scene.centres[:, -1] - scene.centres[:, 0]
    deeds = [[_heading(move)] for move in moves]
    for event in scene.interactions:
        for own, k in zip(verbs.VERBS[event.verb].deeds(), (event.a, event.b), strict=True):
            deeds[k] += own
    for solo in scene.solos:
        deeds[solo.k] += verbs.VERBS[solo.verb].deeds()[0 if solo.agent else 1]
    looks = tuple((s.color, s.kind) for s in scene.shapes)
    names = []
    for look in dict.fromkeys(looks):
        same = tuple(k for k in range(count) if looks[k] == look)
        phrase = world.Phrase(0, 3, same)
        names.append(
            world.Utterance(
                f"the {' '.join(look)}", "single", same, None, (phrase,), None, "appearance", "appearance", "appearance"
            )
        )
    cells = np.clip((scene.centres[:, shown] * grid).astype(int), 0, grid - 1)
    return Grounded(
        covered,
        looks,
        tuple(map(tuple, deeds)),
        tuple(tuple(int(y) * grid + int(x) for x, y in path) for path in cells),
        (*scene.utterances, *names, *language.nameless(scene, rng or np.random.default_rng(0))),
    )


def _heading(move: np.ndarray) -> str:
    if np.abs(move).max() < STILL:
        return "still"
    x, y = move
    if abs(x) > abs(y):
        return "right" if x > 0 else "left"
    return "down" if y > 0 else "up"


def words(grid: int, frames: int) -> list[str]:
    """The tiny tokenizer's vocabulary: prompts, benchmark, places."""
    places = [place(cell) for cell in range(grid**2)]
    return [*mllm.template_words(frames), *language.vocabulary(), "Where", "?", BACKGROUND, *places]


def tag_target(clip: Grounded, model: mllm.Mllm, tags: Sequence[Sequence[str]]) -> Float[Tensor, "t p p v"]:
    """Distribution over the vocabulary for each visual token: the tags of what covers it, by share."""
    vocabulary = len(model.tokenizer)
    by_object = torch.zeros(len(tags), vocabulary)
    for row, own in enumerate(tags):
        for word in own:
            by_object[row, model.token_id(word)] += 1 / len(own)
    covered = torch.from_numpy(clip.coverage)
    target = torch.einsum("ktpq,kv->tpqv", covered, by_object)
    target[..., model.token_id(BACKGROUND)] += (1 - covered.sum(0)).clamp(min=0)
    return target


def tag_loss(logits: Float[Tensor, "*n v"], target: Float[Tensor, "*n v"], background: int) -> Tensor:
    """Soft cross-entropy; tokens that show only background count a tenth."""
    weight = 1.1 - target[..., background]
    return (-(target * logits.float().log_softmax(-1)).sum(-1) * weight).sum() / weight.sum()
