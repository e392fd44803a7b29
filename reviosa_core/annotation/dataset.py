"""What survived, as a folder in the InterRVOS-127K format; and beside it what that has no place for."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from reviosa_core import outputs
from reviosa_core.annotation.records import Line, Negative, Text, Verdict
from reviosa_core.annotation.sources import close
from reviosa_core.data import interrvos
from reviosa_core.data.jsonfile import read_json, to_json
from reviosa_core.schema import Clip, Expression

ROLES = "roles.json"
WHAT = "annotated data set"


def kept(line: Line[Verdict]) -> list[Verdict]:
    return [verdict for verdict in line.items if verdict.rejected is None]


def write(
    out: Path,
    clips: Mapping[str, Clip],
    verdicts: Mapping[str, Line[Verdict]],
    negatives: Mapping[str, Line[Negative]] | None = None,
) -> dict[str, int]:
    """Replace the data set in `out`: clips with at least one expression, and these with their roles. Gives the number
    of expressions of each clip, 0 for those that are left out. DataError where something else is in the way."""
    written: dict[str, int] = {}
    roles: dict[str, dict[str, Any]] = {}

    def made() -> Iterator[Clip]:
        for id, clip in clips.items():
            false = negatives[id].items if negatives else ()
            expressions, roles_here = _expressions(kept(verdicts[id]), false)
            written[id] = len(expressions)
            if not expressions:
                continue
            roles[id] = roles_here
            used = {key for e in expressions for key in (*e.actor, *(e.target or ()))}
            masks = {key: track for key, track in clip.masks.items() if key in used}
            yield Clip(id, clip.frames, clip.frame_names, clip.size, tuple(expressions), masks)
            close(clip)

    with outputs.folder(out, WHAT) as folder:
        interrvos.fill(folder, made())
        (folder / ROLES).write_text(to_json(roles, ascii=False) + "\n", encoding="utf-8")
    return written


def _expressions(
    verdicts: Sequence[Verdict], negatives: Sequence[Negative]
) -> tuple[list[Expression], dict[str, dict[str, Any]]]:
    expressions, roles = [], {}
    for verdict in verdicts:
        id, text = str(len(expressions)), verdict.text
        expressions.append(Expression(id, text.text, text.caption_type, text.actor, text.target))
        roles[id] = text.model_dump(mode="json") | {"evidence": list(verdict.evidence), "claimed": verdict.claimed}
    for negative in negatives:
        if not negative.actor:
            continue  # refers to nothing at all: the format has no place for it, negatives.jsonl does
        id = str(len(expressions))
        expressions.append(Expression(id, negative.text, "single", negative.actor))
        roles[id] = negative.model_dump(mode="json") | {"negative": negative.kind}
    return expressions, roles


def read_roles(folder: Path) -> pd.DataFrame:
    """The side file of a data set that was annotated here, a row an expression: voice, level, event, agents, patients,
    negative. Empty for any other. Merged with the rows of `evaluate`, it tells active from passive."""
    columns = ["video", "expression", "voice", "level", "event", "agents", "patients", "negative"]
    path = Path(folder) / ROLES
    raw = read_json(path) if path.is_file() else {}
    rows = [
        {"video": video, "expression": id} | {key: about.get(key) for key in columns[2:]}
        for video, expressions in raw.items()
        for id, about in expressions.items()
    ]
    return pd.DataFrame(rows, columns=columns)


def texts(lines: Mapping[str, Line[Verdict]]) -> dict[str, list[Text]]:
    """What survived, by clip."""
    return {clip: [verdict.text for verdict in kept(line)] for clip, line in lines.items()}
