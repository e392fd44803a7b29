"""Whole pages: the report, and the data's card. Every number comes from what the notebooks measured."""

from __future__ import annotations

import json
import os.path
from collections.abc import Mapping
from typing import Any

import pandas as pd

from reviosa_core import config
from reviosa_core.report import findings as claims
from reviosa_core.report.tables import (
    ROW,
    Scores,
    attention_by_layer,
    blind,
    comparison,
    markdown,
    number,
    orders,
    roles,
    subsets,
    with_interval,
)
from reviosa_core.scoring.metrics import SETTINGS


def summary(scores: Mapping[str, Scores]) -> dict[str, dict[str, float]]:
    """J&F in percent by row and setting: the few numbers that `dvc metrics` and `dvc exp` compare. None is left out."""
    return {
        row: {name: own[name]["J&F"] for name in SETTINGS if own[name] and own[name]["J&F"] is not None}
        for row, own in scores.items()
    }


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
    frame_table: pd.DataFrame,
    order_table: pd.DataFrame,
    verbs: list[str],
) -> str:
    """What InterShapes is, what is in it, what cannot be had from it by guessing, and every verb in pictures."""
    data, hard = project.settings.data, project.settings.data.difficulty
    lines = [
        "# InterShapes",
        f"Profile `{project.profile}`, seed {project.settings.seed}; written by notebook 01.",
        "Procedural clips in the InterRVOS-127K file format. Shapes of known class and colour interact in pairs; sentences "
        "say who does what to whom; masks are exact. Who acts takes more than one look: whether the circle pushes the square "
        "or is pushed by it, the text, the looks and one frame, the first or the last, are the same. "
        "How much several frames tell without their order is below.",
        "## What is in it",
        markdown(counts),
        f"{data.frames} frames of {data.size} x {data.size} pixels; {hard.objects[0]}–{hard.objects[1]} objects; "
        f"clips are drawn with two interacting pairs ({hard.two_pairs:.0%}), none ({hard.no_interaction:.0%}) or one; "
        f"{hard.lookalikes:.0%} of pairs have the same class and colour; {hard.twins:.0%} of the two-pair clips have pairs "
        f"that look the same; {hard.mimics:.0%} of the moving bystanders move as if with a partner who is not there, and "
        "sentences name that partner. The split `shift` has colours of classes never seen elsewhere, other textures and "
        "speeds. `reviosa data intershapes --help` makes more, easier or harder. What is not in it: photographs, "
        "deformable objects, camera motion, free language.",
        "![Statistics](figures/dataset.png)",
        "The split `train`. An event is said in both voices, and not at all where words cannot tell it from another.",
        "## What can be had without reading or watching",
        "Each predictor is scored on the sentences made against it, in percent; fitted ones (boosted trees) learn on one "
        "half of the train split and are scored on the other. All of these should stay near chance.",
        blind(blind_table[blind_table["against"]]),
        "Which frame is shared is a coin toss for the first pair of a clip; for the second, and in `shift`, it is the "
        "first. The other frame is not shared, and gives something away; on sentences not made against it:",
        blind(blind_table[~blind_table["against"]]),
        "Who takes part can be learned from the first frame: an interacting pair always starts with a gap of 0.1 to 0.3 of "
        "the frame's side, and where there is room for what it does; other pairs do less often. The nearest pair stays at "
        "chance, as bystanders start equally near; boosted trees on each pair's gap and its distance from the middle, "
        "without any text, do not. In the last frame objects that have interacted are near each other.",
        "In all, where both objects are called the same, by the same trees, which know every place in the frame, fitted on "
        "the whole train split:",
        blind(frame_table),
        "This, and not only chance, is what a system's role confusion is to be compared with where names do not tell: one "
        "that is wrong as often need not have watched.",
        "## What is in the order of frames",
        "Who acts, said by somebody who knows the verb and every place of the two objects (boosted trees on the true "
        "centres; halves as above), in percent. What the places tell without their order, a system may rightly keep when "
        "frames are shuffled.",
        orders(order_table),
        "## The verbs",
        "Actor blue, target orange, in the first clip that has the verb. `partner absent`: the sentence names a partner that "
        "is not in the clip, so there is no target.",
        "\n\n".join(f"### {verb}\n\n![{verb}](figures/gallery/{verb.replace(' ', '-')}.png)" for verb in verbs),
    ]
    return "\n\n".join(lines) + "\n"


def by_one_frame(still: Mapping[str, Scores]) -> str:
    """What stands beside chance: the role confusion of predictors that see one frame (`blind.confusion` of a split)."""
    wrong = [f"{with_interval(own['role confusion'], 'value')} with {name}" for name, own in still.items()]
    where = "for trees that know every place in one frame"
    return f" ({where}, {', '.join(wrong)}: [InterShapes](intershapes.md))" if wrong else ""


BESIDE = {
    "baselines.md": "ReferFormer, IFIRVOS and SOC beside the one-token system and ReVIOSa (`make baselines`)",
    "tables/seeds.md": "Table 4 in the mean of several seeds (`make seeds`)",
    "tables/studies.md": "when attention supervision helps: layers, rates, forms, labels, backbones (`make studies`)",
    "tables/annotation.md": "the annotation pipeline and its errors (`make annotation`)",
}


def report(
    project: config.Project,
    scores: Mapping[str, Scores],
    published: Mapping[str, Any],
    minutes: Mapping[str, float],
    left: Mapping[str, int | None],
) -> str:
    """The report page. Tables and figures that other stages wrote are taken from their files. `left`: when a row left
    its plateau (`plateau.left_at`)."""
    shares = json.loads(project.report("metrics", "attention.json").read_text())
    correlation = shares.pop("rank correlation with J&F")
    attention = pd.DataFrame(shares).T.round(3)
    pictures = {kind: sorted(project.report("figures", kind).glob("*.png")) for kind in ("samples", "attention")}
    figures = {
        kind: "\n\n".join(f"![{kind}](figures/{kind}/{path.name})" for path in paths)
        for kind, paths in pictures.items()
    }
    settings = project.settings
    metrics_page = os.path.relpath(project.root / "docs" / "metrics.md", project.report())
    seeds = "tables/seeds.md"
    pair = json.loads(project.report("metrics", "controls.json").read_text())["right pair"]
    still = json.loads(project.report("metrics", "blind.json").read_text()).get("test", {})
    otherwise = settings.best.model_dump(exclude_none=True)
    stuck = " and ".join(ROW[row] for row, step in left.items() if step is None)
    lines = [
        "# Report",
        f"Profile `{project.profile}`, seed {settings.seed}; written by notebook 08 from what the other notebooks measured.",
        "**Scale.** The paper trains InternVL-2.5 (1B, 4B) and SAM2 on InterRVOS-127K: real videos, 127K expressions. This "
        f"run trains the same architecture at a few million parameters on {settings.data.splits.train} procedural clips "
        "(InterShapes) for minutes, and tests it on procedural clips. The columns stand side by side to compare *shapes*: "
        "which row beats which. The levels are not comparable. What the clips are, and what can be had on them without "
        "reading or watching: [InterShapes](intershapes.md).",
        f"**Words.** J is the overlap of two masks, F that of their outlines, J&F their mean ([metrics]({metrics_page}) has "
        "every number). AML is the attention mask loss. Rows (i) to (iv) are those of the paper's Table 4; in figures, rows "
        f"have their names of params.yaml: {', '.join(f'`{name}`: {said}' for name, said in ROW.items() if name != 'best')}.",
        "## Actor, target and RVOS (paper: Table 2)",
        "J&F in percent, with 95 % bootstrap intervals over videos. A dash: the system has no target role.",
        comparison(project.profile, scores, published),
        *[
            f"**{stuck} never left the plateau, on which masks learn next to nothing**: what is above is the score of not "
            "having learned to point, at the one rate of these rows. At others it may (`make studies`: rates)."
        ][: len(stuck)],
        "## Role tokens and attention mask loss (paper: Table 4)",
        "Rows (i) to (iv) under the paper's conditions: a backbone whose attention nobody has supervised, one learning rate "
        f"for everything ({settings.train.lr:g}), {settings.train.steps} steps. `best` is row (iv) with "
        f"{', '.join(f'{key} {value:g}' for key, value in otherwise.items()) or 'nothing changed'} (params.yaml). One "
        "fine-tuning run a row: `make seeds` trains more of them and writes "
        f"{f'[{seeds}]({seeds})' if project.report(seeds).is_file() else f'`{seeds}`'}. Where a row's Dice loss stayed flat "
        "(`dice` in the training curves, below), its token has not learned to point, and the size of a difference to it says "
        "how far the other got, not how much better it is.",
        project.report("tables", "ablation.md").read_text().strip(),
        "![Ablation](figures/ablation.png)",
        "Claim by claim: [findings](findings.md).",
        "## Who does what to whom",
        "The best row. `role confusion` is the share of interactions whose two masks fit the roles better the wrong way "
        "round; where they fit both ways alike, as silence does or one mask for both, it counts half. Under `motion`, actor "
        f"and target are called the same and only motion tells them apart: chance is 50{by_one_frame(still)}. `detection` is that of drawing a "
        "target for interactions and for nothing else, `by token` that of writing its token. "
        f"[Metrics]({metrics_page}) says what each number is.",
        roles(scores["best"]),
        "Truth above, answer below: from good to bad the expressions at the 90th, 70th, 40th and 10th percentile of J&F "
        "among the interactions that names alone do not decide, so that nobody has picked them.",
        figures["samples"],
        "## Does it read, does it watch?",
        "The best row on changed inputs, scored against the unchanged truth. With names of other objects, and with the "
        "opposite verb, a system that reads must lose; with frames in disorder, one that follows what happens loses the "
        "roles, though much of who acts is in the places alone ([the data card](intershapes.md) says how much). "
        f"In clips with two pairs it segments the right one for {with_interval(pair, 'value')} % of the sentences "
        f"(n = {pair['n'] if pair else 0}; chance 50).",
        project.report("tables", "controls.md").read_text().strip(),
        "## By diagnostic subset",
        "J&F (RVOS). `cue`: what tells the objects apart, names (`appearance`), what happens (`motion`), or both together; "
        "`pairs`: interacting pairs in the clip; `occlusion`: how much of an object that is meant others hide, at the worst, "
        "`more` from 15 % on; `kind`: of sentence. Figure: the best row with 95 % intervals over videos; "
        "in brackets, how many sentences.",
        "![Subsets](figures/subsets.png)",
        subsets(scores),
        "## Attention (paper: Fig. 6, A4, A1)",
        "Where the role token looks, by layer and head, on the model without AML; the chosen ones in colour "
        f"(rule `{settings.selection.rule}`, layers and heads count from 0):",
        "![Layer-head selection](figures/layer_head_selection.png)",
        "What other rules would choose: `to_vision`, the paper's, the layer with most attention to the video, and its highest "
        "heads; `has_read`, the same among layers whose maps differ between sentences; `own_object`, where most of the "
        "attention on any object is on the own one. `% of draws`: how often the rule chooses so again when videos are drawn "
        "anew.",
        project.report("tables", "selection.md").read_text().strip(),
        "Attention of the two heads that AML supervises, as a share of all attention, and how much of it falls on objects. A "
        "token that knows which object is meant gives the own one more of its attention on objects than that one has of "
        "their area; where the two shares are alike, it tells objects from background, and not from each other:",
        attention.to_markdown(),
        "The same in the first test clips with an interaction; of each, its first sentence. Bright is where the token looks, "
        "on a scale of the line's own; the contour is the true object. `objects`: how much of the token's attention to the "
        "video falls on any object; `own`: how much of that on its own, and in brackets that one's share of the objects' "
        "area. Frames have the clip's numbers; these are the ones that the model reads.",
        figures["attention"],
        "Attention on the own object over its share of the area (1: what uniform attention gives), by layer, for expressions "
        "segmented badly to well, on the model *without* AML; and how it goes with J&F (Spearman, 95 % over videos): "
        + ", ".join(
            f"layer {layer} {found['value']:+.2f} [{found['interval'][0]:+.2f}, {found['interval'][1]:+.2f}]"
            for layer, found in correlation.items()
            if found["interval"]
        )
        + ".",
        "![Attention and quality](figures/attention_vs_quality.png)",
        "## Zero-shot transfer",
        "Data that the rows were not trained on; InterShapes' `shift` has other colours of classes, textures and speeds than "
        "training. `targets drawn`: of the sentences that have a target, in percent, those whose answer has a mask for it; "
        "`targets written`: those whose answer has its token.",
        project.report("tables", "transfer.md").read_text().strip(),
        "## Beside it",
        "\n".join(f"- [{said}]({page})" for page, said in BESIDE.items() if project.report(page).is_file())
        or "Other pipelines write pages of their own: " + ", ".join(BESIDE.values()) + ".",
        "## Training",
        "Loss by step, smoothed over the faint raw values. The two backbones (phase a), InternVL and SAM2:",
        "![InternVL](figures/pretraining_internvl.png)",
        "![SAM2](figures/pretraining_sam2.png)",
        "The rows (phase b): `ce` and `dice` compare masks, `text` the written answer, `aml` attention, all weighted; `loss` "
        "is their sum.",
        "![Training curves](figures/training_curves.png)",
        "## What ran, and how long",
        markdown([{"notebook": name, "minutes": number(value)} for name, value in minutes.items()]),
        "Times of the last execution of each notebook, beside whatever else the machine did: a stage that DVC skipped keeps "
        "its earlier one, and one that was interrupted counts from where it went on. Rows run side by side (`at_once` in params.yaml), so that these add up "
        "to more than the clock showed.",
    ]
    return "\n\n".join(lines) + "\n"


def backbone(project: config.Project, before: pd.DataFrame, after: pd.DataFrame, clips: int) -> str:
    """The card of what fine-tuning starts from: what its attention knows, from `selection.measure_attention` of the
    untrained system and of row (iii)."""
    start = project.settings.pretrain
    made = (
        "Made from nothing by notebook 02, on procedural clips that no split contains: SAM2 learns to segment what is "
        "pointed at and to follow it; InternVL to name what it sees (`vision`; in the figure, to see), to say where it was "
        "and what it does (`watching`; to watch), and to answer questions about where things are (`mllm`; to read). The answers' words are all that is "
        f"supervised in reading, for {start.mllm.steps} steps; attention never is, as InternVL's never was. Figures: loss by "
        "step, smoothed over the faint raw values.\n\n"
        "![InternVL](figures/pretraining_internvl.png)\n\n![SAM2](figures/pretraining_sam2.png)"
        if isinstance(start, config.Pretrain)
        else f"Released weights: {start.internvl}, {start.sam2}."
    )
    lines = [
        "# What fine-tuning starts from",
        f"Profile `{project.profile}`; written by notebook 04. {made}",
        "## What its attention knows",
        f"On {clips} clips of `val`, before anything is fine-tuned: the role tokens are new, and say nothing yet of what "
        "they ask for. `attention to vision` is of all attention; the last line says what the object that is meant gets of "
        "the attention on any object. Where that is its share of their area, attention tells objects from background "
        "at most.",
        attention_by_layer(before),
        "## And after fine-tuning without AML, row (iii)",
        attention_by_layer(after),
        "What the own object gets of the attention on any, over its share of their area, by layer and head (1: what the area "
        "gives); above before fine-tuning, below in row (iii):",
        "![Own object](figures/own_object.png)",
    ]
    return "\n\n".join(lines) + "\n"


def findings(
    project: config.Project, scores: Mapping[str, Scores], published: Mapping[str, Any], measured: Mapping[str, Any]
) -> str:
    """The paper's claims beside what the stages measured: `measured` is what they left in reports/metrics, by name,
    and when each row left its plateau."""
    shares = dict(measured["attention"])
    correlation = shares.pop("rank correlation with J&F")
    found = [
        *claims.steps(
            measured["ablation"],
            published["table 4"]["experiments"],
            {row: [step] for row, step in measured["plateau"].items()},
            "`make repro`, tables/ablation.md; over seeds, tables/seeds.md",
        ),
        *claims.layers(measured["selection"]["attention to vision"]),
        *claims.attention(shares, correlation),
        *claims.level(scores),
    ]
    return claims.page(found, project.profile)
