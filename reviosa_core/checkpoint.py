"""Real weights: InternVL-2.5 and ReVIOSa (or Sa2VA) as released, transformers' own InternVL folders, Meta's SAM2 files.

What a file is, is told by its content. No remote code runs, no pickle is loaded but with `weights_only`, tensors are
checked by name and shape before anything is allocated, and none is left over: an unknown or a missing name is an error.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from importlib.resources import files
from pathlib import Path
from typing import Any, Literal

import torch
from hydra.utils import instantiate
from omegaconf import OmegaConf
from safetensors import SafetensorError, safe_open
from sam2.modeling.sam2_base import SAM2Base
from tokenizers import Tokenizer
from torch import Tensor
from transformers import (
    InternVLConfig,
    InternVLForConditionalGeneration,
    PreTrainedTokenizerBase,
    PreTrainedTokenizerFast,
    Qwen2Tokenizer,
)

from reviosa_core.data.jsonfile import read_json
from reviosa_core.model import mllm, prompts
from reviosa_core.model.reviosa import ReVIOSa
from reviosa_core.model.segmenter import Segmenter
from reviosa_core.schema import DataError, Role

Kind = Literal["internvl, as released", "internvl, transformers", "reviosa, as released", "sam2", "reviosa workbook"]
INDEX, SINGLE = "model.safetensors.index.json", "model.safetensors"
GROUNDING, PROJECTOR = "grounding_encoder.", "text_hidden_fcs."  # of Sa2VA and ReVIOSa
DTYPES = {"F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16, "I64": torch.int64}


@dataclass(frozen=True)
class Header:
    """What is known of a tensor before it is read."""

    shape: tuple[int, ...]
    dtype: torch.dtype


class Weights(Mapping[str, Tensor]):
    """The tensors of a checkpoint by name, read one at a time; `headers` without reading any.

    A folder with model.safetensors or with shards and their index, a .safetensors file, or a .pt file as SAM2's. Raises
    DataError naming file and tensor: no weights, a missing or truncated shard, a tensor that is not where it should be.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        if not self.path.exists():
            raise DataError(f"{self.path}: no such file or folder")
        self._pickled: dict[str, Tensor] = {}
        self._whole: Weights | None = None  # what this is a part of, and the names there
        self._names: dict[str, str] = {}
        if self.path.suffix in (".pt", ".pth", ".bin"):
            self._pickled = _unpickle(self.path)

    @cached_property
    def headers(self) -> dict[str, Header]:
        if self._pickled:
            return {name: Header(tuple(t.shape), t.dtype) for name, t in self._pickled.items()}
        found: dict[str, Header] = {}
        for file, names in self._by_file.items():
            with _open(file) as shard:
                there = set(shard.keys())
                if absent := sorted(names - there):
                    raise DataError(f"{file}: {len(absent)} tensors of the index are not in it, first {absent[0]}")
                for name in sorted(names):
                    part = shard.get_slice(name)
                    if part.get_dtype() not in DTYPES:
                        raise DataError(f"{file}: {name} is of type {part.get_dtype()}, not one of {list(DTYPES)}")
                    found[name] = Header(tuple(part.get_shape()), DTYPES[part.get_dtype()])
        return found

    @cached_property
    def _by_file(self) -> dict[Path, set[str]]:
        if self.path.is_file():
            with _open(self.path) as single:
                return {self.path: set(single.keys())}
        if (self.path / INDEX).is_file():
            index = read_json(self.path / INDEX).get("weight_map")
            if not isinstance(index, dict):
                raise DataError(f"{self.path / INDEX}: no 'weight_map'")
            by_file: dict[Path, set[str]] = {}
            for name, file in index.items():
                if not isinstance(file, str) or Path(file).name != file:
                    raise DataError(f"{self.path / INDEX}: {name} is in {file!r}, which is not a plain file name")
                by_file.setdefault(self.path / file, set()).add(name)
            if missing := [file.name for file in by_file if not file.is_file()]:
                raise DataError(f"{self.path}: {len(missing)} of {len(by_file)} shards missing, first {missing[0]}")
            return by_file
        if (self.path / SINGLE).is_file():
            with _open(self.path / SINGLE) as single:
                return {self.path / SINGLE: set(single.keys())}
        raise DataError(f"{self.path}: no {SINGLE} and no {INDEX}")

    def __getitem__(self, name: str) -> Tensor:
        if self._pickled:
            return self._pickled[name]
        if self._whole is not None:
            return self._whole[self._names[name]]
        file = next((file for file, names in self._by_file.items() if name in names), None)
        if file is None:
            raise KeyError(name)
        with _open(file) as shard:
            return shard.get_tensor(name)

    def part(self, rename: Callable[[str], str | None]) -> Weights:
        """The tensors that `rename` gives a name, under that name; nothing is read."""
        own = Weights.__new__(Weights)
        own.path, own._pickled, own._whole = self.path, {}, self
        own._names = {new: old for old in self.headers if (new := rename(old)) is not None}
        own.headers = {new: self.headers[old] for new, old in own._names.items()}
        return own

    def __iter__(self) -> Iterator[str]:
        return iter(self.headers)

    def __len__(self) -> int:
        return len(self.headers)


def _open(file: Path) -> Any:
    try:
        return safe_open(str(file), framework="pt")
    except (SafetensorError, OSError) as error:
        raise DataError(f"{file}: {error}") from None


def _unpickle(path: Path) -> dict[str, Tensor]:
    try:
        content = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except Exception as error:  # a zip, pickle or safety error, by how the file is broken
        raise DataError(
            f"{path}: not weights that can be loaded safely: {' '.join(str(error).split())[:200]}"
        ) from None
    state = content.get("model", content) if isinstance(content, dict) else None
    if not isinstance(state, dict) or not state or not all(isinstance(t, Tensor) for t in state.values()):
        raise DataError(f"{path}: no state dict, neither at the top nor under 'model'")
    return state


def identify(path: str | Path) -> Kind:
    """What a file or folder holds, by the names of its tensors. DataError when it is none of the known."""
    path = Path(path)
    if (path / "reviosa.json").is_file():
        return "reviosa workbook"
    names = Weights(path).headers
    if any(name.startswith(("mlp1.", "vision_model.")) for name in names):
        return "reviosa, as released" if any(n.startswith(GROUNDING) for n in names) else "internvl, as released"
    if any("vision_tower." in name for name in names):
        return "internvl, transformers"
    if any(name.startswith("image_encoder.trunk.") for name in names):
        return "sam2"
    raise DataError(f"{path}: {len(names)} tensors of no known model, first {min(names, default='(none)')}")


PARTS = [  # what a tensor belongs to, in every layout; whether the paper trains it
    ("vision tower", r".*(vision_model|vision_tower)\..*", "frozen"),
    ("visual projector", r".*(mlp1|multi_modal_projector)\..*", "frozen"),
    ("token embeddings and head", r".*(embed_tokens|lm_head)\..*", "trained"),
    ("language model", r".*language_model\..*", "through LoRA"),
    ("role-token projector", r"(projector|text_hidden_fcs)\..*", "trained"),
    ("SAM2 image encoder", r"(.*\.)?image_encoder\..*", "frozen"),
    ("SAM2 mask decoder, original beside the tuned one", r"segmenter\.sam\.sam_mask_decoder\..*", "frozen"),
    ("SAM2 mask decoder", r"(.*\.)?(sam_mask_)?decoder\..*", "trained"),
    ("SAM2 memory and prompts", r".*", "frozen"),
]


def describe(path: str | Path) -> dict[str, Any]:
    """What a checkpoint is, without reading a tensor: {"kind", "tensors", "parameters", "dtypes", "template", "parts"}.

    `parts` has {"part", "tensors", "parameters", "in the paper's training"}, by parts of the model. Raises DataError as
    `identify`.
    """
    path, kind = Path(path), identify(path)
    headers, parts = Weights(path).headers, {name: [0, 0] for name, *_ in PARTS}
    for name, header in headers.items():
        part = next(part for part, pattern, _ in PARTS if re.fullmatch(pattern, name))
        parts[part][0] += 1
        parts[part][1] += math.prod(header.shape)
    found: dict[str, Any] = {
        "kind": kind,
        "tensors": len(headers),
        "parameters": sum(count for _, count in parts.values()),
        "dtypes": sorted({str(header.dtype).removeprefix("torch.") for header in headers.values()}),
    }
    if kind.endswith("as released"):
        found["template"] = template_of(read_json(path / "config.json"))
    if kind == "reviosa workbook":
        about = read_json(path / "reviosa.json")
        found |= {"template": about.get("template"), "roles": about.get("roles"), "aml": about.get("aml")}
    if kind == "sam2":
        found["version"] = "2.1" if "no_obj_embed_spatial" in headers else "2.0"
    trained = {name: how for name, _, how in PARTS}
    found["parts"] = [
        {"part": name, "tensors": tensors, "parameters": count, "in the paper's training": trained[name]}
        for name, (tensors, count) in parts.items()
        if tensors
    ]
    return found


# -- InternVL ------------------------------------------------------------------------------------------------------

LAYER = r"vision_model\.encoder\.layers\.(\d+)\."
TOWER = r"model.vision_tower.encoder.layer.\1."
RENAMES = [  # released -> transformers; attn.qkv is split besides
    (r"vision_model\.embeddings\.class_embedding", "model.vision_tower.embeddings.cls_token"),
    (r"vision_model\.embeddings\.position_embedding", "model.vision_tower.embeddings.position_embeddings"),
    (
        r"vision_model\.embeddings\.patch_embedding\.(.+)",
        r"model.vision_tower.embeddings.patch_embeddings.projection.\1",
    ),
    (LAYER + r"norm1\.(.+)", TOWER + r"layernorm_before.\2"),
    (LAYER + r"norm2\.(.+)", TOWER + r"layernorm_after.\2"),
    (LAYER + r"ls([12])", TOWER + r"lambda_\2"),
    (LAYER + r"attn\.proj\.(.+)", TOWER + r"attention.projection_layer.\2"),
    (LAYER + r"attn\.([qk])_norm\.(.+)", TOWER + r"attention.\2_norm.\3"),
    (LAYER + r"mlp\.(fc[12]\..+)", TOWER + r"mlp.\2"),
    (r"mlp1\.0\.(.+)", r"model.multi_modal_projector.layer_norm.\1"),
    (r"mlp1\.1\.(.+)", r"model.multi_modal_projector.linear_1.\1"),
    (r"mlp1\.3\.(.+)", r"model.multi_modal_projector.linear_2.\1"),
    (r"language_model\.model\.(.+)", r"model.language_model.\1"),
    (r"language_model\.lm_head\.weight", "lm_head.weight"),
]


def native_names(name: str) -> list[str]:
    """transformers' name of a released tensor, three of them for attn.qkv, none for one that is not InternVL's."""
    if found := re.fullmatch(LAYER + r"attn\.qkv\.(weight|bias)", name):
        layer, kind = found.groups()
        return [f"model.vision_tower.encoder.layer.{layer}.attention.{part}_proj.{kind}" for part in "qkv"]
    for pattern, replacement in RENAMES:
        if re.fullmatch(pattern, name):
            return [re.sub(pattern, replacement, name)]
    return []


def native_config(raw: Mapping[str, Any], where: str = "config.json") -> InternVLConfig:
    """A released config.json (internvl_chat) as transformers' configuration, nothing left to its defaults.

    Raises DataError for what transformers' InternVL cannot do: pixel shuffle v1, features of another layer, a language
    model other than Qwen2, or a key that is missing.
    """

    def get(container: Mapping[str, Any], key: str) -> Any:
        if key not in container:
            raise DataError(f"{where}: no key {key!r}")
        return container[key]

    vision, text = get(raw, "vision_config"), get(raw, "llm_config")
    for key, value, needed in (
        ("ps_version", raw.get("ps_version"), "v2"),
        ("select_layer", raw.get("select_layer", -1), -1),
        ("llm_config.architectures", text.get("architectures"), ["Qwen2ForCausalLM"]),
    ):
        if value != needed:
            raise DataError(f"{where}: {key} is {value!r}; only {needed!r} can be loaded")
    size, patch = get(vision, "image_size"), get(vision, "patch_size")
    ratio = get(raw, "downsample_ratio")
    config = InternVLConfig(
        vision_config={
            "hidden_size": get(vision, "hidden_size"),
            "num_hidden_layers": get(vision, "num_hidden_layers"),
            "num_attention_heads": get(vision, "num_attention_heads"),
            "intermediate_size": get(vision, "intermediate_size"),
            "image_size": (size, size),
            "patch_size": (patch, patch),
            "attention_bias": get(vision, "qkv_bias"),  # transformers would ignore the released name
            "use_qk_norm": vision.get("qk_normalization", False),
            "norm_type": vision.get("norm_type", "layer_norm"),
            "layer_norm_eps": get(vision, "layer_norm_eps"),
            "hidden_act": vision.get("hidden_act", "gelu"),
        },
        text_config={
            "model_type": "qwen2",
            "vocab_size": get(text, "vocab_size"),
            "hidden_size": get(text, "hidden_size"),
            "num_hidden_layers": get(text, "num_hidden_layers"),
            "num_attention_heads": get(text, "num_attention_heads"),
            "num_key_value_heads": get(text, "num_key_value_heads"),
            "intermediate_size": get(text, "intermediate_size"),
            "max_position_embeddings": get(text, "max_position_embeddings"),
            "rms_norm_eps": get(text, "rms_norm_eps"),
            "rope_parameters": {"rope_type": "default", "rope_theta": float(get(text, "rope_theta"))},
            "tie_word_embeddings": False,
        },
        downsample_ratio=ratio,
        image_seq_length=int((size // patch * ratio) ** 2),
        tie_word_embeddings=False,  # the default silently ties head and embeddings
    )
    config._attn_implementation = mllm.ATTENTION
    return config


def load_internvl(
    folder: str | Path, dtype: torch.dtype = torch.float32
) -> tuple[InternVLForConditionalGeneration, PreTrainedTokenizerBase, str]:
    """Model, tokenizer and chat template of a released or a transformers folder, told apart by the tensors' names.

    Raises DataError naming file, key and both shapes for anything that does not fit.
    """
    folder, kind = Path(folder), identify(folder)
    weights = Weights(folder)
    if kind in ("internvl, as released", "reviosa, as released"):
        raw = read_json(folder / "config.json")
        config, template = native_config(raw, str(folder / "config.json")), template_of(raw)
        weights = weights.part(lambda name: None if name.startswith((GROUNDING, PROJECTOR)) else name)
    elif kind == "internvl, transformers":
        config = InternVLConfig.from_pretrained(folder, local_files_only=True)
        config.tie_word_embeddings = config.text_config.tie_word_embeddings = False
        config._attn_implementation = mllm.ATTENTION
        template = "qwen_chat"
    else:
        raise DataError(f"{folder}: {kind}, not InternVL")
    tokenizer = load_tokenizer(folder)
    image_token = tokenizer.convert_tokens_to_ids("<IMG_CONTEXT>")
    if image_token is None or image_token == tokenizer.unk_token_id:
        raise DataError(f"{folder}: the tokenizer has no token '<IMG_CONTEXT>'")
    if len(tokenizer) > config.text_config.vocab_size:
        raise DataError(
            f"{folder}: the tokenizer has {len(tokenizer)} tokens, the embeddings {config.text_config.vocab_size}"
        )
    config.image_token_id = image_token
    with torch.device("meta"):
        model = InternVLForConditionalGeneration(config)
    _fill(model, weights, kind, dtype)
    return model.eval(), tokenizer, template


def _fill(model: InternVLForConditionalGeneration, weights: Weights, kind: Kind, dtype: torch.dtype) -> None:
    """Tensors into a model on the meta device, one at a time, after all names and shapes are known to fit."""
    expected = {name: tuple(t.shape) for name, t in model.state_dict().items()}
    plan: dict[str, list[str]] = {}
    for name, header in weights.headers.items():
        names = [_hub_name(name)] if kind == "internvl, transformers" else native_names(name)
        unknown = [n for n in names if n not in expected]
        if not names or unknown:
            raise DataError(f"{weights.path}: tensor {name} has no place in the model")
        shape = (header.shape[0] // len(names), *header.shape[1:])
        for n in names:
            if shape != expected[n]:
                raise DataError(f"{weights.path}: {name} is {header.shape}, {n} of the model is {expected[n]}")
        plan[name] = names
    given = {n for names in plan.values() for n in names}
    if absent := sorted(expected.keys() - given):
        raise DataError(f"{weights.path}: {len(absent)} of {len(expected)} tensors missing, first {absent[0]}")
    for name, names in plan.items():
        for n, part in zip(names, weights[name].chunk(len(names)), strict=True):
            model.load_state_dict({n: part.to(dtype, copy=True)}, strict=False, assign=True)
    for module in model.modules():  # buffers that are computed, not stored
        if hasattr(module, "inv_freq"):
            fresh = type(module)(module.config)
            module.inv_freq, module.original_inv_freq = fresh.inv_freq, fresh.inv_freq.clone()


def _hub_name(name: str) -> str:
    """A name on disk in transformers' folders as the module is called: files keep the names of earlier versions."""
    name = re.sub(r"^language_model\.model\.", "model.language_model.", name)
    name = re.sub(r"^language_model\.lm_head\.", "lm_head.", name)
    return re.sub(r"^(vision_tower|multi_modal_projector)\.", r"model.\1.", name)


def load_tokenizer(folder: Path) -> PreTrainedTokenizerBase:
    """tokenizer.json, or vocab.json and merges.txt of Qwen2 as released; never code from the folder."""
    if (folder / "tokenizer.json").is_file():
        return PreTrainedTokenizerFast.from_pretrained(folder, local_files_only=True)
    absent = [name for name in ("vocab.json", "merges.txt") if not (folder / name).is_file()]
    if absent:
        raise DataError(f"{folder}: no tokenizer.json, and no {' and '.join(absent)}")
    return Qwen2Tokenizer.from_pretrained(folder, local_files_only=True)


def template_of(raw: Mapping[str, Any]) -> str:
    """Our name of the chat template that a released configuration names."""
    name = str(raw.get("template", ""))
    known = {"internvl2_5": "qwen_chat", "qwen_chat": "qwen_chat", "phi3_chat": "phi3_chat"}
    if name not in known:
        raise DataError(f"config.json: template {name!r}, not one of {sorted(known)}")
    return known[name]


# -- SAM2 ----------------------------------------------------------------------------------------------------------

SIZES = {(96, 12): "t", (96, 16): "s", (112, 24): "b+", (144, 48): "l"}  # width and blocks of the trunk


def sam2_config(weights: Weights, config: str | Path | None = None) -> Any:
    """The packaged configuration that a SAM2 file was made with, by its tensors; or a given yaml.

    2.1 files hold `no_obj_embed_spatial`, 2.0 files do not. Raises DataError for sizes that are not packaged, or a yaml
    that names anything but parts of sam2.
    """
    if config is None:
        blocks = {int(n.split(".")[3]) for n in weights.headers if n.startswith("image_encoder.trunk.blocks.")}
        stem = weights.headers.get("image_encoder.trunk.patch_embed.proj.weight")
        size = SIZES.get((stem.shape[0], len(blocks))) if stem else None
        if size is None:
            sizes = f"width {stem.shape[0] if stem else None}, {len(blocks)} blocks"
            raise DataError(f"{weights.path}: no packaged SAM2 has {sizes}; give the yaml it was made with")
        version = "sam2.1" if "no_obj_embed_spatial" in weights.headers else "sam2"
        config = Path(str(files("sam2"))) / "configs" / version / f"{version}_hiera_{size}.yaml"
    model = OmegaConf.load(config)["model"]  # type: ignore[index]
    for target in re.findall(r"_target_: (\S+)", OmegaConf.to_yaml(model)):
        if not target.startswith("sam2.modeling."):
            raise DataError(f"{config}: names {target!r}, which is no part of sam2.modeling")
    return model


def load_sam2(path: str | Path | Weights, config: str | Path | None = None) -> SAM2Base:
    """Meta's SAM2 or SAM2.1 of any size, in evaluation mode.

    Raises DataError naming missing and unknown tensors, or both shapes.
    """
    weights = path if isinstance(path, Weights) else Weights(path)
    sam: SAM2Base = instantiate(sam2_config(weights, config))
    expected = {name: tuple(t.shape) for name, t in sam.state_dict().items()}
    unknown, absent = sorted(weights.headers.keys() - expected.keys()), sorted(expected.keys() - weights.headers.keys())
    if unknown or absent:
        raise DataError(
            f"{weights.path}: {len(unknown)} unknown tensors {unknown[:3]}, {len(absent)} missing {absent[:3]}"
        )
    for name, shape in expected.items():
        if weights.headers[name].shape != shape:
            raise DataError(
                f"{weights.path}: {name} is {weights.headers[name].shape}, the configuration asks for {shape}"
            )
    sam.load_state_dict(dict(weights))
    return sam.eval()


# -- ReVIOSa and Sa2VA ---------------------------------------------------------------------------------------------

RELEASED_TOKENS = {Role.ACTOR: "[SEG]", Role.TARGET: "[SEG_OBJ]"}


def load_reviosa(
    folder: str | Path, sam2: str | Path | None = None, config: str | Path | None = None, frames: int = 5
) -> ReVIOSa:
    """A released ReVIOSa (or Sa2VA, which has the actor's token only) as this project's model, for inference.

    Its mask decoder is the fine-tuned one, and it tracks with that decoder too unless `sam2`, the original file, is
    given. `config` is the yaml of its SAM2 where that is not a packaged one; `frames` is how many the model reads.
    Raises DataError as the loaders of its parts.
    """
    folder = Path(folder)
    if (kind := identify(folder)) != "reviosa, as released":
        raise DataError(f"{folder}: {kind}, not a released ReVIOSa or Sa2VA")
    weights = Weights(folder)
    internvl, tokenizer, template = load_internvl(folder)
    tokenizer, roles = _our_tokens(tokenizer, folder)
    tuned = load_sam2(weights.part(_sam2_name), config)
    try:
        language = mllm.Mllm(internvl, tokenizer, template)
    except ValueError as error:  # e.g. phi3_chat's <|end|>, which Qwen's tokenizer writes as several tokens
        raise DataError(f"{folder}: chat template {template}: {error}") from None
    model = ReVIOSa(language, Segmenter(tuned), roles, frames=frames, prompted="all")
    fcs = weights.part(lambda name: name.removeprefix(PROJECTOR) if name.startswith(PROJECTOR) else None)
    expected = {name: tuple(t.shape) for name, t in model.projector.state_dict().items()}
    given = {name: header.shape for name, header in fcs.headers.items()}
    if given != expected:
        raise DataError(f"{folder}: {PROJECTOR}* are {given}, the model's {expected}")
    model.projector.load_state_dict({name: t.float() for name, t in fcs.items()})
    if sam2 is not None:
        original = load_sam2(sam2, config)
        decoder = model.segmenter.decoder
        model.segmenter = Segmenter(original)
        model.segmenter.decoder = decoder
    return model.eval()


def _sam2_name(name: str) -> str | None:
    """SAM2's own name of a tensor of a released export."""
    prefix = GROUNDING + "sam2_model."
    if not name.startswith(GROUNDING):
        return None
    return re.sub(r"(memory_encoder\.fuser\.layers\.\d+\.)g_weight$", r"\1gamma", name.removeprefix(prefix))


def _our_tokens(tokenizer: PreTrainedTokenizerBase, folder: Path) -> tuple[PreTrainedTokenizerFast, tuple[Role, ...]]:
    """The tokenizer with the released tokens under our names, ids unchanged; and the roles it has tokens for."""
    stored = json.loads(tokenizer.backend_tokenizer.to_str())  # type: ignore[attr-defined]
    ours = {released: prompts.TOKENS[role] for role, released in RELEASED_TOKENS.items()}
    found = set()
    for token in stored["added_tokens"]:
        if token["content"] in ours:
            found.add(token["content"])
            token["content"] = ours[token["content"]]
    roles = tuple(role for role, released in RELEASED_TOKENS.items() if released in found)
    if Role.ACTOR not in roles:
        raise DataError(f"{folder}: the tokenizer has no token {RELEASED_TOKENS[Role.ACTOR]!r}")
    renamed = Tokenizer.from_str(json.dumps(stored))
    kept = {name: getattr(tokenizer, name) for name in ("pad_token", "eos_token", "unk_token")}
    return PreTrainedTokenizerFast(tokenizer_object=renamed, **{k: v for k, v in kept.items() if v}), roles
