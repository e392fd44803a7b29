"""InternVL by a typed description: what transformers needs to build it, bounded, and nothing else from a file.

Read from transformers' own configuration (a folder's config.json, an earlier reviosa.json) as from this project's. What
stands there beyond these fields is either bookkeeping, which reaches nobody, or must have the one value that is
supported (`FIXED`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, field_validator, model_validator
from transformers import InternVLConfig

from reviosa_core.model.described import Described, divides, short
from reviosa_core.sizes import Heads, Layers, Pixels, Wide, Width

Tokens = Annotated[int, Field(ge=1, le=2**21)]
Epsilon = Annotated[float, Field(gt=0, le=1e-2)]
Spread = Annotated[float, Field(ge=0, le=10)]
DOWNSAMPLE = 0.5  # of a side: four patches become a token


class Section(Described):
    """A section of transformers' configuration: of its keys the fields are kept, those of `FIXED` are checked."""

    FIXED: ClassVar[dict[str, Any]]

    @model_validator(mode="before")
    @classmethod
    def _known(cls, raw: Any) -> Any:
        if not isinstance(raw, Mapping):
            return raw
        for key, value in cls.FIXED.items():
            if raw.get(key, value) != value:
                raise ValueError(f"{key} is {short(raw[key])}; only {value!r} can be loaded")
        return {key: raw[key] for key in cls.model_fields if key in raw}


class Vision(Section):
    """The tower. Defaults are transformers', whose files leave them out."""

    FIXED = {
        "model_type": "internvl_vision",
        "hidden_act": "gelu",
        "hidden_dropout_prob": 0.0,
        "attention_dropout": 0.0,
        "projection_dropout": 0.0,
        "num_channels": 3,
        "use_mask_token": False,
        "use_absolute_position_embeddings": True,
        "use_mean_pooling": True,
    }
    hidden_size: Width = 1024
    num_hidden_layers: Layers = 24
    num_attention_heads: Heads = 16
    intermediate_size: Wide = 4096
    image_size: tuple[Pixels, Pixels] = (448, 448)
    patch_size: tuple[Pixels, Pixels] = (14, 14)
    attention_bias: bool = False
    use_qk_norm: bool = False
    norm_type: Literal["layer_norm", "rms_norm"] = "layer_norm"
    layer_norm_eps: Epsilon = 1e-6
    initializer_range: Spread = 0.02
    layer_scale_init_value: Spread = 0.1

    @field_validator("image_size", "patch_size", mode="before")
    @classmethod
    def _square(cls, raw: Any) -> Any:
        return (raw, raw) if isinstance(raw, int) else raw

    @model_validator(mode="after")
    def _fits(self) -> Vision:
        divides("hidden_size", self.hidden_size, self.num_attention_heads, "num_attention_heads")
        for size in (self.image_size, self.patch_size):
            if size[0] != size[1]:
                raise ValueError(f"image_size {self.image_size} and patch_size {self.patch_size} must be squares")
        divides("image_size", self.image_size[0], self.patch_size[0], "patch_size")
        divides("patches a side", patches := self.image_size[0] // self.patch_size[0], 2)
        if patches > 128:
            raise ValueError(f"image_size {self.image_size[0]} has {patches} patches a side, more than 128")
        return self


class Rope(Described):
    """Rotary positions; `dynamic` stretches them beyond the longest text that was trained."""

    rope_theta: Annotated[float, Field(ge=1, le=1e10)]
    rope_type: Literal["default", "dynamic"] = "default"
    factor: Annotated[float, Field(ge=1, le=64)] | None = None

    @model_validator(mode="after")
    def _fits(self) -> Rope:
        if (self.rope_type == "dynamic") != (self.factor is not None):
            raise ValueError(f"rope_type {self.rope_type!r} with factor {self.factor}")
        return self


class Text(Section):
    """Qwen2, as transformers describes it."""

    FIXED = {"model_type": "qwen2", "hidden_act": "silu", "use_sliding_window": False, "attention_dropout": 0.0}
    vocab_size: Tokens = 151936
    hidden_size: Width = 4096
    num_hidden_layers: Layers = 32
    num_attention_heads: Heads = 32
    num_key_value_heads: Heads = 32
    intermediate_size: Wide = 22016
    max_position_embeddings: Tokens = 32768
    rms_norm_eps: Epsilon = 1e-6
    initializer_range: Spread = 0.02
    rope_parameters: Rope = Rope(rope_theta=10000.0)

    @model_validator(mode="before")
    @classmethod
    def _rope(cls, raw: Any) -> Any:
        """Transformers 4 wrote the angles' base and their scaling apart."""
        if not isinstance(raw, Mapping) or "rope_theta" not in raw:
            return raw
        scaling = raw.get("rope_scaling") or {}
        if not isinstance(scaling, Mapping):
            raise ValueError(f"rope_scaling is {short(scaling)}")
        found = {"rope_type": scaling.get("type"), **scaling, "rope_theta": raw["rope_theta"]}
        kept = {key: value for key, value in found.items() if key != "type" and value is not None}
        return {**raw, "rope_parameters": kept}

    @model_validator(mode="after")
    def _fits(self) -> Text:
        divides("hidden_size", self.hidden_size, self.num_attention_heads, "num_attention_heads")
        divides("a head's width", self.hidden_size // self.num_attention_heads, 2)  # rotated in pairs
        divides("num_attention_heads", self.num_attention_heads, self.num_key_value_heads, "num_key_value_heads")
        return self


class InternVL(Section):
    """All of it. Head and embeddings are never tied here, whatever a file says: both are stored."""

    FIXED = {
        "model_type": "internvl",
        "projector_hidden_act": "gelu",
        "vision_feature_layer": -1,
        "vision_feature_select_strategy": "default",
        "quantization_config": None,
        "downsample_ratio": DOWNSAMPLE,
    }
    vision_config: Vision
    text_config: Text
    image_token_id: Annotated[int, Field(ge=0, le=2**21)] = 151667

    @property
    def tokens(self) -> int:
        """Visual tokens a frame."""
        return (self.vision_config.image_size[0] // self.vision_config.patch_size[0] // 2) ** 2

    def config(self) -> InternVLConfig:
        """The same as transformers' configuration."""
        text = self.text_config.model_dump(exclude_none=True)
        return InternVLConfig(
            vision_config=self.vision_config.model_dump(),
            text_config={**text, "model_type": "qwen2", "tie_word_embeddings": False},
            image_token_id=self.image_token_id,
            image_seq_length=self.tokens,
            downsample_ratio=DOWNSAMPLE,
            tie_word_embeddings=False,  # the default silently ties head and embeddings
        )
