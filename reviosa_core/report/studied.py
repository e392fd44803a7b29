"""What the page of the studies says beside each one's table: what it asks, and tables that only some of them have."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from itertools import chain
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from reviosa_core import config, studies
from reviosa_core.report import annotating, findings
from reviosa_core.report.findings import Finding
from reviosa_core.report.tables import ROW, markdown, number, seeds, with_interval
from reviosa_core.scoring import metrics, selection
from reviosa_core.studies import Variant

ASKS = {
    "layers": "AML on each layer. The paper puts it on the one that looks most at the video (Fig. 6); the three that "
    "look most gain more than the three that look least, 2.4 at best (Fig. 7).",
    "rates": "Every row of Table 4 under the paper's one rate, a lower one, and rates once found for row (iii).",
    "labels": "Events labelled the wrong way round, and what is left of them by a verifier that errs in a tenth. Each "
    "is drawn by itself: shares are near those named, and with a verifier other events are flipped than without.",
    "loss": "The sum over heads (Eq. 6) and the mean (release); targets averaged over all expressions and over their "
    "own rows (release).",
    "heads": "How many heads of the layer (Table 3: all 60.7; one to five 61.3, 60.5, 61.2, 62.0, 60.6).",
    "frames": "How many frames of a clip the language model sees, K.",
    "prompted": "The mask decoder prompted on the first of the K frames, or on all of them as in the paper.",
    "data": "A sixteenth and a quarter of the training clips.",
    "forms": "Other losses that pull attention onto the object. Eq. 6 asks a softmax for 1 on every cell of the "
    "object, which it cannot give: for an object of m cells among N its floor is about (m / N) ln m.",
    "again": "What added most in seed 0, against Eq. 6 on all K frames, by seeds that did not choose it as well.",
    "aml_frames": "AML on all K frames, or only on the one where the mask is decoded.",
    "start": "Role tokens that start as words before a place in the backbone's answers, or at random.",
    "projector": "InternVL's visual projector frozen (the paper's text), or trained (release).",
    "one_object": "AML alone, where every training sentence is about one object and none has a target (Table A1).",
    "sentences": "As many training sentences of three kinds, and which sentences the model then understands (Tables A2 "
    "and A3, in miniature).",
    "grounding": "Backbones that have read less, and one whose attention was told where to look: what is AML worth on "
    "each?",
}


INTRODUCTION = (
    "# Studies, scored on `dev`\n\nLayers and heads count from 0. One seed a run, or as named; intervals hold over "
    "videos. Rules are those of `studies.rules` in params.yaml, which says what is otherwise in each; `one` is the "
    "rows' own training, and its runs stand in every study to compare with."
)


def beside(runs: Mapping[Variant, Variant], known: Collection[Variant], seed: int) -> list[Variant]:
    """The own training of a study's rows (rule `one`, nothing else varied), where the study has it neither by name nor
    as what one of its `runs` is trained as (`studies.every`), and it is `known`."""
    rows = dict.fromkeys(variant.row for variant in runs)
    own = [Variant(row, "one", None, None, seed) for row in rows]
    return [variant for variant in own if variant in known and variant not in {*runs, *runs.values()}]


def places(
    runs: Iterable[Variant],
    params: config.Params,
    chosen: selection.Selection,
    measured: pd.DataFrame,
    attention: Mapping[str, pd.DataFrame],
) -> dict[Variant, selection.Selection | None]:
    """Where each run's AML is (`studies.place`), as notebook 16 puts it there: by row (iii), `measured`, or by the
    `attention` of another backbone. None: it has none."""
    return {
        v: studies.place(
            v, chosen, attention[v.backbone] if v.backbone else measured, params.studies.rules[v.rule].heads
        )
        if params.experiments[v.row].aml
        else None
        for v in runs
    }


def drawn(runs: Mapping[Variant, Mapping[str, Any]]) -> pd.DataFrame:
    """The runs as `plots.study` draws them."""
    rows = []
    for variant, found in runs.items():
        low, high = found["RVOS"]["interval"] or (np.nan, np.nan)
        rows.append(
            {"name": variant.otherwise, "row": ROW.get(variant.row, variant.row), "value": found["RVOS"]["J&F"]}
            | {"low": low, "high": high, "stuck": found["left the plateau at"] is None}
        )
    return pd.DataFrame(rows)


def claims(
    tables: Mapping[str, Mapping[Variant, pd.DataFrame]], looks: Sequence[float], draws: int, seed: int
) -> list[Finding]:
    """What the paper says of AML that takes the studies `layers`, `heads` and `one_object` to see, from their runs'
    rows, by study; `looks`: each layer's attention to the video. A study that lacks the runs for it says nothing."""

    def named(study: str, row: str, rule: str) -> dict[int | None, list[pd.DataFrame]]:
        """By layer, the runs of all seeds."""
        own: dict[int | None, list[pd.DataFrame]] = {}
        for v, rows in tables.get(study, {}).items():
            if (v.row, v.rule) == (row, rule):
                own.setdefault(v.layer, []).append(rows)
        return own

    def gained(ours: Sequence[pd.DataFrame], other: Sequence[pd.DataFrame]) -> Mapping[str, Any] | None:
        return metrics.paired_difference(*(metrics.mean_of_runs(own) for own in (ours, other)), "RVOS", draws, seed)

    def told(claim: str, paper: str, why: str, ours: Sequence[pd.DataFrame], other: Sequence[pd.DataFrame]) -> Finding:
        gain = gained(ours, other)
        return Finding(claim, paper, with_interval(gain, "value"), findings.verdict(gain), why, "`make studies`, below")

    found, by_layer = [], named("layers", "full", "one")
    if len(by_layer) > 1 and None not in by_layer:
        ordered = sorted(by_layer, key=lambda layer: -looks[layer])
        halves = ordered[: len(ordered) // 2], ordered[-(len(ordered) // 2) :]
        most, least = (", ".join(map(str, sorted(half))) for half in halves)
        why = f"one rate, as in the paper; the mean of layers {most} against that of layers {least}"
        tuned = named("layers", "full", "tuned")
        if tuned.keys() == by_layer.keys():
            gain = gained(*([rows for layer in half for rows in tuned[layer]] for half in halves))
            why += f"; at tuned rates {with_interval(gain, 'value')}"
        found.append(
            told(
                "AML on the layers that look most at the video is worth more than on those that look least (Fig. 7)",
                "2.4 at best",
                why,
                *([rows for layer in half for rows in by_layer[layer]] for half in halves),
            )
        )
    few, every = (list(chain(*named("heads", "full", rule).values())) for rule in ("one", "head4"))
    if few and every:
        found.append(
            told(
                "A few heads are better than all (Table 3)",
                "+1.3 (four of 14)",
                "the chosen heads against all of their layer",
                few,
                every,
            )
        )
    alone, without = (list(chain(*named("one_object", row, "one_object").values())) for row in ("aml", "baseline"))
    if alone and without:
        said = "every training sentence is about one object, and none has a target"
        theirs = "to Sa2VA-4B: MeViS +3.1, Ref-YouTube-VOS +0.5, Ref-DAVIS17 -2.2"
        found.append(told('AML alone is "competitive" on ordinary RVOS (Table A1)', theirs, said, alone, without))
    return found


def over_seeds(
    found: Mapping[Variant, Mapping[str, Any]], tables: Mapping[Variant, pd.DataFrame], draws: int, seed: int
) -> str:
    """A study's runs in the mean of their seeds, and each against each before it, paired by seed. `found` are the
    runs' numbers, `tables` their rows."""
    runs: dict[str, list[Variant]] = {}
    for variant in found:
        runs.setdefault(f"{ROW.get(variant.row, variant.row)}, {variant.otherwise}", []).append(variant)
    return seeds(
        {name: [found[v] for v in own] for name, own in runs.items()},
        {name: [found[v]["confused by motion"] for v in own] for name, own in runs.items()},
        {name: [found[v]["left the plateau at"] for v in own] for name, own in runs.items()},
        metrics.differences({name: [tables[v] for v in own] for name, own in runs.items()}, draws, seed),
    )


def crossed(tables: Mapping[Variant, pd.DataFrame], kinds: Mapping[str, Sequence[str]], draws: int, seed: int) -> str:
    """A row a training set, a column for each of the `kinds` of sentences that one of them has: J&F (RVOS) on those of
    the split. `kinds` are by rule, and name what a row's `kind` begins with."""

    def scored(rows: pd.DataFrame, prefixes: Sequence[str]) -> str:
        of_kind = rows[rows["kind"].str.startswith(tuple(prefixes))]
        return with_interval(metrics.summarise(of_kind, draws, seed)["RVOS"]) if len(of_kind) else "–"

    return "J&F (RVOS) on sentences of each kind:\n\n" + markdown(
        [
            {"trained on": variant.rule, "row": ROW.get(variant.row, variant.row)}
            | {f"on {rule}": scored(rows, prefixes) for rule, prefixes in kinds.items()}
            for variant, rows in tables.items()
        ]
    )


def by_size(
    tables: Mapping[Variant, pd.DataFrame], without: Mapping[Variant, pd.DataFrame], draws: int, seed: int
) -> str:
    """What AML adds on small and on large objects, a row a run that has a counterpart `without` it."""
    rows = []
    for variant, own in tables.items():
        if variant in without:
            found = metrics.difference_by_subset([own], [without[variant]], ("object size",), "RVOS", draws, seed)
            sizes = {f"{size} objects": with_interval(gain, "value") for size, gain in found["object size"].items()}
            rows.append({"": variant.otherwise, "row": ROW.get(variant.row, variant.row)} | sizes)
    return "What AML adds by the size of the object, RVOS J&F in points:\n\n" + markdown(rows)


def grounding(
    attention: Mapping[str, pd.DataFrame],
    found: Mapping[str, Mapping[str, float]],
    scores: Mapping[str, Mapping[str, Mapping[str, Any]]],
    gains: Mapping[str, Mapping[str, Any]],
) -> str:
    """A row a backbone: what its attention does before fine-tuning (`selection.measure_attention`), what it can do
    (`found`: shares of questions answered with the right place), the rows' `scores` by row of Table 4, and what AML
    adds."""
    first = selection.to_vision(next(iter(attention.values()))).mean(1)
    rows = []
    for name, measured in attention.items():
        scored = selection.to_vision(measured)
        layer = selection.choose(scored, 1).layer
        there = selection.on_objects(measured[(measured.layer == layer) & (measured.role == "actor")])
        lift = there["own object's share of that on any"] / there["own object's share of their area"]
        alike = pd.Series(scored.mean(1)).corr(pd.Series(first), method="spearman")
        rows.append(
            {"backbone": name}
            | {f"{role} found, %": _percent(found.get(name, {}).get(f"{role} found")) for role in ("actor", "target")}
            | {"layer by the paper's rule": str(layer), "layers' order as in the first": f"{alike:+.2f}"}
            | {"own object there, times its share": f"{lift:.1f}"}
            | {f"{ROW.get(row, row)}, RVOS": with_interval(own["RVOS"]) for row, own in scores[name].items()}
            | {f"AML adds, {setting}": with_interval(gains[name][setting], "value") for setting in metrics.SETTINGS}
        )  # fmt: skip
    return "Before fine-tuning, and what AML is worth then (J&F in points):\n\n" + markdown(rows)


def labels(runs: Mapping[Variant, Mapping[str, Any]], rules: Mapping[str, config.Otherwise]) -> Figure:
    """What a model loses that is trained on labels with events the wrong way round, as they are and as a verifier
    leaves them: J&F of each setting, and how often it takes one role for the other."""
    at = {
        variant: {"flips": rules[variant.rule].flips or 0.0, "wrong": rules[variant.rule].verifier} for variant in runs
    }
    found = [(at[variant], numbers) for variant, numbers in runs.items()]
    panels = {
        f"{setting}, J&F": [{**where, **own[setting], "value": own[setting]["J&F"]} for where, own in found]
        for setting in metrics.SETTINGS
    }
    panels["confused by motion"] = [{**where, **own["confused by motion"]} for where, own in found]
    return annotating.by_flips(panels, "events the wrong way round, %", alike=False)


def _percent(share: float | None) -> str:
    return number(None if share is None else 100 * share)
