"""Encoders that know what words mean: sentences to masks, by a head that is thrown away.

As ReferFormer and SOC are pretrained on RefCOCO, but only what the three systems share: the image backbone, the text
encoder, and the projections of both to d channels. A head so light that nearly all time goes to these.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import PreTrainedTokenizerBase

from reviosa_core import config, outputs
from reviosa_core.baselines import backbones, batch, losses
from reviosa_core.baselines.batch import Group
from reviosa_core.baselines.query import QuerySystem, projections
from reviosa_core.baselines.sizes import Sizes
from reviosa_core.baselines.text import TextEncoder
from reviosa_core.data.sampling import take
from reviosa_core.schema import Clip, DataError, Sample
from reviosa_core.scoring.metrics import region_similarity
from reviosa_core.weights import files
from reviosa_core.weights.tokenizer import load_tokenizer

WHAT = "query encoders"
SHARED = ("backbone", "text", "project")  # modules of `QuerySystem`, by the same names here


class Grounding(nn.Module):
    """The sentence says how to scale and shift each channel of the summed maps (FiLM); what is left is one number a
    pixel, at stride 4."""

    def __init__(self, sizes: Sizes, tokenizer: PreTrainedTokenizerBase) -> None:
        super().__init__()
        self.sizes = sizes
        self.backbone: Any = backbones.build(sizes.backbone)
        self.text = TextEncoder(sizes.text, tokenizer, sizes.dim, sizes.dropout)
        self.project = projections(self.backbone.channels, sizes.dim)
        self.fine = nn.Conv2d(self.backbone.channels[0], sizes.dim, 1)
        self.film = nn.Linear(sizes.dim, 2 * sizes.dim)
        self.out = nn.Sequential(nn.Linear(sizes.dim, sizes.dim), nn.ReLU(), nn.Linear(sizes.dim, 1))

    def parameter_groups(self, rates: config.Clips) -> list[dict[str, Any]]:
        return [{"params": list(self.parameters()), "lr": rates.lr}]

    def collate(self, samples: Sequence[Sample], rng: np.random.Generator | None = None) -> list[Group]:
        return batch.collate(samples, self.text)

    def forward(self, groups: Sequence[Group]) -> dict[str, Tensor]:
        """Dice and cross-entropy of the union of the actors, each the mean over all pairs of a clip and a sentence."""
        pairs = sum(len(group.owner) for group in groups)
        totals: dict[str, Tensor] = {}
        for group in groups:
            group = group.to(self.film.weight.device)
            size = batch.fit(group.frames.shape[2:4], self.sizes.short, self.sizes.long)
            logits = self.masks(group, size)
            shares = F.interpolate(group.masks[:, 0].float(), logits.shape[-2:], mode="area")
            terms = {
                "dice": losses.dice(logits.sigmoid().flatten(1), shares.flatten(1)),
                "ce": 5 * F.binary_cross_entropy_with_logits(logits, shares, reduction="none").mean((1, 2, 3)),
            }
            for name, term in terms.items():
                totals[name] = totals.get(name, 0.0) + term.sum() / pairs
        return totals

    def masks(self, group: Group, size: tuple[int, int]) -> Float[Tensor, "p t h w"]:
        """Logits at stride 4."""
        frames = batch.pixels(group.frames, size)
        maps = self.backbone(frames)
        x = self.fine(maps[0].flatten(0, 1))
        for project, level in zip(self.project, [*maps[1:], maps[-1]], strict=True):
            x = x + F.interpolate(project(level.flatten(0, 1)), x.shape[-2:], mode="bilinear")
        x = x.unflatten(0, frames.shape[:2]).movedim(2, -1)  # b t h w d
        scale, shift = self.film(self.text(group.tokens).sentence)[:, None, None, None].chunk(2, -1)
        return self.out(F.relu(x[group.owner] * (1 + scale) + shift))[..., 0]


def save(grounding: Grounding, folder: str | Path) -> None:
    """What the systems start from, and the tokenizer. The folder appears when it is whole."""
    held = {n: t.detach().cpu() for n, t in grounding.state_dict().items() if n.split(".")[0] in SHARED}
    with outputs.folder(folder, WHAT) as new:
        files.of(held, new).write(new)
        grounding.text.tokenizer.save_pretrained(new)


def start(system: QuerySystem, folder: str | Path) -> None:
    """Put pretrained encoders into a system that was made anew. DataError for another tokenizer than theirs, by whose
    numbers they know words, and for a tensor that is missing, unknown or misshapen."""
    theirs, known = load_tokenizer(Path(folder)).get_vocab(), system.text.tokenizer.get_vocab()
    if apart := sorted(word for word in {*theirs, *known} if theirs.get(word) != known.get(word)):
        raise DataError(
            f"{folder}: its tokenizer has {len(theirs)} words, the system's {len(known)}; numbers differ of "
            f"{len(apart)}, as of {apart[0]!r}: {theirs.get(apart[0])} there, {known.get(apart[0])} here"
        )
    encoders, own = files.Weights.at(folder), system.state_dict()
    due = {name: tensor for name, tensor in own.items() if name.split(".")[0] in SHARED}
    encoders.check({name: tuple(tensor.shape) for name, tensor in due.items()})
    with torch.no_grad():
        for name, tensor in due.items():
            tensor.copy_(encoders[name])


@torch.no_grad()
def found(grounding: Grounding, clips: Sequence[Clip]) -> float:
    """Mean J of the head's masks over all sentences of some clips, in percent: how far pretraining has come."""
    values = []
    for clip in clips:
        (group,) = grounding.collate([take(clip, tuple(range(len(clip))))])
        size = batch.fit(clip.size, grounding.sizes.short, grounding.sizes.long)
        logits = grounding.masks(group.to(grounding.film.weight.device), size)
        drawn = (F.interpolate(logits, clip.size, mode="bilinear") > 0).cpu().numpy()
        truth = group.masks[:, 0].numpy()
        values += [region_similarity(d, t).mean() for d, t in zip(drawn, truth, strict=True)]
    return 100 * float(np.mean(values))
