"""Of a configuration, transformers gets what is named here, and nothing else."""

from __future__ import annotations

from typing import Any

import pytest
import tiny
import torch
from pydantic import BaseModel
from transformers import InternVLConfig

from reviosa_core.model import mllm
from reviosa_core.schema import DataError
from reviosa_core.weights.internvl import InternVL, Rope, Section, Text, Vision


def plain(**changes: Any) -> dict[str, Any]:
    """As transformers writes it, with changes by dotted name."""
    found = mllm.describe(tiny.SIZES.mllm, tiny.tokenizer()).to_dict()
    for name, value in changes.items():
        *way, last = name.split("__")
        inside = found
        for key in way:
            inside = inside[key]
        inside[last] = value
    return found


def test_what_it_says_is_what_transformers_had():
    """But for bookkeeping: names, label numbers, versions."""
    raw = plain()
    found = InternVL.read(raw, "here").config().to_dict()
    assert found == raw
    assert InternVL.read(InternVL.read(raw, "here").model_dump(mode="json"), "again") == InternVL.read(raw, "here")


@pytest.mark.parametrize(("section", "name"), [(Vision, "vision_config"), (Text, "text_config"), (InternVL, None)])
def test_defaults_and_fixed_values_are_transformers(section: type[Section], name: str | None):
    theirs = InternVLConfig().to_dict()
    theirs = theirs[name] if name else theirs
    for key, value in section.FIXED.items():
        assert theirs.get(key) == value, key
    for key, field in section.model_fields.items():
        if not field.is_required():
            own = field.default.model_dump(exclude_none=True) if isinstance(field.default, BaseModel) else field.default
            assert own == (tuple(theirs[key]) if isinstance(theirs[key], list) else theirs[key]), key


@pytest.mark.parametrize(
    "name",
    ["auto_map", "_attn_implementation", "attn_implementation", "dtype", "architectures", "name_or_path", "use_cache"],
)
def test_what_is_not_named_reaches_nobody(name: str):
    evil = {name: {"AutoModel": "evil.Evil"}} if name == "auto_map" else {name: "evil"}
    raw = plain() | evil
    raw["text_config"] |= evil
    raw["vision_config"] |= evil
    assert "evil" not in str(InternVL.read(raw, "here").config().to_dict())
    assert "evil" not in str(InternVL.read(raw, "here").model_dump())


@pytest.mark.parametrize(
    ("where", "value", "message"),
    [
        ("text_config__model_type", "llama", "text_config: model_type is 'llama'; only 'qwen2' can be loaded"),
        ("text_config__hidden_act", "os.system", "hidden_act is 'os.system'; only 'silu'"),
        ("vision_config__num_channels", 10**9, "num_channels is 1000000000; only 3"),
        ("quantization_config", {"quant_method": "evil"}, "quantization_config is .*; only None"),
        ("downsample_ratio", 1e-300, "downsample_ratio is 1e-300; only 0.5"),
        ("text_config__vocab_size", 10**15, "text_config.vocab_size: .* 2097152, got 10+"),
        ("text_config__hidden_size", 7, "hidden_size 7 must divide by num_attention_heads 4"),
        ("text_config__num_key_value_heads", 3, "heads 4 must divide by num_key_value_heads 3"),
        ("text_config__hidden_size", 4, "a head's width 1 must divide by 2"),
        ("text_config__num_hidden_layers", 10**6, "num_hidden_layers: .* 128"),
        ("text_config__rms_norm_eps", float("inf"), "rms_norm_eps: .*finite"),
        ("text_config__rope_parameters", {"rope_type": "yarn", "rope_theta": 1e6}, "rope_type: Input should be 'def"),
        ("text_config__rope_parameters", {"rope_type": "dynamic", "rope_theta": 1e6}, "'dynamic' with factor None"),
        ("text_config__rope_parameters", {"rope_theta": 1e6, "evil": 1}, "rope_parameters.evil: Extra"),
        ("vision_config__image_size", [32, 64], "must be squares"),
        ("vision_config__patch_size", 5, "image_size 32 must divide by patch_size 5"),
        ("vision_config__image_size", [2048] * 2, "512 patches a side, more than 128"),
        ("vision_config__norm_type", "__class__", "norm_type: Input should be 'layer_norm' or"),
        ("vision_config", 3, "vision_config: "),
    ],
)
def test_what_is_out_of_bounds_is_named(where: str, value: object, message: str):
    with pytest.raises(DataError, match=f"^here: .*{message}"):
        InternVL.read(plain(**{where: value}), "here")


def test_transformers_4_wrote_rope_apart():
    raw = plain()
    del raw["text_config"]["rope_parameters"]
    raw["text_config"] |= {"rope_theta": 5e5, "sliding_window": 32768, "rope_scaling": None}
    assert InternVL.read(raw, "here").text_config.rope_parameters == Rope(rope_theta=5e5)
    raw["text_config"]["rope_scaling"] = {"type": "dynamic", "rope_type": "dynamic", "factor": 2.0}
    found = InternVL.read(raw, "here")
    assert found.text_config.rope_parameters == Rope(rope_theta=5e5, rope_type="dynamic", factor=2.0)
    stretched, usual = (
        mllm.empty(each.config()).model.language_model.rotary_emb
        for each in (found, InternVL.read(plain(text_config__rope_parameters={"rope_theta": 5e5}), "here"))
    )
    torch.testing.assert_close(stretched.inv_freq, usual.inv_freq)  # stretched only beyond the longest text
