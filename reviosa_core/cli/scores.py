"""Scores of anybody's predictions: evaluate, compare, submit."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from reviosa_core.cli.shared import DATA, Predictions, Split, decoration, fail, naming, source_of, try_out

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pandas as pd

    from reviosa_core.schema import Clip
    from reviosa_core.scoring.source import Source

GALLERY = "gallery"  # what --pictures holds

commands = typer.Typer()


@commands.command()
def evaluate(
    data: Annotated[Path, typer.Option(help=DATA)],
    predictions: Predictions,
    split: Split = None,
    targets: Annotated[Path | None, typer.Option(help="A second tree, of targets.")] = None,
    out: Annotated[Path | None, typer.Option(help="Scores, and every row, as JSON.")] = None,
    rows: Annotated[Path | None, typer.Option(help="One row per video, expression and role: .csv or .parquet.")] = None,
    pairs: Annotated[
        Path | None,
        typer.Option(
            help="JSON: by video a list of pairs, an expression and its inverse; by default found by objects."
        ),
    ] = None,
    pictures: Annotated[Path | None, typer.Option(help="A folder for overlays of the worst and best answers.")] = None,
    allow_missing: Annotated[
        Literal["zero"] | None, typer.Option(help="zero: a missing prediction scores 0. By default it is an error.")
    ] = None,
    allow_extra: Annotated[
        Literal["ignore"] | None,
        typer.Option(
            help="ignore: leave out of a file what the data does not have, as the authors' script does, and say how "
            "much that is. By default it is an error."
        ),
    ] = None,
    long: Annotated[bool, typer.Option(help="Also tIoU and vIoU, of objects that come and go (Long-RVOS).")] = False,
    workers: Annotated[int | None, typer.Option(min=1, help="Processes; by default one a core.")] = None,
    bootstrap: Annotated[int, typer.Option(min=0, help="Resamples for the 95 % intervals.")] = 1000,
    seed: Annotated[int, typer.Option(min=0)] = 0,
) -> None:
    """Score anybody's predictions: actors, targets, all expressions, and whether the roles are the right way round.

    J and F are the DAVIS toolkit's, exactly. InterRVOS-Actor and -Target score the expressions that have a target, RVOS
    the actors of all. Three states are kept apart: a role without masks in the file is not supported, masks of zeros
    are an empty answer, and a video or expression that is not there is missing. Data of another benchmark get its own
    numbers first, each with the expressions (of merged Ref-DAVIS masks: objects) that it is over: A2D- and
    JHMDB-Sentences, Ref-DAVIS17 by both protocols, MeViS, ReVOS, Ref-SAV. docs/metrics.md says what each number is.
    What `reviosa annotate` wrote is scored for the active and the passive voice, too.

    Example: [bold]reviosa evaluate --data data/tiny/test --predictions runs/tiny/predictions/best.json[/]
    """
    from reviosa_core import outputs
    from reviosa_core.data import formats, jsonfile
    from reviosa_core.report import tables
    from reviosa_core.schema import DataError, Role
    from reviosa_core.scoring import benchmarks, existence, metrics
    from reviosa_core.scoring.evaluate import annotates_targets, evaluate_source

    if rows is not None and rows.suffix not in (".csv", ".parquet"):
        fail(f"--rows {rows}: a .csv or .parquet file is written")
    if targets is not None and not predictions.is_dir():
        fail(f"--targets {targets}: goes with a tree of actors; the file {predictions} holds both roles")
    if allow_extra and predictions.is_dir():
        fail(f"--allow-extra {allow_extra}: goes with a file; {predictions} is a folder")
    source = source_of(predictions, targets, allow_extra or "error")
    for path, what in ((out, None), (rows, None), (pictures, GALLERY)):
        if path is not None:
            try_out(path, data, predictions, pairs, what=what)
    if out is not None and out.suffix != ".json":
        fail(f"--out {out}: a .json file is written; --rows takes .csv and .parquet")
    found = formats.resolve(data, split)
    clips = formats.read(data, *found.splits, found.format)
    named = None if pairs is None else jsonfile.read_json(pairs)
    table, absent = evaluate_source(source, clips, missing=allow_missing or "error", pairs=named, workers=workers)
    annotated = annotates_targets(clips)
    if not annotated and len(actors := table[table["role"] == Role.ACTOR]) < len(table):
        typer.echo(f"these {found.format} data annotate no targets: those of the predictions are not scored")
        table = actors
    summary = metrics.summarise(table, bootstrap, seed)
    direction = metrics.direction(table, bootstrap, seed)
    there = existence.by_role(table, bootstrap, seed)
    types = metrics.detection_by_caption_type(table, bootstrap, seed)
    own, broken = {}, None
    try:
        own = benchmarks.summarise(benchmarks.Scored(data, found, clips, source, table, bootstrap, seed), long)
    except DataError as error:  # said at the end: the rest is measured
        broken = str(error)
    voices = _by_voice(table, data, split, bootstrap, seed)
    if own:
        cells = {name: (tables.with_interval(line, "value"), line["n"] if line else 0) for name, line in own.items()}
        lines = [{"": name, "%": value, "n": str(n)} for name, (value, n) in cells.items()]
        typer.echo(f"{found.format}\n\n{tables.markdown(lines)}\n\nas InterRVOS\n")
    typer.echo(tables.scores(summary, direction, *([] if annotated else ["not annotated"])))
    if there:
        lines = [{"": name, "%": tables.with_interval(s, "value"), "n": str(s["n"])} for name, s in there.items() if s]
        typer.echo(tables.markdown(lines))
    if voices:
        shown = [
            {"": voice, **{name: tables.with_interval(found[name]) for name in list(metrics.SETTINGS)[:2]}}
            | {"role confusion": tables.with_interval(found["role confusion"], "value")}
            for voice, found in voices.items()
        ]
        typer.echo(tables.markdown(shown))
    if absent:
        typer.echo(f"{len(absent)} of {sum(len(c.expressions) for c in clips)} expressions had no prediction: scored 0")
    if source.passed:
        video, expression = min(source.passed)
        typer.echo(f"{len(source.passed)} predictions are of nothing in the data: left out, first {video}/{expression}")
    if out is not None:
        about = {"data": str(data), "predictions": str(predictions), "missing": len(absent)}
        about["targets annotated"] = annotated  # else there is no score for them, whatever a system supports
        whole = {
            **summary,
            "direction": direction,
            "detection by caption type": types,
            "existence": there,
            "benchmark": own,
            "by voice": voices,
            **about,
        }
        outputs.text(out, jsonfile.to_json({**whole, "rows": table.to_dict("split", index=False)}) + "\n")
    if rows is not None:
        with outputs.file(rows) as new:
            table.to_csv(new, index=False) if rows.suffix == ".csv" else table.to_parquet(new, index=False)
    if pictures is not None:
        with decoration(f"--pictures {pictures}"):
            _draw(pictures, clips, table, source)
            typer.echo(f"written: {pictures}")
    for path in filter(None, (rows, out)):
        typer.echo(f"written: {path}")
    if broken:
        fail(f"{found.format}'s own numbers: {broken}")


def _by_voice(table: pd.DataFrame, data: Path, split: str | None, bootstrap: int, seed: int) -> dict[str, Any]:
    """Active and passive apart, for what `reviosa annotate` wrote: it keeps the voice in a side file."""
    from reviosa_core.annotation import dataset
    from reviosa_core.data import formats
    from reviosa_core.scoring import metrics

    said = dataset.read_roles(data / (split or formats.detect(data).splits[0]))[["video", "expression", "voice"]]
    known = table.merge(said, on=["video", "expression"], how="inner", validate="many_to_one")
    return {
        voice: metrics.summarise(own, bootstrap, seed)
        | {"role confusion": metrics.direction(own, bootstrap, seed)["role confusion"]}
        for voice in ("active", "passive")
        if len(own := known[known["voice"] == voice].drop(columns="voice"))
    }


def _draw(pictures: Path, clips: Sequence[Clip], table: pd.DataFrame, source: Source) -> None:
    from reviosa_core import outputs
    from reviosa_core.report import drawing, style

    figures = drawing.gallery({clip.id: clip for clip in clips}, table, source.read(clips))
    with outputs.folder(pictures, GALLERY) as new:
        for name, figure in figures.items():
            style.save(figure, new / f"{name.replace(' ', '-')}.png")


@commands.command()
def compare(
    a: Annotated[Path, typer.Argument(help="Scores of one system: what evaluate wrote as --out or --rows.")],
    b: Annotated[Path, typer.Argument(help="Scores of another, on the same expressions.")],
    bootstrap: Annotated[int, typer.Option(min=0, help="Resamples for the 95 % intervals.")] = 1000,
    seed: Annotated[int, typer.Option(min=0)] = 0,
) -> None:
    """How much better is A than B? Paired differences in J&F on the same expressions, with 95 % intervals.

    Videos differ more than systems do: two intervals that overlap may still hide a sure difference, and this one shows
    it.

    Example: [bold]reviosa compare best.json baseline.json[/]
    """
    from reviosa_core.report import tables
    from reviosa_core.scoring import metrics, rows

    first, second = rows.read(a), rows.read(b)
    for path, table in ((a, first), (b, second)):
        with naming(path):
            metrics.paired_difference(table, table, "RVOS", 0, seed)  # what is wrong with one is said of that one
    found = {s: metrics.paired_difference(first, second, s, bootstrap, seed) for s in metrics.SETTINGS}
    typer.echo(f"J&F of {a} minus J&F of {b}, in points")
    typer.echo(
        tables.markdown(
            [
                {"": name, "difference": tables.with_interval(d, "value"), "expressions": str(d["n"] if d else 0)}
                for name, d in found.items()
            ]
        )
    )


@commands.command()
def submit(
    to: Annotated[Literal["ref-youtube-vos", "mevis", "interrvos"], typer.Option(help="Whose layout.")],
    data: Annotated[Path, typer.Option(help=DATA)],
    predictions: Predictions,
    out: Annotated[Path, typer.Option(help="The file to write: .zip, for interrvos .json.")],
    targets: Annotated[Path | None, typer.Option(help="A second tree, of targets, for interrvos.")] = None,
    split: Split = None,
) -> None:
    """Write what a benchmark's server or script takes, once it is known to be complete.

    Every expression of the split must have a mask for every frame, and none may be there that the split does not have;
    what is missing or unexpected is listed, and nothing is written. The same predictions give the same bytes.

    ref-youtube-vos: a zip of Annotations/<video>/<expression>/<frame>.png. mevis: a zip with the video folders at its
    top. Both hold the actor's masks, 0 and 255. interrvos: JSON with both roles, as the authors' scripts read it.

    Example: [bold]reviosa submit --to mevis --data mevis --split valid --predictions best.json --out submission.zip[/]
    """
    from reviosa_core.data import formats
    from reviosa_core.scoring import submissions

    suffix = ".json" if to == "interrvos" else ".zip"
    if out.suffix != suffix:
        fail(f"--out {out}: {to} takes a {suffix} file")
    if targets is not None and (to != "interrvos" or not predictions.is_dir()):
        fail(f"--targets {targets}: goes with a tree of actors, and with --to interrvos")
    source = source_of(predictions, targets)
    try_out(out, data, predictions)
    clips = formats.read(data, split)
    with naming(predictions):
        count = submissions.write(to, out, clips, lambda: source.read(clips), progress=sys.stderr.isatty())
    typer.echo(f"written: {out}: {count} expressions of {len(clips)} videos")
