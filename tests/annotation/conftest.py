"""Five InterShapes clips with all that is known of them, and an endpoint that knows it, too."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import tiny

from reviosa_core.annotation import pipeline, sources, truth
from reviosa_core.annotation.answers import Errors
from reviosa_core.annotation.endpoint import Endpoint
from reviosa_core.annotation.records import Line, read_lines
from reviosa_core.annotation.server import Server
from reviosa_core.config import Annotation, Splits
from reviosa_core.intershapes.splits import write_split

SETTINGS = Annotation(frames=3, side=128, at_once=4)


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("world")
    made = tiny.data(128, 6, no_interaction=0.0).model_copy(update={"splits": Splits(train=1, val=5, test=1, shift=1)})
    write_split(made, "val", folder, seed=0, progress=False)
    return folder / "val"


class Ran(NamedTuple):
    out: Path
    summary: dict[str, Any]
    score: truth.Score
    server: Server

    def lines(self, stage: str) -> dict[str, Line]:
        return read_lines(pipeline.stage_file(self.out, stage), pipeline.KINDS[stage])


def run(
    world: Path, out: Path, options: pipeline.Options | None = None, settings=SETTINGS, prompts=None, **rates
) -> Ran:
    """The pipeline on the clips, with errors of these rates."""
    found, truths = sources.read(world), truth.of_intershapes(world)
    with Server([s.clip for s in found], truths, Errors(**rates)) as server:
        cache = pipeline.work(out) / pipeline.CACHE
        with Endpoint(server.url, "truth", cache, again=bool(options and options.again)) as endpoint:
            summary = pipeline.Pipeline(found, out, endpoint, settings, prompts, options, progress=False).run()
    events = read_lines(pipeline.stage_file(out, "events"), pipeline.KINDS["events"])
    score = truth.compare({clip: line.items for clip, line in events.items()}, truths)
    return Ran(out, summary, score, server)


@pytest.fixture
def annotate(world: Path, tmp_path: Path) -> Callable[..., Ran]:
    """`run`; `out` to go on from."""
    return lambda out=None, **more: run(world, out or tmp_path / "out", **more)


@pytest.fixture(scope="session")
def once(world: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a run without errors gives: look, don't touch."""
    return run(world, tmp_path_factory.mktemp("once") / "out").out
