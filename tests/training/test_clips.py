"""What is trained on: clips that say something, with masks that are known."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from torch import Tensor, nn

from reviosa_core import config
from reviosa_core.masks import encode
from reviosa_core.schema import UNKNOWN, Clip, DataError, Expression, Sample
from reviosa_core.training import finetune

RATES = config.Clips(steps=9, clips=1, expressions=2, frames="contiguous", lr=0.1, betas=(0.9, 0.99), weight_decay=0.0)


class Seen(nn.Linear):
    """Learns nothing in particular, and notes of which clips."""

    def __init__(self) -> None:
        super().__init__(1, 1)
        self.clips: list[str] = []

    def collate(self, samples: Sequence[Sample], rng: np.random.Generator) -> list[str]:
        return [sample.clip_id for sample in samples]

    def parameter_groups(self, settings: config.Clips) -> list[dict[str, Any]]:
        return [{"params": list(self.parameters()), "lr": settings.lr}]

    def forward(self, batch: list[str]) -> dict[str, Tensor]:
        self.clips += batch
        return {"some": self.weight.square().sum()}


def clip(id: str, *actors: str) -> Clip:
    frames = np.zeros((2, 4, 6, 3), np.uint8)
    said = tuple(Expression(str(i), "the dog", "single", (actor,)) for i, actor in enumerate(actors))
    return Clip(id, frames, ("0", "1"), (4, 6), said, {actor: [encode(np.ones((4, 6), bool))] * 2 for actor in actors})


def trained(clips: Sequence[Clip], folder: Path) -> list[str]:
    system = Seen()
    finetune.on_clips(system, clips, RATES, 2, seed=0, folder=folder)
    return system.clips


def test_a_clip_without_a_sentence_is_left_out_and_named(tmp_path: Path):
    clips = [clip("silent"), clip("a", "1"), clip("mute"), clip("b", "1", "2")]
    with pytest.warns(UserWarning, match=r"2 of 4 clips have no sentence to train on: silent, mute"):
        assert set(trained(clips, tmp_path)) == {"a", "b"}
    with pytest.raises(DataError, match="none of 2 clips has a sentence"):
        trained(clips[::2], tmp_path)


def test_nobody_learns_from_masks_that_are_not_known(tmp_path: Path):
    with pytest.raises(DataError, match="clip b, expression 1: its masks are not public"):
        trained([clip("a", "1"), clip("b", "1", UNKNOWN)], tmp_path)
