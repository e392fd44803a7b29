"""Many predictions by one model: what is there already is not made again, and one that fails stops no other."""

from __future__ import annotations

import gc
import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal

import pandas as pd

from reviosa_core import masks, outputs
from reviosa_core.data.jsonfile import to_json
from reviosa_core.data.video import Video, clip_id, open_video, part, to_clip
from reviosa_core.predict import result
from reviosa_core.predict.jobs import REPORT, Job, by_part
from reviosa_core.predict.result import Settings
from reviosa_core.schema import Clip, DataError, Segments

HELD = 16 * 2**20  # bytes of decoded frames: they are asked for in order


@dataclass(frozen=True)
class Done:
    """What became of one job: `about` is the content of its prediction.json, `problems` what was not drawn."""

    job: Job
    state: Literal["made", "there", "failed"]
    about: Mapping[str, Any] | None = None
    problems: Sequence[str] = ()


def opened(job: Job) -> Video:
    """The job's part of its video. DataError in one line that names the file."""
    video = open_video(job.video, cache_bytes=HELD)
    if job.fps is not None and job.video.is_dir():  # which does not say
        video = video._replace(fps=job.fps)
    return part(video, job.start, job.end, job.video)


def clip_of(video: Video, jobs: Sequence[Job]) -> Clip:
    return to_clip(video, [job.text for job in jobs], clip_id(jobs[0].video))


def one(job: Job, video: Video, system: Segments, settings: Settings) -> Done:
    """A prediction, made whatever is there of the same origin. Errors are the caller's."""
    (done,) = _made([job], video, system, settings)
    return done


def run(jobs: Sequence[Job], load: Callable[[], Segments], settings: Settings) -> Iterator[Done]:
    """What became of each job, as soon as it is known. The model is loaded when there is something to do."""
    load = cache(load)
    for group in by_part(jobs):
        todo = []
        for job in group:
            found = _there(job, settings)
            if found is None:
                todo.append(job)
            else:
                yield found
        for start in range(0, len(todo), masks.AT_ONCE):
            yield from _attempt(todo[start : start + masks.AT_ONCE], load(), settings)


def _there(job: Job, settings: Settings) -> Done | None:
    """A job that needs no model: one that is done, but perhaps for its pictures, or that cannot be done."""
    try:
        about = result.made(job, settings)
        if about is None:
            return None
        if not result.lacking(job, settings, about):
            outputs.tidy(job.out)  # of a process that was killed when it was as good as done
            return Done(job, "there", about)
        with closing(opened(job)) as video:
            return Done(job, "there", about, result.write(job.out, clip_of(video, [job]), about, settings.also))
    except Exception as error:
        return Done(job, "failed", problems=[_line(error)])


def _attempt(jobs: Sequence[Job], system: Segments, settings: Settings) -> Iterator[Done]:
    """Sentences about one video together; where that fails, each alone."""
    try:
        made, said = list(_made(jobs, opened(jobs[0]), system, settings)), ""
    except Exception as error:  # also what is a fault of ours: the others are wanted all the same
        made, said = [], _line(error)
    if said:
        _free()  # out here the error no longer holds what it failed with: with a GPU's memory, all that was in the way
        alone = (done for job in jobs for done in _again(job, system, settings))
        made = [Done(jobs[0], "failed", problems=[said])] if len(jobs) == 1 else list(alone)
    yield from made


def _free() -> None:
    import torch

    gc.collect()
    torch.cuda.empty_cache()  # nothing without a GPU


def _again(job: Job, system: Segments, settings: Settings) -> Iterator[Done]:
    there = _there(job, settings)  # written before another one failed
    yield from _attempt([job], system, settings) if there is None else [there]


def _made(jobs: Sequence[Job], video: Video, system: Segments, settings: Settings) -> Iterator[Done]:
    clip = clip_of(video, jobs)
    try:
        seen = [result.made_from(job, settings) for job in jobs]  # what changes meanwhile is seen the next time
        found = masks.segmented(system, clip, clip.expressions)
        for job, made_from, prediction in zip(jobs, seen, found, strict=True):
            about = result.content(job, clip, video.times, video.fps, prediction, settings, made_from)
            yield Done(job, "made", about, result.write(job.out, clip, about, settings.also))
    finally:
        video.close()


def _line(error: Exception) -> str:
    said = " ".join(str(error).split())
    return said if isinstance(error, DataError) else f"{type(error).__name__}: {said}"


def report(out: Path, found: Sequence[Done], settings: Settings) -> None:
    """report.json and report.csv in `out`: a line a job, in the jobs' order, with what was found or why nothing was."""
    lines = [_summary(done) for done in found]
    about = {
        "checkpoint": str(settings.checkpoint),
        "model": settings.model,
        "min_confidence": settings.min_confidence,
        "stream": settings.stream and settings.stream.model_dump(),
        "jobs": len(found),
        "failed": sum(done.state == "failed" for done in found),
    }
    outputs.text(out / REPORT[0], to_json(about | {"results": lines}) + "\n")
    with outputs.file(out / REPORT[1]) as new:
        pd.json_normalize(lines, sep="_").to_csv(new, index=False)


def _summary(done: Done) -> dict[str, Any]:
    line: dict[str, Any] = {
        "id": done.job.id,
        "video": str(done.job.video),
        "text": done.job.text,
        "state": "failed" if done.state == "failed" else "done",
        "error": done.problems[0] if done.state == "failed" else None,
        "not_drawn": [] if done.state == "failed" else list(done.problems),
    }
    if done.about is not None:
        line["answer"] = done.about["answer"]
        for role, seen in done.about["diagnostics"].items():
            sure = (done.about["confidence"] or {}).get(role)
            token, frames = (sure["token"], statistics.median(sure["frames"])) if sure else (None, None)
            left = done.about["left_out"][role]
            line[role] = seen | {"left_out": left, "token": token, "median_confidence": frames}
    return line
