"""Your own videos, one or many, and whole splits: predict."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from reviosa_core.cli.shared import DATA, Device, Half, Split, fail, try_out, warn

if TYPE_CHECKING:
    import numpy as np
    from jaxtyping import UInt8

    from reviosa_core.model.reviosa import ReVIOSa
    from reviosa_core.predict.batch import Done
    from reviosa_core.predict.jobs import Job
    from reviosa_core.predict.result import Settings
    from reviosa_core.predict.streamed import Stream
    from reviosa_core.schema import Segments

SOME_FAILED = 1  # exit code: the rest is written

commands = typer.Typer()


@commands.command("predict")
def predict_(
    checkpoint: Annotated[
        Path,
        typer.Option(
            help="A trained model's folder, as stage train leaves it, or ReVIOSa's as released; or a released "
            "ReferFormer's or SOC's .pth, with RoBERTa's tokenizer files beside it."
        ),
    ],
    video: Annotated[
        Path | None,
        typer.Option(help="A video file, a folder of .jpg/.png frames, or - for a video that comes by a pipe."),
    ] = None,
    text: Annotated[
        list[str] | None,
        typer.Option(help="Who does what, or to whom: 'the man leading the horse'. Several: each has a --text."),
    ] = None,
    manifest: Annotated[
        Path | None,
        typer.Option(help="Instead: many, a .csv or .jsonl with video, text and, if you like, id, fps, start, end."),
    ] = None,
    data: Annotated[Path | None, typer.Option(help=f"Instead: a whole split. {DATA}")] = None,
    split: Split = None,
    out: Annotated[
        Path | None,
        typer.Option(
            help="The folder to write; by default runs/predict/<name of the video>--<words-of-the-sentence>. With "
            "several sentences or a manifest, the folder that holds a folder each; with --data, a .json file."
        ),
    ] = None,
    fps: Annotated[
        float | None,
        typer.Option(
            min=0.1,
            max=1000,
            help="Speed of the videos written; by default each frame's time. Of a folder of frames, also what --start "
            "and --end count by: 12 a second where it is not given.",
        ),
    ] = None,
    start: Annotated[float | None, typer.Option(min=0, help="Seconds: the frames from here on only.")] = None,
    end: Annotated[float | None, typer.Option(min=0, help="Seconds: the frames before that only.")] = None,
    min_confidence: Annotated[
        float, typer.Option(min=0, max=1, help="Leave masks out of frames in which the model is less sure than that.")
    ] = 0.0,
    also: Annotated[
        list[str] | None,
        typer.Option(
            help="More to write: palette (one PNG a frame, 1 actor, 2 target, 3 both), ytvis (YouTube-VIS' JSON), webm "
            "(masks.webm, transparent where there is none). Several: each has an --also."
        ),
    ] = None,
    mode: Annotated[
        str,
        typer.Option(help="whole: look at all of a video, then answer. stream: answer each frame without later ones."),
    ] = "whole",
    window: Annotated[
        int | None, typer.Option(help="Of a stream: frames back over which those that are read are spread.")
    ] = None,
    unsure: Annotated[
        float | None, typer.Option(help="Of a stream: ask again where SAM2 is less sure of a mask than that.")
    ] = None,
    jump: Annotated[
        float | None, typer.Option(help="Of a stream: ask again where a mask's IoU with the one before is below that.")
    ] = None,
    gap: Annotated[int | None, typer.Option(help="Of a stream: frames between two questions, at least.")] = None,
    every: Annotated[int | None, typer.Option(help="Of a stream: frames between two questions, at most.")] = None,
    workers: Annotated[int, typer.Option(min=1, help="Processes, with --data: one a GPU, or one a few cores.")] = 1,
    device: Device = None,
    half: Half = False,
) -> None:
    """Segment the actor, and the target where the sentence has one, in your own videos.

    Writes overlay.mp4 and sheet.png (actor blue, target orange), masks/<role>/<frame>.png (0 or 255),
    and prediction.json: the model's answer, run lengths (COCO) of every mask, and how sure it is of them. The folder's
    name ends in six digits where the words leave something of the sentence out. An earlier prediction there is replaced
    if it is of the same video, sentence and checkpoint; otherwise nothing is written, and the error names both.

    Several sentences (--text A --text B) and manifests (--manifest jobs.csv) have a folder each in --out, and
    report.json and report.csv over all. What is there is not made again; a job that fails stops no other, and the exit
    code is 1 then. With --data, a whole split becomes one file that `reviosa evaluate` reads; called again after an
    interruption, clips that are done, in <out>.partial, are not made again.

    With --mode stream what is shown of a frame depends on no later one; --video - reads a video from standard input,
    and writes a line of JSON a frame and sentence to standard output as it comes.

    Example: [bold]reviosa predict --video clip.mp4 --text "a dog pulling a man" --checkpoint runs/tiny/best[/]

    A model of the tiny profile has seen moving shapes only: it runs on real scenes, but knows nothing about them.
    """
    given = {"--video": video, "--manifest": manifest, "--data": data}
    named = [name for name, value in given.items() if value is not None]
    if len(named) != 1:
        fail(f"{' and '.join(named) or 'nothing to predict'}: one of {', '.join(given)} is needed")
    if not checkpoint.exists():
        fail(f"--checkpoint {checkpoint}: no such file or folder")
    stream = _stream(mode, {"window": window, "unsure": unsure, "jump": jump, "gap": gap, "every": every})
    if data is not None:
        single = {"--text": text, "--fps": fps, "--start": start, "--end": end, "--also": also}
        single["--min-confidence"] = min_confidence or None
        _refuse("--data", single)
        _predict_split(checkpoint, data, split, out, workers, device, half, stream)
        return
    _refuse(named[0], {"--split": split, "--workers": None if workers == 1 else workers})

    if video is not None and (not text or not all(t.strip() for t in text)):
        fail("--text is empty: say who does what, e.g. --text 'the dog pulling the man'")
    if str(video) == "-":
        given = {"--out": out, "--fps": fps, "--start": start, "--end": end, "--also": also}
        _refuse("--video -", given | {"--min-confidence": min_confidence or None})
        if stream is None:
            fail("--video -: a pipe is read once, from its start: --mode stream is needed")
        _piped(checkpoint, text or [], stream, device, half)
        return

    from reviosa_core.data.video import named
    from reviosa_core.predict import calibration, exports, jobs
    from reviosa_core.predict.result import Settings, model_hash

    extra = tuple(dict.fromkeys(also or ()))
    if unknown := [name for name in extra if name not in exports.ALSO]:
        fail(f"--also {unknown[0]}: {', '.join(exports.ALSO)} are known")

    def settings() -> Settings:
        model = model_hash(checkpoint)
        # What a stream is sure of is another number: nobody has calibrated it.
        known = calibration.read(checkpoint, model) if stream is None else None
        return Settings(checkpoint, model, min_confidence, extra, known, stream, half)

    if manifest is not None:
        from reviosa_core.schema import DataError

        _refuse("--manifest", {"--text": text, "--fps": fps, "--start": start, "--end": end})
        folder = out or jobs.DEFAULT / manifest.stem
        try:
            todo = jobs.of_manifest(manifest, folder)
        except DataError as error:
            if str(error).count("\n") > 1:
                fail(str(error))  # several problems, a line each
            raise
        _many(todo, folder, settings(), device)
        return
    assert video is not None and text
    if len(text) > 1:
        folder = out or jobs.DEFAULT / named(video).name
        todo = jobs.of_texts(video, text, folder, fps=fps, start=start, end=end)
        _many(todo, folder, settings(), device)
        return
    job = jobs.Job(video, text[0], out or jobs.DEFAULT / jobs.name_of(video, text[0]), fps, start, end)
    _single(job, settings(), device)


def _refuse(what: str, others: dict[str, object]) -> None:
    if wrong := [name for name, value in others.items() if value is not None]:
        fail(f"{wrong[0]}: does not go with {what}")


def _stream(mode: str, given: dict[str, Any]) -> Stream | None:
    """What a stream is asked for; None for the whole way."""
    if mode not in ("whole", "stream"):
        fail(f"--mode {mode}: whole or stream")
    given = {name: value for name, value in given.items() if value is not None}
    if mode == "whole":
        _refuse("--mode whole", {f"--{name}": value for name, value in given.items()})
        return None
    from pydantic import ValidationError

    from reviosa_core.bounds import complaints
    from reviosa_core.predict.streamed import Stream

    try:
        return Stream(**given)
    except ValidationError as error:
        fail(f"--{next(complaints(error))}")


def _piped(checkpoint: Path, texts: Sequence[str], stream: Stream, device: str | None, half: bool) -> None:
    """A line of JSON a frame and sentence, as the frames come."""
    from reviosa_core.data.decoding import piped
    from reviosa_core.data.jsonfile import to_json
    from reviosa_core.data.video import FOLDER_FPS

    model = _model(checkpoint, device, half)
    from reviosa_core.predict.stream import follow, line

    times: list[float] = []

    def coming() -> Iterator[UInt8[np.ndarray, "h w 3"]]:
        # What Python buffers would be waited for: the raw file gives what is there.
        for frame, time in piped(sys.stdin.buffer.raw, FOLDER_FPS):
            times[:] = [time]
            yield frame

    for number, shown in enumerate(follow(model, coming(), texts, stream)):
        for text, own in zip(texts, shown, strict=True):
            typer.echo(to_json(line(own, text, number, times[0]), indent=None))
        sys.stdout.flush()


def _single(job: Job, settings: Settings, device: str | None) -> None:
    """One prediction: whatever is wrong ends the command."""
    from reviosa_core.predict import batch, result

    opened = batch.opened(job)
    result.check_folder(job.out, result.origin(job, settings.checkpoint))
    for index in range(len(opened.names) if job.video.is_dir() else 0):  # a file was looked at when it was opened
        opened.frames[index]  # one that cannot be read says so before the model runs
    system = _system(settings.checkpoint, settings.stream, settings.half, device)
    done = batch.one(job, opened, system, settings)
    for problem in done.problems:
        warn(problem)
    assert done.about is not None
    if done.about["answer"]:
        typer.echo(f"answer: {done.about['answer']}")
    for line in _roles(done, settings.min_confidence):
        typer.echo(line)
    typer.echo(f"written: {job.out}")


def _roles(done: Done, min_confidence: float) -> list[str]:
    about, lines = done.about or {}, []
    for role, seen in about["diagnostics"].items():
        line = f"{role}: in {seen['frames_visible']} of {seen['frames']} frames"
        if seen["frames_visible"]:
            line += f", {100 * seen['share']:.1f} % of all pixels"
        if about["confidence"]:
            line += f"; probability of its token {about['confidence'][role]['token']:.2f}"
        if min_confidence:
            line += f"; left out of {about['left_out'][role]} frames with less confidence than {min_confidence:g}"
        lines.append(line)
    return lines


def _many(todo: Sequence[Job], out: Path, settings: Settings, device: str | None) -> None:
    """A folder a job, and the report. What fails is said, and the rest goes on."""
    from reviosa_core import outputs
    from reviosa_core.predict import batch, jobs

    for name in jobs.REPORT:
        outputs.try_out(out / name)
    found: dict[str, Done] = {}
    for done in batch.run(todo, lambda: _system(settings.checkpoint, settings.stream, settings.half, device), settings):
        found[done.job.id] = done
        if done.state == "failed":
            warn(f"{done.job.id}: {done.problems[0]}")
            continue
        for problem in done.problems:
            warn(problem)
        what = "there already" if done.state == "there" else "; ".join(_roles(done, settings.min_confidence))
        typer.echo(f"{done.job.id}: {what}")
    batch.report(out, [found[job.id] for job in todo], settings)
    typer.echo(f"written: {out}: {', '.join(jobs.REPORT)}")
    if failed := [done for done in found.values() if done.state == "failed"]:
        typer.echo(f"error: {len(failed)} of {len(found)} jobs failed: {out / jobs.REPORT[0]} says why", err=True)
        raise typer.Exit(SOME_FAILED)


def _predict_split(
    checkpoint: Path,
    data: Path,
    split: str | None,
    out: Path | None,
    workers: int,
    device: str | None,
    half: bool,
    stream: Stream | None,
) -> None:
    import torch

    from reviosa_core.data import formats
    from reviosa_core.predict import splits
    from reviosa_core.predict.result import model_hash

    if out is None or out.suffix != ".json":
        fail("--out: a .json file is needed with --data" if out is None else f"--out {out}: a .json file is written")
    try_out(out, data)
    clips = formats.read(data, split)
    devices: list[str | None] = [device] * workers
    if device is None and workers > 1 and (gpus := torch.cuda.device_count()):
        devices = [f"cuda:{i % gpus}" for i in range(workers)]
    load, made_by = partial(_system, checkpoint, stream, half), f"{model_hash(checkpoint)} {stream}{' half' * half}"
    count = splits.write(out, clips, load, made_by, devices, progress=sys.stderr.isatty())
    typer.echo(f"written: {out}: {count} expressions of {len(clips)} videos")


def _system(checkpoint: Path, stream: Stream | None, half: bool, device: str | None) -> Segments:
    if stream is None:
        return load_system(checkpoint, device, half)
    model = _model(checkpoint, device, half)
    from reviosa_core.predict.stream import Streaming

    return Streaming(model, stream)


def _model(checkpoint: Path, device: str | None, half: bool) -> ReVIOSa:
    system = load_system(checkpoint, device, half)
    from reviosa_core.model.reviosa import ReVIOSa

    if not isinstance(system, ReVIOSa):
        fail(f"--checkpoint {checkpoint}: {type(system).__name__} sees all frames at once; --mode whole is needed")
    return system


def load_system(checkpoint: Path, device: str | None, half: bool = False) -> Segments:
    import torch

    from reviosa_core.baselines.folders import open_system
    from reviosa_core.schema import DataError

    try:
        known = device is None or torch.device(device).type in ("cpu", "cuda", "mps")
    except RuntimeError:
        known = False
    if not known:
        raise DataError(f"--device {device}: cpu, cuda, cuda:<number> or mps is needed")
    try:
        return open_system(checkpoint, device, torch.bfloat16 if half else torch.float32)
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        raise DataError(f"--checkpoint {checkpoint}: {' '.join(str(error).split())}") from None
