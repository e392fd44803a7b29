"""Tables that people make by hand, CSV (UTF-8, with a header) or JSON lines: their rows, and all that is wrong."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from reviosa_core.data import files, jsonfile
from reviosa_core.schema import DataError


class Problems:
    """What is wrong, by row; gathered, so that a table can be put right in one go."""

    def __init__(self, path: Path) -> None:
        self.path, self.found = path, list[tuple[int, str]]()

    @contextmanager
    def of(self, row: int) -> Iterator[None]:
        """A DataError in here is noted, and the work goes on after the block."""
        try:
            yield
        except DataError as error:
            self.found.append((row, str(error)))

    def done(self) -> None:
        """DataError with all that was noted, a line each, in the table's order."""
        if self.found:
            lines = [f"row {row}: {message}" for row, message in sorted(self.found)]
            raise DataError("\n  ".join([f"{self.path}: {len(lines)} problem{'s'[: len(lines) > 1]}", *lines]))


def rows(
    table: Path,
    columns: Sequence[str],
    problems: Problems,
    absent: Sequence[str] = (),
    absent_in_lines: Sequence[str] = (),
) -> list[tuple[int, dict[str, Any]]]:
    """(number, cells by column) of every row: texts of a CSV, JSON's values of JSON lines. A column may be missing when
    `absent` names it, of JSON lines also when `absent_in_lines` does.

    Rows count as a spreadsheet or an editor counts: a CSV's header is row 1. What is wrong with one is noted in
    `problems`. Raises DataError for another kind of file, other columns, and a table without rows.
    """
    text = files.text(table)
    if table.suffix not in (".csv", ".jsonl"):
        raise DataError(f"{table}: a .csv or .jsonl file is needed")
    if table.suffix == ".csv":
        found = list(_csv(table, text, problems, columns, absent))
    else:
        found = list(_json_lines(text, problems, columns, (*absent, *absent_in_lines)))
    if not found and not problems.found:
        raise DataError(f"{table}: no rows")
    return found


def _csv(
    table: Path, text: str, problems: Problems, columns: Sequence[str], absent: Sequence[str]
) -> Iterator[tuple[int, dict[str, Any]]]:
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    try:
        header = [name.strip() for name in next(reader, [])]
        if len(set(header)) != len(header) or not {*columns} - {*absent} <= {*header} <= {*columns}:
            needed = f"{list(columns)}{_may_be_absent(absent)}"
            raise DataError(f"{table}: the columns are {header}; needed are {needed}, separated by commas")
        for number, cells in enumerate(reader, 2):
            with problems.of(number):
                if not cells:
                    continue  # an empty line, as at the end
                if len(cells) != len(header):
                    raise DataError(f"{len(cells)} cells for {len(header)} columns; quote a sentence with commas")
                yield number, dict(zip(header, cells, strict=True))
    except csv.Error as error:
        raise DataError(f"{table}: line {reader.line_num}: {error}") from None


def _json_lines(
    text: str, problems: Problems, columns: Sequence[str], absent: Sequence[str]
) -> Iterator[tuple[int, dict[str, Any]]]:
    for number, line in enumerate(text.split("\n"), 1):
        with problems.of(number):
            if not line.strip():
                continue
            cells = jsonfile.parse(line, "no JSON")
            if not isinstance(cells, dict) or not {*columns} - {*absent} <= cells.keys() <= {*columns}:
                found = sorted(cells) if isinstance(cells, dict) else type(cells).__name__
                raise DataError(f"the keys are {found}; needed are {list(columns)}{_may_be_absent(absent)}")
            yield number, cells


def _may_be_absent(names: Sequence[str]) -> str:
    return f" ({', '.join(names)} may be absent)" if names else ""
