"""Your own video: predict."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from reviosa_core.cli.shared import fail, warn

if TYPE_CHECKING:
    from reviosa_core.schema import System

commands = typer.Typer()


@commands.command("predict")
def predict_(
    video: Annotated[Path, typer.Option(help="A video file, or a folder of .jpg/.png frames.")],
    text: Annotated[str, typer.Option(help="Who does what, or to whom: 'the man leading the horse'.")],
    checkpoint: Annotated[
        Path,
        typer.Option(
            help="A trained model's folder, as stage train leaves it, or ReVIOSa's as released; or a released "
            "ReferFormer's or SOC's .pth, with RoBERTa's tokenizer files beside it."
        ),
    ],
    out: Annotated[
        Path | None,
        typer.Option(help="The folder to write; by default runs/predict/<name of the video>--<words-of-the-sentence>."),
    ] = None,
    fps: Annotated[
        float | None, typer.Option(min=0.1, max=1000, help="Speed of overlay.mp4; by default the video's own.")
    ] = None,
    device: Annotated[
        str | None, typer.Option(help="cpu, cuda, cuda:1 ...; by default a GPU where there is one.")
    ] = None,
) -> None:
    """Segment the actor, and the target where the sentence has one, in your own video.

    Writes overlay.mp4 and sheet.png (actor blue, target orange), masks/<role>/<frame>.png (0 or 255),
    and prediction.json: the model's answer, and run lengths (COCO) of every mask. The folder's name ends in six digits
    where the words leave something of the sentence out. An earlier prediction there is replaced if it is of the same
    video, sentence and checkpoint; otherwise nothing is written, and the error names both.

    Example: [bold]reviosa predict --video clip.mp4 --text "a dog pulling a man" --checkpoint runs/tiny/best[/]

    A model of the tiny profile has seen moving shapes only: it runs on real scenes, but knows nothing about them.
    """
    from reviosa_core import predict
    from reviosa_core.data.video import clip_id, open_video, to_clip

    if not text.strip():
        fail("--text is empty: say who does what, e.g. --text 'the dog pulling the man'")
    if not checkpoint.exists():
        fail(f"--checkpoint {checkpoint}: no such file or folder")
    opened = open_video(video)
    clip = to_clip(opened, text, clip_id(video))
    out = out or predict.folder_of(video, text)
    origin = {"video": str(video), "checkpoint": str(checkpoint), "text": text}
    predict.check_folder(out, origin)
    for index in range(len(clip) if video.is_dir() else 0):  # a file was looked at when it was opened
        clip.frames[index]  # one that cannot be read says so before the model runs
    system = _load(checkpoint, device)
    (prediction,) = system.segment(clip, clip.expressions)
    for failed in predict.write(out, clip, prediction, fps or opened.fps, origin):
        warn(failed)
    if prediction.answer:
        typer.echo(f"answer: {prediction.answer}")
    for role, masks in prediction.masks.items():
        share = f", {100 * masks.mean():.1f} % of all pixels" if masks.any() else ""
        typer.echo(f"{role}: in {int(masks.any(axis=(1, 2)).sum())} of {len(clip)} frames{share}")
    typer.echo(f"written: {out}")


def _load(checkpoint: Path, device: str | None) -> System:
    import torch

    from reviosa_core.baselines.folders import open_system

    try:
        known = device is None or torch.device(device).type in ("cpu", "cuda", "mps")
    except RuntimeError:
        known = False
    if not known:
        fail(f"--device {device}: cpu, cuda, cuda:<number> or mps is needed")
    try:
        return open_system(checkpoint, device)
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        fail(f"--checkpoint {checkpoint}: {' '.join(str(error).split())}")
