"""Real weights: InternVL-2.5 and ReVIOSa (or Sa2VA) as released, transformers' own InternVL folders, Meta's SAM2 files.

What a file is, is told by its content. No remote code runs, no pickle is loaded but with `weights_only`, tensors are
checked by name and shape before anything is allocated, and none is left over: an unknown or a missing name is an error.
"""

from __future__ import annotations

import os
import re
from importlib.resources import files
from operator import attrgetter
from pathlib import Path
from typing import Any, Literal

import torch
from sam2.modeling.sam2_base import SAM2Base
from transformers import (
    InternVLConfig,
    InternVLForConditionalGeneration,
    PreTrainedTokenizerBase,
    PreTrainedTokenizerFast,
)

from reviosa_core import config
from reviosa_core.model import mllm, prompts, segmenter
from reviosa_core.model.reviosa import ReVIOSa
from reviosa_core.model.sam2 import Sam2
from reviosa_core.schema import DataError, Role
from reviosa_core.weights import folders, layouts
from reviosa_core.weights.design import ABOUT, Design, read_about, read_design
from reviosa_core.weights.files import Weights, described, usable
from reviosa_core.weights.internvl import InternVL
from reviosa_core.weights.tokenizer import check_end, load_tokenizer

Kind = Literal["internvl, as released", "internvl, transformers", "reviosa, as released", "sam2", "reviosa workbook"]


def identify(path: str | Path) -> Kind:
    """What a file or folder holds, by the names of its tensors. DataError when it is none of the known."""
    path = Path(path)
    if os.path.lexists(path / ABOUT):
        return "reviosa workbook"
    names = Weights.at(path).entries
    if any(name.startswith(("mlp1.", "vision_model.")) for name in names):
        return (
            "reviosa, as released"
            if any(n.startswith(layouts.RELEASED_SAM) for n in names)
            else "internvl, as released"
        )
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
    entries, parts = Weights.at(path).entries, {name: [0, 0] for name, *_ in PARTS}
    for name, entry in entries.items():
        part = next(part for part, pattern, _ in PARTS if re.fullmatch(pattern, name))
        parts[part][0] += 1
        parts[part][1] += entry.count
    found: dict[str, Any] = {
        "kind": kind,
        "tensors": len(entries),
        "parameters": sum(count for _, count in parts.values()),
        "dtypes": sorted({str(entry.dtype).removeprefix("torch.") for entry in entries.values()}),
    }
    if kind.endswith("as released"):
        found["template"] = layouts.template_of(described(path / "config.json"), str(path / "config.json"))
    if kind == "reviosa workbook":
        design, _ = read_about(path)
        found |= {"template": design.template, "wording": design.wording}
        found |= {"roles": [str(role) for role in design.roles], "aml": design.aml}
    if kind == "sam2":
        found["version"] = "2.1" if "no_obj_embed_spatial" in entries else "2.0"
    trained = {name: how for name, _, how in PARTS}
    found["parts"] = [
        {"part": name, "tensors": tensors, "parameters": count, "in the paper's training": trained[name]}
        for name, (tensors, count) in parts.items()
        if tensors
    ]
    return found


# -- InternVL ------------------------------------------------------------------------------------------------------


def read_internvl(folder: Path) -> tuple[InternVL, PreTrainedTokenizerFast, str, Weights]:
    """Description, tokenizer, chat template and tensors (named as transformers' modules, none read) of a folder.

    A released ReVIOSa has them too. Raises DataError as `load_internvl`.
    """
    kind, stored = identify(folder), Weights.at(folder)
    if kind in ("internvl, as released", "reviosa, as released"):
        raw, where = described(folder / "config.json"), str(folder / "config.json")
        design, template = layouts.internvl_design(raw, where), layouts.template_of(raw, where)
        others = (layouts.RELEASED_SAM, layouts.RELEASED_PROJECTOR)
        tensors = layouts.internvl(stored.named(lambda name: None if name.startswith(others) else name))
    elif kind == "internvl, transformers":
        design = InternVL.read(described(folder / "config.json"), str(folder / "config.json"))
        template, tensors = "qwen_chat", layouts.transformers_internvl(stored)
    else:
        raise DataError(f"{folder}: {kind}, not InternVL")
    tokenizer = load_tokenizer(folder)
    image_token = tokenizer.convert_tokens_to_ids(prompts.IMAGE_CONTEXT)
    if image_token is None or image_token == tokenizer.unk_token_id:
        raise DataError(f"{folder}: the tokenizer has no token {prompts.IMAGE_CONTEXT!r}")
    check_end(tokenizer, prompts.TEMPLATES[template].end, str(folder))
    if len(tokenizer) > design.text_config.vocab_size:
        raise DataError(
            f"{folder}: the tokenizer has {len(tokenizer)} tokens, the embeddings {design.text_config.vocab_size}"
        )
    return design.model_copy(update={"image_token_id": image_token}), tokenizer, template, tensors


def load_internvl(
    folder: str | Path, dtype: torch.dtype = torch.float32
) -> tuple[InternVLForConditionalGeneration, PreTrainedTokenizerBase, str]:
    """Model, tokenizer and chat template of a released or a transformers folder, told apart by the tensors' names.

    Raises DataError naming file, key and both shapes for anything that does not fit.
    """
    design, tokenizer, template, tensors = read_internvl(Path(folder))
    model = mllm.empty(design.config())
    expected = model.state_dict()
    tensors.check({name: tuple(tensor.shape) for name, tensor in expected.items()})
    model.load_state_dict({name: tensors.cast(name, dtype) for name in expected}, assign=True)
    return model.eval(), tokenizer, template


# -- SAM2 ----------------------------------------------------------------------------------------------------------

YAML_BYTES = 2**16  # the packaged ones have four thousand
SIZES = {(96, 12): "t", (96, 16): "s", (112, 24): "b+", (144, 48): "l"}  # width and blocks of the trunk


def sam2_config(weights: Weights) -> Sam2:
    """The packaged description that a SAM2 file was made with, by its tensors.

    2.1 files hold `no_obj_embed_spatial`, 2.0 files do not. Raises DataError for sizes that are not packaged.
    """
    blocks = {found[1] for n in weights.entries if (found := re.match(r"image_encoder\.trunk\.blocks\.(\d+)\.", n))}
    stem = weights.entries.get("image_encoder.trunk.patch_embed.proj.weight")
    width = stem.shape[0] if stem and stem.shape else None
    size = SIZES.get((width or 0, len(blocks)))
    if size is None:
        sizes = f"width {width}, {len(blocks)} blocks"
        raise DataError(f"{weights.path}: no packaged SAM2 has {sizes}; give the yaml it was made with")
    version = "sam2.1" if "no_obj_embed_spatial" in weights.entries else "sam2"
    return read_sam2_yaml(Path(str(files("sam2"))) / "configs" / version / f"{version}_hiera_{size}.yaml")


def read_sam2_yaml(path: str | Path) -> Sam2:
    """The model of one of sam2's configuration files, or of one like them: read, never interpreted.

    Raises DataError naming file and key for what it cannot be: another part, an interpolation, a size out of bounds.
    """
    usable(Path(path), YAML_BYTES)
    content = config.read_yaml(path)
    if not isinstance(content, dict) or not isinstance(content.get("model"), dict):
        raise DataError(f"{path}: no 'model'")
    return Sam2.read(content["model"], str(path))


def load_sam2(path: str | Path | Weights, configuration: Sam2 | None = None) -> SAM2Base:
    """Meta's SAM2 or SAM2.1 of any size, in evaluation mode; `configuration` where it is not a packaged one.

    Raises DataError naming missing and unknown tensors, or both shapes, before anything is allocated.
    """
    weights = path if isinstance(path, Weights) else Weights.at(path)
    configuration = configuration or sam2_config(weights)
    weights.check(configuration.shapes())
    sam = configuration.build()
    for name, tensor in sam.state_dict().items():
        tensor.copy_(weights.cast(name, tensor.dtype))
    return sam.eval()


# -- ReVIOSa and Sa2VA ---------------------------------------------------------------------------------------------


def best_device() -> torch.device:
    """A GPU where there is one."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def load(
    folder: str | Path,
    *,
    device: str | torch.device | None = None,
    backbones: config.Released | None = None,
    sam2: str | Path | None = None,
    frames: int | None = None,
    dtype: torch.dtype = torch.float32,
) -> ReVIOSa:
    """Any ReVIOSa, ready to segment: one of this project's folders, or one as released (Sa2VA too).

    On `device`, by default a GPU where there is one; InternVL in `dtype`: bfloat16 is what all predictions are computed
    in then. `backbones` belong to a folder that holds what was trained only. For a released folder, `sam2` is SAM2's
    own file, whose original decoder then tracks, and `frames` how many the model reads (5). `model.segment(clip)`
    gives a `Prediction` an expression: `masks[role]` is bool [t h w] at the clip's own size. Raises DataError where
    nothing is, for a folder that lacks a file or has no place for what is given, or naming file, key and both shapes.
    """
    folder = Path(folder)
    if not folder.exists():
        raise DataError(f"{folder}: no such file or folder")
    released = (folder / "config.json").is_file() and not (folder / ABOUT).is_file()
    given = {"backbones": backbones} if released else {"sam2": sam2, "frames": frames}
    if extra := [name for name, value in given.items() if value is not None]:
        whose = "a released model, which holds them" if released else "this project's own, which says so itself"
        raise DataError(f"{folder}: {extra[0]}: goes with another folder; this is {whose}")
    if released:
        model = load_reviosa(folder, sam2, frames=5 if frames is None else frames, dtype=dtype)
    else:
        model = folders.read(folder, dtype) if backbones is None else load_trained(folder, backbones, dtype)
    return model.to(device or best_device())


def load_trained(folder: Path, backbones: config.Released, dtype: torch.dtype = torch.float32) -> ReVIOSa:
    """What `folders.save(..., trained_only=True)` left, joined with the backbones it was trained on.

    Raises DataError for other backbones, and for a folder that holds all of its model.
    """
    design, about, tokenizer = read_design(folder)
    if "backbones" not in about:
        raise DataError(f"{folder}: holds a whole model; leave the backbones out")
    *_, internvl = read_internvl(Path(backbones.internvl))
    if design.lora:
        internvl = layouts.with_lora(internvl)
    sam, trained = Weights.at(backbones.sam2), Weights.at(folder)
    whole = Weights(
        folder,
        {
            **{layouts.INTERNVL + name: entry for name, entry in internvl.entries.items()},
            **layouts.sam2(sam).entries,
            **trained.entries,
        },
    )
    model = folders.assemble(design, tokenizer, whole, dtype)
    if about.get("backbones") != folders.fingerprint(model):
        raise DataError(f"{folder}: was trained on other backbones than {backbones.internvl} and {backbones.sam2}")
    return model


def read_reviosa(
    folder: Path, sam2: str | Path | None = None, configuration: Sam2 | None = None, frames: int = 5
) -> tuple[Design, PreTrainedTokenizerFast, Weights]:
    """Design, tokenizer and tensors (under our names) of a released ReVIOSa or Sa2VA. None is read, but for a few where
    `sam2` is given: DataError for one that it was not tuned on."""
    if (kind := identify(folder)) != "reviosa, as released":
        raise DataError(f"{folder}: {kind}, not a released ReVIOSa or Sa2VA")
    internvl, tokenizer, template, _ = read_internvl(folder)
    tokenizer, roles = layouts.our_tokens(tokenizer)
    if Role.ACTOR not in roles:
        raise DataError(f"{folder}: the tokenizer has no token {layouts.RELEASED_TOKENS[Role.ACTOR]!r}")
    tensors = layouts.reviosa(Weights.at(folder))
    if sam2 is not None:
        tensors = layouts.with_original(tensors, layouts.sam2(Weights.at(sam2)))
    sam = tensors.named(lambda name: name.removeprefix(layouts.SAM) if name.startswith(layouts.SAM) else None)
    design = Design(
        internvl=internvl,
        sam2=configuration or sam2_config(sam),
        lora=None,
        template=template,
        roles=roles,
        frames=frames,
        prompted="all",
        aml=None,
        wording=layouts.wording_of(described(folder / "config.json"), roles),
    )
    return design, tokenizer, tensors


def load_reviosa(
    folder: str | Path,
    sam2: str | Path | None = None,
    configuration: Sam2 | None = None,
    frames: int = 5,
    dtype: torch.dtype = torch.float32,
) -> ReVIOSa:
    """A released ReVIOSa (or Sa2VA, which has the actor's token only) as this project's model, for inference.

    Its mask decoder is the fine-tuned one, and it tracks with that decoder too unless `sam2`, the original file, is
    given. `configuration` is its SAM2's where that is not a packaged one (`read_sam2_yaml`); `frames` is how many the
    model reads. Raises DataError naming file, key and both shapes for anything that does not fit.
    """
    design, tokenizer, tensors = read_reviosa(Path(folder), sam2, configuration, frames)
    return folders.assemble(design, tokenizer, tensors, dtype)


# -- the start of training -----------------------------------------------------------------------------------------


def from_backbones(
    backbones: Path | config.Released,
    sizes: config.Model,
    experiment: config.Experiment,
    *,
    seed: int,
    aml: tuple[int, tuple[int, ...]] | None,
    settings: config.Train,
) -> ReVIOSa:
    """Pretrained backbones, joined and ready to fine-tune: role tokens, LoRA and projector new, the rest frozen.

    `backbones` is the folder that stage `pretrain` left, or names released files; these must have the profile's sizes.
    `aml` is the selected (layer, heads); it is used when the experiment asks for AML. Raises ValueError when it does
    and none is given, DataError when the weights do not fit the sizes.
    """
    if experiment.aml and aml is None:
        raise ValueError("the experiment trains with AML, but no layer and heads were selected")
    torch.manual_seed(seed)
    released = isinstance(backbones, config.Released)
    folder = Path(backbones.internvl) if released else backbones / "internvl"
    internvl, tokenizer, template = load_internvl(folder)
    _same_sizes(internvl.config, sizes.mllm, folder)
    mllm.add_role_tokens(internvl, tokenizer, settings.role_tokens)
    mllm.add_lora(internvl, sizes.mllm.lora)
    profiled = segmenter.describe(sizes.segmenter)
    if released:
        template = backbones.template
        sam = load_sam2(backbones.sam2, read_sam2_yaml(backbones.sam2_yaml) if backbones.sam2_yaml else None)
        _same_sam2_sizes(sam.configuration, profiled, backbones.sam2)
    else:
        template = "tiny_chat" if prompts.place(0) in tokenizer.get_vocab() else template
        sam = load_sam2(backbones / "sam2.safetensors", profiled)
    wording = prompts.released(experiment.roles) if settings.wording == "released" else settings.wording
    model = ReVIOSa(
        mllm.Mllm(internvl, tokenizer, template, wording),
        segmenter.Segmenter(sam),
        experiment.roles,
        frames=sizes.mllm.frames,
        prompted=sizes.segmenter.prompted,
        visual_projector=settings.visual_projector,
        aml=aml if experiment.aml else None,
        weights=settings.loss,
        cache_gb=settings.cache_gb,
    )
    model.freeze()
    if settings.gradient_checkpointing:
        model.mllm.checkpoint_gradients()
    return model


def _same_sizes(found: InternVLConfig, sizes: config.Mllm, folder: Path) -> None:
    """Raise DataError where a profile's sizes are not those of the files: they decide, but a 4B under a 1B's rates is a
    mistake."""
    vision, text = found.vision_config, found.text_config
    tower = {"hidden": "hidden_size", "layers": "num_hidden_layers", "heads": "num_attention_heads"}
    tower |= {"ffn": "intermediate_size"}
    there = {
        "image_size": vision.image_size[0],
        "patch_size": vision.patch_size[0],
        "vision": config.Vision(**{ours: getattr(vision, theirs) for ours, theirs in tower.items()}),
        "language": config.Language(
            kv_heads=text.num_key_value_heads, **{ours: getattr(text, theirs) for ours, theirs in tower.items()}
        ),
    }
    for name, value in there.items():
        if value != getattr(sizes, name):
            raise DataError(f"{folder}: {name} is {value}, the profile's model.mllm.{name} is {getattr(sizes, name)}")


def _same_sam2_sizes(found: Sam2, profiled: Sam2, path: str) -> None:
    """The same for SAM2, by the sizes that a profile sets."""
    trunk = ("embed_dim", "num_heads", "stages", "window_spec", "global_att_blocks")
    names = ("image_size", "num_maskmem", "memory_attention.d_model", "memory_encoder.out_dim")
    for name in (*names, *(f"image_encoder.trunk.{key}" for key in trunk)):
        there, said = (attrgetter(name)(each) for each in (found, profiled))
        if there != said:
            raise DataError(f"{path}: {name} is {there}, the profile's model.segmenter makes it {said}")
