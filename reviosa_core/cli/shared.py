"""What commands share: the options many take, and the guard around all of them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer
from typer.core import TyperGroup

if TYPE_CHECKING:
    from reviosa_core.scoring.source import Extra, Source

Split = Annotated[str | None, typer.Option(help="Which of the data's splits; by default its only one.")]
Predictions = Annotated[
    Path,
    typer.Option(
        help="JSON in the released layout, a tree <video>/<expression>/<frame>.png of actors (both: "
        "docs/own-data.md), or a folder that predict wrote."
    ),
]
Device = Annotated[str | None, typer.Option(help="cpu, cuda, cuda:1 ...; by default a GPU where there is one.")]
Half = Annotated[
    bool, typer.Option("--half", help="Compute in bfloat16: faster on a GPU, in less memory; masks differ a little.")
]
DATA = "A data set: any of docs/datasets.md."


class Guarded(TyperGroup):
    """All commands: what users get wrong, and what their machine lacks, as a line. Anything else is ours, and keeps its
    traceback."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except BrokenPipeError:
            raise  # `| head`: click ends quietly
        except OSError as error:
            named = error.filename is not None and error.strerror
            fail(f"{error.filename}: {error.strerror}" if named else _one_line(error))
        except ValueError as error:  # DataError and pydantic's errors are ValueErrors
            fail(_one_line(error))
        except MemoryError as error:
            fail(f"out of memory: {_one_line(error)}")
        except RuntimeError as error:
            # Torch's, of a GPU and of the CPU; torch is not imported for it.
            if type(error).__name__ != "OutOfMemoryError" and "DefaultCPUAllocator" not in str(error):
                raise
            fail(f"out of memory: {_one_line(error)}")
        except KeyboardInterrupt:
            typer.echo("error: interrupted; what was not yet said to be written is not", err=True)
            raise typer.Exit(130) from None


@contextmanager
def decoration(what: str) -> Iterator[None]:
    """Pictures beside a result that is written: whatever keeps them from being drawn is a warning."""
    try:
        yield
    except Exception as error:
        warn(f"{what} is not drawn: {type(error).__name__}: {_one_line(error)}")


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """What is wrong in here is wrong with this file."""
    try:
        yield
    except ValueError as error:
        fail(f"{path}: {_one_line(error)}")


def warn(message: str) -> None:
    typer.echo(f"warning: {message}", err=True)


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split()) or type(error).__name__


def fail(message: str) -> NoReturn:
    typer.echo(f"error: {message}", err=True)
    raise typer.Exit(2)


def try_out(path: Path, data: Path | None, *given: Path | None, what: str | None = None) -> None:
    """`outputs.try_out` of what must not replace a file of the data, nor one that is given."""
    from reviosa_core import outputs
    from reviosa_core.data import formats

    if data is not None and formats.is_part(data, path):
        fail(f"{path}: is a file of the data in {data}; name another")
    outputs.try_out(path, what, given)


def png(option: str, path: Path | None) -> None:
    """Figures are PNGs."""
    if path is not None and path.suffix != ".png":
        fail(f"{option} {path}: a .png file is written")


def source_of(predictions: Path, targets: Path | None, extra: Extra = "error") -> Source:
    """Where predictions come from, named by options."""
    from reviosa_core.scoring.source import Source

    if not predictions.exists():
        fail(f"--predictions {predictions}: no such file or folder")
    return Source.at(predictions, targets, extra)
