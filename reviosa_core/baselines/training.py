"""Clips and a query system in, the trained system out: the project's loop, with a fingerprint of what runs here."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from torch import nn

from reviosa_core import config
from reviosa_core.schema import Clip
from reviosa_core.training import finetune
from reviosa_core.training.loop import Log, code

CODE = (  # what a checkpoint depends on
    "baselines",
    "data/sampling.py",
    "model/pixels.py",
    "model/prompts.py",
    "training",
    "masks.py",
    "schedules.py",
)


def train(
    system: nn.Module,
    clips: Sequence[Clip],
    settings: config.Clips,
    frames: int,
    *,
    folder: Path,
    seed: int,
    fingerprint: str = "",
    log: Log | None = None,
    label: str = "training",
) -> None:
    """`fit` a system (or `pretrain.Grounding`) on clips, `frames` of each at a time. It has `collate`,
    `parameter_groups`, and a forward that gives losses. Resumable, and the same bits on a CPU. In float32 everywhere,
    as the papers' code: in bfloat16 costs and gradients were seen to be NaN (LOG.md)."""
    finetune.on_clips(
        system, clips, settings, frames, seed=seed, folder=folder, fingerprint=f"{fingerprint} {code(*CODE)}",
        log=log, label=label, half=False,
    )  # fmt: skip
