"""The same tensors under the names of others: InternVL and ReVIOSa as released, transformers' own, and ours.

Each pair of names is stated once and read in both directions. Everything is lazy: a layout says what each tensor is
called and how it is made from those of the other, and reads none.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from tokenizers import Tokenizer
from transformers import InternVLConfig, PreTrainedTokenizerBase, PreTrainedTokenizerFast

from reviosa_core.config import Wording
from reviosa_core.data.jsonfile import get
from reviosa_core.model import prompts
from reviosa_core.model.described import short
from reviosa_core.schema import DataError, Role
from reviosa_core.weights.files import Entry, Weights, finite
from reviosa_core.weights.internvl import InternVL, Text

INTERNVL, SAM, DECODER, PROJECTOR = "mllm.internvl.", "segmenter.sam.", "segmenter.decoder.", "projector."  # ours
RELEASED_SAM, RELEASED_PROJECTOR = "grounding_encoder.sam2_model.", "text_hidden_fcs."
RELEASED_TOKENS = {Role.ACTOR: "[SEG]", Role.TARGET: "[SEG_OBJ]"}

# -- names -----------------------------------------------------------------------------------------------------------

_VIT, _TOWER = "vision_model.encoder.layers.{n}", "model.vision_tower.encoder.layer.{n}"
PAIRS = [  # released, transformers'; {n} is a number, {x} any rest; attn.qkv is three tensors here
    ("vision_model.embeddings.class_embedding", "model.vision_tower.embeddings.cls_token"),
    ("vision_model.embeddings.position_embedding", "model.vision_tower.embeddings.position_embeddings"),
    (
        "vision_model.embeddings.patch_embedding.{x}",
        "model.vision_tower.embeddings.patch_embeddings.projection.{x}",
    ),
    (f"{_VIT}.norm1.{{x}}", f"{_TOWER}.layernorm_before.{{x}}"),
    (f"{_VIT}.norm2.{{x}}", f"{_TOWER}.layernorm_after.{{x}}"),
    (f"{_VIT}.ls{{m}}", f"{_TOWER}.lambda_{{m}}"),
    (f"{_VIT}.attn.proj.{{x}}", f"{_TOWER}.attention.projection_layer.{{x}}"),
    (f"{_VIT}.attn.q_norm.{{x}}", f"{_TOWER}.attention.q_norm.{{x}}"),
    (f"{_VIT}.attn.k_norm.{{x}}", f"{_TOWER}.attention.k_norm.{{x}}"),
    (f"{_VIT}.mlp.{{x}}", f"{_TOWER}.mlp.{{x}}"),
    ("mlp1.0.{x}", "model.multi_modal_projector.layer_norm.{x}"),
    ("mlp1.1.{x}", "model.multi_modal_projector.linear_1.{x}"),
    ("mlp1.3.{x}", "model.multi_modal_projector.linear_2.{x}"),
    ("language_model.model.{x}", "model.language_model.{x}"),
    ("language_model.lm_head.{x}", "lm_head.{x}"),
]
DISK = [  # transformers' files keep the names of earlier versions; its modules have those on the right
    ("language_model.model.{x}", "model.language_model.{x}"),
    ("language_model.lm_head.{x}", "lm_head.{x}"),
    ("vision_tower.{x}", "model.vision_tower.{x}"),
    ("multi_modal_projector.{x}", "model.multi_modal_projector.{x}"),
]
QKV = f"{_VIT}.attn.qkv.{{x}}"
HOLES = {r"\{n\}": r"(?P<n>\d+)", r"\{m\}": r"(?P<m>[12])", r"\{x\}": r"(?P<x>.+)"}


def _match(pattern: str, name: str) -> dict[str, str] | None:
    regex = re.escape(pattern)
    for hole, group in HOLES.items():
        regex = regex.replace(hole, group)
    found = re.fullmatch(regex, name)
    return found.groupdict() if found else None


def _rename(name: str, pairs: list[tuple[str, str]], back: bool = False) -> str | None:
    for left, right in pairs:
        old, new = (right, left) if back else (left, right)
        if (holes := _match(old, name)) is not None:
            return new.format(**holes)
    return None


def _qkv(holes: Mapping[str, str]) -> list[str]:
    return [f"{_TOWER}.attention.{part}_proj.{{x}}".format(**holes) for part in "qkv"]


def internvl(released: Weights) -> Weights:
    """Released InternVL tensors under the names of transformers' modules. DataError for one that has none."""
    entries: dict[str, Entry] = {}
    for name, entry in released.entries.items():
        holes = _match(QKV, name)
        names = [_rename(name, PAIRS)] if holes is None else _qkv(holes)
        for i, own in enumerate(names):
            if own is None:
                raise DataError(f"{released.path}: tensor {name} has no place in the model")
            entries[own] = entry if len(names) == 1 else entry.chunk(i, len(names))
    return Weights(released.path, entries)


def transformers_internvl(stored: Weights) -> Weights:
    """Tensors of a folder that transformers wrote, under the names of its modules."""
    return stored.named(lambda name: _rename(name, DISK) or name)


def transformers_files(modules: Weights) -> Weights:
    """The reverse: tensors named as transformers' modules, as it stores them."""
    return modules.named(lambda name: _rename(name, DISK, back=True) or name)


def sam2(stored: Weights) -> Weights:
    """Meta's SAM2 under our names: its mask decoder twice, as the original and as the copy that is tuned."""
    entries: dict[str, Entry] = {}
    for name, entry in stored.entries.items():
        entries[SAM + name] = entry
        if name.startswith("sam_mask_decoder."):
            entries[DECODER + name.removeprefix("sam_mask_decoder.")] = entry
    return Weights(stored.path, entries)


def with_original(tuned: Weights, original: Weights) -> Weights:
    """`tuned` (`reviosa`) with all of SAM2 but the fine-tuned mask decoder from the file it was tuned on (`sam2`).

    DataError where it was tuned on another one: its decoder would read features it does not know, without a word. They
    are told apart by their tensors' names and shapes (2.1 has more than 2.0), and by the encoder's stem and biases, as
    either precision rounds them.
    """
    own, other = ({n: e for n, e in weights.entries.items() if n.startswith(SAM)} for weights in (tuned, original))
    shapes, others = ({n: e.shape for n, e in entries.items()} for entries in (own, other))
    if apart := sorted(name.removeprefix(SAM) for name, _ in shapes.items() ^ others.items()):
        names = ", ".join(dict.fromkeys(apart[:6]))
        raise DataError(f"{original.path}: another SAM2 than {tuned.path} was tuned on: they differ in {names}")
    known = f"{SAM}image_encoder."
    for name in (n for n, e in own.items() if n.startswith(known) and (len(e.shape) == 1 or ".patch_embed." in n)):
        if not torch.allclose(tuned[name].float(), original[name].float(), rtol=1e-2, atol=1e-4):
            where = name.removeprefix(SAM)
            raise DataError(f"{original.path}: another SAM2 than {tuned.path} was tuned on: {where} has other values")
    return Weights(tuned.path, {**tuned.entries, **other})


def reviosa(released: Weights) -> Weights:
    """A released ReVIOSa or Sa2VA under our names. Its one mask decoder, the fine-tuned one, is both of ours."""

    def sam_name(name: str) -> str | None:
        own = name.removeprefix(RELEASED_SAM)
        return None if own == name else re.sub(r"(fuser\.layers\.\d+\.)g_weight$", r"\1gamma", own)

    def projector_name(name: str) -> str | None:
        return PROJECTOR + name.removeprefix(RELEASED_PROJECTOR) if name.startswith(RELEASED_PROJECTOR) else None

    others = (RELEASED_SAM, RELEASED_PROJECTOR)
    language = internvl(released.named(lambda name: None if name.startswith(others) else name))
    entries = {
        **language.named(lambda name: INTERNVL + name).entries,
        **sam2(released.named(sam_name)).entries,
        **released.named(projector_name).entries,
    }
    return Weights(released.path, entries)


def released_reviosa(ours: Weights) -> Weights:
    """Our tensors, LoRA merged, under the released names: the tuned decoder in the place of SAM2's own, which the
    layout has no place for."""
    entries: dict[str, Entry] = {}
    for name, entry in ours.entries.items():
        if name.startswith(SAM + "sam_mask_decoder."):
            continue
        if name.startswith(DECODER):
            entries[f"{RELEASED_SAM}sam_mask_decoder.{name.removeprefix(DECODER)}"] = entry
        elif name.startswith(SAM):
            entries[RELEASED_SAM + re.sub(r"(fuser\.layers\.\d+\.)gamma$", r"\1g_weight", name.removeprefix(SAM))] = (
                entry
            )
        elif name.startswith(PROJECTOR):
            entries[RELEASED_PROJECTOR + name.removeprefix(PROJECTOR)] = entry
        else:
            own = name.removeprefix(INTERNVL)
            holes = _match(f"{_TOWER}.attention.q_proj.{{x}}", own)
            if holes is not None:
                parts = [ours.entries[INTERNVL + part] for part in _qkv(holes)]
                entries[QKV.format(**holes)] = _joined(parts)
            elif not re.fullmatch(r"model\.vision_tower\..*\.attention\.[kv]_proj\..+", own):
                new = _rename(own, PAIRS, back=True)
                if new is None:
                    raise DataError(f"{ours.path}: tensor {name} has no place in the released layout")
                entries[new] = entry
    return Weights(ours.path, entries)


def _joined(parts: list[Entry]) -> Entry:
    shape = (sum(part.shape[0] for part in parts), *parts[0].shape[1:])
    sources = ", ".join(part.source for part in parts)
    return Entry(sources, shape, parts[0].dtype, lambda: torch.cat([part.read() for part in parts]))


LORA_TARGETS = re.compile(r"(model\.language_model\.layers\.\d+\.(?:self_attn|mlp)\.[a-z]+_proj)\.(weight|bias)")


def with_lora(modules: Weights) -> Weights:
    """InternVL's tensors under the names they have once LoRA is beside them."""
    return modules.named(lambda name: LORA_TARGETS.sub(r"\1.base_layer.\2", name))


def merged(ours: Weights, scale: float) -> Weights:
    """Our tensors with LoRA folded in: W + scale * B A (in float32, then as W was), and no trace of it left."""
    entries: dict[str, Entry] = {}
    for name, entry in ours.entries.items():
        if ".lora_" in name:
            continue
        plain = name.replace(".base_layer.", ".")
        if plain == name or not name.endswith(".base_layer.weight"):
            entries[plain] = entry
            continue
        layer = name.removesuffix(".base_layer.weight")
        a, b = (ours.entries[f"{layer}.lora_{ab}.default.weight"] for ab in "AB")
        entries[plain] = replace(entry, read=lambda w=entry, a=a, b=b: _merge(w, a, b, scale))
    return Weights(ours.path, entries)


def _merge(weight: Entry, a: Entry, b: Entry, scale: float) -> torch.Tensor:
    whole = (weight.read().float() + scale * (b.read().float() @ a.read().float())).to(weight.dtype)
    return finite(whole, f"{weight.source} with its LoRA, as {weight.dtype}")  # half precision ends at 65504


# -- configurations ----------------------------------------------------------------------------------------------------


def internvl_design(raw: Mapping[str, Any], where: str = "config.json") -> InternVL:
    """A released config.json (internvl_chat) as our description, nothing left to defaults.

    Raises DataError for what transformers' InternVL cannot do: pixel shuffle v1, features of another layer, a language
    model other than Qwen2; for a key that is missing and a value out of bounds.
    """
    vision, text = (get(raw, key, dict, where) for key in ("vision_config", "llm_config"))
    for key, value, needed in (
        ("ps_version", raw.get("ps_version"), "v2"),
        ("select_layer", raw.get("select_layer", -1), -1),
        ("llm_config.architectures", text.get("architectures"), ["Qwen2ForCausalLM"]),
    ):
        if value != needed:
            raise DataError(f"{where}: {key} is {short(value)}; only {needed!r} can be loaded")
    tower = {key: get(vision, key, object, f"{where}: vision_config") for key in VISION}
    language = {key: get(text, key, object, f"{where}: llm_config") for key in TEXT}
    found = {
        "vision_config": {
            **tower,
            "attention_bias": get(vision, "qkv_bias", bool, where),  # transformers would ignore the released name
            "use_qk_norm": vision.get("qk_normalization", False),
            "norm_type": vision.get("norm_type", "layer_norm"),
            "hidden_act": vision.get("hidden_act", "gelu"),
        },
        "text_config": {
            **language,
            **{key: text[key] for key in (*Text.FIXED, "rope_scaling") if key in text},
            "rope_theta": get(text, "rope_theta", (int, float), f"{where}: llm_config"),
        },
        "downsample_ratio": get(raw, "downsample_ratio", object, where),
    }
    return InternVL.read(found, where)


SIZES = ("hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size")
VISION = (*SIZES, "image_size", "patch_size", "layer_norm_eps")
TEXT = (*SIZES, "vocab_size", "num_key_value_heads", "max_position_embeddings", "rms_norm_eps")


def released_config(config: InternVLConfig, template: str, wording: Wording) -> dict[str, Any]:
    """The reverse, as the released ReVIOSa's config.json: its own code (which is not ours to ship) reads it."""
    vision, text = config.vision_config, config.text_config
    return {
        "architectures": ["ReVIOSaChatModel"],
        "auto_map": {
            "AutoConfig": "configuration_reviosa_chat.ReVIOSaChatConfig",
            "AutoModel": "modeling_reviosa_chat.ReVIOSaChatModel",
            "AutoModelForCausalLM": "modeling_reviosa_chat.ReVIOSaChatModel",
        },
        "model_type": "reviosa_chat",
        "template": template,
        WORDING: wording,
        "ps_version": "v2",
        "select_layer": -1,
        "force_image_size": vision.image_size[0],
        "downsample_ratio": config.downsample_ratio,
        "tie_word_embeddings": False,
        "vision_config": {
            "architectures": ["InternVisionModel"],
            "model_type": "intern_vit_6b",  # what the released files call every InternViT
            "hidden_size": vision.hidden_size,
            "num_hidden_layers": vision.num_hidden_layers,
            "num_attention_heads": vision.num_attention_heads,
            "intermediate_size": vision.intermediate_size,
            "image_size": vision.image_size[0],
            "patch_size": vision.patch_size[0],
            "qkv_bias": vision.attention_bias,
            "qk_normalization": vision.use_qk_norm,
            "norm_type": vision.norm_type,
            "layer_norm_eps": vision.layer_norm_eps,
            "hidden_act": vision.hidden_act,
        },
        "llm_config": {
            "architectures": ["Qwen2ForCausalLM"],
            "model_type": "qwen2",
            "vocab_size": text.vocab_size,
            "hidden_size": text.hidden_size,
            "num_hidden_layers": text.num_hidden_layers,
            "num_attention_heads": text.num_attention_heads,
            "num_key_value_heads": text.num_key_value_heads,
            "intermediate_size": text.intermediate_size,
            "max_position_embeddings": text.max_position_embeddings,
            "rms_norm_eps": text.rms_norm_eps,
            "rope_theta": text.rope_parameters["rope_theta"],
            "rope_scaling": _scaling(text.rope_parameters),
            "tie_word_embeddings": False,
        },
    }


def _scaling(rope: Mapping[str, Any]) -> dict[str, Any] | None:
    """As transformers 4 wrote it, whose keys the released code reads."""
    return {"type": "dynamic", "factor": rope["factor"]} if rope["rope_type"] == "dynamic" else None


TEMPLATES = {"internvl2_5": "qwen_chat", "qwen_chat": "qwen_chat", "phi3_chat": "phi3_chat"}  # released, ours


def template_of(raw: Mapping[str, Any], where: str) -> str:
    """Our name of the chat template that a released configuration names."""
    name = str(raw.get("template", ""))
    if name not in TEMPLATES:
        raise DataError(f"{where}: template {name[:60]!r}, not one of {sorted(TEMPLATES)}")
    return TEMPLATES[name]


WORDING = "workbook_wording"  # the released code passes it over; what reads it back here asks as it was trained


def wording_of(raw: Mapping[str, Any], roles: Sequence[Role]) -> Wording:
    """The wording that a released folder was trained in: its roles' own, or what a workbook's export says."""
    name = raw.get(WORDING, prompts.released(roles))
    if name not in list(prompts.WORDINGS):
        raise DataError(f"config.json: {WORDING} {name!r}, not one of {sorted(prompts.WORDINGS)}")
    return name


# -- tokens -----------------------------------------------------------------------------------------------------------


def our_tokens(tokenizer: PreTrainedTokenizerBase) -> tuple[PreTrainedTokenizerFast, tuple[Role, ...]]:
    """The tokenizer with the released role tokens under our names, ids unchanged; and the roles it has tokens for."""
    return _renamed(tokenizer, {RELEASED_TOKENS[role]: (role, ours) for role, ours in prompts.TOKENS.items()})


def released_tokens(tokenizer: PreTrainedTokenizerBase, roles: Sequence[Role]) -> PreTrainedTokenizerFast:
    """The reverse, for the roles that the system has."""
    return _renamed(tokenizer, {prompts.TOKENS[role]: (role, RELEASED_TOKENS[role]) for role in roles})[0]


def _renamed(
    tokenizer: PreTrainedTokenizerBase, names: Mapping[str, tuple[Role, str]]
) -> tuple[PreTrainedTokenizerFast, tuple[Role, ...]]:
    stored = json.loads(tokenizer.backend_tokenizer.to_str())  # type: ignore[attr-defined]
    found = set()
    for token in stored["added_tokens"]:
        if token["content"] in names:
            role, token["content"] = names[token["content"]]
            found.add(role)
    kept = {name: getattr(tokenizer, name) for name in ("pad_token", "eos_token", "unk_token")}
    fast = PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer.from_str(json.dumps(stored)), **{k: v for k, v in kept.items() if v}
    )
    return fast, tuple(role for role in Role if role in found)
