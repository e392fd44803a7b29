"""What a saved folder says of its model: all that the tensors do not."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import ValidationError
from transformers import PreTrainedTokenizerBase, PreTrainedTokenizerFast

from reviosa_core import config
from reviosa_core.data.jsonfile import read_json
from reviosa_core.model import mllm, segmenter
from reviosa_core.model.reviosa import ReVIOSa
from reviosa_core.schema import DataError, Role
from reviosa_core.weights.card import model_card

ABOUT, FORMAT = "reviosa.json", "reviosa-workbook 2"


class Design(config.Strict):
    """What a ReVIOSa is made of: all that its tensors do not say. Stands in reviosa.json beside them."""

    internvl: dict[str, Any]  # transformers' configuration
    sam2: dict[str, Any]  # as sam2's own configuration files
    lora: config.Lora | None
    template: Literal["qwen_chat", "phi3_chat", "tiny_chat"]
    roles: tuple[Role, ...]
    frames: int
    prompted: Literal["first", "all"]
    aml: tuple[int, tuple[int, ...]] | None
    wording: config.Wording = "labelled"  # folders from before there were several do not say


def design_of(model: ReVIOSa) -> Design:
    """What a model is made of."""
    lora = getattr(model.mllm.language, "peft_config", {}).get("default")
    return Design(
        internvl=model.mllm.internvl.config.to_dict(),
        sam2=model.segmenter.sam.configuration,
        lora=lora and config.Lora(rank=lora.r, alpha=lora.lora_alpha, dropout=lora.lora_dropout),
        template=model.mllm.template.name,
        roles=model.roles,
        frames=model.frames,
        prompted=model.prompted,
        aml=model.aml,
        wording=model.mllm.template.wording,
    )


def write_about(
    folder: Path,
    design: Design,
    tokenizer: PreTrainedTokenizerBase,
    facts: Mapping[str, Any],
    parameters: int,
    **more: str,
) -> None:
    """All of a saved folder but its tensors; `read_design` reads it. reviosa.json is last: a folder that has it is
    whole."""
    tokenizer.save_pretrained(folder)
    (folder / "README.md").write_text(model_card(facts, parameters, design.roles))
    about = design.model_dump(mode="json") | {"format": FORMAT, "card": dict(facts), **more}
    (folder / ABOUT).write_text(json.dumps(about, indent=1) + "\n")


def read_design(folder: Path) -> tuple[Design, dict[str, Any], PreTrainedTokenizerFast]:
    """What a saved folder says of its model, the rest of reviosa.json, and the tokenizer.

    Raises FileNotFoundError naming a missing file, DataError for another format.
    """
    for name in (ABOUT, "tokenizer.json"):
        if not (folder / name).is_file():
            raise FileNotFoundError(f"{folder} is not a ReVIOSa checkpoint: no {name}")
    about = read_json(folder / ABOUT)
    tokenizer = PreTrainedTokenizerFast.from_pretrained(folder, local_files_only=True)
    if about.get("format") == "reviosa-workbook 1":  # gave sizes for what the design now says in full
        sizes = config.Model.model_validate(about["sizes"])
        about |= {
            "internvl": mllm.describe(sizes.mllm, tokenizer).to_dict(),
            "sam2": segmenter.describe(sizes.segmenter),
            "lora": sizes.mllm.lora,
            "frames": sizes.mllm.frames,
            "prompted": sizes.segmenter.prompted,
        }
    elif about.get("format") != FORMAT:
        raise DataError(f"{folder / ABOUT}: format {about.get('format')!r}, this version reads {FORMAT!r}")
    try:
        design = Design.model_validate({key: about[key] for key in Design.model_fields if key in about})
    except ValidationError as error:
        first = error.errors()[0]
        raise DataError(f"{folder / ABOUT}: {'.'.join(map(str, first['loc']))}: {first['msg']}") from None
    return design, about, tokenizer
