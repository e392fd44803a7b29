"""The page about the query systems: the paper's Table 2 with everybody who is there. Every number comes in."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from math import prod
from statistics import mean
from typing import Any

from reviosa_core import config
from reviosa_core.report.tables import ROW, Scores, markdown, number, with_interval
from reviosa_core.scoring.metrics import SETTINGS

Summary = Mapping[str, Scores | None]  # by setting


def page(
    profile: str,
    scores: Mapping[str, Summary],
    seeds: Mapping[str, Sequence[Summary]],
    kinds: Mapping[str, Mapping[str, Any]],
    asked: Mapping[str, Mapping[str, Summary]],
    costs: Mapping[str, Mapping[str, Any]],
    studies: Mapping[str, Mapping[str, Summary]],
    tried: Mapping[str, Mapping[str, Summary]],
    published: Mapping[str, Any],
    sizes: Mapping[str, tuple[Mapping[str, Any], Mapping[str, Any]]],
    given: config.Baselines,
    length: int,
) -> str:
    """As Markdown. `scores` of each system; of all its `seeds`; by kind of expression; with targets `asked` for; their
    `costs` (parameters, fps, memory in MiB, minutes, and what they were `shown` in training); the papers' `studies`;
    the rates `tried`; what the papers print; each query system's `sizes`, in its paper and here; the settings of all
    three; and the frames of a clip."""
    counts = {setting: found["n"] for own in scores.values() for setting, found in own.items() if found}
    over = ", ".join(f"{setting} {counts.get(setting, 0)}" for setting in SETTINGS)
    parts = [
        "# The query-based systems",
        f"Profile `{profile}`; written by `make baselines`. ReferFormer, IFIRVOS and SOC at toy scale, beside the "
        "one-token system (Sa2VA-style) and ReVIOSa, on the same clips and splits. The papers' numbers are of other "
        "data at other sizes: the levels are not comparable.",
        scaled(sizes, given, length),
        "## Actor, target and RVOS (paper: Table 2)",
        "J&F in percent, with 95 % bootstrap intervals over videos, of the mean of the seeds; in brackets the lowest "
        "and the highest (RVOS). (i) and `best` are those of `make repro`, one seed; `tables/seeds.md` has three. A "
        f"dash: the system has no target role. Expressions: {over}. (i) is trained at the paper's one rate, under "
        "which it may learn nothing ([findings](findings.md) says whether it did); the query systems at one rate for "
        "all three ([below](#rates-on-dev)). Nor are all shown as much in training ([below](#size-speed-memory)).",
        comparison(scores, seeds, published),
        "## Targets from systems of one role",
        'The target asked for with another sentence, of a form that no system met: of "the circle pushing the star" by '
        '"the object being pushed by the circle", of "the star being pushed by the circle" by "the object pushing the '
        'star", as many of one as of the other. Named, with the voice turned round, it would be the score for actors '
        "of that seed once more: InterShapes says every event both ways. A summary of the paper reports 13.1 to 24.2, "
        "for VISA, VideoLISA and Sa2VA asked by prompts; its Table 2 has no such numbers.",
        targets(asked),
        "## By kind of expression",
        "J&F (RVOS), the profile's own seed.",
        by_kind(kinds),
        "## Size, speed, memory",
        "Measured one after the other, each in a process of its own, on one CPU thread, a clip and one sentence at a "
        "time. Seconds are processor time, of one measurement, and other work on the machine makes them more all the "
        "same: SOC at `tiny`, measured again beside some, had 71 to 110 frames a second (LOG.md). Minutes of training "
        "are those of the first 20 steps times the number of steps. Shown in training, pairs of a clip and a sentence: "
        f"steps x clips x sentences (of a clip with fewer, all), with {given.shown} frames a clip for the query "
        f"systems. Neither counts what all start from: encoders, pretrained in {steps(given.encoders)} on other clips "
        "(7 minutes at `tiny`), or ReVIOSa's backbones (36 minutes of two cores there).",
        cost(costs),
    ]
    parts += [
        "## Rates, on `dev`",
        f"J&F (RVOS) of short runs, the same budget for each system. All three are trained {rate(tried, given)}.",
        rates(tried),
        "## The encoders' pretraining",
        "Loss by step, smoothed over the faint raw values; the clips are of no split.",
        "![Pretraining](figures/pretraining_query.png)",
    ]
    for name, found in studies.items():
        parts += [
            f"## {name}'s own ablation, in miniature",
            "Test split, one seed, short runs (`baselines.studies` in params.yaml): compare within the table."
            + (modules(found, published[name], tried, given) if name == "IFIRVOS" else ""),
            study(found, published.get(name, {})),
        ]
    return "\n\n".join(parts) + "\n"


def scaled(
    sizes: Mapping[str, tuple[Mapping[str, Any], Mapping[str, Any]]], given: config.Baselines, length: int
) -> str:
    """What is not as the papers have it."""
    papers, ours = ({name: own[i] for name, own in sizes.items()} for i in (0, 1))
    here = next(iter(ours.values()))

    def both(key: str, one: str, several: str = "") -> str:
        """What is counted here, and theirs."""
        count = next(own[key] for own in ours.values() if key in own)
        found = [str(own[key]) for own in papers.values() if key in own]
        name = one if count == 1 else several or f"{one}s"
        return f"{count} {name} ({found[0] if len(set(found)) == 1 else ', '.join(found)})"

    alone = ", so that none is matched or chosen and SOC's contrastive loss is always 0" if here["queries"] == 1 else ""
    share, shown = "of the others'", f"{'neighbouring ' if given.train.frames == 'contiguous' else ''}frame"
    parts = [
        f"{both('queries', 'query', 'queries')}{alone}",
        f"training on {both('frames', shown)} of a clip's {length}",
        f"{both('encoder_layers', 'encoder layer')} and {both('decoder_layers', 'decoder layer')}",
        f"{both('heads', 'head')} and {both('points', 'point')} where each looks",
        f"{both('dim', 'channel')}, {both('ffn', 'channel')} in feed-forward layers, {both('mask_channels', 'channel')}"
        " of mask features",
        f"in SOC {both('cluster_layers', 'cluster layer')} and {both('video_layers', 'video layer')}",
        f"{'no' if here['dropout'] == 0 else 'some'} dropout and no augmentation",
    ]
    frozen = [name for name, own in papers.items() if own["text"]["frozen"] and not ours[name]["text"]["frozen"]]
    if frozen:
        whose = "" if len(frozen) == len(papers) else f" in {' and '.join(frozen)}"
        parts.append(f"a text encoder that is trained (frozen{whose})")
    parts += [
        f"the encoders' rate {both('encoder_rate', share, share)}",
        "a backbone of convolutions in which a frame sees its two neighbours, in all systems and studies (IFIRVOS's, "
        "ResNet-50, sees each frame alone, and its paper compares that with backbones that see several)",
    ]
    return f"Not as in the papers (in brackets theirs: {', '.join(sizes)}, or all): {'; '.join(parts)}."


def steps(rules: config.Clips) -> str:
    return f"{rules.steps:,} steps of {rules.accumulate * rules.clips} clips and {rules.expressions} sentences"


def rate(tried: Mapping[str, Mapping[str, Summary]], given: config.Baselines) -> str:
    """At which rate all are trained, and who would take another alone."""
    own = {name: {r: x["J&F"] for r, one in found.items() if (x := one["RVOS"])} for name, found in tried.items()}
    taken = f"{given.train.lr:g}"
    if not all(taken in found for found in own.values()):
        return f"at one rate, {taken}, which is none of these"
    best = max(next(iter(own.values())), key=lambda r: mean(found.get(r, 0.0) for found in own.values()))
    said = "the one" if best == taken else f"which is not the one ({best})"
    others = [
        f"{name} alone would take {first}, with {found[first]:.1f} instead of {found[taken]:.1f}"
        for name, found in own.items()
        if (first := max(found, key=lambda r: found[r])) != taken
    ]
    return f"at one rate, {taken}, {said} that is best on `dev` for all in the mean" + "".join(f"; {o}" for o in others)


def comparison(
    scores: Mapping[str, Summary], seeds: Mapping[str, Sequence[Summary]], published: Mapping[str, Any]
) -> str:
    """Ours, then the paper's."""
    rows = []
    for name, own in scores.items():
        values = [found["J&F"] for run in seeds[name] if (found := run["RVOS"])]
        spread = f"{len(values)} ({min(values):.1f}–{max(values):.1f})"
        rows.append(
            {"": f"ours: {ROW.get(name, name)}"} | {s: with_interval(own[s]) for s in SETTINGS} | {"seeds": spread}
        )
    for name, row in published["table 2"]["methods"].items():
        if name.startswith(("ReferFormer", "Sa2VA", "ReVIOSa")):
            values = {s: number(row[s][2]) if row.get(s) else "–" for s in SETTINGS}
            rows.append({"": f"paper: {name}"} | values | {"seeds": ""})
    return markdown(rows)


def targets(asked: Mapping[str, Mapping[str, Summary]]) -> str:
    return markdown(
        [
            {"": name} | {rewrite: with_interval(found["InterRVOS-Target"]) for rewrite, found in own.items()}
            for name, own in asked.items()
        ]
    )


def by_kind(kinds: Mapping[str, Mapping[str, Any]]) -> str:
    """A row a kind, a column a system."""
    first = next(iter(kinds.values()))
    return markdown(
        [
            {"": kind, "n": part["scores"]["RVOS"]["n"]}
            | {ROW.get(name, name): number(own[kind]["scores"]["RVOS"]["J&F"]) for name, own in kinds.items()}
            for kind, part in first.items()
        ]
    )


def cost(costs: Mapping[str, Mapping[str, Any]]) -> str:
    return markdown(
        [
            {
                "": ROW.get(name, name),
                "parameters": f"{own['parameters']:,.0f}",
                "shown in training": f"{' x '.join(map(str, own['shown']))} = {prod(own['shown']):,}",
                "training, minutes": number(own.get("minutes")),
                "frames a second": number(own["fps"]),
                "memory, MiB": f"{own['memory']:.0f}",
            }
            for name, own in costs.items()
        ]
    )


def rates(tried: Mapping[str, Mapping[str, Summary]]) -> str:
    """A row a system, a column a rate."""
    return markdown(
        [
            {"": name} | {rate: with_interval(own["RVOS"]) for rate, own in found.items()}
            for name, found in tried.items()
        ]
    )


def study(found: Mapping[str, Summary], published: Mapping[str, Any]) -> str:
    """Ours, and of a row that the paper has too, its number there."""
    named = theirs(found, published)
    return markdown(
        [
            {"": name} | {"J&F (RVOS), ours": with_interval(own["RVOS"]), "J&F, paper": number(named[name])}
            for name, own in found.items()
        ]
    )


SAME = {"+ IFI + VLI, fixed text": "+ IFI + VLI", "dynamic text": "dynamic text feature"}  # ours: the paper's


def theirs(found: Mapping[str, Summary], published: Mapping[str, Any]) -> dict[str, Any]:
    """The paper's number of each of our rows."""
    printed = {
        name: values[0]
        for table in published.values()
        if table.get("columns", [None])[0] == "J&F"
        for name, values in table["methods"].items()
    }
    return {name: printed.get(SAME.get(name, name)) for name in found}


def modules(
    found: Mapping[str, Summary],
    published: Mapping[str, Any],
    tried: Mapping[str, Mapping[str, Summary]],
    given: config.Baselines,
) -> str:
    """What IFIRVOS's table does not show: how low it starts, whether its rows can be told apart, and in which order its
    modules help."""
    rows = ("baseline", "+ IFI", "+ VLI", "+ IFI + VLI, fixed text")
    scores = {name: own["RVOS"] or {} for name, own in found.items()}
    ends = sorted(scores[name]["interval"] for name in rows)
    shared = sum(low <= high for (_, high), (low, _) in pairwise(ends))
    ours = {name: own["J&F"] for name, own in scores.items()}
    (ifi, vli), (their_ifi, their_vli) = (
        [of[name] - of["baseline"] for name in rows[1:3]] for of in (ours, theirs(found, published))
    )
    order = "the same" if (ifi < vli) == (their_ifi < their_vli) else "the reverse"
    alone = tried["ReferFormer"].get(f"{given.studies.lr:g}", {}).get("RVOS")
    own = f"; with its own it has {alone['J&F']:.1f} on `dev` after as many steps" if alone else ""
    return (
        f" *baseline* ({ours['baseline']:.1f}) is ReferFormer with IFIRVOS's weights of the loss{own}. It and *+ IFI* "
        "keep ReferFormer's multiplication of every level by the words; by the paper's text (\"without the inter-frame "
        'interaction module and the vision-language interaction module") it may be taken out too. To it IFI adds '
        f"{ifi:+.1f} and VLI {vli:+.1f}; in the paper {their_ifi:+.1f} and {their_vli:+.1f}, {order} order. By score, "
        f"{shared} of the 3 pairs of neighbours among *baseline*, the modules one by one, and both with fixed text "
        "have intervals that overlap."
    )
