"""Tables and the report page, as Markdown. Every number comes in as an argument."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float

from reviosa_core import config
from reviosa_core.data.statistics import Statistics
from reviosa_core.schema import Role
from reviosa_core.scoring import selection as choice
from reviosa_core.scoring.metrics import SETTINGS

Scores = Mapping[str, Any]  # what metrics.summarise gives, with more keys perhaps
ROW = {
    "baseline": "(i) one token",
    "aml": "(ii) + AML",
    "tokens": "(iii) + role tokens",
    "full": "(iv) ReVIOSa",
    "best": "best: (iv), trained longer",
}


def named(settings: config.Profile) -> dict[str, str]:
    """What a profile's reports call the rows: `best` by what it has otherwise than (iv)."""
    otherwise = settings.best.model_dump(exclude_none=True)
    if not otherwise:
        return {**ROW, "best": "best: as (iv)"}
    longer = {*otherwise} == {"steps"} and otherwise["steps"] > settings.train.steps
    return ROW if longer else {**ROW, "best": "best: (iv), trained otherwise"}


def markdown(rows: list[dict[str, Any]]) -> str:
    return pd.DataFrame(rows).to_markdown(index=False, disable_numparse=True)


def plain(frame: pd.DataFrame) -> str:
    """Any table, its numbers as people read them: shares to three places, what is 10 or more to one."""
    shown = frame.map(lambda x: (f"{x:,.1f}" if abs(x) >= 10 else f"{x:.3f}") if isinstance(x, float) else x)
    return shown.to_markdown(disable_numparse=True)


def correlations(by_layer: Mapping[Any, Scores]) -> str:
    """Rank correlation by layer with its interval, from `scoring.selection.rank_correlation`."""
    rows = []
    for layer, found in by_layer.items():
        ends = "–" if not found["interval"] else "[{:+.2f}, {:+.2f}]".format(*found["interval"])
        value = "–" if found["value"] is None else f"{found['value']:+.2f}"
        rows.append({"layer": str(layer), "rank correlation with J&F": value, "interval": ends, "n": str(found["n"])})
    return markdown(rows)


def dataset(found: Statistics) -> str:
    """The paper's Table A4, and how the expressions divide, for one dataset."""
    counts = found.table()
    share = counts.pop("videos with an interaction")
    row = {name: f"{value:.2f}" if isinstance(value, float) else f"{value:,}" for name, value in counts.items()}
    row["videos with an interaction"] = f"{share:.1%}"
    types = [f"{n:,} {kind}" for kind, n in found.caption_types.most_common()]
    words = [word for word, _ in found.words.most_common(12)]
    return f"{markdown([row])}\n\nexpressions: {', '.join(types)}\nfrequent words: {', '.join(words)}"


def number(value: float | None) -> str:
    return "–" if value is None else f"{value:.1f}"


def with_interval(score: Scores | None, key: str = "J&F") -> str:
    """`52.3 [49.8, 54.9]`; a dash where the system does not support the role."""
    if not score or score[key] is None:
        return "–"
    interval = score.get("interval")
    return number(score[key]) + (f" {bounds(score, 'interval')}" if interval else "")


def bounds(score: Scores | None, key: str) -> str:
    """`[49.8, 54.9]`; a dash where there is none."""
    interval = score.get(key) if score else None
    return f"[{interval[0]:.1f}, {interval[1]:.1f}]" if interval else "–"


def ablation(
    experiments: Mapping[str, config.Experiment],
    scores: Mapping[str, Scores],
    published: Mapping[str, list[float]],
    names: Mapping[str, str] = ROW,
) -> str:
    """Table 4: which parts each row has, our J, F and J&F in the RVOS setting, and the paper's J&F."""
    yes = {True: "✓", False: "✗"}
    return markdown(
        [
            {
                "": names.get(name, name),
                "role tokens": yes[Role.TARGET in e.roles],
                "AML": yes[e.aml],
                "J": number(scores[name]["RVOS"]["J"]),
                "F": number(scores[name]["RVOS"]["F"]),
                "J&F (RVOS), ours": with_interval(scores[name]["RVOS"]),
                "J&F (Actor), ours": with_interval(scores[name]["InterRVOS-Actor"]),
                "J&F (Target), ours": with_interval(scores[name]["InterRVOS-Target"]),
                "J&F (RVOS), paper 1B": number(published[name][2]) if name in published else "–",
            }
            for name, e in experiments.items()
        ]
    )


def selection(
    scores: Mapping[str, Float[np.ndarray, "l h"]],
    chosen: Mapping[str, Any],
    stable: Mapping[str, Mapping[str, float]],
    rows: pd.DataFrame,
) -> str:
    """What each selection rule says of each layer (mean over heads), what it chooses, and how often again
    (`selection.stability`); then what the role tokens do there. Layers and heads count from 0."""
    choices = [
        {"rule": name, "layer": str(c.layer), "heads": ", ".join(map(str, c.heads))}
        | {"its score there": f"{scores[name][c.layer].mean():.3f}"}
        | {f"{what}, % of draws": number(100 * share) for what, share in stable[name].items()}
        for name, c in chosen.items()
    ]
    return f"{markdown(choices)}\n\n{attention_by_layer(rows)}"


def attention_by_layer(rows: pd.DataFrame) -> str:
    """What each role token does in each layer, from `scoring.selection.measure_attention`."""
    parts = []
    for role, own in rows.groupby("role", sort=False):
        by_layer = own.groupby("layer")
        mean = {name: np.asarray(by_layer[name].mean(), float) for name in ("vision", "differs", "own", "any")}
        known = {
            "attention to vision, %": 100 * mean["vision"],
            "differs between sentences, %": 100 * mean["differs"],
            "own object's share of that on any, %": 100 * mean["own"] / mean["any"],
        }
        area = 100 * own["own_area"].mean() / own["any_area"].mean()
        table = [
            {"": name} | {f"layer {layer}": number(float(x)) for layer, x in enumerate(by)}
            for name, by in known.items()
        ]
        title = f"Token of the {role}, mean over heads (the own object has {area:.1f} % of the objects' area):"
        parts.append(f"{title}\n\n{markdown(table)}")
    return "\n\n".join(parts)


def gains(differences: Mapping[str, Scores | None], names: Mapping[str, str] = ROW) -> str:
    """Paired differences to the baseline on the same expressions, with 95 % intervals over videos."""
    return "Paired difference to (i), RVOS J&F, in points:\n\n" + markdown(
        [
            {"": names.get(name, name), "difference": with_interval(d, "value"), "expressions": d["n"] if d else "–"}
            for name, d in differences.items()
        ]
    )


def seeds(
    levels: Mapping[str, Sequence[Mapping[str, Scores | None]]],
    confusion: Mapping[str, Sequence[Scores | None]],
    left: Mapping[str, Sequence[int | None]],
    gains: Mapping[str, Mapping[str, Mapping[str, Scores | None]]],
) -> str:
    """Every row's mean over seeds, with the lowest and the highest, and the steps at which its runs left the plateau
    (`scoring/plateau.py`); then `gains[row][other]`, by setting."""

    def over(scores: Sequence[Scores | None], key: str) -> str:
        values = [score[key] for score in scores if score and score[key] is not None]
        return f"{sum(values) / len(values):.1f} ({min(values):.1f}–{max(values):.1f})" if values else "–"

    runs = len(next(iter(levels.values())))
    first = [
        {"": ROW.get(name, name)}
        | {f"J&F ({s})": over([run[s] for run in found], "J&F") for s in SETTINGS}
        | {"roles confused where only motion tells, %": over(confusion[name], "value")}
        | {"left the plateau at step": ", ".join("never" if at is None else str(at) for at in left[name])}
        for name, found in levels.items()
    ]
    second = [
        {"": ROW.get(name, name), "against": ROW.get(other, other)}
        | {s: with_interval(found[s], "value") for s in SETTINGS}
        | {"RVOS, t over seeds": bounds(found["RVOS"], "t interval")}
        for name, others in gains.items()
        for other, found in others.items()
    ]
    differences = [found for others in gains.values() for found in others.values()]
    count = sum(bool(found[s]) for found in differences for s in SETTINGS)
    count += sum(bool(found["RVOS"] and found["RVOS"]["t interval"]) for found in differences)
    return (
        f"Mean of {runs} seeds (lowest–highest):\n\n{markdown(first)}\n\n"
        "Paired differences of the means, J&F in points, with intervals over seeds and videos by a hierarchical "
        "bootstrap, which of so few seeds covers less than the 95 % it is made for, and Student's t over their own "
        "differences beside it, which few seeds leave wide: a difference is one where neither has 0 in it. All pairs "
        f"of rows, so exploratory: {count} intervals, none corrected.\n\n{markdown(second)}"
    )


def chosen_by_seed(scored: Mapping[int, np.ndarray], heads: int) -> str:
    """What the paper's rule chooses on row (iii) of each seed, from its `scored` layers and heads [l h], and how alike
    the order of the layers is to that of the first seed (Spearman)."""
    first = pd.Series(next(iter(scored.values())).mean(1))
    rows = []
    for seed, scores in scored.items():
        found = choice.choose(scores, heads)
        alike = pd.Series(scores.mean(1)).corr(first, method="spearman")
        rows.append(
            {"seed": str(seed), "layer": str(found.layer), "heads": ", ".join(map(str, found.heads))}
            | {
                "attention to vision there, %": number(100 * scores[found.layer].mean()),
                "order of layers, correlation with the first": f"{alike:+.2f}",
            }
        )
    return (
        f"What the paper's rule chooses on row (iii) of each seed (layers and heads count from 0):\n\n{markdown(rows)}"
    )


def study(runs: Mapping[Any, Mapping[str, Any]], places: Mapping[Any, choice.Selection | None]) -> str:
    """A row a run (`studies.Variant`), with what 17_findings measured of it, and where its AML is (`places`); its
    backbone, where one has another."""
    others = any(variant.backbone for variant in runs)
    named = {v: f"layer {at.layer}, heads {', '.join(map(str, at.heads))}" for v in runs if (at := places[v])}
    return markdown(
        [
            {"row": ROW.get(variant.row, variant.row)}
            | ({"backbone": variant.backbone or "own"} if others else {})
            | {
                "rule": variant.rule,
                "AML on": named.get(variant, "–"),
                "clips": "all" if variant.clips is None else str(variant.clips),
                "seed": str(variant.seed),
            }
            | {setting: with_interval(found[setting]) for setting in SETTINGS}
            | {"confused by motion, %": with_interval(found["confused by motion"], "value")}
            | {"left the plateau at step": str(found["left the plateau at"] or "never")}
            for variant, found in runs.items()
        ]
    )


def what_aml_adds(gains: Mapping[str, Mapping[Any, Mapping[str, Any]]]) -> str:
    """`gains[study][variant][setting]`, of each run with AML against the same without (`studies.without_aml`)."""
    several = len({variant.seed for found in gains.values() for variant in found}) > 1
    return markdown(
        [
            {"study": study, "row": ROW.get(variant.row, variant.row), "otherwise": variant.otherwise}
            | ({"seed": str(variant.seed)} if several else {})
            | {setting: with_interval(gain[setting], "value") for setting in SETTINGS}
            for study, found in gains.items()
            for variant, gain in found.items()
        ]
    )


def where(differences: Mapping[str, Mapping[str, Mapping[str, Scores | None]]], against: Mapping[str, str]) -> str:
    """`differences[row][column][value]` of each row against another, from `metrics.difference_by_subset`."""
    columns = next(iter(differences.values()))
    rows = [
        {"by": column, "": value}
        | {
            f"{ROW.get(name, name)} against {ROW.get(against[name], against[name])}": with_interval(
                found[column].get(value), "value"
            )
            for name, found in differences.items()
        }
        for column, values in columns.items()
        for value in values
    ]
    count = sum(bool(found) for own in differences.values() for values in own.values() for found in values.values())
    return (
        "Where the attention mask loss helps or costs, RVOS J&F in points, with the bootstrap's intervals alone, which "
        f"are too narrow by so few seeds; {count} more, none corrected:\n\n{markdown(rows)}"
    )


def transfer(results: Mapping[str, Mapping[str, Mapping[str, Any]]], names: Mapping[str, str] = ROW) -> str:
    """J&F of each model on each data set it was not trained on; which of its targets it draws a mask for, and writes a
    token for; which way round."""
    rows = []
    for dataset, by_experiment in results.items():
        for name, scores in by_experiment.items():
            rvos, direction = scores["RVOS"], scores["direction"]
            rows.append(
                {"data": dataset, "model": names.get(name, name)}
                | {setting: with_interval(scores[setting]) for setting in SETTINGS}
                | {
                    "role confusion": with_interval(direction["role confusion"], "value"),
                    "targets drawn": with_interval(direction["detection recall"], "value"),
                    "targets written": with_interval(direction["detection recall by token"], "value"),
                    "expressions": rvos["n"] if rvos else 0,
                }
            )
    return markdown(rows) if rows else "No data to transfer to: neither a `shift` split nor `transfer.datasets`."


def comparison(
    profile: str, scores: Mapping[str, Scores], published: Mapping[str, Any], names: Mapping[str, str] = ROW
) -> str:
    """Table 2: actor, target and RVOS J&F, ours and the paper's."""
    ours = [
        {"": f"ours, {profile}: {names[name]}"} | {s: with_interval(scores[name][s]) for s in SETTINGS}
        for name in ("baseline", "full", "best")
    ]
    theirs = []
    for system, row in published["table 2"]["methods"].items():
        if system.startswith(("Sa2VA", "ReVIOSa")):
            theirs.append({"": f"paper: {system}"} | {s: number(row[s][2]) if row.get(s) else "–" for s in SETTINGS})
    return markdown(ours + theirs)


def roles(scores: Scores) -> str:
    """Direction metrics of one system, overall and by what tells the roles."""
    rows = []
    parts = {value: part["direction"] for value, part in scores["by subset"]["cue"].items()}
    for part, direction in {"all": scores["direction"], **parts}.items():
        row: dict[str, Any] = {"expressions told apart by": part}
        for name in (
            "joint J&F",
            "role confusion",
            "strict pair accuracy",
            "swap consistency",
            "detection F1",
            "detection F1 by token",
        ):
            row[name] = with_interval(direction[name], "value")
        row["n"] = direction["role confusion"]["n"] if direction["role confusion"] else 0
        rows.append(row)
    return markdown(rows)


def subsets(scores: Mapping[str, Scores], names: Mapping[str, str] = ROW) -> str:
    """RVOS J&F on every diagnostic subset, one column a system; role confusion of the last one."""
    first, last = next(iter(scores.values()))["by subset"], list(scores)[-1]
    rows = []
    for column, values in first.items():
        for value, part in values.items():
            own = {name: s["by subset"][column][value] for name, s in scores.items()}
            confusion = own[last]["direction"]["role confusion"]
            rows.append(
                {"subset": column, "": value, "n": part["scores"]["RVOS"]["n"]}
                | {names.get(name, name): number(s["scores"]["RVOS"]["J&F"]) for name, s in own.items()}
                | {f"role confusion {names.get(last, last)}": with_interval(confusion, "value") if confusion else "–"}
            )
    return markdown(rows)


def scores(summary: Scores, direction: Scores, why: str = "role not supported") -> str:
    """The three settings and the direction metrics of one system; `why` there is no score where there is none."""
    settings = [
        {"": name, "J": number(s["J"]), "F": number(s["F"]), "J&F": with_interval(s)}
        | {"J&F present": number(s["J&F present"]), "n": str(s["n"])}
        for name in SETTINGS
        if (s := summary[name])
    ]
    unsupported = {"J": "–", "F": "–", "J&F": why, "J&F present": "–", "n": "0"}
    settings += [{"": name} | unsupported for name in SETTINGS if not summary[name]]
    rows = [{"": n, "%": with_interval(v, "value"), "n": str(v["n"])} for n, v in direction.items() if v]
    return markdown(settings) + ("\n\n" + markdown(rows) if rows else "")


def controls(results: Mapping[str, Scores]) -> str:
    """What changed inputs do to one system."""
    if not results:
        return "Not known: inputs are changed where it is known what happens in them, as in InterShapes."
    rows = []
    for name, scores in results.items():
        roles = {part: scores[part]["role confusion"] for part in ("all", "same names")}
        rows.append(
            {"given": name}
            | {setting: with_interval(scores["scores"][setting]) for setting in list(SETTINGS)[:2]}
            | {f"role confusion, {part}": with_interval(r, "value") if r else "–" for part, r in roles.items()}
            | {"expressions": scores["scores"]["InterRVOS-Actor"]["n"]}
            | {"RVOS of one object by its looks": with_interval(scores["looks"])}
        )
    return markdown(rows)


def blind(table: pd.DataFrame) -> str:
    """What predictors get that do not read or do not watch."""
    rows = []
    for row in table.to_dict("records"):
        row = {key: None if value is None or value is pd.NA or value != value else value for key, value in row.items()}
        named = {key: row[key] for key in ("question", "predictor", "sentences")}
        rows.append(
            named | {"accuracy": with_interval(row, "accuracy"), "chance": number(row["chance"]), "n": row["n"]}
        )
    return markdown(rows)


def orders(table: pd.DataFrame) -> str:
    """What knowing every place is worth, with frames in order and shuffled."""
    return markdown(
        [
            {"frames": row["frames"], "accuracy": with_interval(row, "accuracy"), "chance": number(50.0), "n": row["n"]}
            for row in table.to_dict("records")
        ]
    )
