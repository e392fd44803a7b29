"""A trained query system's own folder: tensors, tokenizer, and query.json, which says what it is and how large."""

from __future__ import annotations

from pathlib import Path

import torch
from pydantic import ValidationError

from reviosa_core import outputs
from reviosa_core.baselines.ifirvos import Ifirvos
from reviosa_core.baselines.layouts import assemble, shapes
from reviosa_core.baselines.query import QuerySystem
from reviosa_core.baselines.referformer import ReferFormer
from reviosa_core.baselines.sizes import Sizes, SocSizes
from reviosa_core.baselines.soc import Soc
from reviosa_core.data.jsonfile import read_json, to_json
from reviosa_core.schema import DataError
from reviosa_core.weights import files
from reviosa_core.weights.tokenizer import load_tokenizer

ABOUT, WHAT = "query.json", "query system"
KINDS: dict[str, tuple[type[QuerySystem], type[Sizes]]] = {
    "ReferFormer": (ReferFormer, Sizes),
    "IFIRVOS": (Ifirvos, Sizes),
    "SOC": (Soc, SocSizes),
}


def save(system: QuerySystem, folder: str | Path) -> None:
    """All of a system. The folder appears when it is whole; DataError when there is one that holds more than an earlier
    `save`."""
    name = next(name for name, (kind, _) in KINDS.items() if type(system) is kind)
    with outputs.folder(folder, WHAT) as new:
        files.of({name: tensor.detach().cpu() for name, tensor in system.state_dict().items()}, new).write(new)
        system.text.tokenizer.save_pretrained(new)
        (new / ABOUT).write_text(to_json({"system": name, "sizes": system.sizes.model_dump()}) + "\n")


def load(folder: str | Path, device: str | torch.device | None = None) -> QuerySystem:
    """What `save` left, in evaluation mode. Raises DataError naming file and key, or the tensor that does not fit."""
    folder = Path(folder)
    about = read_json(folder / ABOUT)
    if about.get("system") not in list(KINDS):
        raise DataError(f"{folder / ABOUT}: system is {about.get('system')!r}, not one of {', '.join(KINDS)}")
    kind, described = KINDS[about["system"]]
    try:
        sizes = described.model_validate(about.get("sizes"))
    except ValidationError as error:
        first = error.errors()[0]
        raise DataError(f"{folder / ABOUT}: sizes.{'.'.join(map(str, first['loc']))}: {first['msg']}") from None
    tokenizer = load_tokenizer(folder)
    try:
        shapes(kind, sizes)
    except ValueError as error:  # torch's own rules, as of groups of channels
        raise DataError(f"{folder / ABOUT}: sizes of no {about['system']}: {error}") from None
    made = assemble(files.Weights.at(folder), kind, sizes, tokenizer)
    return made.to(device or ("cuda" if torch.cuda.is_available() else "cpu"))
