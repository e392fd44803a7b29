"""Checkpoint files: what they are, and other layouts for them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

commands = typer.Typer(no_args_is_help=True)


@commands.command()
def inspect(
    path: Annotated[Path, typer.Argument(help="A folder with safetensors, or a .pt or .pth file.")],
) -> None:
    """Say what a checkpoint is and what is in it, without loading its tensors or running anything from it.

    Knows InternVL-2.5 as released and in transformers' layout, Meta's SAM2 and SAM2.1, ReferFormer and SOC as
    released, and this project's own: ReVIOSa, and the three query systems.

    Example: [bold]reviosa weights inspect runs/tiny/best[/]
    """
    from reviosa_core.baselines import folders
    from reviosa_core.report import tables

    found = folders.describe(path)
    parts = [row | {key: f"{row[key]:,}" for key in ("tensors", "parameters")} for row in found.pop("parts")]
    for key, value in found.items():
        typer.echo(f"{key}: {f'{value:,}' if isinstance(value, int) else value}")
    typer.echo(tables.markdown(parts))


@commands.command()
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
    from reviosa_core import outputs
    from reviosa_core.weights.convert import WHAT
    from reviosa_core.weights.convert import convert as write

    if source.resolve() != target.resolve():  # else `write` says so
        outputs.try_out(target, WHAT)
    write(source, target, to, sam2=sam2)
    typer.echo(f"written: {target}")
