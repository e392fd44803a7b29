"""What commands share: the options many take, one line for what users get wrong."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

if TYPE_CHECKING:
    from reviosa_core.scoring.evaluate import Source

Split = Annotated[str | None, typer.Option(help="Which of the data's splits; by default its only one.")]
Predictions = Annotated[
    Path, typer.Option(help="JSON in the released layout, or a tree <video>/<expression>/<frame>.png of actors.")
]
DATA = "A data set: any of docs/datasets.md."


@contextmanager
def one_line() -> Iterator[None]:
    """What users get wrong as a line; anything else is ours, and keeps its traceback."""
    try:
        yield
    except (OSError, ValueError) as error:  # DataError and pydantic's errors are ValueErrors
        fail(" ".join(str(error).split()))


def fail(message: str) -> NoReturn:
    typer.echo(f"error: {message}", err=True)
    raise typer.Exit(2)


def source_of(predictions: Path, targets: Path | None) -> Source:
    """Where predictions come from, named by two options."""
    from reviosa_core.schema import Role
    from reviosa_core.scoring.evaluate import Source

    if not predictions.exists():
        fail(f"--predictions {predictions}: no such file or folder")
    if not predictions.is_dir():
        return Source(file=predictions)
    return Source(trees={Role.ACTOR: predictions} | ({Role.TARGET: targets} if targets else {}))
