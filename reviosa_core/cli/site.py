"""All there is to read, as pages: site."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

commands = typer.Typer()


@commands.command()
def site(
    out: Annotated[Path, typer.Argument(help="A folder; one that was written before is replaced.")] = Path("site"),
    profile: Annotated[str | None, typer.Option(help="Of params.yaml; by default the active one.")] = None,
) -> None:
    """Write executed notebooks, report, data card, log and docs as HTML that opens without a server.

    Example: [bold]reviosa site[/], then open site/index.html
    """
    from reviosa_core import config
    from reviosa_core.report import site

    count = site.write(config.project(profile), out)
    typer.echo(f"{count} pages: {out / 'index.html'}")
