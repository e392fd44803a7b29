"""Studies: what a named set of runs is made of. The notebooks train and score them; nothing here runs anything."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import product

import pandas as pd

from reviosa_core import config
from reviosa_core.scoring import selection


@dataclass(frozen=True)
class Variant:
    """One run. `layer` is AML's, where the study says one; `clips` how many of the train split, None: all."""

    row: str
    rule: str
    layer: int | None
    clips: int | None
    seed: int

    @property
    def name(self) -> str:
        """Names a folder and a run: tells every variant of every study apart, so that studies share runs."""
        layer = "" if self.layer is None else f"-layer{self.layer}"
        clips = "" if self.clips is None else f"-clips{self.clips}"
        return f"{self.row}-{self.rule}{layer}{clips}-seed{self.seed}"


def variants(study: config.Study, experiments: dict[str, config.Experiment], layers: int) -> list[Variant]:
    """All runs of a study, once each: a row without AML has no layer to vary. `layers`: how many the model has."""
    found, named = [], tuple(range(layers)) if study.layers == "every" else study.layers
    for row, rule, clips, seed in product(study.rows, study.rules, study.clips or (None,), study.seeds):
        places = (named or (None,)) if experiments[row].aml else (None,)
        found += [Variant(row, rule, layer, clips, seed) for layer in places]
    return found


def every(project: config.Project) -> dict[str, list[Variant]]:
    """The runs of each study; several studies may ask for the same one."""
    count = project.settings.model.mllm.language.layers
    return {name: variants(s, project.params.experiments, count) for name, s in project.params.studies.runs.items()}


def place(variant: Variant, chosen: selection.Selection, rows: pd.DataFrame, heads: int) -> selection.Selection:
    """Where AML goes: what the main pipeline chose, or on the variant's layer the heads that look most at the video
    (the paper's rule within a layer), by the rows of `selection.measure_attention`.

    ValueError for a layer that the rows do not have.
    """
    if variant.layer is None:
        return chosen
    scores = selection.to_vision(rows)
    if variant.layer >= len(scores):
        raise ValueError(f"{variant.name}: layer {variant.layer} of {len(scores)}, counted from 0")
    return selection.Selection(variant.layer, selection.choose(scores[[variant.layer]], heads).heads)


def table(found: dict[Variant, dict[str, float | None]]) -> pd.DataFrame:
    """A row a run: what it is made of, and its numbers."""
    return pd.DataFrame([{**vars(variant), **numbers} for variant, numbers in found.items()])


def share(runs: Iterable[Variant], part: int, parts: int) -> list[Variant]:
    """What the `part`-th of several processes does, counted from 1: every `parts`-th run, each once."""
    return list(dict.fromkeys(runs))[part - 1 :: parts]
