"""The smallest query systems with distinct sizes on every axis, and clips for them. Random weights, no files."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from transformers import PreTrainedTokenizerBase

from reviosa_core import config, masks
from reviosa_core.baselines import sizes
from reviosa_core.baselines.ifirvos import Ifirvos
from reviosa_core.baselines.query import QuerySystem
from reviosa_core.baselines.referformer import ReferFormer
from reviosa_core.baselines.soc import Soc
from reviosa_core.model.mllm import word_tokenizer
from reviosa_core.schema import Clip, Expression

SMALL = {
    "backbone": sizes.Convolutions(channels=(8, 16, 24, 32), temporal=True),
    "text": sizes.Text(hidden=12, layers=1, heads=2, ffn=20, vocabulary=40, positions=16),
    "dim": 16,
    "heads": 4,
    "ffn": 28,
    "encoder_layers": 1,
    "decoder_layers": 2,
    "queries": 3,
    "mask_channels": 5,
    "dropout": 0.0,
    "short": 64,
    "long": 96,
    "frames": 3,
    "encoder_rate": 0.5,
}
SIZES = {
    ReferFormer: sizes.REFERFORMER.model_copy(update=SMALL),
    Ifirvos: sizes.IFIRVOS.model_copy(update=SMALL),
    Soc: sizes.SOC.model_copy(update=SMALL | {"cluster_layers": 1, "video_layers": 2}),
}
RATES = config.Clips(steps=4, clips=2, expressions=2, frames="uniform", lr=1e-3, checkpoint_every=2)
GIVEN = config.Baselines(
    channels=(16, 24, 32, 40),
    text=32,
    text_layers=2,
    dim=64,
    heads=8,
    ffn=96,
    layers=2,
    queries=3,
    mask_channels=8,
    mask_stride=2,
    shown=2,
    encoder_rate=0.3,
    encoders=config.Encoders(pool=4, **RATES.model_dump()),
    train=RATES,
    studies=RATES,
)
WORDS = "the a red blue dog ball left right of chases is that moves to one other".split()


def tokenizer() -> PreTrainedTokenizerBase:
    return word_tokenizer(WORDS)


def tiny(papers: sizes.Sizes) -> sizes.Sizes:
    """A published system at the scale of GIVEN."""
    return sizes.at(papers, GIVEN, 64, len(tokenizer()))


def system(kind: type[QuerySystem], **changes) -> QuerySystem:
    """Built, in evaluation mode, with weights that differ everywhere: what starts at zero would hide mistakes."""
    torch.manual_seed(1)
    made = kind(SIZES[kind].model_copy(update=changes), tokenizer())
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.add_(0.02 * torch.randn_like(parameter))
    return made


def clip(
    name: str, frames: int, size: tuple[int, int], texts: Sequence[str] = ("the red dog", "the blue ball that moves")
) -> Clip:
    """Two rectangles that move to the right, one named by the first sentence, both by the others; noise behind."""
    rng = np.random.default_rng(len(name) + frames)
    shown = rng.integers(0, 60, (frames, *size, 3), dtype=np.uint8)
    where = np.zeros((2, frames, *size), dtype=bool)
    for t in range(frames):
        where[0, t, 8:24, 4 + 2 * t : 20 + 2 * t] = True
        where[1, t, 30:44, 20 + 3 * t : 44 + 3 * t] = True
    shown[where[0]] = (200, 30, 30)
    shown[where[1]] = (30, 30, 220)
    found = {str(k): [masks.encode(m) for m in where[k]] for k in range(2)}
    keys = [("0",), *[("0", "1")] * (len(texts) - 1)]
    expressions = [Expression(str(i), text, "single", keys[i]) for i, text in enumerate(texts)]
    return Clip(name, shown, tuple(f"{t:05d}" for t in range(frames)), size, tuple(expressions), found)
