"""Whole pages: the report, and the data's card. Every number comes from what the notebooks measured."""

from __future__ import annotations

import json
import os.path
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from reviosa_core import config
from reviosa_core.report import findings as claims
from reviosa_core.report.tables import (
    Scores,
    attention_by_layer,
    blind,
    comparison,
    markdown,
    named,
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
    alike: tuple[int, int],
) -> str:
    """What InterShapes is, what is in it, what cannot be had from it by guessing, and every verb in pictures. `alike`
    are those of `blind.alike`."""
    data, hard = project.settings.data, project.settings.data.difficulty
    lines = [
        "# InterShapes",
        f"Profile `{project.profile}`, seed {project.settings.seed}; written by notebook 01.",
        "Procedural clips in the InterRVOS-127K file format. Shapes of known class and colour interact in pairs; sentences "
        "say who does what to whom; masks are exact. Whether the circle pushes the square or is pushed by it, the text, the "
        "looks and one frame, the first or the last, are the same. What the other one gives away is below, and how much "
        "several frames tell without their order.",
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
        "The split `train`. An event is said in both voices, and not at all where the same words, verb included, are true "
        f"of another. Verbs may look alike: in {alike[0]} of its {alike[1]} sentences with a target "
        f"({alike[0] / max(alike[1], 1):.1%}) another pair is called the same in the same roles, and is at another of "
        "chase, follow and catch. A fine difference of motion tells the two, and people could disagree.",
        "## What can be had without reading or watching",
        "Each predictor is scored on the sentences made against it, in percent; fitted ones (boosted trees) learn on one "
        "half of the train split and are scored on the other. Clips and sentences are made to keep each near chance; which "
        "is not, is said below the table.",
        blind(blind_table[blind_table["against"]]),
        "Below chance is as good as above it, turned round: the first mover acts less often than not, since who is "
        "followed, chased or caught sets out first.",
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
SHIFTED = "; InterShapes' `shift` has other colours of classes, textures and speeds than training"
SUBSETS = (
    "## By diagnostic subset\n\n"
    "J&F (RVOS). `cue`: what tells the objects apart, names (`appearance`), what happens (`motion`), or both together; "
    "`pairs`: interacting pairs in the clip; `occlusion`: how much of an object that is meant others hide, at the worst, "
    "`more` from 15 % on; `kind`: of sentence. Figure: the best row with 95 % intervals over videos; "
    "in brackets, how many sentences.\n\n![Subsets](figures/subsets.png)"
)
NUMBERS = ("no", "one", "two", "three", "four", "five", "six")


def _trained(start: config.Pretrain | config.Released, parameters: int) -> str:
    """What is fine-tuned, of `parameters` in the files of a trained row."""
    size = f"{parameters / 1e6:,.1f}".removesuffix(".0") + " million parameters"
    if isinstance(start, config.Released):
        return f"weights as released ({Path(start.internvl).name}, {Path(start.sam2).name}; {size})"
    return f"the paper's architecture from nothing, at {size}"


def _rates(train: config.Train) -> str:
    """The learning rates of a row of Table 4. The paper has one."""
    if train.lr == train.decoder_lr == train.projector_lr:
        return f"one learning rate for everything ({train.lr:g})"
    return (
        f"learning rates of {train.lr:g}, {train.decoder_lr:g} for the mask decoder and {train.projector_lr:g} for the "
        "role tokens' MLP, where the paper has one"
    )


def _scale(project: config.Project, clips: Mapping[str, int], parameters: int) -> str:
    """What this run is, beside the paper's. `clips`: how many were read, by split."""
    train, test, folder = f"{clips['train']:,}", f"{clips['test']:,}", f"`data/{project.profile}`"
    data = (
        f"the {train} clips of {folder}/train, and tests it on the {test} of {folder}/test: levels compare as far as data "
        "and sizes do. [The data](intershapes.md)."
        if config.is_own(project.data("train"))
        else f"{train} procedural clips (InterShapes), and tests it on {test} more: the levels are not comparable. What the "
        "clips are, and what can be had on them without reading or watching: [InterShapes](intershapes.md)."
    )
    return (
        "**Scale.** The paper trains InternVL-2.5 (1B, 4B) and SAM2 on InterRVOS-127K: real videos, 127K expressions. This "
        f"run trains {_trained(project.settings.pretrain, parameters)}, on {data} The columns stand side by side to compare "
        "*shapes*: which row beats which."
    )


def _controls(found: Mapping[str, Any], some: int, test: int) -> list[str]:
    """What changed inputs do, or nothing where none were measured. `found` is metrics/controls.json; `some` of the `test`
    clips were changed."""
    pair, changed = found["right pair"], {name: own for name, own in found.items() if name != "right pair"}
    if not changed:
        return []
    stands = {"holds": "more than 50", "doesn't": "less than 50", "can't tell": "not told from 50"}
    turned = [
        f"{given}, {with_interval(score, 'value')} % (n = {score['n']}; {stands[claims.beside(score, 50.0)]})"
        for name, given in (("opposite verb", "given the opposite verb"), ("reversed time", "in reversed time"))
        if (score := changed[name]["same names"]["role confusion"] if name in changed else None)
    ]
    said = [
        f"The best row on changed inputs, on {f'the first {some} of the {test}' if some < test else f'all {test}'} test "
        "clips, scored against the unchanged truth. With names of other objects, and with the opposite verb, a system that "
        "reads must lose; with frames in disorder, one that follows what happens loses the roles, though much of who acts "
        "is in the places alone ([the data card](intershapes.md) says how much). Part of what disorder costs is that other "
        "frames are read, prompted and tracked: sentences about one object by its looks (last column) need no watching."
    ]
    if turned:
        said.append(
            f"So often it turns the roles round where both objects bear one name: {'; '.join(turned)}. An answer that does "
            "not tell the two apart has 50."
        )
    if pair and pair["n"]:
        said.append(
            f"In clips with two pairs, of the whole split, it segments the right one for {with_interval(pair, 'value')} % of "
            f"the sentences (n = {pair['n']}; chance 50)."
        )
    return ["## Does it read, does it watch?", " ".join(said)]


def report(
    project: config.Project,
    scores: Mapping[str, Scores],
    published: Mapping[str, Any],
    minutes: Mapping[str, float],
    left: Mapping[str, int | None],
    clips: Mapping[str, int],
    parameters: int,
) -> str:
    """The report page. Tables and figures that other stages wrote are taken from their files. `left`: when a row left
    its plateau (`plateau.left_at`); `clips`: how many were read, by split; `parameters` of the best row's files."""
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
    still = json.loads(project.report("metrics", "blind.json").read_text()).get("test", {})
    changes = _controls(
        json.loads(project.report("metrics", "controls.json").read_text()), settings.selection.clips, clips["test"]
    )
    heads = len(json.loads(project.report("selection.json").read_text())["heads"])
    otherwise, names = settings.best.model_dump(exclude_none=True), named(settings)
    stuck = " and ".join(names[row] for row, step in left.items() if step is None)
    released = isinstance(settings.pretrain, config.Released)
    backbones = (
        "The two backbones are released ones, which nothing trained here. Their parameters, InternVL and SAM2:"
        if released
        else "Loss by step, smoothed over the faint raw values. The two backbones (phase a), InternVL and SAM2:"
    )
    lines = [
        "# Report",
        f"Profile `{project.profile}`, seed {settings.seed}; written by notebook 08 from what the other notebooks measured.",
        _scale(project, clips, parameters),
        f"**Words.** J is the overlap of two masks, F that of their outlines, J&F their mean ([metrics]({metrics_page}) has "
        "every number). AML is the attention mask loss. Rows (i) to (iv) are those of the paper's Table 4; in figures, rows "
        f"have their names of params.yaml: {', '.join(f'`{name}`: {said}' for name, said in names.items() if name != 'best')}.",
        "## Actor, target and RVOS (paper: Table 2)",
        "J&F in percent, with 95 % bootstrap intervals over videos. A dash: the system has no target role.",
        comparison(project.profile, scores, published, names),
        *[
            f"**{stuck} never left the plateau, on which masks learn next to nothing**: what is above is the score of not "
            "having learned to point, at the rates of these rows. At others it may (`make studies`: rates)."
        ][: len(stuck)],
        "## Role tokens and attention mask loss (paper: Table 4)",
        "Rows (i) to (iv) under the paper's conditions: a backbone whose attention nobody has supervised, "
        f"{_rates(settings.train)}, {settings.train.steps} steps. `best` is row (iv) with "
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
        *(changes and [*changes, project.report("tables", "controls.md").read_text().strip()]),
        *(any(scores["best"]["by subset"].values()) and [SUBSETS, subsets(scores, names)] or ()),
        "## Attention (paper: Fig. 6, A4, A1)",
        "Where the role token looks, by layer and head, on the model without AML; the chosen ones in colour "
        f"(rule `{settings.selection.rule}`, layers and heads count from 0):",
        "![Layer-head selection](figures/layer_head_selection.png)",
        "What other rules would choose: `to_vision`, the paper's, the layer with most attention to the video, and its highest "
        "heads; `has_read`, the same among layers whose maps differ between sentences; `own_object`, where most of the "
        "attention on any object is on the own one. `% of draws`: how often the rule chooses so again when videos are drawn "
        "anew.",
        project.report("tables", "selection.md").read_text().strip(),
        f"Attention of the {NUMBERS[heads] if heads < len(NUMBERS) else heads} {'head' if heads == 1 else 'heads'} that AML "
        "supervises, as a share of all attention, and how much of it falls on objects. A "
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
        f"Data that the rows were not trained on{SHIFTED if config.SHIFT in project.transfer and not config.is_own(project.data('train')) else ''}. `targets drawn`: of the sentences that have a target, in percent, those whose answer has a mask for it; "
        "`targets written`: those whose answer has its token.",
        project.report("tables", "transfer.md").read_text().strip(),
        "## Beside it",
        "\n".join(f"- [{said}]({page})" for page, said in BESIDE.items() if project.report(page).is_file())
        or "Other pipelines write pages of their own: " + ", ".join(BESIDE.values()) + ".",
        "## Training",
        backbones,
        "![InternVL](figures/pretraining_internvl.png)",
        "![SAM2](figures/pretraining_sam2.png)",
        "The rows (phase b), loss by step, smoothed over as many steps in every line of a panel: `ce` and `dice` compare "
        "masks, `text` the written answer, `aml` attention, all weighted; `loss` is their sum.",
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
    project: config.Project,
    scores: Mapping[str, Scores],
    published: Mapping[str, Any],
    measured: Mapping[str, Any],
    parameters: int,
) -> str:
    """The paper's claims beside what the stages measured: `measured` is what they left in reports/metrics, by name,
    and when each row left its plateau; `parameters` of the best row's files."""
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
    settings, own = project.settings, config.is_own(project.data("train"))
    ran = (
        f"{_trained(settings.pretrain, parameters)}, on {'the clips of' if own else 'procedural clips (InterShapes) in'} "
        f"`data/{project.profile}`, under the paper's conditions: a backbone whose attention nobody supervised, "
        f"{_rates(settings.train)}"
    )
    caution = (
        "A claim can fail on these data and hold on the paper's, and the other way round."
        if isinstance(settings.pretrain, config.Released)
        else "A claim about large models on real videos can fail here and hold there, and the other way round."
    )
    return claims.page(found, project.profile, ran, caution)
