"""Descriptions that may come with a checkpoint: typed, every value bounded, read strictly and never interpreted."""

from __future__ import annotations

import reprlib
from collections.abc import Sequence
from typing import Annotated, Any, TypeVar

from pydantic import ConfigDict, Field, ValidationError

from reviosa_core import config
from reviosa_core.schema import DataError

D = TypeVar("D", bound="Described")
Share = Annotated[float, Field(ge=0, lt=1)]


class Described(config.Strict):
    """Numbers and names with bounds. A key that is not a field, a number that is not finite and a text in the place of
    a number are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, serialize_by_alias=True)

    @classmethod
    def read(cls: type[D], raw: Any, where: str) -> D:
        """A description from plain values. DataError names `where`, key, rule and value."""
        try:
            return cls.model_validate(raw)
        except ValidationError as error:
            raise DataError(f"{where}: {problem(error)}") from None


def problem(error: ValidationError) -> str:
    """The first thing that is wrong, on one short line: key, rule and value."""
    first = error.errors()[0]
    key = cut(".".join(map(str, first["loc"])), 200)
    rule = first["msg"].removeprefix("Value error, ")
    value = "" if first["type"] in ("missing", "value_error") else f", got {short(first['input'])}"
    return f"{key}: {rule}{value}" if key else f"{rule}{value}"


def short(value: Any) -> str:
    """A value from a file for an error's text, as Python writes it: never long, never more than a line."""
    return cut(reprlib.repr(value))


def cut(text: str, limit: int = 60) -> str:
    """A name or a text from a file for an error's text: the same, without quotation marks."""
    said = text[: limit + 1] if text[: limit + 1].isprintable() else repr(text[: limit + 1])
    return said if len(said) <= limit else f"{said[: limit - 3]}..."


def divides(whole: str, large: int, small: int, part: str = "") -> None:
    """ValueError unless `small` divides `large`."""
    if large % small:
        raise ValueError(f"{whole} {large} must divide by {f'{part} ' if part else ''}{small}")


def same(named: Sequence[tuple[str, int]]) -> None:
    """ValueError unless these sizes, which must be one, are equal."""
    (first, size), *others = named
    for name, other in others:
        if other != size:
            raise ValueError(f"{name} is {other}, {first} {size}: they must be equal")
