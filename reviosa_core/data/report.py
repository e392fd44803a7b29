"""What readers have to say about data: problems, and what a benchmark's own rule leaves out."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from reviosa_core.schema import DataError, Expression


class Report:
    """By default the first problem is an error. What a rule leaves out is kept in `excluded`, with the reason;
    `unnamed` are masks of no expression, in files that do not say of which video they are."""

    def __init__(self) -> None:
        self.excluded: list[str] = []
        self.unnamed: list[str] = []

    def problem(self, error: DataError) -> None:
        raise error

    def exclude(self, what: str, reason: str) -> None:
        self.excluded.append(f"{what}: {reason}")

    @contextmanager
    def each(self) -> Iterator[None]:
        """A problem inside ends this block; whether it ends the reading, `problem` decides."""
        try:
            yield
        except DataError as error:
            self.problem(error)


class Findings(Report):
    """Keeps every problem, in order, and lets the reader go on."""

    def __init__(self) -> None:
        super().__init__()
        self.problems: list[str] = []

    def problem(self, error: DataError) -> None:
        self.problems.append(str(error))


def expression_at(where: str, id: str, *fields: Any) -> Expression:
    """An Expression whose errors begin with where it stands, its id included."""
    try:
        return Expression(id, *fields)
    except DataError as error:
        raise DataError(f"{where}{str(error).removeprefix(f'expression {id}')}") from None
