"""All stages in order: what is done already stays, what is missing or out of date is asked for, the result is written.

Work lies in OUT.annotation, beside the data set: a file a stage, the answers, masks that were tracked, what was
rejected, and the summary.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

from tqdm.auto import tqdm

from reviosa_core import outputs
from reviosa_core.annotation import dataset, events, expressions, interactions, negatives, objects, tracks, verify
from reviosa_core.annotation.endpoint import Endpoint
from reviosa_core.annotation.questions import Prompts
from reviosa_core.annotation.records import (
    STAGES,
    Event,
    Line,
    Negative,
    Object,
    Text,
    Track,
    Verdict,
    digest,
    read_lines,
    write_lines,
)
from reviosa_core.annotation.sources import Source, close
from reviosa_core.annotation.view import View
from reviosa_core.config import Annotation
from reviosa_core.data.jsonfile import to_json
from reviosa_core.schema import Clip, DataError

CACHE, REJECTED, SUMMARY = "answers", "rejected.jsonl", "summary.json"
KINDS: dict[str, type] = {
    "tracks": Line[Track],
    "objects": Line[Object],
    "expressions": Line[Text],
    "events": Line[Event],
    "interactions": Line[Text],
    "verified": Line[Verdict],
    "negatives": Line[Negative],
}


def work(out: Path) -> Path:
    """Where all lies that the data set `out` is made of."""
    out = Path(out).absolute()
    return out.with_name(f"{out.name}.annotation")


def stage_file(out: Path, stage: str) -> Path:
    return work(out) / f"{STAGES.index(stage)}_{stage}.jsonl"


class Options(NamedTuple):
    """`verify`: look a second time; without, all texts pass that mean one thing. `negatives`: write them, too. `again`:
    ask once more what has been abstained from."""

    verify: bool = True
    negatives: bool = False
    again: bool = False


class Pipeline:
    """One run. `sources` are the clips with where their masks come from; DataError when two have one name."""

    def __init__(
        self,
        sources: Sequence[Source],
        out: Path,
        endpoint: Endpoint,
        settings: Annotation,
        prompts: Prompts | None = None,
        options: Options | None = None,
        progress: bool = True,
    ) -> None:
        self.sources = {source.clip.id: source for source in sources}
        if len(self.sources) != len(sources):
            ids = [source.clip.id for source in sources]
            raise DataError(f"two clips are called {next(id for id in ids if ids.count(id) > 1)!r}")
        self.out, self.endpoint, self.settings = Path(out), endpoint, settings
        self.prompts, self.options, self.progress = prompts or Prompts(), options or Options(), progress
        self.lines: dict[str, dict[str, Line]] = {}
        self.clips: dict[str, Clip] = {}

    def run(self) -> dict[str, Any]:
        """All stages, the data set, the rejected, the summary, which is also given. Raises EndpointError when the
        endpoint gives out: then what was done so far is kept, and running again goes on."""
        self._stage("tracks", self._tracks, lambda id: self.sources[id].fingerprint(self.settings), at_once=1)
        self._asking("objects", lambda view, of: objects.run(view, of))
        self._asking("expressions", lambda view, of: expressions.run(view, self._items("objects", view), of), "objects")
        self._asking("events", lambda view, of: events.run(view, self._items("objects", view), of), "objects")
        self._asking("interactions", self._interactions, "objects", "events")
        self._asking("verified", self._verified, "expressions", "interactions")
        everything = digest(self.settings.seed, self._everything())
        self._stage("negatives", self._negatives, lambda id: digest(everything, self.sources[id].complete), at_once=1)
        false = self.lines["negatives"] if self.options.negatives else None
        clips = {id: self._clip(id) for id in self.sources}
        written = dataset.write(self.out, clips, self.lines["verified"], false)
        verdicts = [(id, v) for id, line in self.lines["verified"].items() for v in line.items]
        rejected = [Rejected(clip=id, **v.model_dump()) for id, v in verdicts if v.rejected is not None]
        write_lines(work(self.out) / REJECTED, rejected)
        summary = self._summary(written)
        outputs.text(work(self.out) / SUMMARY, to_json(summary) + "\n")
        return summary

    def _items(self, stage: str, view: View) -> Sequence[Any]:
        return self.lines[stage][view.clip.id].items

    def _tracks(self, id: str, made_from: str) -> Line[Track]:
        source = self.sources[id]
        return tracks.run(self._clip(id), self.settings, made_from, source.kind)

    def _clip(self, id: str) -> Clip:
        """The clip with its masks, tracked where none were given."""
        if id not in self.clips:
            self.clips[id] = self.sources[id].masked(work(self.out) / "masks", self.settings)
        return self.clips[id]

    def _view(self, id: str) -> View:
        found = self.lines["tracks"][id].items
        return View(self._clip(id), found, self.settings, self.prompts, self.endpoint)

    def _interactions(self, view: View, made_from: str) -> Line[Text]:
        return interactions.run(view, self._items("objects", view), self._items("events", view), made_from)

    def _verified(self, view: View, made_from: str) -> Line[Verdict]:
        texts = [*self._items("expressions", view), *self._items("interactions", view)]
        return verify.run(view, texts, made_from, self.options.verify)

    def _everything(self) -> Any:
        return [[line.items for line in self.lines[stage].values()] for stage in ("tracks", "objects", "verified")]

    def _negatives(self, id: str, made_from: str) -> Line[Negative]:
        known = {clip: line.items for clip, line in self.lines["objects"].items()}
        texts = dataset.texts(self.lines["verified"])
        found, seed = negatives.roles_swapped(id, self.lines["verified"][id].items), self.settings.seed
        if negatives.all_known(self.lines["tracks"][id].items, known[id], self.sources[id].complete):
            found += negatives.partner_absent(id, texts[id], known[id], known, seed)
            found += negatives.object_absent(id, known[id], texts, known, seed)
        return Line[Negative](clip=id, made_from=made_from, items=tuple(found))

    def _asking(self, stage: str, run: Callable[[View, str], Line], *above: str) -> None:
        """A stage that asks the model: out of date when the model, the prompt, the settings or what it reads change."""
        name = "verify" if stage == "verified" else stage
        fixed = [self.endpoint.model, self.prompts[name], self._shown()]
        fixed += [self.options.verify, verify.SWAP] if stage == "verified" else []

        def made_from(id: str) -> str:
            return digest(
                fixed, [self.lines[s][id].items for s in ("tracks", *above)], self.lines["tracks"][id].made_from
            )

        self._stage(stage, lambda id, of: run(self._view(id), of), made_from, self.settings.at_once)

    def _shown(self) -> dict[str, Any]:
        return self.settings.model_dump(exclude={"at_once", "presence", "area", "stability", "grid", "study"})

    def _stage(
        self, stage: str, run: Callable[[str, str], Line], made_from: Callable[[str], str], at_once: int
    ) -> None:
        path = stage_file(self.out, stage)
        there = read_lines(path, KINDS[stage])
        of = {id: made_from(id) for id in self.sources}
        done = {id: line for id, line in there.items() if self._holds(line, of.get(id))}
        due = [id for id in self.sources if id not in done]

        def once(id: str) -> Line:
            try:
                return run(id, of[id])
            finally:
                close(self.sources[id].clip)  # of all clips at once, too many files would be open

        with ThreadPoolExecutor(at_once) as pool:
            try:
                waiting = [pool.submit(once, id) for id in due]
                for future in tqdm(as_completed(waiting), stage, len(due), unit="clip", disable=not self.progress):
                    line = future.result()
                    done[line.clip] = line
            except BaseException:
                pool.shutdown(cancel_futures=True)  # what is under way ends, and its answers are kept
                raise
        self.lines[stage] = {id: done[id] for id in self.sources}
        others = [line for id, line in there.items() if id not in self.sources]  # of clips that are not in this run
        write_lines(path, [*self.lines[stage].values(), *others])

    def _holds(self, line: Line, made_from: str | None) -> bool:
        return line.made_from == made_from and not (self.options.again and line.abstained)

    def _summary(self, written: Mapping[str, int]) -> dict[str, Any]:
        stages: dict[str, Any] = {}
        not_taken: list[str] = []
        for stage, lines in self.lines.items():
            items = [item for line in lines.values() for item in line.items]
            out = [item for item in items if getattr(item, "poor", None) or getattr(item, "rejected", None)]
            lost = [(id, gap.reason) for id, line in lines.items() for gap in line.abstained]
            stages[stage] = {"kept": len(items) - len(out), "rejected": len(out), "abstained": len(lost)}
            not_taken += [f"clip {id}, {stage}: {reason}" for id, reason in lost if reason.startswith("status ")]
        usage = {name: asdict(used) for name, used in self.endpoint.usage.items()}
        empty = [id for id, count in written.items() if not count]
        return {
            "model": self.endpoint.model,
            "clips": len(written),
            "expressions": sum(written.values()),
            "without an expression, left out": empty,
            "stages": stages,
            "questions not taken": not_taken,
            "asked in this run": usage,
        }


class Rejected(Verdict):
    """A line of rejected.jsonl."""

    clip: str
