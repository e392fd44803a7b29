"""A checkpoint in another layout, tensor by tensor: no model is built, and one shard is in memory at a time."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal

from reviosa_core import outputs
from reviosa_core.data.jsonfile import to_json
from reviosa_core.model import mllm
from reviosa_core.model.sam2 import Sam2
from reviosa_core.schema import DataError
from reviosa_core.weights import folders, layouts
from reviosa_core.weights.card import model_card
from reviosa_core.weights.checkpoint import identify, read_internvl, read_reviosa
from reviosa_core.weights.design import read_design, write_about
from reviosa_core.weights.files import SHARD_BYTES, Weights, files_of

Layout = Literal["native", "reviosa-hf"]
WHAT = "conversion"
Rest = Callable[[Path], None]  # writes what is no tensor: configuration, tokenizer, card


def convert(
    source: str | Path,
    target: str | Path,
    to: Layout,
    *,
    sam2: str | Path | None = None,
    configuration: Sam2 | None = None,
) -> None:
    """Write the checkpoint `source` to the folder `target` in another layout.

    native: a released InternVL in transformers' layout, a released ReVIOSa in this project's (with `sam2`, SAM2's own
    file, to track with the original mask decoder), and this project's own with LoRA merged. reviosa-hf: this project's
    own as the released ReVIOSa is, for its code to run. The folder appears when it is whole; only what
    a conversion wrote, and nobody changed, is replaced. `configuration` is the source's SAM2's where that is not a
    packaged one.

    Raises DataError naming the tensor that has no place, is missing or has another shape, before anything is written.
    """
    source, target = Path(source), Path(target)
    if source.resolve() == target.resolve():
        raise DataError(f"{target}: is the source itself; name another folder")
    kind = identify(source)
    if sam2 is not None and kind != "reviosa, as released":
        raise DataError(f"{source}: {kind}, has no place for another SAM2")
    if (kind, to) == ("internvl, as released", "native"):
        tensors, rest = _internvl(source)
    elif (kind, to) == ("reviosa, as released", "native"):
        tensors, rest = _released(source, sam2, configuration)
    elif kind == "reviosa workbook":
        tensors, rest = _ours(source) if to == "native" else _ours_released(source)
    else:
        raise DataError(f"{source}: {kind}, cannot be written as {to}")
    with outputs.folder(target, WHAT, {"source": str(source), "kind": kind, "to": to}) as folder:
        tensors.write(folder, min(SHARD_BYTES, max(file.stat().st_size for file in files_of(source))))
        rest(folder)


def _internvl(source: Path) -> tuple[Weights, Rest]:
    design, tokenizer, _, tensors = read_internvl(source)
    described = design.config()
    tensors.check({name: tuple(t.shape) for name, t in mllm.empty(described).state_dict().items()})

    def rest(folder: Path) -> None:
        described.architectures = ["InternVLForConditionalGeneration"]
        described.save_pretrained(folder)
        tokenizer.save_pretrained(folder)

    return layouts.transformers_files(tensors), rest


def _released(source: Path, sam2: str | Path | None, configuration: Sam2 | None) -> tuple[Weights, Rest]:
    design, tokenizer, tensors = read_reviosa(source, sam2, configuration)
    tensors.check(folders.shapes(design, tokenizer))
    return tensors, lambda folder: write_about(folder, design, tokenizer, _origin(source, {}), _count(tensors))


def _ours(source: Path) -> tuple[Weights, Rest]:
    """This project's own, LoRA merged."""
    design, about, tokenizer = read_design(source)
    if "backbones" in about:
        raise DataError(f"{source}: holds what was trained only; join it with its backbones first (checkpoint.load)")
    if design.lora is None:
        raise DataError(f"{source}: is native already, and has no LoRA to merge")
    tensors = Weights.at(source)
    tensors.check(folders.shapes(design, tokenizer))
    tensors, design = (
        layouts.merged(tensors, design.lora.alpha / design.lora.rank),
        design.model_copy(update={"lora": None}),
    )
    tensors.check(folders.shapes(design, tokenizer))
    facts = _origin(source, about["card"])
    return tensors, lambda folder: write_about(folder, design, tokenizer, facts, _count(tensors))


def _ours_released(source: Path) -> tuple[Weights, Rest]:
    """This project's own in the released layout: LoRA merged, and without SAM2's original decoder."""
    design, about, tokenizer = read_design(source)
    if design.template not in layouts.TEMPLATES.values():
        raise DataError(f"{source}: its chat, {design.template}, is none that the released code knows")
    merged = _ours(source)[0] if design.lora else Weights.at(source)
    tensors, plain = layouts.released_reviosa(merged), design.model_copy(update={"lora": None})
    layouts.reviosa(tensors).check(folders.shapes(plain, tokenizer))  # what is read back is the model

    def rest(folder: Path) -> None:
        config = layouts.released_config(design.internvl.config(), design.template, design.wording)
        (folder / "config.json").write_text(to_json(config) + "\n")
        layouts.released_tokens(tokenizer, design.roles).save_pretrained(folder)
        (folder / "README.md").write_text(model_card(_origin(source, about["card"]), _count(tensors), design.roles))

    return tensors, rest


def _origin(source: Path, card: Mapping[str, Any]) -> dict[str, Any]:
    return {**card, "converted_from": source.name}


def _count(tensors: Weights) -> int:
    return sum(entry.count for entry in tensors.entries.values())
