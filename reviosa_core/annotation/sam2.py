"""SAM2 makes the masks where there are none: from boxes, or from a grid of points on the first frame."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from reviosa_core import config, masks
from reviosa_core.annotation.sources import Boxes
from reviosa_core.annotation.tracks import SAME
from reviosa_core.config import Annotation
from reviosa_core.model import segmenter
from reviosa_core.model.sam2 import Sam2
from reviosa_core.model.segmenter import FrameFeatures, Segmenter, to_square
from reviosa_core.schema import RLE, Clip, DataError
from reviosa_core.weights import checkpoint

SURE = 0.7  # SAM2's own estimate of a mask's IoU, from which on a point's mask is an object
STABLE = 0.8  # IoU of the mask at logits +1 and -1
LARGE = 0.7  # share of the frame from which on a mask is background
AT_ONCE = 16  # frames or points
HELD = 512  # frames whose features are held, 16.8 MB each at 1024 px: 8.6 GB


class Tracker:
    """A `sources.Tracker`. Boxes prompt all the frames that they are given for; what a grid's points find on the first
    frame is followed from there, so what appears later is not found. `weights` are where it comes from, `design` is its
    configuration where that is none of the packaged ones."""

    def __init__(self, seeing: Segmenter, weights: Path, design: Sam2 | None = None) -> None:
        self.segmenter, self.weights, self.design = seeing, weights, design

    def __call__(self, clip: Clip, boxes: Boxes | None, settings: Annotation) -> dict[str, Sequence[RLE | None]]:
        see, side = self._see(clip), self.segmenter.image_size
        if boxes is None:
            found = grid(self.segmenter, see(0), settings.grid)
            keys = {str(k): {0: mask} for k, mask in enumerate(found)}
        else:
            keys = {id: self._prompted(clip, see, own) for id, own in boxes.items()}
        tracked: dict[str, Sequence[RLE | None]] = {}
        for id, own in keys.items():
            given = {t: to_square(mask[None].float() > 0.5, side) for t, mask in own.items()}
            rows: list[RLE | None] = [None] * len(clip)
            for t, carried in self.segmenter.carry(see, len(clip), given):
                row = (self.segmenter.upsample(carried.logits, clip.size)[0] > 0).cpu().numpy()
                rows[t] = masks.encode(row) if row.any() else None
            tracked[id] = rows
        return tracked

    def _see(self, clip: Clip) -> Callable[[int], FrameFeatures]:
        """The features of a frame. Of a long clip the latest are held, and the others made anew for each object."""

        @lru_cache(HELD // AT_ONCE)
        def some(block: int) -> FrameFeatures:
            places = range(len(clip))[block * AT_ONCE : (block + 1) * AT_ONCE]
            return self.segmenter.see(torch.from_numpy(np.stack([clip.frames[i] for i in places])))

        return lambda t: some(t // AT_ONCE)[t % AT_ONCE : t % AT_ONCE + 1]

    def _prompted(self, clip: Clip, see: Callable[[int], FrameFeatures], boxes: dict) -> dict[int, Bool[Tensor, "s s"]]:
        """The mask in each frame with a box. DataError for a frame that is not there."""
        height, width = clip.size
        found = {}
        for t, (left, top, right, bottom) in boxes.items():
            if not 0 <= t < len(clip):
                raise DataError(f"clip {clip.id}: a box in frame {t} of {len(clip)}")
            corners = torch.tensor([[[left, top], [right + 1, bottom + 1]]], dtype=torch.float32)
            scale = torch.tensor([width, height], dtype=torch.float32)
            logits, _ = prompt(self.segmenter, see(t), corners / scale, labels=(2, 3))
            found[t] = logits[0] > 0
        return found


@torch.no_grad()
def prompt(
    seeing: Segmenter, features: FrameFeatures, points: Float[Tensor, "n p 2"], labels: Sequence[int]
) -> tuple[Float[Tensor, "n s s"], Float[Tensor, "n"]]:
    """Mask logits at SAM2's input size for prompts on one frame, and SAM2's estimate of their IoU: the best of three
    masks each. Points are (x, y) in shares of the frame; labels are SAM2's: 1 a point, 2 and 3 a box's corners."""
    sam, n = seeing.sam, len(points)
    asked = {
        "point_coords": (points * seeing.image_size).to(sam.device),
        "point_labels": torch.tensor([list(labels)] * n, dtype=torch.int32, device=sam.device),
    }
    seen = features.stride16 + sam.no_mem_embed.view(1, -1, 1, 1)
    _, high, ious, *_ = sam._forward_sam_heads(
        backbone_features=seen.expand(n, -1, -1, -1),
        point_inputs=asked,
        high_res_features=[m.expand(n, -1, -1, -1) for m in (features.stride4, features.stride8)],
        multimask_output=True,
    )
    best = ious.argmax(-1)
    rows = torch.arange(n, device=best.device)
    return high[rows, best].float(), ious[rows, best]


def grid(seeing: Segmenter, features: FrameFeatures, side: int) -> list[Bool[Tensor, "s s"]]:
    """What side x side points of a frame find: sure and stable masks, each once, the surest first, no background."""
    middle = (torch.arange(side) + 0.5) / side
    points = torch.stack(torch.meshgrid(middle, middle, indexing="xy"), dim=-1).reshape(-1, 1, 2)
    logits, ious = (
        torch.cat(parts)
        for parts in zip(*(prompt(seeing, features, some, (1,)) for some in points.split(AT_ONCE)), strict=True)
    )
    found = logits > 0
    stable = (logits > 1).sum((1, 2)) / (logits > -1).sum((1, 2)).clamp(min=1)
    share = found.float().mean((1, 2))
    good = (ious > SURE) & (stable > STABLE) & (share > 0) & (share < LARGE)
    kept: list[Bool[Tensor, "s s"]] = []
    for k in sorted(torch.nonzero(good)[:, 0].tolist(), key=lambda k: -float(ious[k])):
        if all(float((found[k] & other).sum() / (found[k] | other).sum()) < SAME for other in kept):
            kept.append(found[k])
    return kept


def load(path: str, yaml: str | None = None, device: str | None = None) -> Tracker:
    """With SAM2's weights: Meta's file (with its `yaml`, where it is none of the packaged ones), or the name of a
    profile of params.yaml, for the SAM2 that was pretrained for it. Raises DataError, OSError, ValueError."""
    described = checkpoint.read_sam2_yaml(yaml) if yaml else None
    if not Path(path).exists() and "/" not in path and not Path(path).suffix:
        project = config.project(path)
        described = segmenter.describe(project.settings.model.segmenter)
        path = str(project.backbones / "sam2.safetensors")
    sam = checkpoint.load_sam2(path, described)
    seeing = segmenter.Segmenter(sam).to(device or checkpoint.best_device()).eval()
    return Tracker(seeing, Path(path), described)
