"""Where predictions of somebody come from: a file, trees of PNGs, or folders that `reviosa predict` wrote."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from tqdm import tqdm

from reviosa_core.schema import Clip, Prediction, Role
from reviosa_core.scoring import predictions

Extra = Literal["error", "ignore"]


@dataclass(frozen=True)
class Source:
    """Predictions of somebody: a file in the released layout, a tree of PNGs for each role, or a folder that `reviosa
    predict` wrote: of one prediction, or of several."""

    file: Path | None = None
    trees: Mapping[Role, Path] | None = None
    results: Path | None = None
    extra: Extra = "error"
    passed: set[tuple[str, str]] = field(default_factory=set)  # (video, expression) that `extra` "ignore" left out

    @classmethod
    def at(cls, path: Path, targets: Path | None = None, extra: Extra = "error") -> Source:
        """What lies there; `targets` is a second tree. `extra` "ignore" leaves out of a file what the data does not
        have, as the authors' script does: the release predicts more sentences than its refined files keep."""
        if extra == "ignore" and path.is_dir():
            raise ValueError(f"{path}: what the data does not have is left out of a file, not of a folder")
        if targets is None and path.name == predictions.RESULT and path.is_file():
            return cls(results=path.parent)
        if not path.is_dir():
            return cls(file=path, extra=extra)
        if targets is None and predictions.results(path):
            return cls(results=path)
        return cls(trees={Role.ACTOR: path} | ({Role.TARGET: targets} if targets else {}))

    def read(self, clips: Sequence[Clip], progress: tqdm | None = None) -> Iterator[tuple[str, list[Prediction]]]:
        if self.results is not None:
            return predictions.read_results(self.results, clips)
        if self.trees is not None:
            return predictions.read_trees(self.trees, clips)
        assert self.file is not None
        found = predictions.read(self.file, None if progress is None else progress.update)
        return found if self.extra == "error" else self._known(found, clips)

    def _known(
        self, found: Iterator[tuple[str, list[Prediction]]], clips: Sequence[Clip]
    ) -> Iterator[tuple[str, list[Prediction]]]:
        known = {clip.id: {e.id for e in clip.expressions} for clip in clips}
        for video, given in found:
            self.passed.update((video, p.expression_id) for p in given if p.expression_id not in known.get(video, ()))
            if video in known:
                yield video, [p for p in given if p.expression_id in known[video]]

    def __str__(self) -> str:
        return str(self.file or self.results or next(iter((self.trees or {}).values())))
