"""JSON read a member at a time: the same as at once, from any place on, and every fault named with the file."""

from __future__ import annotations

import json
import math
import os
import re
from pathlib import Path

import numpy as np
import pytest

from reviosa_core.data import jsonfile
from reviosa_core.data.report import Findings
from reviosa_core.schema import DataError


@pytest.mark.parametrize("chunk", [1, 2, 7, 64, 10_000])
def test_streaming_equals_reading_at_once(tmp_path, monkeypatch, chunk):
    """Whatever the chunks cut: names, numbers, escapes, nested objects."""
    monkeypatch.setattr(jsonfile, "CHUNK", chunk)
    content = {"a": {"x": [1, 2.5, -3e-7, None, True]}, '\u00fc " {': {}, "n": 123456, "": [[], [{}]], "t": "}{,:"}
    for indent in (None, 2):
        path = tmp_path / f"{indent}.json"
        path.write_text(json.dumps(content, indent=indent))
        read = []
        assert dict(jsonfile.items(path, read.append)) == content
        assert sum(read) == len(path.read_text())


@pytest.mark.parametrize("chunk", [1, 7, 10_000])
def test_a_member_lies_where_it_says(tmp_path, monkeypatch, chunk):
    monkeypatch.setattr(jsonfile, "CHUNK", chunk)
    path = tmp_path / "a.json"
    path.write_bytes(b'{\r\n "a": [1, null],\n\t"b" :{"c": "]}"},  "d": -12.5\r\n}')
    found = list(jsonfile.members(path, encoding="ascii"))
    assert [m.key for m in found] == ["a", "b", "d"]
    assert [path.read_bytes()[m.start : m.stop] for m in found] == [b"[1, null]", b'{"c": "]}"}', b"-12.5"]
    for i, member in enumerate(found):
        assert list(jsonfile.members(path, encoding="ascii", after=member.stop)) == found[i + 1 :]


def test_a_doubled_key_is_an_error_or_reported(tmp_path):
    path = tmp_path / "a.json"
    path.write_text('{"a": 1, "b": {"c": 1, "c": 2, "c": 3}, "a": 4}')
    with pytest.raises(DataError, match="a.json: duplicate key 'c'"):
        jsonfile.read_json(path)
    findings = Findings()
    assert jsonfile.read_json(path, findings) == {"a": 1, "b": {"c": 1}}
    assert [text[-3:] for text in findings.problems] == ["'c'", "'c'", "'a'"]


def test_what_is_not_an_object(tmp_path):
    (tmp_path / "a.json").write_text("[]")
    with pytest.raises(DataError, match="a.json: a JSON object is needed, got list"):
        jsonfile.read_json(tmp_path / "a.json")
    assert jsonfile.read_rows(tmp_path / "a.json") == []
    with pytest.raises(DataError, match="here: no key 'b'"):
        jsonfile.get({"a": 1}, "b", int, "here")
    with pytest.raises(DataError, match="here: 'a' is int, not"):
        jsonfile.get({"a": 1}, "a", str, "here")


@pytest.mark.parametrize("chunk", [1, 7, 10_000])
@pytest.mark.parametrize("rest", ["{}", "x", "\0", ', "b": 2}', "\n\n]"])
def test_what_stands_behind_the_end(tmp_path, monkeypatch, chunk, rest):
    monkeypatch.setattr(jsonfile, "CHUNK", chunk)
    path = tmp_path / "a.json"
    for text in ('{"a": 1}', '{"a": 1} \n'):
        path.write_text(text)
        assert dict(jsonfile.items(path)) == jsonfile.read_json(path) == {"a": 1}
        path.write_text(text + rest)
        with pytest.raises(
            DataError, match=r"a.json: more behind the end of the object, at character \d+; a file holds"
        ):
            list(jsonfile.items(path))
        with pytest.raises(DataError, match=r"a.json: more behind the end of the JSON value, at character \d+"):
            jsonfile.read_json(path)


READERS = [jsonfile.read_json, lambda path: dict(jsonfile.items(path)), lambda path: list(jsonfile.members(path))]


@pytest.mark.parametrize("read", READERS)
@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"a": 1}'.encode("utf-16"), "this is UTF-16; save it as UTF-8"),
        ('{"a": 1}'.encode("utf-32-be"), "this is UTF-16 or UTF-32"),
        (b'{"a": "\xe4"}', "can't decode byte 0xe4|line 1: byte 7 is no utf-8; save it as utf-8"),
        (b'{"a": [1, NaN]}', "NaN is not a number of JSON"),
        (b'{"a": -Infinity}', "-Infinity is not a number of JSON"),
        (b'{"a": ' + 100_000 * b"[", "nested too deeply"),
        (b"\x1f\x8b\x08\x00", r"this is compressed \(gzip\); unpack it"),
        (b"\x89PNG\r\n", "this is a PNG image"),
        (b" <HTML>", "this is a web page"),
    ],
)
def test_what_is_not_json(tmp_path, read, content, message):
    (tmp_path / "a.json").write_bytes(content)
    with pytest.raises(DataError, match=f"a.json: .*{message}"):
        read(tmp_path / "a.json")
    (tmp_path / "a.json").unlink()
    os.mkfifo(tmp_path / "a.json")
    with pytest.raises(DataError, match="a.json: a named pipe, not a file"):
        read(tmp_path / "a.json")


def test_nan_where_it_may_be(tmp_path):
    (tmp_path / "a.json").write_text('{"a": [1, NaN]}')
    assert str(jsonfile.read_json(tmp_path / "a.json", nan=True)) == "{'a': [1, nan]}"


@pytest.mark.parametrize("chunk", [1, 10_000])
def test_a_byte_order_mark(tmp_path, monkeypatch, chunk):
    monkeypatch.setattr(jsonfile, "CHUNK", chunk)
    path = tmp_path / "a.json"
    path.write_bytes(b"\xef\xbb\xbf" + b'{"a": [1], "b": 2}')
    assert jsonfile.read_json(path) == dict(jsonfile.items(path)) == {"a": [1], "b": 2}
    found = list(jsonfile.members(path, encoding="ascii"))
    assert [path.read_bytes()[m.start : m.stop] for m in found] == [b"[1]", b"2"]


def test_members_inside(tmp_path):
    """A look at the beginning: what comes behind, or is doubled, does not matter."""
    path = tmp_path / "a.json"
    path.write_text('{"x": {"y": 1}, "in": {"a": {"b": 1, "b": 2}, "c": 3}, "z": tru')
    assert [(m.key, m.value) for m in jsonfile.members_inside(path, "in")] == [("a", {"b": 2}), ("c", 3)]
    path.write_text('{"x": {"in": 1}}')
    assert list(jsonfile.members_inside(path, "in")) == []


def test_what_is_written_is_json_whatever_is_not_defined():
    value = {"a": [1.5, math.nan, {"b": np.float64("nan")}], "c": None, "d": (1, "NaN"), "e": True, "f": -0.0}
    text = jsonfile.to_json(value)
    found = jsonfile.parse(text, "text")  # which takes no NaN
    assert found == {"a": [1.5, None, {"b": None}], "c": None, "d": [1, "NaN"], "e": True, "f": 0.0}
    assert jsonfile.to_json(found) == json.dumps(found, indent=1), "as ever, where nothing is undefined"


def test_an_infinite_score_is_an_error_with_its_place():
    with pytest.raises(ValueError, match=r"^rows\.1\.J is inf, which JSON has no word for$"):
        jsonfile.to_json({"rows": [{"J": 1.0}, {"J": math.inf}]})


def test_commands_and_notebooks_have_one_way_to_write_json(root: Path):
    """Any other could write NaN, which only Python reads."""
    files = [*(root / "notebooks").glob("*.ipynb"), *(root / "reviosa_core" / "cli").glob("*.py")]
    assert not [file.name for file in files if re.search(r"json\.dump\(|json\.dumps\([^\n]*indent", file.read_text())]


def test_files_of_json_have_one_writer():
    """`to_json` alone knows what becomes of NaN; json.dumps writes words that no other reader takes."""
    root = Path(jsonfile.__file__).parents[1]
    found = [
        f"{path.relative_to(root)}: {line.strip()}"
        for path in root.rglob("*.py")
        for line in path.read_text().splitlines()
        if re.search(r"\bjson\.dump\(|write\w*\(.*json\.dumps\((?!\[key|clip_id)", line)
    ]
    assert found == []
