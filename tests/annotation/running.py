"""The pipeline on InterShapes clips, against the embedded endpoint."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

from faulty import Faulty

from reviosa_core.annotation import pipeline, sources, truth
from reviosa_core.annotation.answers import Errors
from reviosa_core.annotation.endpoint import Endpoint
from reviosa_core.annotation.records import Line, read_lines
from reviosa_core.config import Annotation

SETTINGS = Annotation(frames=3, side=128, at_once=4)


class Ran(NamedTuple):
    out: Path
    summary: dict[str, Any]
    score: truth.Score
    server: Faulty

    def lines(self, stage: str) -> dict[str, Line]:
        return read_lines(pipeline.stage_file(self.out, stage), pipeline.KINDS[stage])


def run(
    world: Path,
    out: Path,
    options: pipeline.Options | None = None,
    settings=SETTINGS,
    prompts=None,
    complete: bool = False,
    **rates,
) -> Ran:
    """The pipeline on the clips, with errors of these rates."""
    found, truths = sources.read(world, complete=complete), truth.of_intershapes(world)
    with Faulty([s.clip for s in found], truths, Errors(**rates)) as server:
        cache = pipeline.work(out) / pipeline.CACHE
        with Endpoint(server.url, "truth", cache, again=bool(options and options.again)) as endpoint:
            summary = pipeline.Pipeline(found, out, endpoint, settings, prompts, options, progress=False).run()
    events = read_lines(pipeline.stage_file(out, "events"), pipeline.KINDS["events"])
    score = truth.compare({clip: line.items for clip, line in events.items()}, truths)
    return Ran(out, summary, score, server)
