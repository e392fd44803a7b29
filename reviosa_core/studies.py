"""Studies: what a named set of runs is made of. The notebooks train and score them; nothing here runs anything."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import Any, TypeVar

import numpy as np
import pandas as pd

from reviosa_core import config
from reviosa_core.schema import Clip
from reviosa_core.scoring import selection

Run = TypeVar("Run")  # whatever tells one run from another
FLIPS, SENTENCES = (0, 2), (0, 3)  # after the seed: streams of their own, beside the sampler's and the wording's


@dataclass(frozen=True)
class Variant:
    """One run. `layer` is AML's, where the study says one; `clips` how many of the train split, None: all; `backbone`
    what it starts from, None: the profile's own."""

    row: str
    rule: str
    layer: int | None
    clips: int | None
    seed: int
    backbone: str | None = None

    @property
    def name(self) -> str:
        """Names a folder and a run: tells every variant of every study apart, so that studies share runs."""
        return "-".join((self.row, *self.otherwise.split(), f"seed{self.seed}"))

    @property
    def otherwise(self) -> str:
        """All but the row and the seed: "one", "slow layer3", "one clips75"."""
        layer = "" if self.layer is None else f" layer{self.layer}"
        clips = "" if self.clips is None else f" clips{self.clips}"
        backbone = "" if self.backbone is None else f" {self.backbone}"
        return f"{self.rule}{layer}{clips}{backbone}"


def variants(study: config.Study, experiments: dict[str, config.Experiment], layers: int) -> list[Variant]:
    """All runs of a study, once each: a row without AML has no layer to vary. `layers`: how many the model has."""
    found, named = [], tuple(range(layers)) if study.layers == "every" else study.layers
    rest = product(study.rows, study.rules, study.clips or (None,), study.backbones or (None,), study.seeds)
    for row, rule, clips, backbone, seed in rest:
        places = (named or (None,)) if experiments[row].aml else (None,)
        found += [Variant(row, rule, layer, clips, seed, backbone) for layer in places]
    return found


def every(
    project: config.Project, chosen: selection.Selection, rows: pd.DataFrame
) -> dict[str, dict[Variant, Variant]]:
    """The runs of each study, and what each is trained as: several studies may ask for the same run, and AML on the
    layer and heads that the main pipeline chose is the run that names none. `rows`: see `place`."""
    count, rules = project.settings.model.mllm.language.layers, project.params.studies.rules
    found: dict[str, dict[Variant, Variant]] = {}
    for name, study in project.params.studies.runs.items():
        found[name] = {}
        for variant in variants(study, project.params.experiments, count):
            named = variant.layer is not None and variant.backbone is None
            same = named and place(variant, chosen, rows, rules[variant.rule].heads) == chosen
            found[name][variant] = replace(variant, layer=None) if same else variant
    return found


def kept(
    clips: Sequence[Clip], otherwise: config.Otherwise, kinds: Mapping[tuple[str, str], str], seed: int
) -> list[Clip]:
    """The clips with sentences of some kinds `only`, by how `kinds[video, expression]` begins, and with so many
    `sentences` of all clips together, drawn by the seed. A clip that keeps none is left out.

    ValueError where there are fewer, or none.
    """
    only, count = otherwise.only, otherwise.sentences
    named = [(c.id, e.id) for c in clips for e in c.expressions]
    found = [name for name in named if not only or kinds.get(name, "").startswith(only)]
    if not found:
        raise ValueError(f"no sentence is of the kinds {list(only or [])}; InterShapes knows kinds, other data do not")
    if count is not None:
        if count > len(found):
            raise ValueError(f"{count} sentences are asked for, {len(found)} are there")
        drawn = np.random.default_rng((seed, *SENTENCES)).permutation(len(found))[:count]
        found = [found[i] for i in drawn]
    left = set(found)
    clips = [replace(c, expressions=tuple(e for e in c.expressions if (c.id, e.id) in left)) for c in clips]
    return [clip for clip in clips if clip.expressions]


def labelled(clips: Iterable[Clip], otherwise: config.Otherwise, seed: int) -> list[Clip]:
    """The clips as somebody labels them who has `flips` of all events the wrong way round: every sentence of such an
    event has actor and target in each other's place. With a `verifier` only those sentences of two roles are left that
    it believes: the right ones but for its errors, and by its errors some of the others.

    An event is two sets of objects, whoever acts. A clip that keeps no sentence is left out.
    """
    rng, made = np.random.default_rng((seed, *FLIPS)), []
    for clip in clips:
        wrong: dict[frozenset[frozenset[str]], bool] = {}
        sentences = []
        for e in clip.expressions:
            if e.target is not None and set(e.actor) != set(e.target):
                pair = frozenset((frozenset(e.actor), frozenset(e.target)))
                flipped = wrong.setdefault(pair, bool(rng.random() < (otherwise.flips or 0.0)))
                if otherwise.verifier is not None and flipped != (rng.random() < otherwise.verifier):
                    continue
                e = replace(e, actor=e.target, target=e.actor) if flipped else e
            sentences.append(e)
        made += [replace(clip, expressions=tuple(sentences))] if sentences else []
    return made


def without_aml(variant: Variant, params: config.Params) -> Variant | None:
    """The same run but for AML: the row with the same roles and none, under the rule that is the same in everything
    else. None for a run without AML, or where no rule is named that is."""
    own = params.experiments[variant.row]
    alike = [name for name, row in params.experiments.items() if row == own.model_copy(update={"aml": False})]
    rules = params.studies.rules
    rest = rules[variant.rule].model_copy(update=dict.fromkeys(config.Otherwise.OF_AML))
    same = [name for name in (variant.rule, *rules) if rules[name] == rest]
    if not (own.aml and alike and same):
        return None
    return replace(variant, row=alike[0], rule=same[0], layer=None)


def place(
    variant: Variant, chosen: selection.Selection, rows: pd.DataFrame, heads: int | None = None
) -> selection.Selection:
    """Where AML goes: what the main pipeline chose, but for the variant's layer and for how many heads the study says;
    they are those that look most at the video (the paper's rule within a layer), by `selection.measure_attention`. On
    another backbone it is where the paper's rule wants it there.

    ValueError for a layer, or as many heads, as the rows do not have.
    """
    scores = selection.to_vision(rows)
    if variant.backbone is not None:
        chosen = selection.choose(scores, len(chosen.heads))
    if variant.layer is None and heads is None:
        return chosen
    layer = chosen.layer if variant.layer is None else variant.layer
    if layer >= len(scores):
        raise ValueError(f"{variant.name}: layer {layer} of {len(scores)}, counted from 0")
    return selection.Selection(layer, selection.choose(scores[[layer]], heads or len(chosen.heads)).heads)


def points(gains: dict[str, dict[Variant, dict[str, Any]]], setting: str = "RVOS") -> pd.DataFrame:
    """What AML adds, a row a comparison: `gains[study][variant][setting]`, of a run against the same without AML."""
    rows, seeds = [], {variant.seed for found in gains.values() for variant in found}
    for study, found in gains.items():
        for variant, by_setting in found.items():
            seed = f", seed {variant.seed}" if len(seeds) > 1 else ""
            value, interval = by_setting[setting]["value"], by_setting[setting]["interval"]
            low, high = interval or (value, value)
            rows.append(
                {
                    "study": study,
                    "run": f"{variant.row}, {variant.otherwise}{seed}",
                    "value": value,
                    "low": low,
                    "high": high,
                }
            )
    return pd.DataFrame(rows, columns=["study", "run", "value", "low", "high"])


def share(runs: Iterable[Run], part: int, parts: int) -> list[Run]:
    """What the `part`-th of several processes does, counted from 1: every `parts`-th run, each once."""
    return list(dict.fromkeys(runs))[part - 1 :: parts]
