"""A trained query system's own folder: tensors, tokenizer, and query.json, which says what it is and how large."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import torch
from pydantic import ValidationError
from transformers import PreTrainedTokenizerBase

from reviosa_core import config, outputs
from reviosa_core.baselines import layouts
from reviosa_core.baselines.ifirvos import Ifirvos
from reviosa_core.baselines.layouts import assemble, shapes
from reviosa_core.baselines.query import QuerySystem
from reviosa_core.baselines.referformer import ReferFormer
from reviosa_core.baselines.sizes import IFIRVOS, REFERFORMER, SOC, Sizes, SocSizes, at
from reviosa_core.baselines.soc import Soc
from reviosa_core.bounds import changed
from reviosa_core.data.jsonfile import read_json, to_json
from reviosa_core.model.described import problem
from reviosa_core.schema import DataError, System
from reviosa_core.weights import checkpoint, files
from reviosa_core.weights.tokenizer import load_tokenizer

ABOUT, WHAT = "query.json", "query system"


class Kind(NamedTuple):
    system: type[QuerySystem]
    sizes: type[Sizes]
    published: Sizes


KINDS = {
    "ReferFormer": Kind(ReferFormer, Sizes, REFERFORMER),
    "IFIRVOS": Kind(Ifirvos, Sizes, IFIRVOS),
    "SOC": Kind(Soc, SocSizes, SOC),
}


def open_system(
    path: str | Path, device: str | torch.device | None = None, dtype: torch.dtype = torch.float32
) -> System:
    """Whatever segments: a query system as `save` left it, one as released (.pth), or any checkpoint of ReVIOSa.

    ValueError where a query system is asked for in another `dtype` than float32.
    """
    path = Path(path)
    if not (path.is_file() or (path / ABOUT).is_file()):
        return checkpoint.load(path, device=device, dtype=dtype)
    if dtype != torch.float32:
        raise ValueError(f"a query system computes in float32 only, not {str(dtype).removeprefix('torch.')}")
    return layouts.load(path, device=device) if path.is_file() else load(path, device=device)


def make(
    name: str, given: config.Baselines, side: int, tokenizer: PreTrainedTokenizerBase, seed: int, **changes: Any
) -> QuerySystem:
    """One of KINDS at a profile's scale, anew, for square frames of `side` pixels; `changes` of its sizes."""
    kind = KINDS[name]
    torch.manual_seed(seed)
    return kind.system(changed(at(kind.published, given, side, len(tokenizer)), **changes), tokenizer)


def described(given: config.Baselines, side: int, vocabulary: int) -> dict[str, tuple[dict[str, Any], dict[str, Any]]]:
    """Each one's sizes, in its paper and at a profile's scale."""
    found = {name: (kind.published, at(kind.published, given, side, vocabulary)) for name, kind in KINDS.items()}
    return {name: (papers.model_dump(), ours.model_dump()) for name, (papers, ours) in found.items()}


def save(system: QuerySystem, folder: str | Path) -> None:
    """All of a system. The folder appears when it is whole; DataError when there is one that holds more than an earlier
    `save`."""
    name = next(name for name, kind in KINDS.items() if type(system) is kind.system)
    with outputs.folder(folder, WHAT) as new:
        files.of({name: tensor.detach().cpu() for name, tensor in system.state_dict().items()}, new).write(new)
        system.text.tokenizer.save_pretrained(new)
        (new / ABOUT).write_text(to_json({"system": name, "sizes": system.sizes.model_dump()}) + "\n")


def load(folder: str | Path, device: str | torch.device | None = None) -> QuerySystem:
    """What `save` left, in evaluation mode. Raises DataError naming file and key, or the tensor that does not fit."""
    folder = Path(folder)
    kind, sizes = _about(folder)
    made = assemble(files.Weights.at(folder), kind.system, sizes, load_tokenizer(folder))
    return made.to(device or ("cuda" if torch.cuda.is_available() else "cpu"))


def describe(path: str | Path) -> dict[str, Any]:
    """What `open_system` would open, without reading a tensor: as `weights.checkpoint.describe`; of a query system that
    `save` left also its sizes, as query.json has them. DataError as it."""
    path = Path(path)
    if layouts.is_released(path):
        return layouts.describe(path)
    if not (path / ABOUT).is_file():
        return checkpoint.describe(path)
    (kind, sizes), held = _about(path), files.Weights.at(path)
    held.check(shapes(kind.system, sizes))
    name = next(name for name, known in KINDS.items() if known is kind)
    return {"kind": f"{name}, reviosa workbook"} | sizes.model_dump() | layouts.counted(held)


def _about(folder: Path) -> tuple[Kind, Sizes]:
    """What query.json says, and that it can be built."""
    about = read_json(folder / ABOUT)
    if about.get("system") not in list(KINDS):
        raise DataError(f"{folder / ABOUT}: system is {about.get('system')!r}, not one of {', '.join(KINDS)}")
    kind = KINDS[about["system"]]
    try:
        sizes = kind.sizes.model_validate(about.get("sizes"))
    except ValidationError as error:
        raise DataError(f"{folder / ABOUT}: sizes.{problem(error)}") from None
    try:
        shapes(kind.system, sizes)
    except ValueError as error:  # torch's own rules, as of groups of channels
        raise DataError(f"{folder / ABOUT}: sizes of no {about['system']}: {error}") from None
    return kind, sizes
