"""README.md of saved weights: what they are, where they come from, under which licence."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from huggingface_hub import ModelCardData

from reviosa_core.model.described import short
from reviosa_core.schema import DataError

LINES, CHARACTERS = 100, 1000  # of a card, of one of its values
HEAD = ("license", "base_model", "datasets")  # what the hub reads from a card's head


def model_card(facts: Mapping[str, Any], parameters: int, roles: tuple[str, ...]) -> str:
    """A card as the Hugging Face hub reads them.

    `facts` may have license, base_model, datasets (names or lists of them), metrics (name -> number), and anything else
    worth a line: run id, git commit. What is not known is not in it.
    """
    head = ModelCardData(library_name="reviosa-workbook", **{key: facts[key] for key in HEAD if key in facts})
    tokens = " and ".join(roles)
    lines = [
        "---",
        head.to_yaml(),
        "---",
        "",
        "# ReVIOSa",
        "",
        f"Segments the {tokens} of an expression in a video. {parameters:,} parameters in these files. Made with the",
        'ReVIOSa workbook: `reviosa predict --video clip.mp4 --text "the dog pulling the man" --checkpoint .`',
        "",
    ]
    said = {key: value for key, value in facts.items() if key not in (*HEAD, "metrics")}
    lines += [f"- {key.replace('_', ' ')}: {value}" for key, value in said.items()]
    if metrics := facts.get("metrics"):
        lines += ["", "| metric | value |", "|---|---|", *(f"| {name} | {value} |" for name, value in metrics.items())]
    return "\n".join(lines).rstrip() + "\n"


def check_facts(facts: Any, where: str) -> None:
    """Raise DataError unless these are facts for a card: names, and short texts, numbers, lists of them, metrics."""
    if not isinstance(facts, dict) or len(facts) > LINES:
        raise DataError(f"{where}: at most {LINES} facts by name are needed, got {short(facts)}")
    for name, value in facts.items():
        parts = list(value.items()) if isinstance(value, dict) else value if isinstance(value, list) else [value]
        if len(str(name)) > CHARACTERS or len(parts) > LINES or any(len(str(part)) > CHARACTERS for part in parts):
            raise DataError(
                f"{where}: {short(name)} has more than {LINES} parts, or one of over {CHARACTERS} characters"
            )
