"""A page on which a person judges a sample of what was annotated, and the precision that the verdicts give."""

from __future__ import annotations

import html
import json
from pathlib import Path
from typing import Any

import numpy as np
from scipy import stats

from reviosa_core import masks, outputs
from reviosa_core.annotation import pictures
from reviosa_core.annotation.dataset import ROLES
from reviosa_core.annotation.records import digest
from reviosa_core.data import interrvos
from reviosa_core.data.jsonfile import read_json
from reviosa_core.data.sampling import frame_indices
from reviosa_core.schema import Clip, DataError, Expression

VERDICTS = ("right", "wrong roles", "wrong object", "wrong text")
FRAMES, SIDE = 6, 360
PAGE = Path(__file__).with_name("audit.html")


def sample(out: Path, count: int, seed: int) -> list[tuple[Clip, Expression]]:
    """`count` expressions drawn without repetition, or all where there are fewer, in random order. DataError."""
    everything = [(clip, expression) for clip in interrvos.read(out) for expression in clip.expressions]
    if not everything:
        raise DataError(f"{out}: no expressions to judge")
    chosen = np.random.default_rng(seed).permutation(len(everything))[:count]
    return [everything[i] for i in chosen]


def write(out: Path, page: Path, count: int, seed: int) -> int:
    """One self-contained file; gives how many expressions it shows."""
    roles = read_json(Path(out) / ROLES)
    items = [_item(clip, e, roles[clip.id][e.id]) for clip, e in sample(out, count, seed)]
    inside = json.dumps({"about": about(out, seed), "verdicts": VERDICTS, "items": items}, ensure_ascii=False)
    text = PAGE.read_text(encoding="utf-8").replace("{{title}}", html.escape(f"Audit of {Path(out).name}"))
    outputs.text(page, text.replace("{{data}}", inside.replace("<", "\\u003c")))  # a text must not end the script
    return len(items)


def about(out: Path, seed: int) -> dict[str, Any]:
    """What verdicts are about: the data set, by the digest of its roles, and the sample's seed."""
    return {"of": Path(out).name, "seed": seed, "expressions": digest(Path(out, ROLES).read_bytes())}


def _item(clip: Clip, expression: Expression, roles: dict[str, Any]) -> dict[str, Any]:
    """What the page shows of one: frames with the actor outlined as 3 (blue) and the target as 7 (orange)."""
    shown = frame_indices(len(clip), FRAMES)
    actor, target = (masks.union(clip, keys, shown) for keys in (expression.actor, expression.target))
    frames = []
    for k, index in enumerate(shown):
        drawn = {3: actor[k]} | ({7: target[k]} if expression.target else {})
        frames.append(
            pictures.data_url(pictures.jpeg(pictures.outlined(clip.frames[index], drawn, SIDE, numbers=False)))
        )
    facts = {"kind": expression.caption_type, "voice": roles.get("voice"), "level": roles.get("level")}
    facts |= {"event": roles.get("event"), "agents": roles.get("agents"), "patients": roles.get("patients")}
    facts["negative"] = roles.get("negative")
    return {
        "clip": clip.id,
        "expression": expression.id,
        "text": expression.text,
        "facts": {key: value for key, value in facts.items() if value},
        "evidence": roles.get("evidence", []),
        "target": expression.target is not None,
        "frames": frames,
    }


def report(out: Path, verdicts: Path) -> list[dict[str, Any]]:
    """Rows: all, by caption type and by voice. DataError for verdicts of another data set, unknown expressions or
    verdicts, and when nothing was judged."""
    raw, roles = read_json(verdicts), read_json(Path(out) / ROLES)
    now = about(out, 0)["expressions"]
    if raw.get("expressions") != now:
        raise DataError(f"{verdicts}: judges expressions {raw.get('expressions')}, {out} has {now}")
    groups: dict[str, list[str]] = {}
    seen: set[tuple[str, str]] = set()
    if not isinstance(entries := raw.get("verdicts", []), list):
        raise DataError(f"{verdicts}: verdicts is {entries!r}, a list is wanted")
    for number, entry in enumerate(entries):
        if not isinstance(entry, dict):
            raise DataError(f"{verdicts}: verdict {number} is {entry!r}, an object is wanted")
        video, id, verdict = (entry.get(key) for key in ("clip", "expression", "verdict"))
        if verdict not in VERDICTS or not isinstance(id, str) or id not in roles.get(str(video), {}):
            raise DataError(f"{verdicts}: {video}/{id} is {verdict!r}; known are {', '.join(VERDICTS)}")
        if (video, id) in seen:
            raise DataError(f"{verdicts}: {video}/{id} is judged twice")
        seen.add((video, id))
        found = roles[video][id]
        names = ("all", found.get("caption_type") or found["negative"], found.get("voice", "none"))
        for name in names if names[2] != "none" else names[:2]:
            groups.setdefault(name, []).append(verdict)
    if not groups:
        raise DataError(f"{verdicts}: nothing was judged")
    return [_row(name, found) for name, found in groups.items()]


def _row(name: str, found: list[str]) -> dict[str, Any]:
    right = found.count("right")
    low, high = stats.binomtest(right, len(found)).proportion_ci(method="wilson")  # inside [0, 1] also for 0 of few
    counts = {verdict: found.count(verdict) for verdict in VERDICTS}
    shares = {"precision": f"{100 * right / len(found):.1f}", "95 %": f"[{100 * low:.1f}, {100 * high:.1f}]"}
    return {"expressions": name, "judged": len(found), **counts, **shares}
