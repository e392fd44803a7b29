"""What every pretraining loop shares: clips that no split contains, and the optimizers."""

from __future__ import annotations

import re
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import partial

import torch
from torch import nn
from tqdm.auto import tqdm

from reviosa_core import config
from reviosa_core.intershapes import world
from reviosa_core.intershapes.scenes import make_scene
from reviosa_core.training.loop import adamw
from reviosa_core.workers import with_parent

CODE = (
    "intershapes/pretrain",
    "intershapes/scenes.py",
    "intershapes/language.py",
    "intershapes/pixels.py",
    "intershapes/verbs.py",
    "intershapes/world.py",
    "masks.py",
    "model",
    "training",
)  # what a checkpoint depends on


BLOCK = 512  # scenes made ahead of those who take them


def scenes(data: config.Data, seed: int, stop: int, start: int = 0) -> Iterator[world.Scene]:
    """The pretraining clips: made in memory from their own seeds, never written, never in a split."""
    seeds = [(seed, world.SPLITS["pretrain"], i) for i in range(start, stop)]
    with (
        ProcessPoolExecutor(initializer=with_parent) as pool,
        tqdm(total=len(seeds), desc="scenes", mininterval=10) as progress,
    ):
        for first in range(0, len(seeds), BLOCK):
            for scene in pool.map(partial(make_scene, data), seeds[first : first + BLOCK], chunksize=32):
                progress.update()
                yield scene


def optimizers(module: nn.Module, phase: config.Phase) -> list[torch.optim.Optimizer]:
    """Muon for the matrices of all numbered layers, AdamW for the rest: that needs half the steps of AdamW alone
    (LOG.md)."""
    layers = (m for name, m in module.named_modules() if isinstance(m, nn.Linear) and re.search(r"\.\d+\.", name))
    linear = {id(layer.weight) for layer in layers}
    trained = [p for p in module.parameters() if p.requires_grad]
    matrices = [p for p in trained if id(p) in linear]
    rest = [p for p in trained if id(p) not in linear]
    return [
        torch.optim.Muon(matrices, phase.muon_lr, phase.weight_decay, adjust_lr_fn="match_rms_adamw"),
        *adamw([{"params": rest, "lr": phase.lr}], phase),
    ]
