"""What a saved folder says of its model: all that the tensors do not."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import FailFast, Field, model_validator
from transformers import PreTrainedTokenizerBase, PreTrainedTokenizerFast

from reviosa_core import config
from reviosa_core.data.jsonfile import to_json
from reviosa_core.model import prompts
from reviosa_core.model.described import Described, short
from reviosa_core.model.reviosa import ReVIOSa
from reviosa_core.model.sam2 import Sam2
from reviosa_core.schema import DataError, Role
from reviosa_core.weights.card import check_facts, model_card
from reviosa_core.weights.files import described
from reviosa_core.weights.internvl import InternVL
from reviosa_core.weights.tokenizer import TOKENIZER, check_end, load_tokenizer

ABOUT, FORMAT = "reviosa.json", "reviosa-workbook 2"
ABOUT_BYTES = 2**18  # it takes seven thousand
TOKENS = 2**17  # of a clip's frames; the paper has 1280
Index = Annotated[int, Field(ge=0, le=255)]


class Design(Described):
    """What a ReVIOSa is made of: all that its tensors do not say. Stands in reviosa.json beside them, and may come from
    anybody: every value is bounded, none is interpreted."""

    internvl: InternVL  # as transformers' configuration
    sam2: Sam2  # as sam2's own configuration files
    lora: config.Lora | None
    template: Literal["qwen_chat", "phi3_chat", "tiny_chat"]
    roles: Annotated[tuple[Role, ...], FailFast()]
    frames: Annotated[int, Field(ge=1, le=1024)]
    prompted: Literal["first", "all"]
    aml: tuple[Index, Annotated[tuple[Index, ...], Field(max_length=256), FailFast()]] | None
    visual_projector: Literal["frozen", "trained"] = "frozen"
    wording: config.Wording = "labelled"  # folders from before there were several do not say

    @model_validator(mode="after")
    def _fits(self) -> Design:
        text = self.internvl.text_config
        if Role.ACTOR not in self.roles or len(set(self.roles)) != len(self.roles):
            raise ValueError(f"roles are {[str(role) for role in self.roles]}: each once, and an actor")
        if (tokens := self.frames * self.internvl.tokens) > TOKENS:
            raise ValueError(f"{self.frames} frames of {self.internvl.tokens} tokens are {tokens}, more than {TOKENS}")
        if self.lora and not (1 <= self.lora.rank <= 4096 and 1 <= self.lora.alpha <= 65536):
            raise ValueError(f"lora has rank {self.lora.rank} and alpha {self.lora.alpha}; 4096 and 65536 are the most")
        if self.lora and not 0 <= self.lora.dropout < 1:
            raise ValueError(f"lora has dropout {self.lora.dropout}, a share is needed")
        if self.aml and self.aml[0] >= text.num_hidden_layers:
            raise ValueError(f"aml is on layer {self.aml[0]} of {text.num_hidden_layers}, counted from 0")
        if self.aml and max(self.aml[1], default=0) >= text.num_attention_heads:
            raise ValueError(f"aml is on head {max(self.aml[1])} of {text.num_attention_heads}, counted from 0")
        return self


def design_of(model: ReVIOSa) -> Design:
    """What a model is made of."""
    lora = getattr(model.mllm.language, "peft_config", {}).get("default")
    return Design(
        internvl=InternVL.read(model.mllm.internvl.config.to_dict(), "the model"),
        sam2=model.segmenter.sam.configuration,
        lora=lora and config.Lora(rank=lora.r, alpha=lora.lora_alpha, dropout=lora.lora_dropout),
        template=model.mllm.template.name,
        roles=model.roles,
        frames=model.frames,
        prompted=model.prompted,
        visual_projector=model.visual_projector,
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
    (folder / ABOUT).write_text(to_json(about) + "\n")


def read_design(folder: Path) -> tuple[Design, dict[str, Any], PreTrainedTokenizerFast]:
    """What a saved folder says of its model, the rest of reviosa.json, and the tokenizer.

    Raises DataError naming a missing file, for another format, or for a value that cannot be.
    """
    for name in (ABOUT, TOKENIZER):
        if not (folder / name).is_file():
            raise DataError(f"{folder} is not a ReVIOSa checkpoint: no {name}")
    tokenizer = load_tokenizer(folder)
    design, about = read_about(folder)
    if len(tokenizer) > (rows := design.internvl.text_config.vocab_size):
        raise DataError(f"{folder / TOKENIZER}: {len(tokenizer)} tokens, the embeddings of {ABOUT} are {rows}")
    known, needed = tokenizer.get_vocab(), (prompts.IMAGE_CONTEXT, *(prompts.TOKENS[role] for role in design.roles))
    if absent := [token for token in needed if token not in known]:
        raise DataError(f"{folder / TOKENIZER}: no token {absent[0]!r}")
    check_end(tokenizer, prompts.TEMPLATES[design.template].end, str(folder / TOKENIZER))
    return design, about, tokenizer


def read_about(folder: Path) -> tuple[Design, dict[str, Any]]:
    """The same without the tokenizer."""
    where = str(folder / ABOUT)
    about = described(folder / ABOUT, ABOUT_BYTES)
    if about.get("format") != FORMAT:
        raise DataError(f"{where}: format {short(about.get('format'))}, this version reads {FORMAT!r}")
    design = Design.read({key: about[key] for key in Design.model_fields if key in about}, where)
    check_facts(about.setdefault("card", {}), f"{where}: card")
    return design, about
