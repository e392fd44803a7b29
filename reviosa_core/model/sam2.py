"""SAM2 by a typed description, in the shape of sam2's own configuration files: what the packaged ones and the profiles
here can say, each value bounded. The description is data: the classes that are called stand here, not there.

Every part has sam2's own argument names, and what a file leaves out is what sam2 leaves it at.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Annotated, Any, ClassVar, Literal

import torch
from pydantic import FailFast, Field, model_validator
from sam2.modeling import memory_attention, memory_encoder, position_encoding, sam2_base
from sam2.modeling.backbones import hieradet, image_encoder
from sam2.modeling.sam import transformer
from torch import Tensor
from torch.overrides import TorchFunctionMode

from reviosa_core.model.described import Described, Share, divides, same

Levels = Annotated[int, Field(ge=0, le=3)]
Blocks = Annotated[int, Field(ge=1, le=64)]
Block = Annotated[int, Field(ge=0)]
Window = Annotated[int, Field(ge=1, le=64)]
Cells = Annotated[int, Field(ge=1, le=128)]  # at stride 16
Width = Annotated[int, Field(ge=1, le=512)]
Few = Annotated[int, Field(ge=0, le=32)]
Scale = Annotated[float, Field(ge=-1000, le=1000)]


class Part(Described):
    """One of sam2's modules. Its fields are the arguments, in the order in which its own parts draw their random
    values."""

    made_by: ClassVar[Callable[..., Any]]

    def build(self) -> Any:
        """The module, randomly initialised: its parts first, in order."""
        arguments = {name: getattr(self, name) for name in type(self).model_fields if name != "target"}
        return self.made_by(**{name: _built(value) for name, value in arguments.items()})


def _built(value: Any) -> Any:
    if isinstance(value, Part):
        return value.build()
    return list(value) if isinstance(value, tuple) else value  # sam2 compares lists


def _target(name: str) -> Any:
    """sam2's files name a part by its class. Here the name is checked, not followed."""
    return Field(default=f"sam2.modeling.{name}", alias="_target_")


class Hiera(Part):
    """The trunk: four stages of blocks, each with windows of its own but for the blocks that see everything."""

    made_by = hieradet.Hiera
    target: Literal["sam2.modeling.backbones.hieradet.Hiera"] = _target("backbones.hieradet.Hiera")
    embed_dim: Annotated[int, Field(ge=1, le=256)]
    num_heads: Annotated[int, Field(ge=1, le=16)]  # of the first stage; every stage doubles both
    stages: tuple[Blocks, Blocks, Blocks, Blocks] = (2, 3, 16, 3)
    global_att_blocks: Annotated[tuple[Block, ...], Field(max_length=32), FailFast()] = (12, 16, 20)
    window_pos_embed_bkg_spatial_size: tuple[Window, Window] = (14, 14)
    window_spec: tuple[Window, Window, Window, Window] = (8, 4, 14, 7)

    @model_validator(mode="after")
    def _fits(self) -> Hiera:
        divides("embed_dim", self.embed_dim, self.num_heads, "num_heads")
        if (blocks := sum(self.stages)) > 128:
            raise ValueError(f"stages {self.stages} have {blocks} blocks, more than 128")
        if self.global_att_blocks and (last := max(self.global_att_blocks)) >= blocks:
            raise ValueError(f"global block {last} of {blocks} blocks, counted from 0")
        pooling = {sum(self.stages[:i]) for i in (1, 2, 3)}  # a stage's first block halves its windows: it needs some
        if clash := pooling.intersection(self.global_att_blocks):
            raise ValueError(f"global block {min(clash)} is the first of its stage (stages {self.stages})")
        return self


class Sine(Part):
    made_by = position_encoding.PositionEmbeddingSine
    target: Literal["sam2.modeling.position_encoding.PositionEmbeddingSine"] = _target(
        "position_encoding.PositionEmbeddingSine"
    )
    num_pos_feats: Width
    normalize: Literal[True]
    scale: None
    temperature: Annotated[int, Field(ge=1, le=10**6)]


class Neck(Part):
    made_by = image_encoder.FpnNeck
    target: Literal["sam2.modeling.backbones.image_encoder.FpnNeck"] = _target("backbones.image_encoder.FpnNeck")
    position_encoding: Sine
    d_model: Width
    backbone_channel_list: tuple[int, int, int, int]
    fpn_top_down_levels: Annotated[tuple[Levels, ...], Field(max_length=4), FailFast()]
    fpn_interp_model: Literal["nearest"]


class ImageEncoder(Part):
    made_by = image_encoder.ImageEncoder
    target: Literal["sam2.modeling.backbones.image_encoder.ImageEncoder"] = _target(
        "backbones.image_encoder.ImageEncoder"
    )
    trunk: Hiera
    neck: Neck
    scalp: Literal[1]

    @model_validator(mode="after")
    def _fits(self) -> ImageEncoder:
        widths = tuple(self.trunk.embed_dim * 2**stage for stage in (3, 2, 1, 0))
        if widths != self.neck.backbone_channel_list:
            raise ValueError(f"neck.backbone_channel_list is {self.neck.backbone_channel_list}, the trunk's {widths}")
        return self


class Rope(Part):
    made_by = transformer.RoPEAttention
    target: Literal["sam2.modeling.sam.transformer.RoPEAttention"] = _target("sam.transformer.RoPEAttention")
    rope_theta: Annotated[float, Field(ge=1, le=1e9)]
    feat_sizes: tuple[Cells, Cells]
    embedding_dim: Width
    num_heads: Literal[1]
    downsample_rate: Literal[1]
    dropout: Share
    rope_k_repeat: bool = False
    kv_in_dim: Width | None = None


class MemoryAttentionLayer(Part):
    made_by = memory_attention.MemoryAttentionLayer
    target: Literal["sam2.modeling.memory_attention.MemoryAttentionLayer"] = _target(
        "memory_attention.MemoryAttentionLayer"
    )
    activation: Literal["relu"]
    dim_feedforward: Annotated[int, Field(ge=1, le=8192)]
    dropout: Share
    pos_enc_at_attn: bool
    self_attention: Rope
    d_model: Width
    pos_enc_at_cross_attn_keys: bool
    pos_enc_at_cross_attn_queries: bool
    cross_attention: Rope


class MemoryAttention(Part):
    made_by = memory_attention.MemoryAttention
    target: Literal["sam2.modeling.memory_attention.MemoryAttention"] = _target("memory_attention.MemoryAttention")
    d_model: Width
    pos_enc_at_input: bool
    layer: MemoryAttentionLayer
    num_layers: Annotated[int, Field(ge=1, le=8)]


class MaskDownSampler(Part):
    made_by = memory_encoder.MaskDownSampler
    target: Literal["sam2.modeling.memory_encoder.MaskDownSampler"] = _target("memory_encoder.MaskDownSampler")
    embed_dim: Width = 256
    kernel_size: Literal[3]
    stride: Literal[2]
    padding: Literal[1]


class CXBlock(Part):
    made_by = memory_encoder.CXBlock
    target: Literal["sam2.modeling.memory_encoder.CXBlock"] = _target("memory_encoder.CXBlock")
    dim: Width
    kernel_size: Literal[7]
    padding: Literal[3]
    layer_scale_init_value: Annotated[float, Field(gt=0, le=1)]
    use_dwconv: Literal[True]


class Fuser(Part):
    made_by = memory_encoder.Fuser
    target: Literal["sam2.modeling.memory_encoder.Fuser"] = _target("memory_encoder.Fuser")
    layer: CXBlock
    num_layers: Annotated[int, Field(ge=1, le=8)]


class MemoryEncoder(Part):
    made_by = memory_encoder.MemoryEncoder
    target: Literal["sam2.modeling.memory_encoder.MemoryEncoder"] = _target("memory_encoder.MemoryEncoder")
    out_dim: Width
    in_dim: Width = 256
    position_encoding: Sine
    mask_downsampler: MaskDownSampler
    fuser: Fuser


class Stability(Part):
    """More arguments of the mask decoder."""

    made_by = dict
    dynamic_multimask_via_stability: bool
    dynamic_multimask_stability_delta: Annotated[float, Field(ge=0, le=100)]
    dynamic_multimask_stability_thresh: Annotated[float, Field(ge=0, le=1)]


class Sam2(Part):
    """All of SAM2. The flags are what tells 2.1 from 2.0."""

    made_by = sam2_base.SAM2Base
    target: Literal["sam2.modeling.sam2_base.SAM2Base"] = _target("sam2_base.SAM2Base")
    image_encoder: ImageEncoder
    memory_attention: MemoryAttention
    memory_encoder: MemoryEncoder
    num_maskmem: Annotated[int, Field(ge=1, le=32)]
    image_size: Annotated[int, Field(ge=32, le=2048)]
    sigmoid_scale_for_mem_enc: Scale
    sigmoid_bias_for_mem_enc: Scale
    use_mask_input_as_output_without_sam: Literal[True]
    directly_add_no_mem_embed: bool
    no_obj_embed_spatial: bool = False
    use_high_res_features_in_sam: Literal[True]
    multimask_output_in_sam: bool
    iou_prediction_use_sigmoid: bool
    use_obj_ptrs_in_encoder: bool
    add_tpos_enc_to_obj_ptrs: bool
    proj_tpos_enc_in_obj_ptrs: bool = False
    use_signed_tpos_enc_to_obj_ptrs: bool = False
    only_obj_ptrs_in_the_past_for_eval: bool
    pred_obj_scores: bool
    pred_obj_scores_mlp: bool
    fixed_no_obj_ptr: bool
    multimask_output_for_tracking: bool
    use_multimask_token_for_obj_ptr: bool
    multimask_min_pt_num: Few
    multimask_max_pt_num: Few
    use_mlp_for_obj_ptr_proj: bool
    sam_mask_decoder_extra_args: Stability | None = None
    compile_image_encoder: Literal[False] = False

    @model_validator(mode="after")
    def _fits(self) -> Sam2:
        encoder, attention, memory = self.image_encoder, self.memory_attention, self.memory_encoder
        d, m, size = encoder.neck.d_model, memory.out_dim, self.image_size
        divides("width", d, 16)  # eight heads in the mask decoder, and maps of an eighth of the width
        divides("width", d, m, "memory_encoder.out_dim")
        divides("image_size", size, 32)
        divides("the grid at stride 4,", size // 4, encoder.trunk.window_spec[0], "the first window")
        same([
            ("image_encoder.neck.d_model", d),
            ("image_encoder.neck.position_encoding.num_pos_feats", encoder.neck.position_encoding.num_pos_feats),
            ("memory_attention.d_model", attention.d_model),
            ("memory_attention.layer.d_model", attention.layer.d_model),
            ("memory_attention.layer.self_attention.embedding_dim", attention.layer.self_attention.embedding_dim),
            ("memory_attention.layer.cross_attention.embedding_dim", attention.layer.cross_attention.embedding_dim),
            ("memory_encoder.in_dim", memory.in_dim),
            ("memory_encoder.mask_downsampler.embed_dim", memory.mask_downsampler.embed_dim),
            ("memory_encoder.fuser.layer.dim", memory.fuser.layer.dim),
        ])  # fmt: skip
        same([
            ("memory_encoder.out_dim", m),
            ("memory_encoder.position_encoding.num_pos_feats", memory.position_encoding.num_pos_feats),
            ("memory_attention.layer.cross_attention.kv_in_dim", attention.layer.cross_attention.kv_in_dim or d),
        ])  # fmt: skip
        for flag, needs in (
            ("proj_tpos_enc_in_obj_ptrs", "add_tpos_enc_to_obj_ptrs"),
            ("fixed_no_obj_ptr", "pred_obj_scores"),
            ("fixed_no_obj_ptr", "use_obj_ptrs_in_encoder"),
        ):
            if getattr(self, flag) and not getattr(self, needs):
                raise ValueError(f"{flag} needs {needs}")
        return self

    def build(self) -> sam2_base.SAM2Base:
        """SAM2, randomly initialised; the description stays with it, as `configuration`."""
        sam = super().build()
        sam.configuration = self
        return sam

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Names and shapes of the tensors; nothing is allocated."""
        with unallocated():
            return {name: tuple(t.shape) for name, t in self.build().state_dict().items()}


@contextmanager
def unallocated() -> Iterator[None]:
    """What is built inside has names and shapes, but no memory."""
    with torch.device("meta"), _Read():
        yield


class _Read(TorchFunctionMode):
    """What SAM2 does with values while it is built: those of the one factory that it reads stay on the CPU, and its
    rotary angles, which it moves to a GPU where there is one, stay without memory."""

    def __torch_function__(self, func: Any, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        if func is Tensor.to and args[0].is_meta and args[1:] == ("cuda",):
            return args[0]
        return func(*args, **(kwargs or {}) | ({"device": "cpu"} if func is torch.linspace else {}))
