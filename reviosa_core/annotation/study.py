"""Errors put into the answers on purpose: how right is what is then written, with a verifier and without?"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import pandas as pd

from reviosa_core import outputs
from reviosa_core.annotation import pipeline, truth
from reviosa_core.annotation.answers import Errors, holds
from reviosa_core.annotation.endpoint import Endpoint
from reviosa_core.annotation.records import Event, Line, Verdict
from reviosa_core.annotation.server import Server
from reviosa_core.annotation.sources import Source
from reviosa_core.config import Annotation
from reviosa_core.data.jsonfile import read_json

MODEL = "embedded"
SAME = ("tracks", "objects", "expressions")  # stages that no flip of roles reaches


def annotate(
    sources: Sequence[Source],
    truths: Mapping[str, truth.Truth],
    out: Path,
    settings: Annotation,
    errors: Errors | None = None,
    trace: Callable | None = None,
    progress: bool = True,
) -> pipeline.Pipeline:
    """The whole pipeline, against the embedded endpoint with these errors; `out` becomes the data set."""
    place = pipeline.work(out) / pipeline.CACHE
    with (
        Server([source.clip for source in sources], truths, errors) as server,
        Endpoint(server.url, MODEL, place, None, settings.tokens, settings.seed, trace) as endpoint,
    ):
        made = pipeline.Pipeline(sources, out, endpoint, settings, progress=progress)
        made.run()
    return made


def run(
    sources: Sequence[Source],
    truths: Mapping[str, truth.Truth],
    folder: Path,
    settings: Annotation,
    progress: bool = True,
) -> pd.DataFrame:
    """A row a clip for each share of flips, each share of wrong verdicts, with the verifier and without it: `flips`,
    `wrong` (None without a verifier), `video`, and the counts of `counts`. The data sets stay in `folder`.
    """
    found, first = [], None
    for flips in settings.study.flips:
        for wrong in settings.study.wrong:
            out = Path(folder) / f"flips-{flips:g}-wrong-{wrong:g}"
            for stage in SAME if first else ():
                outputs.text(pipeline.stage_file(out, stage), pipeline.stage_file(first, stage).read_text())
            errors = Errors(role=flips, verdict=wrong, seed=settings.seed)
            lines = annotate(sources, truths, out, settings, errors, progress=progress).lines
            first = first or out
            for verifier in (True, False) if wrong == settings.study.wrong[0] else (True,):
                about = {"flips": flips, "wrong": wrong if verifier else None}
                for clip, known in truths.items():
                    events, verdicts = lines["events"][clip], lines["verified"][clip]
                    found.append(about | {"video": clip} | counts(events, verdicts, known, verifier))
    return pd.DataFrame(found)


def counts(events: Line[Event], verdicts: Line[Verdict], known: truth.Truth, verifier: bool) -> dict[str, int]:
    """Of a clip. An event counts as found when a text of it is written: `events`, of which `right` have the predicate
    and the participants of one that is there, and `roles` the agents, too; `there` are to be found. `texts` with a
    target are written, of which `true` hold."""
    passed = [v.text for v in verdicts.items if v.rejected is None or (not verifier and v.claimed != "not asked")]
    written = {text.event for text in passed}
    score = truth.compare({"": [event for event in events.items if event.id in written]}, {"": known})
    directed = [text for text in passed if text.target is not None]
    true = sum(holds(known, text.text, text.actor, text.target or ()) for text in directed)
    roles = score.right - score.directed + score.roles
    about = {"events": score.found, "there": score.there, "right": score.right, "roles": roles}
    return about | {"texts": len(directed), "true": true}


def took(out: Path) -> pd.DataFrame:
    """A row a stage that asks: questions, calls, images and tokens of all answers behind `out`, by whatever run."""
    kept = [read_json(file) for file in sorted((pipeline.work(out) / pipeline.CACHE).rglob("*.json"))]
    rows = [
        {"stage": one["name"], "questions": 1, "calls": (calls := len(one["tries"])), "images": calls * one["shown"]}
        | {f"tokens {way}": sum(used[way] for used in one["tries"]) for way in ("in", "out")}
        for one in kept
    ]
    return pd.DataFrame(pd.DataFrame(rows).groupby("stage", sort=False).sum())
