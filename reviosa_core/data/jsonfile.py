"""JSON files: read whole or a member at a time, without doubled keys, and values of the type that is due."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from json.decoder import JSONDecodeError
from pathlib import Path
from typing import Any, NamedTuple, TextIO

from reviosa_core.data import files
from reviosa_core.data.report import Report
from reviosa_core.schema import DataError

CHUNK = 1 << 20  # characters
Hook = Callable[[list[tuple[str, Any]]], Any]


def unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A JSON object (`object_pairs_hook`); json would keep the last of two equal keys without a word. ValueError."""
    content = dict(pairs)
    if len(content) != len(pairs):
        keys = [key for key, _ in pairs]
        raise ValueError(f"duplicate key {next(key for key in keys if keys.count(key) > 1)!r}")
    return content


def to_json(value: Any, indent: int | None = 1, ascii: bool = True) -> str:
    """The text of a JSON file: what is not defined (NaN) becomes null. ValueError for an infinite number, which nobody
    can mean, with its place."""
    try:
        return json.dumps(value, indent=indent, ensure_ascii=ascii, allow_nan=False)
    except ValueError:  # seldom: what is large is not copied for it
        return json.dumps(_defined(value, ()), indent=indent, ensure_ascii=ascii, allow_nan=False)


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


def parse(text: str, where: str, unique: Hook = unique_keys, nan: bool = False) -> Any:
    """The value of a JSON text. DataError, beginning with `where`, for anything that is not one: more behind its end,
    NaN and Infinity (`nan`: these may be there), and what is nested too deeply to be read."""
    with _named(where):
        return json.loads(text, object_pairs_hook=unique, parse_constant=None if nan else _no_number)


def _no_number(name: str) -> Any:
    raise ValueError(f"{name} is not a number of JSON")


@contextmanager
def _named(where: str) -> Iterator[None]:
    """What readers raise as a DataError that begins with `where`."""
    try:
        yield
    except DataError:
        raise
    except RecursionError:
        raise DataError(f"{where}: nested too deeply") from None
    except MemoryError:
        raise DataError(f"{where}: does not fit in memory") from None
    except JSONDecodeError as error:
        if error.msg == "Extra data":
            raise DataError(f"{where}: more behind the end of the JSON value, {_place(error.pos)}") from None
        raise DataError(f"{where}: {error}") from None
    except (OSError, ValueError) as error:
        raise DataError(f"{where}: {getattr(error, 'strerror', None) or error}") from None


def _place(position: int) -> str:
    return f"at character {position}; a file holds one (parts are not joined by putting one after another)"


def read_json(path: Path, report: Report | None = None, nan: bool = False) -> dict[str, Any]:
    """A file that holds an object; `nan` as in `parse`. DataError naming the file; doubled keys go to `report`, the
    first of two is kept."""
    return _whole(path, dict, report, nan)


def read_rows(path: Path, report: Report | None = None) -> list[Any]:
    """A file that holds a list, as `read_json`."""
    return _whole(path, list, report)


def _whole(path: Path, kind: type, report: Report | None, nan: bool = False) -> Any:
    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        content = dict(pairs)
        if len(content) != len(pairs):
            content = {}
            for key, value in pairs:
                if key in content:
                    (report or Report()).problem(DataError(f"{path}: duplicate key {key!r}"))
                content.setdefault(key, value)
        return content

    content = parse(files.text(path), str(path), unique, nan)
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
    """Members of an object with their places; `progress` is told how many characters were read. DataError on bad JSON,
    and on anything behind the object.

    With `after`, the end of some member's value, goes on behind it. Only in "ascii" are places also offsets in bytes.
    """
    with _scan(path, progress, encoding, after) as scan:
        if not after:
            scan.begin()
        for key in scan.names(f"the member that ends at {after}" if after else None):
            yield Member(key, *scan.value())
        scan.end()


def members_inside(path: Path, name: str) -> Iterator[Member]:
    """Members of the object that is the value of member `name`; none where it is not there. What comes behind it is not
    looked at, and of doubled keys the last counts: for a look at a file. DataError on bad JSON."""
    with _scan(path) as scan:
        scan.decoder = json.JSONDecoder()
        scan.begin()
        for key in scan.names():
            if key == name:
                scan.begin()
                for inner in scan.names():
                    yield Member(inner, *scan.value())
                return
            scan.value()


@contextmanager
def _scan(
    path: Path, progress: Callable[[int], Any] | None = None, encoding: str = "utf-8", after: int = 0
) -> Iterator[_Scanner]:
    start = after or files.check_text(path)
    with _named(str(path)), path.open(encoding=encoding, newline="") as file:
        file.seek(start)
        yield _Scanner(file, path, start, progress)


class _Scanner:
    """Reads JSON from a file piece by piece: `text[at]` is character `base + at` of the file."""

    def __init__(self, file: TextIO, path: Path, base: int, progress: Callable[[int], Any] | None) -> None:
        self.file, self.path, self.base, self.progress = file, path, base, progress
        self.text, self.at, self.ended = "", 0, False
        self.decoder = json.JSONDecoder(object_pairs_hook=unique_keys, parse_constant=_no_number)

    def more(self) -> None:
        chunk = self.file.read(
            max(CHUNK, len(self.text) - self.at)
        )  # doubles: a large value is not tried at each chunk
        self.ended = not chunk
        self.text, self.at, self.base = self.text[self.at :] + chunk, 0, self.base + self.at
        if self.progress:
            self.progress(len(chunk))

    def space(self) -> bool:
        """Go on to what is no blank. False at the end of the file."""
        while True:
            while self.at < len(self.text) and self.text[self.at] in " \t\r\n":
                self.at += 1
            if self.at < len(self.text):
                return True
            self.more()
            if self.ended:
                return False

    def symbol(self) -> str:
        if not self.space():
            raise DataError(f"{self.path}: the file ends early")
        self.at += 1
        return self.text[self.at - 1]

    def begin(self) -> None:
        if self.symbol() != "{":
            raise DataError(f"{self.path}: a JSON object is needed")

    def end(self) -> None:
        if self.space():
            raise DataError(f"{self.path}: more behind the end of the object, {_place(self.base + self.at)}")

    def value(self) -> tuple[Any, int, int]:
        """The value that begins here, and its characters [start, stop)."""
        self.symbol()
        self.at -= 1
        while True:
            try:
                found, stop = self.decoder.raw_decode(self.text, self.at)
                if self.ended or (stop < len(self.text) and self.text[stop] not in ".eE"):  # else a number could go on
                    start, self.at = self.at, stop
                    return found, self.base + start, self.base + stop
            except JSONDecodeError:
                if self.ended:
                    raise
            self.more()

    def names(self, behind: str | None = None) -> Iterator[str]:
        """The names of an object's members, each to be followed by a call of `value` or `begin`. `behind` a member that
        was read before, or from the object's start."""
        first = self.symbol() if behind is None else self.comma(behind)
        while first != "}":
            if first != '"':
                raise DataError(f"{self.path}: a name is needed, got {first!r}")
            self.at -= 1
            key, *_ = self.value()
            if self.symbol() != ":":
                raise DataError(f"{self.path}: no colon after {key!r}")
            yield key
            first = self.comma(key)

    def comma(self, key: str) -> str:
        """What comes between members: a comma and a name's first quote, or the end."""
        found = self.symbol()
        if found == ",":
            found = self.symbol()
            if found == "}":
                raise DataError(f"{self.path}: a name is needed after {key!r}, got '}}'")
        elif found != "}":
            raise DataError(f"{self.path}: no comma after {key!r}")
        return found
