"""JSON files: read whole or a member at a time, without doubled keys, and values of the type that is due."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator
from json.decoder import JSONDecodeError
from pathlib import Path
from typing import Any, NamedTuple

from reviosa_core.data.report import Report
from reviosa_core.schema import DataError

CHUNK = 1 << 20  # characters


def unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A JSON object (`object_pairs_hook`); json would keep the last of two equal keys without a word. ValueError."""
    content = dict(pairs)
    if len(content) != len(pairs):
        keys = [key for key, _ in pairs]
        raise ValueError(f"duplicate key {next(key for key in keys if keys.count(key) > 1)!r}")
    return content


def to_json(value: Any) -> str:
    """The text of a JSON file: what is not defined (NaN) becomes null. ValueError for an infinite number, which nobody
    can mean, with its place."""
    return json.dumps(_defined(value, ()), indent=1, allow_nan=False)


def _defined(value: Any, where: tuple[Any, ...]) -> Any:
    if isinstance(value, float):
        if math.isinf(value):
            raise ValueError(f"{'.'.join(map(str, where)) or 'the value'} is {value}, which JSON has no word for")
        return None if math.isnan(value) else value
    if isinstance(value, dict):
        return {key: _defined(item, (*where, key)) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_defined(item, (*where, place)) for place, item in enumerate(value)]
    return value


def read_json(path: Path, report: Report | None = None) -> dict[str, Any]:
    """A file that holds an object. DataError naming the file; doubled keys go to `report`, the first of two is kept."""
    return _whole(path, dict, report)


def read_rows(path: Path, report: Report | None = None) -> list[Any]:
    """A file that holds a list, as `read_json`."""
    return _whole(path, list, report)


def _whole(path: Path, kind: type, report: Report | None) -> Any:
    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        content = dict(pairs)
        if len(content) != len(pairs):
            content = {}
            for key, value in pairs:
                if key in content:
                    (report or Report()).problem(DataError(f"{path}: duplicate key {key!r}"))
                content.setdefault(key, value)
        return content

    try:
        content = json.loads(path.read_bytes(), object_pairs_hook=unique)
    except DataError:
        raise
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: {error}") from None
    if not isinstance(content, kind):
        names = {dict: "object", list: "list"}
        raise DataError(f"{path}: a JSON {names[kind]} is needed, got {type(content).__name__}")
    return content


def get(container: Any, key: str, kind: Any, where: str) -> Any:
    """`container[key]`, when it is there and of type `kind`; else DataError."""
    if not isinstance(container, dict) or key not in container:
        raise DataError(f"{where}: no key {key!r}")
    if not isinstance(container[key], kind):
        raise DataError(f"{where}: {key!r} is {type(container[key]).__name__}, not {kind}")
    return container[key]


class Member(NamedTuple):
    """A member of an object and where its value lies: characters [start, stop) of the file."""

    key: str
    value: Any
    start: int
    stop: int


def items(path: Path, progress: Callable[[int], Any] | None = None) -> Iterator[tuple[str, Any]]:
    """Key and value of an object's members, one at a time, however large the file. DataError on bad JSON, and on keys
    that occur twice."""
    seen = set()
    for key, value, *_ in members(path, progress):
        if key in seen:
            raise DataError(f"{path}: {key!r} occurs twice")
        seen.add(key)
        yield key, value


def members(
    path: Path, progress: Callable[[int], Any] | None = None, encoding: str = "utf-8", after: int = 0
) -> Iterator[Member]:
    """Members of an object with their places; `progress` is told how many characters were read. DataError on bad JSON.

    With `after`, the end of some member's value, goes on behind it. Only in "ascii" are places also offsets in bytes.
    """
    decoder = json.JSONDecoder(object_pairs_hook=unique_keys)
    try:
        with path.open(encoding=encoding, newline="") as file:
            file.seek(after)
            text, at, ended, base = "", 0, False, after  # text[at] is character base + at of the file

            def more() -> None:
                nonlocal text, at, ended, base
                chunk = file.read(max(CHUNK, len(text) - at))  # doubles: a large value is not tried at every chunk
                ended = not chunk
                text, at, base = text[at:] + chunk, 0, base + at
                if progress:
                    progress(len(chunk))

            def symbol() -> str:
                nonlocal at
                while True:
                    while at < len(text) and text[at] in " \t\r\n":
                        at += 1
                    if at < len(text):
                        at += 1
                        return text[at - 1]
                    more()
                    if ended:
                        raise DataError(f"{path}: the file ends early")

            def value() -> tuple[Any, int, int]:
                nonlocal at
                while True:
                    try:
                        found, stop = decoder.raw_decode(text, at)
                        if ended or (stop < len(text) and text[stop] not in ".eE"):  # else a number could go on
                            start, at = at, stop
                            return found, base + start, base + stop
                    except JSONDecodeError:
                        if ended:
                            raise
                    more()

            def name() -> str:
                """What comes between members: a comma and a name's first quote, or the end."""
                found = symbol()
                if found == ",":
                    found = symbol()
                    if found == "}":
                        raise DataError(f"{path}: a name is needed after {key!r}, got '}}'")
                elif found != "}":
                    raise DataError(f"{path}: no comma after {key!r}")
                return found

            key = f"the member that ends at {after}"
            if not after and symbol() != "{":
                raise DataError(f"{path}: a JSON object is needed")
            first = name() if after else symbol()
            while first != "}":
                if first != '"':
                    raise DataError(f"{path}: a name is needed, got {first!r}")
                at -= 1
                key, *_ = value()
                if symbol() != ":":
                    raise DataError(f"{path}: no colon after {key!r}")
                symbol()
                at -= 1
                yield Member(key, *value())
                first = name()
    except (OSError, UnicodeDecodeError, ValueError) as error:
        if isinstance(error, DataError):
            raise
        raise DataError(f"{path}: {error}") from None
