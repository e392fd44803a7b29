"""What the supervised heads look at while a model trains: one clip, seen again every so often, as slides in MLflow.

A look changes nothing of the training: generators, gradients and every module's mode are as they were.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import nn

from reviosa_core import masks
from reviosa_core.data import sampling
from reviosa_core.report import drawing
from reviosa_core.report.style import done
from reviosa_core.report.tracking import Run
from reviosa_core.schema import Clip, Expression, Role

SLIDES = 8  # of a run, after the first
Log = Callable[[dict[str, float], int], None]


def watching(
    run: Run, system: nn.Module, clips: Sequence[Clip], aml: tuple[int, Sequence[int]] | None, steps: int
) -> Log:
    """`run.log`, and at the first call and then SLIDES times in `steps` a slide `attention`: what the (layer, heads) of
    AML look at in the first clip that has an interaction, for its first sentence.

    Without AML, such a clip, or tracking it is `run.log` and nothing else. `system` is a ReVIOSa.
    """
    found = ((clip, e) for clip in clips for e in clip.expressions if e.is_interaction)
    asked = next(found, None) if aml and run.taken else None
    if asked is None or aml is None:
        return run.log
    return partial(_log, run, system, *asked, *aml, steps, [-1])


def _log(
    run: Run,
    system: nn.Module,
    clip: Clip,
    expression: Expression,
    layer: int,
    heads: Sequence[int],
    steps: int,
    last: list[int],
    metrics: dict[str, float],
    step: int,
) -> None:
    run.log(metrics, step)
    number = step * SLIDES // steps
    if run.taken and number > last[0]:
        last[0] = number
        run.figure(slide(system, clip, expression, layer, heads), "attention", step)


def slide(system: nn.Module, clip: Clip, expression: Expression, layer: int, heads: Sequence[int]) -> Figure:
    """The mean of these heads over the frames that the system reads, a line a role token."""
    modes = {module: module.training for module in system.modules()}
    with torch.random.fork_rng():
        system.eval()
        try:
            seen = system.attention(clip, [layer])  # which has no gradients
        finally:
            for module, mode in modes.items():
                module.training = mode
    maps = {
        role: seen[expression.id, role][layer][list(heads)].mean(0) for role in Role if (expression.id, role) in seen
    }
    indices = sampling.frame_indices(len(clip), system.frames)
    frames, truth = np.stack([clip.frames[i] for i in indices]), masks.by_role(clip, expression, indices)
    every = masks.union(clip, clip.masks, indices)
    return done(drawing.attention_maps(frames, {"": maps}, truth, every, title=expression.text))
