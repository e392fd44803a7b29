"""Tables and the report page, as Markdown. Every number comes in as an argument."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from reviosa_core import config
from reviosa_core.data.statistics import Statistics
from reviosa_core.metrics import SETTINGS
from reviosa_core.schema import Role

Scores = Mapping[str, Any]  # what metrics.summarise gives, with more keys perhaps
ROW = {"baseline": "(i) one token", "aml": "(ii) + AML", "tokens": "(iii) + role tokens", "full": "(iv) ReVIOSa"}


def markdown(rows: list[dict[str, Any]]) -> str:
    return pd.DataFrame(rows).to_markdown(index=False, disable_numparse=True)


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
    return number(score[key]) + (f" [{interval[0]:.1f}, {interval[1]:.1f}]" if interval else "")


def ablation(
    experiments: Mapping[str, config.Experiment], scores: Mapping[str, Scores], published: Mapping[str, list[float]]
) -> str:
    """Table 4: which parts each row has, our J, F and J&F in the RVOS setting, and the paper's J&F."""
    yes = {True: "✓", False: "✗"}
    return markdown(
        [
            {
                "": ROW.get(name, name),
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


def gains(differences: Mapping[str, Scores | None]) -> str:
    """Paired differences to the baseline on the same expressions, with 95 % intervals over videos."""
    return "Paired difference to (i), RVOS J&F, in points:\n\n" + markdown(
        [
            {"": ROW.get(name, name), "difference": with_interval(d, "value"), "expressions": d["n"] if d else "–"}
            for name, d in differences.items()
        ]
    )


def seeds(
    levels: Mapping[str, Sequence[Mapping[str, Scores | None]]],
    confusion: Mapping[str, Sequence[Scores | None]],
    gains: Mapping[str, Mapping[str, Mapping[str, Scores | None]]],
) -> str:
    """Every row's mean over seeds, with the lowest and the highest; then `gains[row][other]`, by setting."""

    def over(scores: Sequence[Scores | None], key: str) -> str:
        values = [score[key] for score in scores if score and score[key] is not None]
        return f"{sum(values) / len(values):.1f} ({min(values):.1f}–{max(values):.1f})" if values else "–"

    runs = len(next(iter(levels.values())))
    first = [
        {"": ROW.get(name, name)}
        | {f"J&F ({s})": over([run[s] for run in found], "J&F") for s in SETTINGS}
        | {"roles confused where only motion tells, %": over(confusion[name], "value")}
        for name, found in levels.items()
    ]
    second = [
        {"": ROW.get(name, name), "against": ROW.get(other, other)}
        | {s: with_interval(found[s], "value") for s in SETTINGS}
        for name, others in gains.items()
        for other, found in others.items()
    ]
    return (
        f"Mean of {runs} seeds (lowest–highest):\n\n{markdown(first)}\n\n"
        f"Paired differences of the means, J&F in points, with 95 % intervals over videos:\n\n{markdown(second)}"
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
    return f"Where the attention mask loss helps or costs, RVOS J&F in points, likewise:\n\n{markdown(rows)}"


def transfer(results: Mapping[str, Mapping[str, Mapping[str, Any]]]) -> str:
    """J&F of each model on each data set it was not trained on; which of its targets it answers, and which way round."""
    rows = []
    for dataset, by_experiment in results.items():
        for name, scores in by_experiment.items():
            rvos, direction = scores["RVOS"], scores["direction"]
            rows.append(
                {"data": dataset, "model": ROW.get(name, name)}
                | {setting: with_interval(scores[setting]) for setting in SETTINGS}
                | {
                    "role confusion": with_interval(direction["role confusion"], "value"),
                    "targets answered": with_interval(direction["detection recall"], "value"),
                    "expressions": rvos["n"] if rvos else 0,
                }
            )
    return markdown(rows)


def comparison(profile: str, scores: Mapping[str, Scores], published: Mapping[str, Any]) -> str:
    """Table 2: actor, target and RVOS J&F, ours and the paper's."""
    ours = [
        {"": f"ours, {profile}: {ROW[name]}"} | {s: with_interval(scores[name][s]) for s in SETTINGS}
        for name in ("baseline", "full")
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
        for name in ("joint J&F", "role confusion", "strict pair accuracy", "swap consistency", "detection F1"):
            row[name] = with_interval(direction[name], "value")
        row["n"] = direction["role confusion"]["n"] if direction["role confusion"] else 0
        rows.append(row)
    return markdown(rows)


def subsets(scores: Mapping[str, Scores]) -> str:
    """RVOS J&F on every diagnostic subset, one column a system; role confusion of the last one."""
    first, last = next(iter(scores.values()))["by subset"], list(scores)[-1]
    rows = []
    for column, values in first.items():
        for value, part in values.items():
            own = {name: s["by subset"][column][value] for name, s in scores.items()}
            confusion = own[last]["direction"]["role confusion"]
            rows.append(
                {"subset": column, "": value, "n": part["scores"]["RVOS"]["n"]}
                | {ROW.get(name, name): number(s["scores"]["RVOS"]["J&F"]) for name, s in own.items()}
                | {f"role confusion {ROW.get(last, last)}": with_interval(confusion, "value") if confusion else "–"}
            )
    return markdown(rows)


def scores(summary: Scores, direction: Scores) -> str:
    """The three settings and the direction metrics of one system."""
    settings = [
        {"": name} | {key: number(s[key]) for key in ("J", "F")} | {"J&F": with_interval(s), "n": str(s["n"])}
        for name in SETTINGS
        if (s := summary[name])
    ]
    settings += [{"": n, "J": "–", "F": "–", "J&F": "role not supported", "n": "0"} for n in SETTINGS if not summary[n]]
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
            | {setting: with_interval(scores["scores"][setting]) for setting in SETTINGS[:2]}
            | {f"role confusion, {part}": with_interval(r, "value") if r else "–" for part, r in roles.items()}
            | {"expressions": scores["scores"]["InterRVOS-Actor"]["n"]}
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


def own_data_card(project: config.Project, counts: list[dict[str, Any]]) -> str:
    """What is in somebody's own data."""
    lines = [
        "# The data",
        f"Profile `{project.profile}`; written by notebook 01, which found these splits in `data/{project.profile}` and left "
        "them alone. They are not InterShapes: nothing is known of what tells actor from target in them, so the report has "
        "no subsets and no changed inputs. `reviosa data stats` says more about each.",
        markdown(counts),
        "![Statistics](figures/dataset.png)",
    ]
    return "\n\n".join(lines) + "\n"


def data_card(
    project: config.Project,
    counts: list[dict[str, Any]],
    blind_table: pd.DataFrame,
    order_table: pd.DataFrame,
    verbs: list[str],
) -> str:
    """What InterShapes is, what is in it, what cannot be had from it by guessing, and every verb in pictures."""
    data, hard = project.settings.data, project.settings.data.difficulty
    lines = [
        "# InterShapes",
        f"Profile `{project.profile}`, seed {project.settings.seed}; written by notebook 01.",
        "Procedural clips in the InterRVOS-127K file format. Shapes of known class and colour interact in pairs; sentences "
        "say who does what to whom; masks are exact. Who acts is visible in the motion only: whether the circle pushes "
        "the square or is pushed by it, the text, the looks and (for half of the clips each) the first or the last frame "
        "are the same.",
        "## What is in it",
        markdown(counts),
        f"{data.frames} frames of {data.size} x {data.size} pixels; {hard.objects[0]}–{hard.objects[1]} objects; "
        f"{hard.two_pairs:.0%} of clips have two interacting pairs, {hard.no_interaction:.0%} none; "
        f"{hard.lookalikes:.0%} of pairs have the same class and colour; {hard.twins:.0%} of the two-pair clips have pairs "
        f"that look the same; {hard.mimics:.0%} of the moving bystanders move as if with a partner who is not there, and "
        "sentences name that partner. The split `shift` has colours of classes never seen elsewhere, other textures and "
        "speeds. `reviosa data intershapes --help` makes more, easier or harder. What is not in it: photographs, "
        "deformable objects, camera motion, free language.",
        "![Statistics](figures/dataset.png)",
        "## What can be had without reading or watching",
        "Each predictor is scored on the sentences made against it, in percent; fitted ones (boosted trees) learn on one "
        "half of the train split and are scored on the other. All should stay near chance.",
        blind(blind_table[blind_table["against"]]),
        "Which frame is shared is a coin toss for the first pair of a clip; for the second, and in `shift`, it is the "
        "first. Who has interacted is near each other. What one frame gives away, so, on sentences not made against it:",
        blind(blind_table[~blind_table["against"]]),
        "## What is in the order of frames",
        "Who acts, said by somebody who knows the verb and every place of the two objects (boosted trees on the true "
        "centres; halves as above), in percent. What the places tell without their order, a system may rightly keep when "
        "frames are shuffled.",
        orders(order_table),
        "## The verbs",
        "Actor blue, target orange, in the first clip that has the verb.",
        "\n\n".join(f"### {verb}\n\n![{verb}](figures/gallery/{verb.replace(' ', '-')}.png)" for verb in verbs),
    ]
    return "\n\n".join(lines) + "\n"


def report(
    project: config.Project, scores: Mapping[str, Scores], published: Mapping[str, Any], minutes: Mapping[str, float]
) -> str:
    """The report page. Tables and figures that other stages wrote are taken from their files."""
    attention = pd.read_json(project.report("metrics", "attention.json"), orient="index").round(3)
    pictures = {kind: sorted(project.report("figures", kind).glob("*.png")) for kind in ("samples", "attention")}
    figures = {
        kind: "\n\n".join(f"![{kind}](figures/{kind}/{path.name})" for path in paths)
        for kind, paths in pictures.items()
    }
    settings = project.settings
    pair = json.loads(project.report("metrics", "controls.json").read_text())["right pair"]
    lines = [
        "# Report",
        f"Profile `{project.profile}`, seed {settings.seed}; written by notebook 08 from what the other notebooks measured.",
        "**Scale.** The paper trains InternVL-2.5 (1B, 4B) and SAM2 on InterRVOS-127K: real videos, 127K expressions. This "
        f"run trains the same architecture at a few million parameters on {settings.data.splits.train} procedural clips "
        "(InterShapes) for minutes, and tests it on procedural clips. The columns stand side by side to compare *shapes*: "
        "which row beats which. The levels are not comparable. What the clips are, and what can be had on them without "
        "reading or watching: [InterShapes](intershapes.md).",
        "## Actor, target and RVOS (paper: Table 2)",
        "J&F in percent, with 95 % bootstrap intervals over videos. A dash: the system has no target role.",
        comparison(project.profile, scores, published),
        "## Role tokens and attention mask loss (paper: Table 4)",
        "One fine-tuning run a row: `make seeds` trains more of them and writes `tables/seeds.md`. Where the cross-entropy "
        "of a row stayed flat (training curves, below), its token has not learned to point, and the size of a difference "
        "to it means nothing.",
        project.report("tables", "ablation.md").read_text().strip(),
        "![Ablation](figures/ablation.png)",
        "## Who does what to whom",
        "The full model. `role confusion` is the share of interactions whose two masks fit the roles better the wrong way "
        "round. Under `motion`, actor and target are called the same and only motion tells them apart: chance is 50.",
        roles(scores["full"]),
        figures["samples"],
        "## Does it read, does it watch?",
        "The full model on changed inputs, scored against the unchanged truth. With names of other objects, and with the "
        "opposite verb, a system that reads must lose; with frames in disorder, one that follows what happens loses the "
        "roles, though much of who acts is in the places alone ([the data card](intershapes.md) says how much). "
        f"In clips with two pairs it segments the right one for {with_interval(pair, 'value')} % of the sentences "
        f"(n = {pair['n'] if pair else 0}; chance 50).",
        project.report("tables", "controls.md").read_text().strip(),
        "## By diagnostic subset",
        "J&F (RVOS).",
        "![Subsets](figures/subsets.png)",
        subsets(scores),
        "## Attention (paper: Fig. 6, A4, A1)",
        "Where the role token looks, by layer and head, on the model without AML; the chosen ones in colour:",
        "![Layer-head selection](figures/layer_head_selection.png)",
        "Attention of the supervised heads, summed over the visual tokens, and the part of it on the token's own object:",
        attention.to_markdown(),
        figures["attention"],
        "Attention on the object, by layer, for expressions segmented badly to well:",
        "![Attention and quality](figures/attention_vs_quality.png)",
        "## Zero-shot transfer",
        project.report("tables", "transfer.md").read_text().strip(),
        "## Training",
        "The two backbones (phase a):",
        "![InternVL](figures/pretraining_internvl.png)",
        "![SAM2](figures/pretraining_sam2.png)",
        "The four rows (phase b):",
        "![Training curves](figures/training_curves.png)",
        "## What ran, and how long",
        markdown([{"notebook": name, "minutes": number(value)} for name, value in minutes.items()]),
        "Times of the last execution of each notebook: a stage that DVC skipped keeps its earlier one, and one that was "
        "interrupted counts from where it went on.",
    ]
    return "\n\n".join(lines) + "\n"
