"""Where one stands: what a bug report needs, and which stages are stale: info, status."""

from __future__ import annotations

from typing import Annotated

import typer

commands = typer.Typer()


@commands.command()
def info(
    as_json: Annotated[bool, typer.Option("--json", help="The same, for a program to read.")] = False,
) -> None:
    """Say what is here: versions, device, cores and memory, data and weights found, where runs are logged.

    Paste it into a bug report. No key and no password is in it.

    Example: [bold]reviosa info[/]
    """
    from reviosa_core.data.jsonfile import to_json
    from reviosa_core.report import machine

    found = machine.describe()
    typer.echo(to_json(found) if as_json else machine.as_text(found))


@commands.command()
def status(
    pipeline: Annotated[str, typer.Argument(help="From the project's root: seeds/dvc.yaml, ...")] = "dvc.yaml",
) -> None:
    """Say which stages are stale, why, and which figures and tables hang on them: what `dvc repro` would do.

    Example: [bold]reviosa status[/]
    """
    from reviosa_core import config
    from reviosa_core.report import stale

    typer.echo(stale.as_text(stale.stages(config.project().root, pipeline), pipeline))
