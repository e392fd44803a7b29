"""InternVL of the tiny profile, from nothing: to see, to watch, to read."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from transformers import InternVLForConditionalGeneration

from reviosa_core import config
from reviosa_core.data import sampling
from reviosa_core.intershapes import world
from reviosa_core.intershapes.pretrain.clips import CODE, optimizers
from reviosa_core.intershapes.pretrain.grounding import Grounded, ground
from reviosa_core.intershapes.pretrain.reading import LookingPretraining, ReadingPretraining
from reviosa_core.intershapes.pretrain.watching import VisionPretraining, WatchingPretraining
from reviosa_core.model import mllm
from reviosa_core.training.loop import Log, code, fit


@torch.no_grad()
def see(
    model: mllm.Mllm, clips: Iterable[world.Scene], frames: int, seed: int
) -> tuple[list[Grounded], Float[Tensor, "clip t p p d"]]:
    """What clips show, and their visual tokens in half precision: the tower is frozen from here on, pixels can go."""
    grounded, features = [], []
    for number, scene in enumerate(clips):
        shown = sampling.frame_indices(len(scene.frames), frames)
        grounded.append(ground(scene, model.grid, shown, np.random.default_rng((seed, number))))
        features.append(model.see(torch.from_numpy(scene.frames[list(shown)])).half().cpu())
    return grounded, torch.stack(features)


@torch.no_grad()
def tie_queries_to_keys(model: mllm.Mllm) -> None:
    """Start every attention head with equal query and key projections: a word then attends to what looks like it, and
    names are bound to visual tokens from the first steps on (LOG.md)."""
    for layer in model.language.layers.children():
        attention: Any = layer.self_attn
        key = attention.k_proj.weight.unflatten(0, (-1, attention.head_dim))
        heads = attention.q_proj.weight.shape[0] // attention.head_dim
        attention.q_proj.weight.copy_(key.repeat_interleave(heads // len(key), 0).flatten(0, 1))


@torch.no_grad()
def take_sight(model: mllm.Mllm, internvl: InternVLForConditionalGeneration) -> None:
    """Vision tower and visual projector of another model of the same sizes, frozen: what a new language model learns to
    read from."""
    for part in ("vision_tower", "multi_modal_projector"):
        own = getattr(model.internvl.model, part)
        own.load_state_dict(getattr(internvl.model, part).state_dict())
        own.requires_grad_(False)


def pretrain_mllm(
    model: mllm.Mllm,
    clips: Sequence[world.Scene],
    more: Iterable[world.Scene],
    phases: config.Pretrain,
    frames: int,
    folder: Path,
    seed: int,
    fingerprint: str = "",
    log: Log | None = None,
) -> dict[str, float]:
    """To see on `clips`, then to watch and to read on `more`, of which the visual tokens are kept, not the pixels.

    Returns how well pointing finds roles on the last of `more`, which are not trained on.
    """
    tie_queries_to_keys(model)
    vision = VisionPretraining(model, clips, phases.vision, seed)
    seeing = [*model.internvl.model.vision_tower.parameters(), *model.internvl.model.multi_modal_projector.parameters()]
    fingerprint += f" {code(*CODE)} {phases.vision!r}"
    fit(
        vision, lambda m, micro: m(micro), optimizers(vision, phases.vision), phases.vision,
        folder=folder / "vision", seed=seed, fingerprint=fingerprint, log=log, label="pretrain, seeing",
    )  # fmt: skip
    for parameter in seeing:
        parameter.requires_grad_(False)
    return teach(model, more, phases, frames, folder, seed, fingerprint, log)


def teach(
    model: mllm.Mllm,
    clips: Iterable[world.Scene],
    phases: config.Pretrain,
    frames: int,
    folder: Path,
    seed: int,
    fingerprint: str = "",
    log: Log | None = None,
    looking: float = 0.0,
) -> dict[str, float]:
    """To watch and to read, on what the vision tower shows of `clips`; `looking` is the weight of that loss
    (`LookingPretraining`). Returns as `pretrain_mllm`."""
    model.eval()
    grounded, features = see(model, clips, frames, seed)
    held_out = min(64, len(grounded) // 4)
    cut = len(grounded) - held_out
    watching = WatchingPretraining(model, grounded[:cut], features[:cut], phases.watching, seed)
    reading = (
        LookingPretraining(watching, phases.mllm, looking) if looking else ReadingPretraining(watching, phases.mllm)
    )
    for module, phase, name, label in (
        (watching, phases.watching, "watching", "pretrain, watching"),
        (reading, phases.mllm, "mllm", "pretrain, reading"),
    ):
        fingerprint += f" {phase!r}" + (f" looking {looking}" if looking and module is reading else "")
        fit(
            module, lambda m, micro: m(micro), optimizers(module, phase), phase,
            folder=folder / name, seed=seed, fingerprint=fingerprint, log=log, label=label,
        )  # fmt: skip
    reading.clips, reading.features = grounded[cut:], features[cut:]
    with torch.no_grad():
        terms, hits = reading.read(np.arange(held_out), np.random.default_rng(seed))
    return {**{name: float(term) for name, term in terms.items()}, **hits}
