"""Stock SAM2 with a language prompt. No SAM2 code is copied: the prompt joins SAM2's own sparse prompts, and tracking
is SAM2's own `track_step`.

Two mask decoders share one frozen SAM2: a fine-tuned copy answers the language prompt, memory-free, exactly as it was
trained; the original decoder carries the resulting masks through memory, which it knows and the copy does not.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float, UInt8
from sam2.modeling.sam2_base import SAM2Base
from torch import Tensor, nn
from torch.nn import functional as F

from reviosa_core import config
from reviosa_core.masks import cell_weights
from reviosa_core.model.pixels import normalise
from reviosa_core.model.sam2 import Sam2


@dataclass(frozen=True)
class FrameFeatures:
    """SAM2's features of n frames: high-resolution maps at strides 4 and 8, the embedding at stride 16."""

    stride4: Float[Tensor, "n a h4 w4"]
    stride8: Float[Tensor, "n b h8 w8"]
    stride16: Float[Tensor, "n c h w"]

    def __len__(self) -> int:
        return len(self.stride16)

    def __getitem__(self, index) -> FrameFeatures:
        return FrameFeatures(self.stride4[index], self.stride8[index], self.stride16[index])

    @staticmethod
    def cat(parts: list[FrameFeatures]) -> FrameFeatures:
        return FrameFeatures(*(torch.cat([getattr(p, k) for p in parts]) for k in ("stride4", "stride8", "stride16")))


@dataclass(frozen=True)
class Decoded:
    """Masks of n prompts, and what SAM2 says of them."""

    logits: Float[Tensor, "n s4 s4"]
    iou: Float[Tensor, "n"]  # estimated
    score: Float[Tensor, "n"] | None  # logit of "the object is there"


@dataclass(frozen=True)
class Carried:
    """Masks of o objects in one frame that SAM2 tracked them to, and what it says of them."""

    logits: Float[Tensor, "o s4 s4"]
    iou: Float[Tensor, "o"]  # estimated; 1 where the mask was given
    score: Float[Tensor, "o"]  # logit of "the object is there"


class Segmenter(nn.Module):
    """Frames once through SAM2's encoder; then any number of language prompts and tracks read the features."""

    def __init__(self, sam: SAM2Base) -> None:
        super().__init__()
        self.sam = sam.eval().requires_grad_(False)
        self.decoder = copy.deepcopy(sam.sam_mask_decoder).requires_grad_(True)
        self.image_size = sam.image_size
        self.dim = sam.hidden_dim

    def train(self, mode: bool = True) -> Segmenter:
        """Only the decoder copy trains: the stock SAM2 stays in evaluation mode."""
        super().train(mode)
        self.sam.eval()
        return self

    @torch.no_grad()
    def see(self, frames: UInt8[Tensor, "n h w 3"]) -> FrameFeatures:
        """SAM2's image features, frames squashed to its square input size."""
        pixels = normalise(frames.to(self.sam.device), self.image_size)
        return FrameFeatures(*self.sam.forward_image(pixels)["backbone_fpn"])

    def decode(
        self, features: FrameFeatures, prompt: Float[Tensor, "n d"]
    ) -> tuple[Float[Tensor, "n s4 s4"], Float[Tensor, "n"]]:
        """Mask logits at stride 4 for one language prompt a frame (Eq. 3, 5), and SAM2's own IoU estimate."""
        found = self.answer(features, prompt)
        return found.logits, found.iou

    def answer(self, features: FrameFeatures, prompt: Float[Tensor, "n d"]) -> Decoded:
        """All that the decoder says to one language prompt a frame.

        SAM2's form of a prompted first frame: no memory (`no_mem_embed`), two not-a-point tokens, then the language
        token; three masks, the best by estimated IoU wins; logits are not masked by the object score.
        """
        if len(features) != len(prompt):
            raise ValueError(f"{len(prompt)} prompts for {len(features)} frames")
        sam, n, device = self.sam, len(prompt), prompt.device
        nowhere = torch.zeros(n, 1, 2, device=device), -torch.ones(n, 1, dtype=torch.int32, device=device)
        sparse, dense = sam.sam_prompt_encoder(points=nowhere, boxes=None, masks=None)
        masks, ious, _, scores = self.decoder(
            image_embeddings=features.stride16 + sam.no_mem_embed.view(1, -1, 1, 1),
            image_pe=sam.sam_prompt_encoder.get_dense_pe(),
            sparse_prompt_embeddings=torch.cat([sparse, prompt[:, None].to(sparse.dtype)], dim=1),
            dense_prompt_embeddings=dense,
            multimask_output=True,
            repeat_image=False,
            # The decoder copy has its own 1x1 convolutions for these maps, unused: SAM2 applies the stock ones when
            # it encodes the frame, and they belong to the frozen features.
            high_res_features=[features.stride4, features.stride8],
        )
        best = ious.argmax(-1)
        rows = torch.arange(n, device=device)
        return Decoded(masks[rows, best].float(), ious[rows, best], None if scores is None else scores[:, 0].float())

    def upsample(self, logits: Float[Tensor, "*n a b"], size: tuple[int, int]) -> Float[Tensor, "*n h w"]:
        """Bilinear resize of mask logits to (height, width) in pixels."""
        batch = logits.shape[:-2]
        flat = logits.reshape(-1, 1, *logits.shape[-2:]).float()
        return F.interpolate(flat, size, mode="bilinear", align_corners=False)[:, 0].unflatten(0, batch)

    @torch.no_grad()
    def track(
        self, features: FrameFeatures, key_masks: Mapping[int, Bool[Tensor, "o s s"]]
    ) -> Float[Tensor, "o t s4 s4"]:
        """`carry` over features that are all there: logits at stride 4, frames in order."""
        found = dict(self.carry(lambda t: features[t : t + 1], len(features), key_masks))
        return torch.stack([found[t].logits for t in range(len(features))], dim=1)

    @torch.no_grad()
    def carry(
        self,
        see: Callable[[int], FrameFeatures],
        total: int,
        key_masks: Mapping[int, Bool[Tensor, "o s s"]],
    ) -> Iterator[tuple[int, Carried]]:
        """Carry the masks of o objects on key frames over `total` frames, each asked for once by `see`: (frame, masks),
        the key frames first, then forwards from the first of them, then backwards from it. Stock SAM2 with memory and
        its original decoder. Held are the key frames, and the frames that memory still looks back to.

        Key frames are conditioning frames: there SAM2 returns the given mask.
        """
        objects, first = len(next(iter(key_masks.values()))), min(key_masks)
        # Only the order of visits and the book of outputs are ours; SAM2 decides what memory to read.
        book: dict[str, dict[int, dict]] = {"cond_frame_outputs": {}, "non_cond_frame_outputs": {}}
        recent = book["non_cond_frame_outputs"]
        # The way back begins with memory of what lies right behind the first key frame.
        near = range(first + 1, first + self.reach if first else first)
        for t in sorted(key_masks):
            out = self.step(see(t), t, objects, total, book, masks=key_masks[t][:, None].float())
            book["cond_frame_outputs"][t] = _memory(out)
            given = out["pred_masks"][:, 0]
            yield t, Carried(given, given.new_ones(objects), out["object_score_logits"][:, 0])
        for t in [*range(first, total), *range(first - 1, -1, -1)]:
            if t in key_masks:
                continue
            with _estimates(self.sam) as ious:
                out = self.step(see(t), t, objects, total, book, reverse=t < first)
            recent[t] = _memory(out)
            for old in [s for s in recent if abs(s - t) >= self.reach and s not in near]:
                del recent[old]
            yield t, Carried(out["pred_masks"][:, 0], ious[-1].amax(-1), out["object_score_logits"][:, 0])

    @property
    def reach(self) -> int:
        """How many frames SAM2's memory looks back, by its masks and by its pointers to objects."""
        stride = self.sam.memory_temporal_stride_for_eval
        return max((self.sam.num_maskmem - 1) * stride, self.sam.max_obj_ptrs_in_encoder - 1)

    def step(
        self,
        features: FrameFeatures,
        index: int,
        objects: int,
        total: int,
        book: dict[str, dict[int, dict]],
        masks: Float[Tensor, "o 1 s s"] | None = None,
        reverse: bool = False,
    ) -> dict[str, Any]:
        """SAM2's `track_step` for several objects in one frame (n = 1) or in frames of their own (n = objects)."""
        return self.sam.track_step(
            frame_idx=index,
            is_init_cond_frame=masks is not None,
            point_inputs=None,
            mask_inputs=masks,
            output_dict=book,
            num_frames=total,
            track_in_reverse=reverse,
            **stock_features(self.sam, features, objects),
        )


def _memory(out: Mapping[str, Any]) -> dict[str, Any]:
    """What SAM2 reads again of an earlier frame: not its masks, which are the most of it."""
    return {name: out[name] for name in ("maskmem_features", "maskmem_pos_enc", "obj_ptr")}


@contextmanager
def _estimates(sam: SAM2Base) -> Iterator[list[Float[Tensor, "o m"]]]:
    """What its mask decoder estimates the IoU of each of its m masks to be, call by call: `track_step` does not say."""
    seen: list[Tensor] = []
    hook = sam.sam_mask_decoder.register_forward_hook(lambda module, words, found: seen.append(found[1]))
    try:
        yield seen
    finally:
        hook.remove()


def stock_features(sam: SAM2Base, features: FrameFeatures, objects: int) -> dict[str, list]:
    """Features as SAM2's own methods take them: flattened maps, sequence first, one column an object."""
    maps = [features.stride4, features.stride8, features.stride16]
    position = sam.image_encoder.neck.position_encoding
    positions = [position(m[:1]).expand(len(m), -1, -1, -1) for m in maps]
    repeat = objects // len(features)

    def columns(m: Tensor) -> Tensor:
        return m.repeat_interleave(repeat, 0).flatten(2).permute(2, 0, 1)

    return {
        "current_vision_feats": [columns(m) for m in maps],
        "current_vision_pos_embeds": [columns(p) for p in positions],
        "feat_sizes": [tuple(m.shape[-2:]) for m in maps],
    }


def to_square(masks: Bool[Tensor, "*n h w"] | UInt8[Tensor, "*n h w"], size: int) -> Bool[Tensor, "*n s s"]:
    """Masks at SAM2's input size: of each pixel at least half is covered, by exact shares (`masks.area_resize`)."""
    height, width = masks.shape[-2:]
    if (height, width) == (size, size):
        return masks > 0
    rows, cols = (torch.from_numpy(cell_weights(n, size)).to(masks.device) for n in (height, width))
    with torch.autocast(masks.device.type, enabled=False):
        return rows @ (masks > 0).float() @ cols.T >= 0.5 - 1e-5  # half but for rounding


def describe(sizes: config.Segmenter) -> Sam2:
    """SAM2.1 of the given sizes: the structure and flags of the packaged files.

    Raises DataError where SAM2's geometry cannot work at these sizes.
    """
    d, m = sizes.dim, sizes.memory_dim

    def rope(**more: Any) -> dict[str, Any]:
        side = sizes.image_size // 16
        given = {"rope_theta": 10000.0, "feat_sizes": (side, side), "embedding_dim": d, "num_heads": 1}
        return given | {"downsample_rate": 1, "dropout": 0.0} | more

    def sine(features: int) -> dict[str, Any]:
        return {"num_pos_feats": features, "normalize": True, "scale": None, "temperature": 10000}

    trunk = {
        "embed_dim": sizes.embed,
        "num_heads": sizes.heads,
        "stages": sizes.stages,
        "global_att_blocks": sizes.global_blocks,
        "window_pos_embed_bkg_spatial_size": (7, 7),
        "window_spec": sizes.windows,
    }
    neck = {
        "position_encoding": sine(d),
        "d_model": d,
        "backbone_channel_list": [sizes.embed * 2**stage for stage in (3, 2, 1, 0)],
        "fpn_top_down_levels": (2, 3),
        "fpn_interp_model": "nearest",
    }
    layer = {
        "activation": "relu",
        "dim_feedforward": 2048 if d == 256 else 4 * d,
        "dropout": 0.0,
        "pos_enc_at_attn": False,
        "self_attention": rope(),
        "d_model": d,
        "pos_enc_at_cross_attn_keys": True,
        "pos_enc_at_cross_attn_queries": False,
        "cross_attention": rope(rope_k_repeat=True, kv_in_dim=m),
    }
    block = {"dim": d, "kernel_size": 7, "padding": 3, "layer_scale_init_value": 1e-6, "use_dwconv": True}
    described = {
        "image_encoder": {"trunk": trunk, "neck": neck, "scalp": 1},
        "memory_attention": {
            "d_model": d,
            "pos_enc_at_input": True,
            "layer": layer,
            "num_layers": 4 if d == 256 else 2,
        },
        "memory_encoder": {
            "out_dim": m,
            "in_dim": d,
            "position_encoding": sine(m),
            "mask_downsampler": {"embed_dim": d, "kernel_size": 3, "stride": 2, "padding": 1},
            "fuser": {"layer": block, "num_layers": 2},
        },
        "num_maskmem": sizes.num_maskmem,
        "image_size": sizes.image_size,
        **FLAGS,
    }
    return Sam2.read(described, "model.segmenter")


FLAGS = {  # of SAM2.1
    "sigmoid_scale_for_mem_enc": 20.0,
    "sigmoid_bias_for_mem_enc": -10.0,
    "use_mask_input_as_output_without_sam": True,
    "directly_add_no_mem_embed": True,
    "no_obj_embed_spatial": True,
    "use_high_res_features_in_sam": True,
    "multimask_output_in_sam": True,
    "iou_prediction_use_sigmoid": True,
    "use_obj_ptrs_in_encoder": True,
    "add_tpos_enc_to_obj_ptrs": True,
    "proj_tpos_enc_in_obj_ptrs": True,
    "use_signed_tpos_enc_to_obj_ptrs": True,
    "only_obj_ptrs_in_the_past_for_eval": True,
    "pred_obj_scores": True,
    "pred_obj_scores_mlp": True,
    "fixed_no_obj_ptr": True,
    "multimask_output_for_tracking": True,
    "use_multimask_token_for_obj_ptr": True,
    "multimask_min_pt_num": 0,
    "multimask_max_pt_num": 1,
    "use_mlp_for_obj_ptr_proj": True,
    "sam_mask_decoder_extra_args": {
        "dynamic_multimask_via_stability": True,
        "dynamic_multimask_stability_delta": 0.05,
        "dynamic_multimask_stability_thresh": 0.98,
    },
}


def build(sizes: config.Segmenter) -> SAM2Base:
    """SAM2.1 of the given sizes, randomly initialised. Raises DataError as `describe`."""
    return describe(sizes).build()
