"""What a number may be, and the line that says which one is not: key, rule, value."""

from __future__ import annotations

import reprlib
from collections.abc import Iterator
from typing import Annotated, Any, TypeVar, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator
from pydantic_core import PydanticCustomError

# Upper ends are far beyond use: a slip of the finger is to be a message, not a machine without memory.
Count = Annotated[int, Field(ge=1, le=10_000_000)]  # of steps, clips, points
Few = Annotated[int, Field(ge=1, le=1024)]  # frames, heads, processes
Seed = Annotated[int, Field(ge=0, lt=2**64)]  # torch takes no more
Share = Annotated[float, Field(ge=0, le=1)]
Fraction = Annotated[float, Field(ge=0, lt=1)]
Rate = Annotated[float, Field(gt=0)]
Weight = Annotated[float, Field(ge=0)]
Words = Annotated[str, Field(min_length=1)]
Name = Annotated[
    str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]{0,99}$")
]  # of a folder, and a word to DVC and the shell
Kernels = Annotated[str, Field(pattern=r"^([A-Z][A-Z0-9_]*=\w+( |$))*$")]  # NAME=value ..., which a shell is given

Model = TypeVar("Model", bound=BaseModel)

SHORT = reprlib.Repr()
SHORT.maxdict = SHORT.maxlist = SHORT.maxtuple = 4
SHORT.maxlevel, SHORT.maxstring, SHORT.maxother = 2, 80, 80


class Strict(BaseModel):
    """Frozen, no key passes unread, every number is finite, and no truth stands in the place of one."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    @field_validator("*", mode="before")
    @classmethod
    def _no_truth(cls, value: Any, info: Any) -> Any:
        """Pydantic takes true for 1."""
        asked = cls.model_fields[str(info.field_name)].annotation
        if isinstance(value, bool) and any(kind in (int, float) for kind in (asked, *get_args(asked))):
            raise PydanticCustomError("number", "should be a number")
        return value


def need(fine: bool, key: str, value: Any, rule: str) -> None:
    """A rule between several numbers, for a model's validator: `key` is the one to change."""
    if not fine:
        raise PydanticCustomError(
            "rule", "{key}: {rule}, got {value}", {"key": key, "rule": rule, "value": SHORT.repr(value)}
        )


def changed(model: Model, **values: Any) -> Model:
    """The same with other values, checked again: `model_copy` would not. ValueError as `complaints`."""
    try:
        return model.model_validate(dict(model) | values)
    except ValidationError as error:
        raise ValueError("; ".join(complaints(error))) from None


def complaints(error: ValidationError) -> Iterator[str]:
    """A line for everything that is wrong: the dotted key, the rule, the value."""
    for found in error.errors(include_url=False):
        where = [str(part) for part in found["loc"] if not str(part).startswith("(")]  # a union's tags are no keys
        rule, given = found["msg"].removeprefix("Input "), f", got {SHORT.repr(found['input'])}"
        if found["type"] == "rule":
            about = found.get("ctx", {})
            where, rule, given = [*where, about["key"]], about["rule"], f", got {about['value']}"
        if found["type"] == "missing":
            given = ""
        yield f"{'.'.join(where) or '(top)'}: {rule}{given}"
