"""Your own video: predict."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from reviosa_core.cli.shared import fail, one_line

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
    from reviosa_core import predict
    from reviosa_core.data.video import open_video, to_clip

    if not text.strip():
        fail("--text is empty: say who does what, e.g. --text 'the dog pulling the man'")
    if not checkpoint.exists():
        fail(f"--checkpoint {checkpoint}: no such file or folder")
    with one_line():
        opened = open_video(video)
        clip = to_clip(opened, text, video.resolve().stem)
        out = out or Path("runs/predict") / clip.id
        predict.check_folder(out)
    system = _load(checkpoint, device)
    (prediction,) = system.segment(clip, clip.expressions)
    origin = {"video": str(video), "checkpoint": str(checkpoint), "text": text}
    predict.write(out, clip, prediction, fps or opened.fps, origin)
    if prediction.answer:
        typer.echo(f"answer: {prediction.answer}")
    for role, masks in prediction.masks.items():
        share = f", {100 * masks.mean():.1f} % of all pixels" if masks.any() else ""
        typer.echo(f"{role}: in {int(masks.any(axis=(1, 2)).sum())} of {len(clip)} frames{share}")
    typer.echo(f"written: {out}")


def _load(checkpoint: Path, device: str | None) -> System:
    from reviosa_core.baselines import folders, layouts
    from reviosa_core.weights.checkpoint import load

    try:
        if checkpoint.is_file():
            return layouts.load(checkpoint, device=device)
        if (checkpoint / folders.ABOUT).is_file():
            return folders.load(checkpoint, device=device)
        return load(checkpoint, device=device)
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        fail(f"--checkpoint {checkpoint}: {' '.join(str(error).split())}")
