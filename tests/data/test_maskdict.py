"""The masks of a large file: the same as reading it whole, resumed where a scan stopped, and never stale."""

from __future__ import annotations

import json
import os

import pytest

from reviosa_core import masks
from reviosa_core.data import jsonfile, maskdict
from reviosa_core.data.report import Findings
from reviosa_core.schema import DataError

T, H, W = 3, 5, 7


@pytest.fixture
def content(rng) -> dict[str, list]:
    content = {str(k): [masks.encode(rng.random((H, W)) < 0.5) for _ in range(T + k)] for k in (10, 2, 33)}
    content["2"][1] = None
    return content | {"4": [None] * T}


@pytest.fixture
def path(tmp_path, content, monkeypatch):
    monkeypatch.setenv("REVIOSA_CACHE", str(tmp_path / "cache"))
    path = tmp_path / "mask_dict.json"
    path.write_text(json.dumps(content, indent=1))
    return path


@pytest.mark.parametrize("large", [1, 10**9])
def test_equals_reading_the_file(path, content, monkeypatch, large):
    monkeypatch.setattr(maskdict, "LARGE", large)
    for _ in range(2):  # the second time from the index
        spans = maskdict.scan(path)
        assert [(k, s.frames, s.size) for k, s in spans.items()] == [
            ("10", 13, (H, W)),
            ("2", 5, (H, W)),
            ("33", 36, (H, W)),
            ("4", 3, None),
        ]
        for key, span in spans.items():
            found = maskdict.track(path, spans, key, len(content[key]), (H, W), "v")
            assert list(found) == content[key] and found[-1] == content[key][-1] and len(found) == span.frames
    assert len(list(path.parent.glob("cache/*.index"))) == (large == 1)


def test_a_scan_that_was_cut_off_goes_on(path, monkeypatch):
    monkeypatch.setattr(maskdict, "LARGE", 1)
    whole, members, asked = maskdict.scan(path), jsonfile.members, []

    def watched(path, progress, encoding, after):
        asked.append(after)
        for n, member in enumerate(members(path, progress, encoding, after)):
            if not after and n == 2:
                raise KeyboardInterrupt
            yield member

    (index,) = path.parent.glob("cache/*.index")
    index.unlink()
    monkeypatch.setattr(jsonfile, "members", watched)
    with pytest.raises(KeyboardInterrupt):
        maskdict.scan(path)
    assert not index.exists()
    with index.with_suffix(".partial").open("a") as file:
        file.write('["33", 12')  # killed while writing
    assert maskdict.scan(path) == whole
    assert asked == [0, whole["2"].stop]


def test_a_changed_file_is_scanned_anew(path, content, monkeypatch):
    monkeypatch.setattr(maskdict, "LARGE", 1)
    before = maskdict.track(path, maskdict.scan(path), "10", T + 10, (H, W), "v")
    path.write_text(json.dumps({"5": content["4"]} | content))
    os.utime(path, ns=(1, 1))
    maskdict.load.cache_clear()  # what is held is right still
    with pytest.raises(DataError, match="mask_dict.json: changed"):
        before[0]
    spans = maskdict.scan(path)
    assert maskdict.track(path, spans, "10", T + 10, (H, W), "v")[0] == content["10"][0]


def test_a_doubled_id_is_an_error_or_reported(path):
    path.write_text('{"1": [null], "1": [null, null], "2": []}')
    with pytest.raises(DataError, match="mask_dict.json: duplicate key '1'"):
        maskdict.scan(path)
    findings = Findings()
    assert maskdict.scan(path, findings)["1"].frames == 1 and len(findings.problems) == 1


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (None, "mask 1 of video 'v': no key '1'"),
        ({}, "mask 1 of video 'v': dict, not a list"),
        ([None, {"size": [H, W]}, None], "entry 1 is neither null nor a mask"),
        ([None, {"size": [[H], W], "counts": ""}, None], "entry 1 is neither null nor a mask"),
        ([{"size": [H, W], "counts": ""}, {"size": [W, H], "counts": ""}, None], r"entry 1 has size \(7, 5\)"),
        ([{"size": [W, H], "counts": ""}, None, None], r"have size \(7, 5\), the frames have \(5, 7\)"),
        ([None] * 4, "4 masks for 3 frames"),
    ],
)
def test_what_does_not_fit(path, value, message):
    path.write_text(json.dumps({} if value is None else {"1": value}))
    with pytest.raises(DataError, match=message):
        maskdict.track(path, maskdict.scan(path), "1", T, (H, W), "v")


def test_a_mark_before_the_masks(path, content):
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    spans = maskdict.scan(path)
    assert list(maskdict.track(path, spans, "2", T + 2, (H, W), "v")) == content["2"]


def test_an_entry_that_is_no_mask_says_where_it_is(path, content):
    content["2"][4] = {"size": [H, W], "counts": [3, 4]}
    path.write_text(json.dumps(content))
    found = maskdict.track(path, maskdict.scan(path), "2", T + 2, (H, W), "v")
    assert found[3] == content["2"][3]
    with pytest.raises(DataError, match=f"mask 2 of video 'v', entry 4: mask counts cover 7 pixels.* has {H * W}"):
        found[4]


@pytest.mark.parametrize("line", ["", "[", '["2", 1]', '["2", 1, 2, 3, 4]', "{}", '["2", "x", 2, 3, null]', "\\xff"])
def test_an_index_that_is_damaged(path, monkeypatch, line):
    monkeypatch.setattr(maskdict, "LARGE", 1)
    maskdict.scan(path)
    (index,) = path.parent.glob("cache/*.index")
    index.write_bytes(index.read_bytes() + line.encode() + b"\n")
    with pytest.raises(DataError, match="index: this index of masks is damaged; delete it"):
        maskdict.scan(path)


def test_an_index_whose_places_are_swapped(path, monkeypatch):
    monkeypatch.setattr(maskdict, "LARGE", 1)
    maskdict.scan(path)
    (index,) = path.parent.glob("cache/*.index")
    lines = [json.loads(line) for line in index.read_text().splitlines()]
    lines[0][0], lines[2][0] = lines[2][0], lines[0][0]
    index.write_text("".join(json.dumps(line) + "\n" for line in lines))
    found = maskdict.track(path, maskdict.scan(path), "10", T + 33, (H, W), "v")
    with pytest.raises(DataError, match="mask 10 is not where the index says .*cache"):
        found[0]
