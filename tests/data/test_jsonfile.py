"""JSON read a member at a time: the same as at once, from any place on, and every fault named with the file."""

from __future__ import annotations

import json

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
