"""What the supervised heads look at while a model trains: one clip, seen again every so often, as slides in MLflow.

A look changes nothing of the training: generators, gradients and every module's mode are as they were. One that fails
does not stop it.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

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
    """`run.log`, and a slide `attention` of now, as step 0, then SLIDES more in `steps`: what the (layer, heads) of AML
    look at in the first clip that has an interaction, for its first sentence.

    Call it before training: MLflow's page opens at step 0. Without AML, such a clip, or tracking it is `run.log` and
    nothing else. `system` is a ReVIOSa.
    """
    found = ((clip, e) for clip in clips for e in clip.expressions if e.is_interaction)
    asked = next(found, None) if aml and run.taken else None
    if asked is None or aml is None:
        return run.log
    watch = _Watch(run, system, *asked, *aml, steps)
    watch.look(0)
    return watch


@dataclass
class _Watch:
    run: Run
    system: nn.Module
    clip: Clip
    expression: Expression
    layer: int
    heads: Sequence[int]
    steps: int
    last: int = 0
    failed: bool = False

    def __call__(self, metrics: dict[str, float], step: int) -> None:
        self.run.log(metrics, step)
        number = step * SLIDES // self.steps
        if number > self.last:
            self.last = number
            self.look(step)

    def look(self, step: int) -> None:
        """A slide. Whatever keeps it from being made costs a line and the slides after it, never the training."""
        if self.failed or not self.run.taken:
            return
        try:
            self.run.figure(slide(self.system, self.clip, self.expression, self.layer, self.heads), "attention", step)
        except Exception as error:
            self.failed = True
            reason = " ".join(str(error).split())
            print(
                f"no slides of attention from step {step} on: {type(error).__name__}: {reason}; training goes on",
                file=sys.stderr,
            )


def slide(system: nn.Module, clip: Clip, expression: Expression, layer: int, heads: Sequence[int]) -> Figure:
    """The mean of these heads over the frames that the system reads, a line a role token."""
    modes = {module: module.training for module in system.modules()}
    devices = {parameter.get_device() for parameter in system.parameters() if parameter.is_cuda}
    with torch.random.fork_rng(sorted(devices)):  # of its own devices: all would be one context on every GPU
        system.eval()
        try:
            alone = replace(clip, expressions=(expression,))  # the others' answers would only be thrown away
            seen = system.attention(alone, [layer])  # which has no gradients
        finally:
            for module, mode in modes.items():
                module.training = mode
    maps = {
        role: seen[expression.id, role][layer][list(heads)].mean(0) for role in Role if (expression.id, role) in seen
    }
    indices = sampling.frame_indices(len(clip), system.frames)
    frames, truth = np.stack([clip.frames[i] for i in indices]), masks.by_role(clip, expression, indices)
    every = masks.union(clip, clip.masks, indices)
    where = f"layer {layer}, mean of heads {', '.join(map(str, heads))}"
    title = f"{expression.text}\n{where}; {len(indices)} of {len(clip)} frames are read"
    return done(drawing.attention_maps(frames, {"": maps}, truth, every, title, numbers=indices))
