"""How sure a model may be: calibrate."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from reviosa_core.cli.shared import DATA, Device, Split, fail, png, try_out

commands = typer.Typer()


@commands.command("calibrate")
def calibrate_(
    checkpoint: Annotated[Path, typer.Option(help="A trained model's folder.")],
    data: Annotated[Path, typer.Option(help=f"To learn on: a split that the model was not trained on. {DATA}")],
    split: Split = None,
    check: Annotated[
        Path | None, typer.Option(help="To report on: another split, which has to be another one to say anything.")
    ] = None,
    check_split: Annotated[str | None, typer.Option(help="Which of the splits of --check.")] = None,
    figure: Annotated[Path | None, typer.Option(help="A .png with reliability diagrams of --check.")] = None,
    device: Device = None,
) -> None:
    """Learn how often a role's object is in a frame when the model says so, and write that beside the checkpoint.

    `reviosa predict` then says `present_calibrated`, by role and frame. With --check, the expected calibration error is
    told before and after.

    Example: [bold]reviosa calibrate --checkpoint runs/tiny/best --data data/tiny/val --check data/tiny/dev[/]
    """
    if figure is not None and check is None:
        fail("--figure: needs --check")
    png("--figure", figure)
    if not checkpoint.exists():
        fail(f"--checkpoint {checkpoint}: no such file or folder")
    from reviosa_core import outputs
    from reviosa_core.data import formats
    from reviosa_core.predict import calibration
    from reviosa_core.predict.result import model_hash

    outputs.try_out(calibration.beside(checkpoint))
    for read in (data, check) if figure is not None else ():
        try_out(figure, read)
    clips, others = formats.read(data, split), formats.read(check, check_split) if check else []
    if common := {clip.id for clip in clips} & {clip.id for clip in others}:
        fail(f"--check {check}: {len(common)} of {len(others)} videos are in --data too, as {min(common)}")
    from reviosa_core.cli.predict import load_system

    system, shown = load_system(checkpoint, device), sys.stderr.isatty()
    found = calibration.fit(calibration.measure(system, clips, shown), model_hash(checkpoint), str(data))
    rows = calibration.measure(system, others, shown) if check else None
    path = calibration.write(checkpoint, found)
    typer.echo(f"written: {path}: {', '.join(found.roles)} of {found.expressions} expressions, {len(clips)} videos")
    if rows is None:
        return
    diagrams = {}
    for role, curve in found.roles.items():
        own = rows[rows.role == role]
        if own.empty:
            typer.echo(f"{role}: --check {check} has no sentence with one")
            continue
        said, there = own.score.to_numpy(), own.there.to_numpy()
        errors = [calibration.calibration_error(s, there) for s in (said, curve.of(said))]
        typer.echo(
            f"{role}: there in {100 * there.mean():.1f} % of {len(own)} frames; calibration error (ECE) "
            f"{100 * errors[0]:.2f} % before, {100 * errors[1]:.2f} % after"
        )
        diagrams[str(role)] = {
            "before": calibration.reliability(said, there),
            "after": calibration.reliability(curve.of(said), there),
        }
    if figure is not None:
        from reviosa_core.report import reliability, style

        style.save(reliability.diagrams(diagrams), figure)
        typer.echo(f"written: {figure}")
