"""The command `reviosa`. Wrong input ends in one line and exit code 2; heavy imports wait until they are needed."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, NoReturn

import typer

if TYPE_CHECKING:
    import pandas as pd

    from reviosa_core.evaluate import Source
    from reviosa_core.schema import Clip, Prediction, System

SHEET = 8  # frames on the contact sheet
SHEET_BYTES = 4_000_000
LISTED = 20  # problems of a data set on the screen

Split = Annotated[str | None, typer.Option(help="Which of the data's splits; by default its only one.")]
Predictions = Annotated[
    Path, typer.Option(help="JSON in the released layout, or a tree <video>/<expression>/<frame>.png of actors.")
]
DATA = "A data set: any of docs/datasets.md."

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, rich_markup_mode="rich")
data_app = typer.Typer(no_args_is_help=True)
app.add_typer(data_app, name="data", help="Check data sets, look at them, make some in the InterRVOS-127K format.")
weights_app = typer.Typer(no_args_is_help=True)
app.add_typer(weights_app, name="weights", help="What checkpoint files are, and other layouts for them.")


@app.callback()
def _main() -> None:
    """Who does what to whom in a video: actor and target masks from a sentence."""


@app.command()
def predict(
    video: Annotated[Path, typer.Option(help="A video file, or a folder of .jpg/.png frames.")],
    text: Annotated[str, typer.Option(help="Who does what, or to whom: 'the man leading the horse'.")],
    checkpoint: Annotated[
        Path, typer.Option(help="A trained model's folder, as stage train leaves it, or ReVIOSa's as released.")
    ],
    out: Annotated[
        Path | None, typer.Option(help="Where to write; by default runs/predict/<name of the video>.")
    ] = None,
    fps: Annotated[
        float | None, typer.Option(min=0.1, help="Speed of overlay.mp4; by default the video's own.")
    ] = None,
    device: Annotated[
        str | None, typer.Option(help="cpu, cuda, cuda:1 ...; by default a GPU where there is one.")
    ] = None,
) -> None:
    """Segment the actor, and the target where the sentence has one, in your own video.

    Writes overlay.mp4 and sheet.png (actor blue, target orange), masks/<role>/<frame>.png (0 or 255),
    and prediction.json: the model's answer, and run lengths (COCO) of every mask.

    Example: [bold]reviosa predict --video clip.mp4 --text "a dog pulling a man" --checkpoint runs/tiny/full[/]

    A model of the tiny profile has seen moving shapes only: it runs on real scenes, but knows nothing about them.
    """
    from reviosa_core.data.video import open_video, to_clip

    if not text.strip():
        _fail("--text is empty: say who does what, e.g. --text 'the dog pulling the man'")
    if not checkpoint.is_dir():
        _fail(f"--checkpoint {checkpoint}: no such folder")
    with _one_line():
        opened = open_video(video)
        clip = to_clip(opened, text, video.resolve().stem)
    out = out or Path("runs/predict") / clip.id
    if out.exists() and not (out / "prediction.json").is_file() and (not out.is_dir() or any(out.iterdir())):
        _fail(f"--out {out}: exists, and is not an earlier prediction; name another folder")
    system = _load(checkpoint, device)
    (prediction,) = system.segment(clip, clip.expressions)
    _write(out, clip, prediction, fps or opened.fps, {"video": str(video), "checkpoint": str(checkpoint), "text": text})
    if prediction.answer:
        typer.echo(f"answer: {prediction.answer}")
    for role, masks in prediction.masks.items():
        share = f", {100 * masks.mean():.1f} % of all pixels" if masks.any() else ""
        typer.echo(f"{role}: in {int(masks.any(axis=(1, 2)).sum())} of {len(clip)} frames{share}")
    typer.echo(f"written: {out}")


@app.command()
def evaluate(
    data: Annotated[Path, typer.Option(help=DATA)],
    predictions: Predictions,
    split: Split = None,
    targets: Annotated[Path | None, typer.Option(help="A second tree, of targets.")] = None,
    out: Annotated[Path | None, typer.Option(help="Scores, and every row, as JSON.")] = None,
    rows: Annotated[Path | None, typer.Option(help="One row per video, expression and role: .csv or .parquet.")] = None,
    pairs: Annotated[
        Path | None, typer.Option(help="JSON {video: [[expression, its inverse], ...]}; by default found by objects.")
    ] = None,
    pictures: Annotated[Path | None, typer.Option(help="A folder for overlays of the worst and best answers.")] = None,
    allow_missing: Annotated[
        Literal["zero"] | None, typer.Option(help="zero: a missing prediction scores 0. By default it is an error.")
    ] = None,
    workers: Annotated[int | None, typer.Option(min=1, help="Processes; by default one a core.")] = None,
    bootstrap: Annotated[int, typer.Option(min=0, help="Resamples for the 95 % intervals.")] = 1000,
    seed: Annotated[int, typer.Option(min=0)] = 0,
) -> None:
    """Score anybody's predictions: actors, targets, all expressions, and whether the roles are the right way round.

    J and F are the DAVIS toolkit's, exactly. InterRVOS-Actor and -Target score the expressions that have a target, RVOS
    the actors of all. Three states are kept apart: a role without masks in the file is not supported, masks of zeros
    are an empty answer, and a video or expression that is not there is missing.

    Example: [bold]reviosa evaluate --data data/tiny/test --predictions runs/tiny/predictions/full.json[/]
    """
    from reviosa_core import metrics, tables
    from reviosa_core.data import formats, jsonfile
    from reviosa_core.evaluate import evaluate_source

    if rows is not None and rows.suffix not in (".csv", ".parquet"):
        _fail(f"--rows {rows}: a .csv or .parquet file is written")
    if targets is not None and not predictions.is_dir():
        _fail(f"--targets {targets}: goes with a tree of actors; the file {predictions} holds both roles")
    source = _source(predictions, targets)
    with _one_line():
        clips = formats.read(data, split)
        named = None if pairs is None else jsonfile.read_json(pairs)
        table, absent = evaluate_source(source, clips, missing=allow_missing or "error", pairs=named, workers=workers)
        summary = metrics.summarise(table, bootstrap, seed)
        direction = metrics.direction(table, bootstrap, seed)
        types = metrics.detection_by_caption_type(table, bootstrap, seed)
    typer.echo(tables.scores(summary, direction))
    if absent:
        typer.echo(f"{len(absent)} of {sum(len(c.expressions) for c in clips)} expressions had no prediction: scored 0")
    if rows is not None:
        rows.parent.mkdir(parents=True, exist_ok=True)
        table.to_csv(rows, index=False) if rows.suffix == ".csv" else table.to_parquet(rows, index=False)
    if pictures is not None:
        from reviosa_core import plots

        with _one_line():
            figures = plots.gallery({clip.id: clip for clip in clips}, table, source.read(clips))
        for name, figure in figures.items():
            plots.save(figure, pictures / f"{name.replace(' ', '-')}.png")
        typer.echo(f"written: {pictures}")
    if out is not None:
        about = {"data": str(data), "predictions": str(predictions), "missing": len(absent)}
        found = {**summary, "direction": direction, "detection by caption type": types, **about}
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(json.dumps({**found, "rows": table.to_dict("split", index=False)}, indent=1) + "\n")
        typer.echo(f"written: {out}")


@app.command()
def compare(
    a: Annotated[Path, typer.Argument(help="Scores of one system: what evaluate wrote as --out or --rows.")],
    b: Annotated[Path, typer.Argument(help="Scores of another, on the same expressions.")],
    bootstrap: Annotated[int, typer.Option(min=0, help="Resamples for the 95 % intervals.")] = 1000,
    seed: Annotated[int, typer.Option(min=0)] = 0,
) -> None:
    """How much better is A than B? Paired differences in J&F on the same expressions, with 95 % intervals.

    Videos differ more than systems do: two intervals that overlap may still hide a sure difference, and this one shows
    it.

    Example: [bold]reviosa compare full.json baseline.json[/]
    """
    from reviosa_core import metrics, tables

    with _one_line():
        first, second = _rows(a), _rows(b)
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


@app.command()
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

    Example: [bold]reviosa submit --to mevis --data mevis --split valid --predictions full.json --out submission.zip[/]
    """
    from reviosa_core import submissions
    from reviosa_core.data import formats

    suffix = ".json" if to == "interrvos" else ".zip"
    if out.suffix != suffix:
        _fail(f"--out {out}: {to} takes a {suffix} file")
    if out.resolve() == predictions.resolve():
        _fail(f"--out {out}: is what --predictions names")
    if targets is not None and (to != "interrvos" or not predictions.is_dir()):
        _fail(f"--targets {targets}: goes with a tree of actors, and with --to interrvos")
    source = _source(predictions, targets)
    with _one_line():
        clips = formats.read(data, split)
        count = submissions.write(to, out, clips, lambda: source.read(clips), progress=sys.stderr.isatty())
    typer.echo(f"written: {out}: {count} expressions of {len(clips)} videos")


def _source(predictions: Path, targets: Path | None) -> Source:
    """Where predictions come from, named by two options."""
    from reviosa_core.evaluate import Source
    from reviosa_core.schema import Role

    if not predictions.exists():
        _fail(f"--predictions {predictions}: no such file or folder")
    if not predictions.is_dir():
        return Source(file=predictions)
    return Source(trees={Role.ACTOR: predictions} | ({Role.TARGET: targets} if targets else {}))


def _rows(path: Path) -> pd.DataFrame:
    """The rows that `evaluate` wrote."""
    import pandas as pd

    from reviosa_core.data.jsonfile import read_json

    ids = {"video": str, "expression": str, "inverse": str}
    if path.suffix == ".csv":
        return pd.read_csv(path, dtype=ids)
    if path.suffix == ".parquet":
        return pd.read_parquet(path)
    stored = read_json(path)
    if "rows" not in stored:
        raise ValueError(f"{path}: holds no rows; compare what `reviosa evaluate` wrote, or tables of rows (.csv)")
    return pd.DataFrame(**stored["rows"])


@data_app.command()
def intershapes(
    out: Annotated[Path, typer.Argument(help="The split becomes a folder in here.")],
    split: Annotated[Literal["train", "val", "test", "shift"], typer.Option(help="shift: unseen looks, for transfer.")],
    clips: Annotated[int | None, typer.Option(min=1, help="How many; by default the profile's number.")] = None,
    seed: Annotated[int | None, typer.Option(min=0, help="By default the profile's.")] = None,
    size: Annotated[int | None, typer.Option(min=64, max=256, help="Pixels, square; by default the profile's.")] = None,
    frames: Annotated[int | None, typer.Option(min=4, help="Per clip; by default the profile's number.")] = None,
    difficulty: Annotated[str | None, typer.Option(help="easy, standard or hard; by default the profile's.")] = None,
    profile: Annotated[str | None, typer.Option(help="Of params.yaml; by default the active one.")] = None,
) -> None:
    """Write InterShapes: clips of moving shapes in which only the motion tells who acts on whom.

    Example: [bold]reviosa data intershapes data/more --split test --clips 20 --seed 7 --difficulty hard[/]

    Writes the InterRVOS-127K layout (JPEGImages, meta_expressions.json, mask_dict.json) and intershapes.json, which
    holds what the format has no place for: shapes, motions, what tells the roles, occlusion.
    """
    from reviosa_core import config
    from reviosa_core.data.intershapes import write_split

    with _one_line():
        project = config.project(profile)
        settings, difficulties = project.settings, project.params.difficulties
        if difficulty is not None and difficulty not in difficulties:
            raise ValueError(f"--difficulty {difficulty}: params.yaml has {sorted(difficulties)}")
    if (out / split).exists() and not (out / split / "intershapes.json").is_file():
        _fail(f"{out / split}: exists, and is not InterShapes; name another folder")
    data = settings.data
    asked = {
        "size": size,
        "frames": frames,
        "difficulty": difficulties[difficulty] if difficulty else None,
        "splits": data.splits.model_copy(update={split: clips}) if clips is not None else None,
    }
    data = data.model_copy(update={name: value for name, value in asked.items() if value is not None})
    write_split(data, split, out, settings.seed if seed is None else seed)
    typer.echo(f"written: {out / split}")


@data_app.command("import")
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
    from reviosa_core.data import own

    try:
        written = own.write(table, out, progress=sys.stderr.isatty())
    except (OSError, ValueError) as error:
        _fail(str(error))  # as many lines as problems
    typer.echo(f"written: {out}: {len(written)} clips, {sum(written.values())} expressions")


@data_app.command()
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
    from reviosa_core import plots
    from reviosa_core.data import formats

    with _one_line():
        clips = {clip.id: clip for clip in formats.read(data, split)}
        if video not in clips:
            _fail(f"{data}: no video {video!r}; it has {len(clips)}, as {', '.join(list(clips)[:3])}")
        out = out or Path(f"{video}.png")
        plots.save(plots.contact_sheet(clips[video], frames), out, dpi=180, limit=SHEET_BYTES)
    typer.echo(f"written: {out}")


@data_app.command()
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
    from reviosa_core import plots, tables
    from reviosa_core.data import formats, statistics

    with _one_line():
        found = statistics.collect(formats.read(data, split), fps)
        typer.echo(tables.dataset(found))
        if rows is not None:
            rows.parent.mkdir(parents=True, exist_ok=True)
            found.videos.to_csv(rows, index=False)
        if out is not None:
            plots.save(plots.dataset_statistics(found), out)
    for path in filter(None, (rows, out)):
        typer.echo(f"written: {path}")


@data_app.command()
def vidor(
    annotations: Annotated[Path, typer.Argument(help="A VidOR .json, or a folder with such files at any depth.")],
    out: Annotated[Path, typer.Argument(help="Gets prompts/<clip>.json, and JPEGImages/<clip> with --videos.")],
    videos: Annotated[Path | None, typer.Option(help="VidOR's folder of videos: decode the clips' frames too.")] = None,
) -> None:
    """Cut VidOR's long videos to clips as InterRVOS-127K did, with their relations, and boxes to track masks from.

    Of each video the first 500 frames of its first and of its last 1,000 (the paper's appendix D.3). Clips that are
    there already are skipped: called again, it goes on where it was stopped. Files with a problem are listed at the
    end; the others are done by then.

    Example: [bold]reviosa data vidor vidor-dataset/annotation/training clips --videos vidor-dataset/video[/]
    """
    from tqdm import tqdm

    from reviosa_core.data import vidor
    from reviosa_core.schema import DataError

    files = sorted(annotations.rglob("*.json")) if annotations.is_dir() else [annotations]
    if not files:
        _fail(f"{annotations}: no .json files")
    names, problems = [], []
    for file in tqdm(files, unit="video", disable=not sys.stderr.isatty()):
        try:
            names += vidor.export(vidor.read(file), out, videos)
        except (DataError, OSError) as error:
            problems.append(str(error))
    typer.echo(f"written: {out}: {len(names)} clips of {len(files) - len(problems)} videos")
    if problems:
        _fail("\n  ".join([f"{len(problems)} of {len(files)} files", *problems]))


@data_app.command()
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
    from reviosa_core import tables
    from reviosa_core.verify import verify

    with _one_line():
        found = verify(data, format, fast, workers)
        out = out or Path(f"{data.resolve().name}.verify.json")
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(json.dumps(found, indent=1) + "\n")
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


@weights_app.command()
def inspect(
    path: Annotated[Path, typer.Argument(help="A folder with safetensors, or a SAM2 .pt file.")],
) -> None:
    """Say what a checkpoint is and what is in it, without loading its tensors or running anything from it.

    Knows InternVL-2.5 as released and in transformers' layout, Meta's SAM2 and SAM2.1, and this project's own.

    Example: [bold]reviosa weights inspect runs/tiny/full[/]
    """
    from reviosa_core import tables
    from reviosa_core.checkpoint import describe

    with _one_line():
        found = describe(path)
    parts = [row | {key: f"{row[key]:,}" for key in ("tensors", "parameters")} for row in found.pop("parts")]
    for key, value in found.items():
        typer.echo(f"{key}: {f'{value:,}' if isinstance(value, int) else value}")
    typer.echo(tables.markdown(parts))


@weights_app.command()
def convert(
    source: Annotated[Path, typer.Argument(help="A checkpoint's folder.")],
    target: Annotated[Path, typer.Argument(help="The folder to make.")],
    to: Annotated[Literal["native", "reviosa-hf"], typer.Option(help="The layout to write.")],
    sam2: Annotated[
        Path | None, typer.Option(help="SAM2's own .pt, for a released ReVIOSa: its original decoder then tracks.")
    ] = None,
) -> None:
    """Write a checkpoint in another layout, one shard in memory at a time.

    native: InternVL-2.5 as released becomes what transformers reads; a released ReVIOSa or Sa2VA becomes this project's
    own, and this project's own becomes one with LoRA merged. reviosa-hf: this project's own becomes a released ReVIOSa,
    for the code of that project. Every tensor is accounted for before anything is written, and the folder appears when
    it is whole.

    Example: [bold]reviosa weights convert InternVL2_5-1B internvl-native --to native[/]
    """
    from reviosa_core.convert import convert as write

    with _one_line():
        write(source, target, to, sam2=sam2)
    typer.echo(f"written: {target}")


def _load(checkpoint: Path, device: str | None) -> System:
    from reviosa_core import parallel
    from reviosa_core.checkpoint import load

    try:
        return load(checkpoint).to(device or parallel.device())
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        _fail(f"--checkpoint {checkpoint}: {' '.join(str(error).split())}")


def _write(out: Path, clip: Clip, prediction: Prediction, fps: float, origin: Mapping[str, str]) -> None:
    import numpy as np
    from PIL import Image

    from reviosa_core import plots
    from reviosa_core.data.video import write_mp4
    from reviosa_core.masks import encode

    out.mkdir(parents=True, exist_ok=True)
    (out / "prediction.json").unlink(missing_ok=True)  # it is written last: a folder that has it is whole
    shutil.rmtree(out / "masks", ignore_errors=True)
    for role, masks in prediction.masks.items():
        (out / "masks" / role).mkdir(parents=True)
        for name, mask in zip(clip.frame_names, masks, strict=True):
            Image.fromarray(mask.astype(np.uint8) * 255).save(out / "masks" / role / f"{name}.png")
    frames = np.stack([clip.frames[i] for i in range(len(clip))])
    painted = (
        plots.paint(frame, {r: m[i] for r, m in prediction.masks.items()}, 0.5) for i, frame in enumerate(frames)
    )
    write_mp4(out / "overlay.mp4", painted, fps)
    sheet = plots.overlay(frames, {"prediction": prediction.masks}, origin["text"], columns=SHEET)
    plots.save(sheet, out / "sheet.png")
    about = {
        **origin,
        "answer": prediction.answer,
        "roles": [str(role) for role in prediction.masks],
        "size": list(clip.size),
        "fps": fps,
        "frames": list(clip.frame_names),
        "masks": {str(role): [encode(mask) for mask in masks] for role, masks in prediction.masks.items()},
    }
    (out / "prediction.json").write_text(json.dumps(about, indent=1) + "\n")


@contextmanager
def _one_line() -> Iterator[None]:
    """What users get wrong as a line; anything else is ours, and keeps its traceback."""
    try:
        yield
    except (OSError, ValueError) as error:  # DataError and pydantic's errors are ValueErrors
        _fail(" ".join(str(error).split()))


def _fail(message: str) -> NoReturn:
    typer.echo(f"error: {message}", err=True)
    raise typer.Exit(2)
