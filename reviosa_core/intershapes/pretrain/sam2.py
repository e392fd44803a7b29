"""SAM2 of the tiny profile: class-agnostic promptable segmentation (points, boxes, masks), then memory."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from sam2.modeling.sam.transformer import Attention
from sam2.modeling.sam2_base import SAM2Base
from torch import Tensor, nn
from torch.nn import functional as F

from reviosa_core import config
from reviosa_core.intershapes import world
from reviosa_core.intershapes.pretrain.clips import CODE, optimizers
from reviosa_core.model import losses, segmenter
from reviosa_core.model.pixels import normalise
from reviosa_core.training.loop import Log, code, fit


def pretrain_segmenter(
    sam: SAM2Base,
    clips: Sequence[world.Scene],
    phases: config.Pretrain,
    folder: Path,
    seed: int,
    fingerprint: str = "",
    log: Log | None = None,
) -> None:
    """SAM2's own recipe in short: first promptable segmentation of images (points, boxes), then of pairs of frames and
    of videos (mostly masks), prompted on the first frame and tracked through memory."""
    # An untrained object score gates masks to -1024, and with them every gradient: start by believing in objects.
    nn.init.constant_(sam.sam_mask_decoder.pred_obj_score_head.layers[-1].bias, 2.0)
    # A point finds its place by its position code, and sooner when queries and keys start alike (LOG.md).
    for module in sam.sam_mask_decoder.transformer.modules():
        if isinstance(module, Attention) and module.internal_dim < module.embedding_dim:  # the cross-attentions
            nn.init.orthogonal_(module.q_proj.weight, gain=2.0)
            module.k_proj.load_state_dict(module.q_proj.state_dict())
    # A place first reads the memory of the same place: equal biases make attention a function of distance, by RoPE.
    for layer in sam.memory_attention.layers.children():
        for projection in (layer.cross_attn_image.q_proj, layer.cross_attn_image.k_proj):
            nn.init.constant_(projection.bias, 2.0)
    stages = (
        ("images", phases.segmenter_images, 1),
        ("pairs", phases.segmenter_pairs, 2),
        ("videos", phases.segmenter, 4),
    )
    fingerprint += f" {code(*CODE)}"
    for name, phase, frames in stages:
        fingerprint += f" {phase!r}"  # what a checkpoint depends on: all phases up to its own
        step = _CallStep(sam, partial(_segmenter_losses, clips=clips, phase=phase, seed=seed, objects=4, frames=frames))
        fit(
            step, lambda m, micro: m(micro), optimizers(step, phase), phase,
            folder=folder / f"segmenter_{name}", seed=seed, fingerprint=fingerprint, log=log,
            label=f"pretrain SAM2, {name}",
        )  # fmt: skip


class _CallStep(nn.Module):
    """Gives a model without a useful forward one: the losses of a step."""

    def __init__(self, model: nn.Module, losses_of_step: Callable) -> None:
        super().__init__()
        self.model, self.losses_of_step = model, losses_of_step

    def forward(self, micro: int) -> dict[str, Tensor]:
        return self.losses_of_step(self.model, micro)


def _segmenter_losses(
    sam: SAM2Base,
    micro: int,
    clips: Sequence[world.Scene],
    phase: config.Phase,
    seed: int,
    objects: int,
    frames: int,
) -> dict[str, Tensor]:
    rng = np.random.default_rng((seed, micro))
    device = sam.device
    images, truth = [], []
    for index in rng.integers(len(clips), size=phase.batch):
        scene = clips[index]
        length = len(scene.frames)
        stride = int(rng.integers(1, max(2, (length - 1) // max(1, frames - 1) + 1)))
        start = int(rng.integers(0, length - stride * (frames - 1)))
        times = start + stride * np.arange(frames)
        visible = [k for k in range(len(scene.shapes)) if (scene.labels[times[0]] == k + 1).sum() >= 12]
        picked = rng.choice(visible, size=objects, replace=len(visible) < objects)
        images.append(torch.from_numpy(scene.frames[times]))
        truth.append(torch.from_numpy(scene.labels[times][None] == (picked + 1)[:, None, None, None]))
    pixels = normalise(torch.stack(images).to(device), sam.image_size)  # [b t 3 s s]
    target = segmenter.to_square(torch.cat(truth).to(device), sam.image_size)  # [o t s s], clip-major

    features = segmenter.FrameFeatures(*sam.forward_image(pixels.flatten(0, 1))["backbone_fpn"])
    index = torch.arange(phase.batch * frames, device=device).view(phase.batch, frames)
    kinds = ("point", "box", "point") if frames == 1 else ("mask", "mask", "mask", "point")
    kind = kinds[micro % len(kinds)]
    book: dict[str, dict] = {"cond_frame_outputs": {}, "non_cond_frame_outputs": {}}
    terms: dict[str, Tensor] = {}
    for t in range(frames):
        first = t == 0
        stock = segmenter.stock_features(sam, features[index[:, t]], len(target))
        out, heads, _, _ = sam._track_step(
            t,
            first,
            **stock,
            point_inputs=_prompt(target[:, 0], kind, rng) if first and kind != "mask" else None,
            mask_inputs=target[:, :1].float() if first and kind == "mask" else None,
            output_dict=book,
            num_frames=frames,
            track_in_reverse=False,
            prev_sam_mask_logits=None,
        )
        candidates, _, ious, low, high, pointer, score = heads
        out |= {"pred_masks": low, "pred_masks_high_res": high, "obj_ptr": pointer}
        sam._encode_memory_in_output(stock["current_vision_feats"], stock["feat_sizes"], None, True, high, score, out)
        book["cond_frame_outputs" if first else "non_cond_frame_outputs"][t] = out
        if not (first and kind == "mask"):
            for name, term in _candidate_losses(candidates, ious, score, target[:, t]).items():
                terms[name] = terms.get(name, torch.zeros((), device=device)) + term / frames
    return terms


def _prompt(target: torch.Tensor, kind: str, rng: np.random.Generator) -> dict[str, Tensor]:
    """A positive point inside each mask [o s s], or its jittered box as two corner points. Pixels, (x, y)."""
    coordinates = []
    for mask in target.cpu().numpy():
        ys, xs = mask.nonzero()
        if kind == "point":
            i = rng.integers(len(xs))
            coordinates.append([[xs[i], ys[i]]])
        else:
            low, high = np.array([xs.min(), ys.min()]), np.array([xs.max(), ys.max()])
            coordinates.append(np.stack([low, high]) + rng.normal(0, 0.07, (2, 2)) * (high - low + 1))
    labels = [1] if kind == "point" else [2, 3]  # SAM's labels: positive click; top left, bottom right
    return {
        "point_coords": torch.tensor(np.array(coordinates), dtype=torch.float32, device=target.device),
        "point_labels": torch.tensor([labels] * len(target), dtype=torch.int32, device=target.device),
    }


def _candidate_losses(
    candidates: Float[Tensor, "o m a b"], ious: Float[Tensor, "o m"], score: Float[Tensor, "o 1"], target: Tensor
) -> dict[str, Tensor]:
    """SAM2's: the best of m candidate masks learns, every IoU estimate learns, the score learns presence."""
    o, m = ious.shape
    present = target.flatten(1).any(1)
    logits = F.interpolate(candidates, target.shape[-2:], mode="bilinear", align_corners=False)
    repeated = target[:, None].expand(-1, m, -1, -1)
    gated = candidates.detach().amax((1, 2, 3)) <= -1000  # the score said "no object": these masks carry no gradient
    ce, dice = losses.mask_losses(logits.flatten(0, 1).clamp(-30, 30), repeated.flatten(0, 1), points=512)
    best, which = (2 * ce + dice).view(o, m).min(1)
    with torch.no_grad():
        guess = logits > 0
        union = (guess | repeated).flatten(2).sum(2).clamp(min=1)
        true_iou = (guess & repeated).flatten(2).sum(2) / union
    learns = present & ~gated
    count = learns.sum().clamp(min=1)
    return {
        "mask": (best * learns).sum() / count,
        "iou": ((ious - true_iou).abs().mean(1) * learns).sum() / count,
        "presence": F.binary_cross_entropy_with_logits(score[:, 0], present.float()),
    }
