"""ReferFormer and SOC as they were released (.pth), under our names: every tensor has a place, or is said to have none.

Each released name is stated once, as a pattern; what follows the pattern is kept. Nothing of the released code is run.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedTokenizerBase

from reviosa_core.baselines import backbones, sizes
from reviosa_core.baselines.query import QuerySystem
from reviosa_core.baselines.referformer import ReferFormer
from reviosa_core.baselines.sizes import Sizes
from reviosa_core.baselines.soc import Soc
from reviosa_core.model.mllm import word_tokenizer
from reviosa_core.model.sam2 import unallocated
from reviosa_core.schema import DataError
from reviosa_core.weights.files import Entry, Weights
from reviosa_core.weights.tokenizer import load_roberta_tokenizer

_SWINS = {"Video-Swin-T": sizes.VIDEO_SWIN_T, "Video-Swin-S": sizes.VIDEO_SWIN_S, "Video-Swin-B": sizes.VIDEO_SWIN_B}
_RESNETS = {"ResNet-50": sizes.RESNET_50, "ResNet-101": sizes.RESNET_101}
PUBLISHED = {  # what was released, or can be made with the released code, of the backbones that are built here
    ReferFormer: {n: sizes.REFERFORMER.model_copy(update={"backbone": b}) for n, b in (_RESNETS | _SWINS).items()},
    Soc: {n: sizes.SOC.model_copy(update={"backbone": b}) for n, b in (_RESNETS | _SWINS).items()},
}

# -- names -----------------------------------------------------------------------------------------------------------

Made = str | Callable[[re.Match[str]], str]
_LAYER = r"transformer\.encoder\.layers\.(\d+)\."
_DECODER = r"transformer\.decoder\.layers\.(\d+)\."
_SWIN = r"backbone\.0\.body\.layers\.(\d+)\.blocks\.(\d+)\."
_VIDEO = r"voc\.transformer_{}_layers\.(\d+)\."


def _swin(rest: str) -> Callable[[re.Match[str]], str]:
    return lambda found: f"backbone.features.{2 * int(found[1])}.{found[2]}.{rest}"


def _less_one(name: str) -> Callable[[re.Match[str]], str]:
    return lambda found: name.format(int(found[1]) - 1)


SHARED: list[tuple[str, Made]] = [
    (r"backbone\.0\.body\.(conv1|bn1)\.", r"backbone.stem.\1."),
    (r"backbone\.0\.body\.layer(\d)\.", _less_one("backbone.stages.{}.")),
    (r"backbone\.0\.body\.patch_embed\.", "backbone.patches."),
    (r"backbone\.0\.body\.downsamples\.(\d+)\.", lambda found: f"backbone.features.{2 * int(found[1]) + 1}."),
    (_SWIN + r"mlp\.fc1\.", _swin("mlp.0.")),
    (_SWIN + r"mlp\.fc2\.", _swin("mlp.3.")),
    (_SWIN, _swin("")),
    (r"input_proj\.", "project."),
    (_LAYER + r"self_attn\.", r"encoder.layers.\1.self_attn."),
    (_LAYER + r"norm1\.", r"encoder.layers.\1.self_attn_layer_norm."),
    (_LAYER + r"linear([12])\.", r"encoder.layers.\1.mlp.fc\2."),
    (_LAYER + r"norm2\.", r"encoder.layers.\1.final_layer_norm."),
    (_DECODER + r"cross_attn\.", r"decoder.\1.layer.encoder_attn."),
    (_DECODER + r"norm1\.", r"decoder.\1.layer.encoder_attn_layer_norm."),
    (_DECODER + r"self_attn\.out_proj\.", r"decoder.\1.layer.self_attn.o_proj."),
    (_DECODER + r"norm2\.", r"decoder.\1.layer.self_attn_layer_norm."),
    (_DECODER + r"linear([12])\.", r"decoder.\1.layer.mlp.fc\2."),
    (_DECODER + r"norm3\.", r"decoder.\1.layer.final_layer_norm."),
    (r"transformer\.level_embed$", "encoder.level"),
    (r"transformer\.reference_points\.", "reference."),
    (r"query_embed\.weight$", "queries"),
    (r"class_embed\.", "heads.score."),
    (r"(?:transformer\.decoder\.)?bbox_embed\.", "heads.box."),  # one set of weights, stored twice
    (r"controller\.", "heads.kernels.controller."),
    (r"text_encoder\.(?!embeddings\.position_ids$)", "text.roberta."),
]
_BLOCK = r"pixel_decoder\.cross_attn_(\d)\."
OWN: dict[type[QuerySystem], list[tuple[str, Made]]] = {
    ReferFormer: [
        (r"resizer\.fc\.", "text.project."),
        (r"resizer\.layer_norm\.", "text.norm."),
        (r"fusion_module\.multihead_attn\.", "fusion.attention."),
        (r"pixel_decoder\.adapter_(\d)\.norm\.", _less_one("pyramid.enter.{}.1.")),
        (r"pixel_decoder\.adapter_(\d)\.", _less_one("pyramid.enter.{}.0.")),
        (r"pixel_decoder\.layer_(\d)\.norm\.", _less_one("pyramid.leave.{}.1.")),
        (r"pixel_decoder\.layer_(\d)\.", _less_one("pyramid.leave.{}.0.")),
        (_BLOCK + r"self_attn\.", _less_one("pyramid.language.{}.cells.attention.")),
        (_BLOCK + r"norm1\.", _less_one("pyramid.language.{}.cells.norm.")),
        (_BLOCK + r"multihead_attn\.", _less_one("pyramid.language.{}.words.attention.")),
        (_BLOCK + r"norm2\.", _less_one("pyramid.language.{}.words.norm.")),
        (_BLOCK + r"linear1\.", _less_one("pyramid.language.{}.forth.wide.")),
        (_BLOCK + r"linear2\.", _less_one("pyramid.language.{}.forth.back.")),
        (_BLOCK + r"norm3\.", _less_one("pyramid.language.{}.forth.norm.")),
        (r"pixel_decoder\.mask_features\.", "pyramid.out."),
    ],
    Soc: [
        (r"txt_proj\.fc\.", "text.project."),
        (r"txt_proj\.layer_norm\.", "text.norm."),
        (r"vlf\.multihead_attn\.", "fusion.attention."),
        (r"lvf\.multihead_attn\.", "words_see.attention."),
        (r"voc\.fq_pos\.weight$", "cluster.frame_positions"),
        (r"voc\.query_embed\.weight$", "cluster.video_positions"),
        (r"voc\.decoder_norm\.", "cluster.norm."),
        (r"voc\.enc_self_attn\.(\d+)\.self_attn\.", r"cluster.frames.\1.attend.attention."),
        (r"voc\.enc_self_attn\.(\d+)\.norm\.", r"cluster.frames.\1.attend.norm."),
        (r"voc\.enc_ffn\.(\d+)\.linear1\.", r"cluster.frames.\1.forth.wide."),
        (r"voc\.enc_ffn\.(\d+)\.linear2\.", r"cluster.frames.\1.forth.back."),
        (r"voc\.enc_ffn\.(\d+)\.norm\.", r"cluster.frames.\1.forth.norm."),
        (_VIDEO.format("self_attention") + r"self_attn\.", r"cluster.videos.\1.attend.attention."),
        (_VIDEO.format("self_attention") + r"norm\.", r"cluster.videos.\1.attend.norm."),
        (_VIDEO.format("cross_attention") + r"multihead_attn\.", r"cluster.videos.\1.across.attention."),
        (_VIDEO.format("cross_attention") + r"norm\.", r"cluster.videos.\1.across.norm."),
        (_VIDEO.format("ffn") + r"linear1\.", r"cluster.videos.\1.forth.wide."),
        (_VIDEO.format("ffn") + r"linear2\.", r"cluster.videos.\1.forth.back."),
        (_VIDEO.format("ffn") + r"norm\.", r"cluster.videos.\1.forth.norm."),
        (r"spatial_decoder\.lay(\d)\.", _less_one("pyramid.layers.{}.0.")),
        (r"spatial_decoder\.gn(\d)\.", _less_one("pyramid.layers.{}.1.")),
        (r"spatial_decoder\.adapter(\d)\.", _less_one("pyramid.adapters.{}.")),
        (r"spatial_decoder\.out_lay\.", "pyramid.out."),
    ],
}
PACKED = re.compile(_DECODER + r"self_attn\.in_proj_(weight|bias)")  # queries, keys and values in one tensor
COUNTERS = re.compile(  # not weights: word places 0, 1, 2 ..., and what a profiler counted
    r"text_encoder\.embeddings\.position_ids|(.*\.)?total_(ops|params)"
)


def _names(kind: type[QuerySystem], name: str) -> list[str]:
    """Ours for a released one: none for what is no weight, several for a tensor that is several here."""
    if COUNTERS.fullmatch(name):
        return []
    if found := PACKED.fullmatch(name):
        return [f"decoder.{found[1]}.layer.self_attn.{part}_proj.{found[2]}" for part in "qkv"]
    for pattern, made in (*SHARED, *OWN[kind]):
        if found := re.match(pattern, name):
            return [(found.expand(made) if isinstance(made, str) else made(found)) + name[found.end() :]]
    raise KeyError(name)


# -- files -----------------------------------------------------------------------------------------------------------


def kind_of(released: Weights) -> type[QuerySystem]:
    """By the modules that only one has. DataError for anything else."""
    if (kind := _kind(released)) is None:
        raise DataError(f"{released.path}: neither ReferFormer nor SOC as released: no tensor of fusion_module or voc")
    return kind


def is_released(path: str | Path) -> bool:
    """Whether a file is ReferFormer's or SOC's. DataError when it cannot be read."""
    return Path(path).is_file() and _kind(Weights.at(path)) is not None


def _kind(released: Weights) -> type[QuerySystem] | None:
    signs = {"voc": Soc, "fusion_module": ReferFormer}
    return next((kind for sign, kind in signs.items() if any(name.split(".")[0] == sign for name in released)), None)


def translate(released: Weights, kind: type[QuerySystem]) -> Weights:
    """The tensors under our names. DataError for one that has no place, and for two that should be one and differ."""
    entries: dict[str, Entry] = {}
    for name, entry in released.entries.items():
        try:
            names = _names(kind, name)
        except KeyError:
            if name.startswith("backbone."):
                raise DataError(f"{_no_backbone(released.path, kind)}: no place for tensor {name}") from None
            raise DataError(f"{released.path}: tensor {name} has no place in {kind.__name__}") from None
        for i, own in enumerate(names):
            part = entry if len(names) == 1 else entry.chunk(i, len(names))
            if own in entries and not torch.equal(entries[own].read(), part.read()):
                raise DataError(f"{released.path}: {entries[own].source} and {name} should be the same, and differ")
            entries[own] = part
    return Weights(released.path, entries)


def published(ours: Weights, kind: type[QuerySystem]) -> tuple[str, Sizes]:
    """Name and sizes of the released system whose backbone this is. DataError when it is none of them."""
    prefix = "backbone."
    found = {name.removeprefix(prefix): e.shape for name, e in ours.entries.items() if name.startswith(prefix)}
    for name, described in PUBLISHED[kind].items():
        with unallocated():
            made = backbones.build(described.backbone).state_dict()
        if found == {key: tuple(tensor.shape) for key, tensor in made.items()}:
            return name, described
    raise DataError(_no_backbone(ours.path, kind))


def _no_backbone(path: Path, kind: type[QuerySystem]) -> str:
    return f"{path}: a backbone that is none of {', '.join(PUBLISHED[kind])}"


def assemble(
    ours: Weights, kind: type[QuerySystem], described: Sizes, tokenizer: PreTrainedTokenizerBase
) -> QuerySystem:
    """The system with these tensors, in evaluation mode. DataError for one that is missing, unknown or misshapen."""
    ours.check(shapes(kind, described))
    system = kind(described, tokenizer)
    system.load_state_dict({name: ours.cast(name, tensor.dtype) for name, tensor in system.state_dict().items()})
    return system.eval()


def shapes(kind: type[QuerySystem], described: Sizes) -> Mapping[str, tuple[int, ...]]:
    """Of a system's tensors; nothing is allocated."""
    with unallocated():
        made = kind(described, word_tokenizer([]))
    return {name: tuple(tensor.shape) for name, tensor in made.state_dict().items()}


def load(path: str | Path, device: str | torch.device | None = None) -> QuerySystem:
    """A released ReferFormer or SOC, from its .pth; RoBERTa's tokenizer files lie in the same folder.

    Raises DataError naming the tensor that does not fit, FileNotFoundError without a tokenizer.
    """
    path = Path(path)
    released = Weights.at(path)
    kind = kind_of(released)
    ours = translate(released, kind)
    _, described = published(ours, kind)
    if not any((path.parent / name).is_file() for name in ("tokenizer.json", "vocab.json")):
        raise FileNotFoundError(
            f"{path.parent}: no tokenizer: put RoBERTa's vocab.json and merges.txt beside {path.name}"
        )
    system = assemble(ours, kind, described, load_roberta_tokenizer(path.parent))
    return system.to(device or ("cuda" if torch.cuda.is_available() else "cpu"))


def describe(path: str | Path) -> dict[str, Any]:
    """What a released file is: as `weights.checkpoint.describe`, parts being those of the system here. DataError for
    any other file, and for one whose tensors do not fit."""
    released = Weights.at(path)
    kind = kind_of(released)
    ours = translate(released, kind)
    backbone, described = published(ours, kind)
    ours.check(shapes(kind, described))
    return {"kind": f"{kind.__name__} as released, {backbone}"} | counted(ours) | {"tensors": len(released)}


def counted(ours: Weights) -> dict[str, Any]:
    """Tensors and numbers of a system, and of each part; whole numbers (tables of places) are not counted."""
    parts = [{"part": part, "tensors": n, "parameters": count} for part, n, count in _parts(ours)]
    return {"tensors": len(ours), "parameters": sum(row["parameters"] for row in parts), "parts": parts}


def _parts(ours: Weights) -> Iterator[tuple[str, int, int]]:
    held: dict[str, list[int]] = {}
    for name, entry in ours.entries.items():
        if entry.dtype.is_floating_point:
            held.setdefault(name.split(".")[0], []).append(entry.count)
    for part, counts in held.items():
        yield part, len(counts), sum(counts)
