"""Executed notebooks: what their outputs look like to a reader."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from nbformat.v4 import new_output

BAR = re.compile(r"(.*?\[\d+:\d\d[^\]]*\])(.*)")  # tqdm's, up to the end of its times, and what follows it
UP = "\x1b[A"  # moves the cursor, where there are several bars


def readable(outputs: Sequence[Any]) -> list[Any]:
    """A cell's outputs with one line of progress, its last state, where its bars began, and not in red.

    Progress is what a carriage return wrote over. What else stands on stderr stays there, to be seen: also what was
    said in the middle of a bar's line, before it or after its closing bracket.
    """
    said = [output for output in outputs if output.output_type == "stream" and output.name == "stderr"]
    if not said:
        return list(outputs)
    states, rest = [], []
    for line in "".join(output.text for output in said).split("\n"):
        before, *written = line.split("\r")
        found = [BAR.match(state) for state in written]
        states += [(bar[1] if bar else state).strip() for state, bar in zip(written, found, strict=True)]
        rest += [before, *(bar[2] for bar in found if bar)]
    states, rest = [state for state in states if state], [text for text in rest if text.strip() not in ("", UP)]
    own = [("stdout", states[-1:]), ("stderr", rest)]
    instead = [new_output("stream", name=name, text="\n".join(text) + "\n") for name, text in own if text]
    first = next(number for number, output in enumerate(outputs) if output is said[0])
    after = [output for output in outputs[first:] if not any(output is one for one in said)]
    return [*outputs[:first], *instead, *after]
