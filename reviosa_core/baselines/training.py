"""Clips and a query system in, the trained system out: the project's loop, with a fingerprint of what runs here."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from reviosa_core import config
from reviosa_core.schema import Clip
from reviosa_core.training.loop import Log, adamw, code, fit
from reviosa_core.training.sampler import Sampler

CODE = ("baselines", "data/sampling.py", "masks.py", "schedules.py", "training")  # what a checkpoint depends on


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
    samples: Any = Sampler(clips, frames, settings.expressions, settings.frames, seed)
    module: Any = system

    def losses(prepared: nn.Module, micro: int) -> dict[str, Tensor]:
        places = range(micro * settings.clips, (micro + 1) * settings.clips)
        return prepared(module.collate([samples[place] for place in places]))

    fit(
        system, losses, adamw(module.parameter_groups(settings), settings), settings,
        folder=folder, seed=seed, fingerprint=f"{fingerprint} {code(*CODE)}", log=log, label=label, half=False,
    )  # fmt: skip
