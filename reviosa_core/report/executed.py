"""Executed notebooks: what their outputs look like to a reader."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from nbformat.v4 import new_output


def readable(outputs: Sequence[Any]) -> list[Any]:
    """A cell's outputs with one line of progress, its last state, where its bars began, and not in red.

    Progress is what a carriage return wrote over. What else stands on stderr stays there, to be seen.
    """
    said = [output for output in outputs if output.output_type == "stream" and output.name == "stderr"]
    if not said:
        return list(outputs)
    lines = "".join(output.text for output in said).split("\n")
    states = [state.strip() for line in lines if "\r" in line for state in line.split("\r") if state.strip()]
    rest = [line for line in lines if "\r" not in line and line.strip() not in ("", "\x1b[A")]
    own = [("stdout", states[-1:]), ("stderr", rest)]
    instead = [new_output("stream", name=name, text="\n".join(text) + "\n") for name, text in own if text]
    first = next(number for number, output in enumerate(outputs) if output is said[0])
    after = [output for output in outputs[first:] if not any(output is one for one in said)]
    return [*outputs[:first], *instead, *after]
