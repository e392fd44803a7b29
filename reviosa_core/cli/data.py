"""Data sets: checked, looked at, made."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Literal

import typer

from reviosa_core.cli.shared import DATA, Split, fail, png, try_out

SHEET_BYTES = 4_000_000
LISTED = 20  # problems of a data set on the screen

commands = typer.Typer(no_args_is_help=True)


@commands.command()
def intershapes(
    out: Annotated[Path, typer.Argument(help="The split becomes a folder in here.")],
    split: Annotated[
        Literal["train", "val", "dev", "test", "shift"], typer.Option(help="shift: unseen looks, for transfer.")
    ],
    clips: Annotated[int | None, typer.Option(min=1, help="How many; by default the profile's number.")] = None,
    seed: Annotated[int | None, typer.Option(min=0, help="By default the profile's.")] = None,
    size: Annotated[int | None, typer.Option(min=64, max=256, help="Pixels, square; by default the profile's.")] = None,
    frames: Annotated[int | None, typer.Option(min=4, help="Per clip; by default the profile's number.")] = None,
    difficulty: Annotated[
        str | None, typer.Option(help="easy, standard, hard or absent; by default the profile's.")
    ] = None,
    profile: Annotated[str | None, typer.Option(help="Of params.yaml; by default the active one.")] = None,
) -> None:
    """Write InterShapes: clips of moving shapes in which only the motion tells who acts on whom.

    Example: [bold]reviosa data intershapes data/more --split test --clips 20 --seed 7 --difficulty hard[/]

    Writes the InterRVOS-127K layout (JPEGImages, meta_expressions.json, mask_dict.json) and intershapes.json, which
    holds what the format has no place for: shapes, motions, what tells the roles, occlusion.
    """
    from reviosa_core import bounds, config, outputs
    from reviosa_core.intershapes.splits import WHAT, write_split

    project = config.project(profile)
    settings, difficulties = project.settings, project.params.difficulties
    if difficulty is not None and difficulty not in difficulties:
        fail(f"--difficulty {difficulty}: params.yaml has {sorted(difficulties)}")
    asked = {
        "size": size,
        "frames": frames,
        "difficulty": difficulties[difficulty] if difficulty else None,
        "splits": bounds.changed(settings.data.splits, **{split: clips}) if clips is not None else None,
    }
    data = bounds.changed(settings.data, **{name: value for name, value in asked.items() if value is not None})
    outputs.try_out(out / split, WHAT)
    write_split(data, split, out, settings.seed if seed is None else seed)
    typer.echo(f"written: {out / split}")


@commands.command("import")
def import_(
    table: Annotated[Path, typer.Argument(help="A .csv with a header, or .jsonl: one expression a row.")],
    out: Annotated[Path, typer.Argument(help="The folder to write; an earlier import there is replaced.")],
) -> None:
    """Build the InterRVOS-127K format from your own videos, sentences and masks, listed in a table.

    Columns: video (a file, or a folder of frames), expression, caption_type (single, multi, unidirectional,
    bidirectional), actor and target. These two name masks: a folder of PNGs called like the frames, folder#3 for one
    object of palette PNGs, or masks.json or masks.json#key with COCO run lengths; ";" between several.

    All problems of the table are listed at once, each with its row, and then nothing is written. docs/own-data.md has
    an example to copy.

    Example: [bold]reviosa data import clips.csv data/mine/train[/]
    """
    from reviosa_core import outputs
    from reviosa_core.data import own
    from reviosa_core.schema import DataError

    outputs.try_out(out, own.WHAT)
    try:
        written = own.write(table, out, progress=sys.stderr.isatty())
    except DataError as error:
        fail(str(error))  # as many lines as problems
    typer.echo(f"written: {out}: {len(written)} clips, {sum(written.values())} expressions")


@commands.command()
def show(
    data: Annotated[Path, typer.Argument(help=DATA)],
    video: Annotated[str, typer.Argument(help="The name of one of its videos.")],
    split: Split = None,
    out: Annotated[Path | None, typer.Option(help="Where to write; by default <video>.png.")] = None,
    frames: Annotated[int, typer.Option(min=1, help="How many of the video's frames to show.")] = 6,
) -> None:
    """Draw every expression of a video with its masks over the frames: actor blue, target orange.

    Example: [bold]reviosa data show data/tiny/test intershapes_test_00000[/]
    """
    from reviosa_core.data import formats
    from reviosa_core.report import drawing, style

    if out is not None:
        try_out(out, data)
        png("--out", out)
    clips = {clip.id: clip for clip in formats.read(data, split)}
    if video not in clips:
        fail(f"{data}: no video {video!r}; it has {len(clips)}, as {', '.join(list(clips)[:3])}")
    out = out or Path(f"{video}.png")
    try_out(out, data)
    style.save(drawing.contact_sheet(clips[video], frames), out, dpi=180, limit=SHEET_BYTES)
    typer.echo(f"written: {out}")


@commands.command()
def stats(
    data: Annotated[Path, typer.Argument(help=DATA)],
    split: Split = None,
    fps: Annotated[float | None, typer.Option(help="Frames a second, as they are stored; for durations.")] = None,
    out: Annotated[Path | None, typer.Option(help="A figure, .png: the paper's Fig. A8 of this data.")] = None,
    rows: Annotated[Path | None, typer.Option(help="One row a video, .csv.")] = None,
) -> None:
    """Count what is in a dataset: videos, objects, expressions, interactions, words.

    Example: [bold]reviosa data stats data/tiny/test --out statistics.png[/]
    """
    from reviosa_core import outputs
    from reviosa_core.data import formats, statistics
    from reviosa_core.report import plots, style, tables

    for path in filter(None, (rows, out)):
        try_out(path, data)
    png("--out", out)
    found = statistics.collect(formats.read(data, split), fps)
    if rows is not None:
        outputs.text(rows, found.videos.to_csv(index=False))
    typer.echo(tables.dataset(found))
    if out is not None:
        style.save(plots.dataset_statistics(found), out)
    for path in filter(None, (rows, out)):
        typer.echo(f"written: {path}")


@commands.command()
def vidor(
    annotations: Annotated[Path, typer.Argument(help="A VidOR .json, or a folder with such files at any depth.")],
    out: Annotated[Path, typer.Argument(help="Gets prompts/<clip>.json, and JPEGImages/<clip> with --videos.")],
    videos: Annotated[Path | None, typer.Option(help="VidOR's folder of videos: decode the clips' frames too.")] = None,
    shortest: Annotated[
        int, typer.Option(min=1, help="Frames that a thousand must have to be used; 1 keeps all, as the paper's text.")
    ] = 200,
) -> None:
    """Cut VidOR's long videos to clips as InterRVOS-127K did, with their relations, and boxes to track masks from.

    A video is split every 1,000 frames (the paper's appendix D.3); a rest of under 200 is left out, as in the released
    pipeline. Of the first and of the last that is left, the first 500 frames are a clip. Clips that are there already
    are skipped: called again, it goes on where it was stopped. Files with a problem are listed at the end; the others
    are done by then.

    Example: [bold]reviosa data vidor vidor-dataset/annotation/training clips --videos vidor-dataset/video[/]
    """
    from tqdm import tqdm

    from reviosa_core import outputs
    from reviosa_core.data import vidor
    from reviosa_core.schema import DataError

    files = sorted(annotations.rglob("*.json")) if annotations.is_dir() else [annotations]
    if not files:
        fail(f"{annotations}: no .json files")
    outputs.try_out(out / vidor.PROMPTS / files[0].name)
    names, short, problems = [], [], []
    for file in tqdm(files, unit="video", disable=not sys.stderr.isatty()):
        try:
            names += vidor.export(video := vidor.read(file), out, videos, shortest)
            short += [video.id] * (len(video) < shortest)
        except DataError as error:
            problems.append(str(error))
    typer.echo(f"written: {out}: {len(names)} clips of {len(files) - len(problems)} videos")
    if short:
        typer.echo(f"{len(short)} videos have under {shortest} frames and give none, first {short[0]}")
    if problems:
        fail("\n  ".join([f"{len(problems)} of {len(files)} files", *problems]))


@commands.command()
def verify(
    data: Annotated[Path, typer.Argument(help="The data set's folder, with all its splits or one.")],
    format: Annotated[str | None, typer.Option(help="By default told by the files; docs/datasets.md has all.")] = None,
    fast: Annotated[
        bool, typer.Option("--fast", help="Do not decode or hash frames: seconds instead of hours.")
    ] = False,
    out: Annotated[Path | None, typer.Option(help="The report; by default <name of the folder>.verify.json.")] = None,
    workers: Annotated[int, typer.Option(min=1, help="Threads that decode.")] = 8,
) -> None:
    """Check a data set: every file, id, list, size, frame and mask that something refers to.

    All problems are listed, each with its file and id, and so is what the benchmark's own rules exclude. The report
    (JSON) also counts videos, frames, masks and expressions, and has the sha256 of the files. Exit code 1 when
    something is wrong.

    Example: [bold]reviosa data verify data/mevis[/]
    """
    from reviosa_core import outputs
    from reviosa_core.data.jsonfile import to_json
    from reviosa_core.data.verify import verify
    from reviosa_core.report import tables

    out = out or Path(f"{data.resolve().name}.verify.json")
    try_out(out, data)
    found = verify(data, format, fast, workers)
    outputs.text(out, to_json(found) + "\n")
    typer.echo(f"{found['format']}, {'decoded' if found['decoded'] else 'not decoded'}")
    typer.echo(tables.markdown([{"split": split, **counts} for split, counts in found["splits"].items()]))
    for name, label in (("excluded", "left out"), ("problems", "problem")):
        for line in found[name][:LISTED]:
            typer.echo(f"{label}: {line}")
        if len(found[name]) > LISTED:
            typer.echo(f"{label}: ... {len(found[name]) - LISTED} more in {out}")
    typer.echo(f"{len(found['problems'])} problems, {len(found['excluded'])} left out by rule; written: {out}")
    if found["problems"]:
        raise typer.Exit(1)
