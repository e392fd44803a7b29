"""A model's own folder: tensors, tokenizer, reviosa.json (the design) and the card; and the two backbones' files."""

from __future__ import annotations

import copy
import hashlib
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import nn
from transformers import InternVLForConditionalGeneration, PreTrainedTokenizerBase

from reviosa_core import outputs
from reviosa_core.model import mllm, segmenter
from reviosa_core.model.reviosa import ReVIOSa
from reviosa_core.model.sam2 import unallocated
from reviosa_core.schema import DataError
from reviosa_core.weights import files
from reviosa_core.weights.design import Design, design_of, read_design, write_about

WHAT = "checkpoint"


def save(model: ReVIOSa, folder: str | Path, card: dict[str, Any] | None = None, *, trained_only: bool = False) -> None:
    """Tensors, tokenizer, reviosa.json (the design and the card's facts) and README.md (the card).

    `trained_only` leaves out what was never trained: `checkpoint.load` then needs the backbones too. Merged weights:
    `save(model.merge_lora(), ...)`. The folder appears when it is whole; DataError when there is one that holds more
    than an earlier `save`.
    """
    if trained_only and not design_of(model).lora:
        raise DataError(f"{folder}: without LoRA beside its layers nobody can tell what was trained; save it whole")
    held = model.trained() if trained_only else model.state_dict()
    parameters = sum(tensor.numel() for tensor in held.values())
    more = {"backbones": fingerprint(model)} if trained_only else {}
    with outputs.folder(folder, WHAT) as new:
        files.of({name: tensor.detach().cpu() for name, tensor in held.items()}, new).write(new)
        write_about(new, design_of(model), model.mllm.tokenizer, card or {}, parameters, **more)


def read(folder: str | Path, dtype: torch.dtype = torch.float32) -> ReVIOSa:
    """A whole model that `save` left, in evaluation mode, on the CPU. `dtype` is that of InternVL; SAM2 and the
    projector are in float32.

    Raises DataError naming the missing file, or for tensors that are missing, unknown or misshapen.
    """
    folder = Path(folder)
    design, about, tokenizer = read_design(folder)
    if "backbones" in about:
        raise DataError(f"{folder}: holds what was trained only; load it with its backbones (checkpoint.load)")
    return assemble(design, tokenizer, files.Weights.at(folder), dtype)


def assemble(design: Design, tokenizer: PreTrainedTokenizerBase, tensors: files.Weights, dtype: torch.dtype) -> ReVIOSa:
    """The model of a design with these tensors, named as ours; all names and shapes are checked before any memory is
    taken. Raises DataError."""
    tensors.check(shapes(design, tokenizer))
    model = _empty(design, tokenizer)
    # Copies, or the files would have to stay as they are for as long as the model lives.
    state = {name: tensors.cast(name, dtype if name.startswith("mllm.") else torch.float32) for name in tensors}
    model.load_state_dict(state, assign=True)
    return model.eval()


def shapes(design: Design, tokenizer: PreTrainedTokenizerBase) -> dict[str, tuple[int, ...]]:
    """Names and shapes of the tensors of such a model; nothing is allocated."""
    with unallocated():
        return {name: tuple(t.shape) for name, t in _empty(design, tokenizer).state_dict().items()}


def _empty(design: Design, tokenizer: PreTrainedTokenizerBase) -> ReVIOSa:
    internvl = mllm.empty(design.internvl.config())
    if design.lora:
        mllm.add_lora(internvl, design.lora)
    return ReVIOSa(
        mllm.Mllm(internvl, tokenizer, design.template, design.wording),
        segmenter.Segmenter(design.sam2.build()),
        design.roles,
        frames=design.frames,
        prompted=design.prompted,
        visual_projector=design.visual_projector,
        aml=design.aml,
    )


def fingerprint(model: ReVIOSa) -> str:
    """Of the backbones: some values of each frozen tensor, spread over it, rounded to bfloat16 as either precision
    rounds them."""
    found, trained = hashlib.sha256(), model.trained()
    for name, parameter in sorted(model.named_parameters()):
        if name not in trained:
            some = parameter.detach().flatten()[:: 1 + parameter.numel() // 1024].cpu().bfloat16()
            found.update(name.encode() + some.view(torch.int16).numpy().tobytes())
    return found.hexdigest()


def save_internvl(folder: Path, internvl: InternVLForConditionalGeneration, tokenizer: Any) -> None:
    """A pretrained backbone, in half precision: what an InternVL-2.5 checkpoint is to the paper."""
    with outputs.folder(folder / "internvl", "backbone") as new:
        for name, parameter in internvl.named_parameters():
            files.narrowed(parameter.detach(), torch.float16, f"{folder / 'internvl'}: {name}")
        copy.deepcopy(internvl).half().save_pretrained(new)
        tokenizer.save_pretrained(new)


def save_sam2(folder: Path, sam: nn.Module) -> None:
    """The other one, what a SAM2 checkpoint is to the paper."""
    with outputs.file(folder / "sam2.safetensors") as new:
        state = {
            k: files.narrowed(v, torch.float16, f"{folder / 'sam2.safetensors'}: {k}")
            for k, v in sam.state_dict().items()
        }
        save_file({k: v.contiguous().cpu() for k, v in state.items()}, new)
