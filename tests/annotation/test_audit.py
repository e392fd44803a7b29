"""The audit: a sample on one page, judged with keys in a browser, and the verdicts read back as a precision."""

from __future__ import annotations

import json
import re
import shutil
from collections import Counter
from pathlib import Path

import chromium
import pytest

from reviosa_core.annotation import audit, pictures
from reviosa_core.annotation.dataset import ROLES
from reviosa_core.annotation.pipeline import Options
from reviosa_core.data import interrvos
from reviosa_core.schema import DataError


@pytest.fixture
def out(once: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(once, tmp_path / "out"))


def content(page: Path) -> dict:
    found = re.search(r'<script id="data" type="application/json">(.*?)</script>', page.read_text(), re.S)
    return json.loads(found[1])


def test_a_sample_is_drawn_once_each_and_the_same_for_a_seed(out: Path):
    found = [(clip.id, e.id) for clip, e in audit.sample(out, 12, 3)]
    assert len(set(found)) == 12 and found == [(clip.id, e.id) for clip, e in audit.sample(out, 12, 3)]
    assert found != [(clip.id, e.id) for clip, e in audit.sample(out, 12, 4)]
    assert len(audit.sample(out, 10_000, 0)) == sum(len(clip.expressions) for clip in interrvos.read(out))


def test_the_page_needs_nothing_but_itself(out: Path, tmp_path: Path):
    page = tmp_path / "audit.html"
    assert audit.write(out, page, 5, 0) == 5
    text = page.read_text()
    assert not re.findall(r'(?:src|href)="|https?://|@import|url\(', text), "no other file, no network"
    found = content(page)
    shown, roles = audit.sample(out, 5, 0), json.loads((out / ROLES).read_text())
    for item, (clip, expression) in zip(found["items"], shown, strict=True):
        about = roles[clip.id][expression.id]
        assert (item["clip"], item["expression"], item["text"]) == (clip.id, expression.id, expression.text)
        assert item["evidence"] == about["evidence"] and item["facts"].get("event") == about["event"]
        assert item["target"] is (expression.target is not None) and len(item["frames"]) == audit.FRAMES
        picture = pictures.from_data_url(item["frames"][0])
        assert max(picture.shape) == audit.SIDE


def test_a_text_cannot_end_the_script(out: Path, tmp_path: Path):
    file, bad = out / "meta_expressions.json", "the </script><script>alert(1)</script> one"
    meta = json.loads(file.read_text())
    for video in meta["videos"].values():
        for expression in video["expressions"].values():
            expression["exp"] = bad
    file.write_text(json.dumps(meta))
    audit.write(out, tmp_path / "audit.html", 3, 0)
    text = (tmp_path / "audit.html").read_text()
    assert text.count("</script>") == 2 and {item["text"] for item in content(tmp_path / "audit.html")["items"]} == {
        bad
    }


def judged(out: Path, *verdicts: str) -> dict:
    """What the page's button saves, for the first expressions of a sample."""
    items = [(clip.id, e.id) for clip, e in audit.sample(out, len(verdicts), 0)]
    entries = [{"clip": c, "expression": e, "verdict": v} for (c, e), v in zip(items, verdicts, strict=True)]
    return {"of": "out", "seed": 0, "expressions": audit.about(out, 0)["expressions"], "verdicts": entries}


def test_verdicts_are_reported_as_precision_with_an_interval(out: Path, tmp_path: Path):
    file = tmp_path / "verdicts.json"
    file.write_text(json.dumps(judged(out, *["right"] * 8, "wrong roles", "wrong text")))
    rows = {row["expressions"]: row for row in audit.report(out, file)}
    assert rows["all"] == {
        "expressions": "all", "judged": 10, "right": 8, "wrong roles": 1, "wrong object": 0, "wrong text": 1,
        "precision": "80.0", "95 %": "[49.0, 94.3]",
    }  # fmt: skip
    kinds = Counter(e.caption_type for _, e in audit.sample(out, 10, 0))
    assert {name: rows[name]["judged"] for name in kinds} == kinds
    voices = {name: row["judged"] for name, row in rows.items() if name in ("active", "passive")}
    assert sum(voices.values()) == kinds["unidirectional"], "texts without an interaction have no voice"


def change(raw: dict, **entry: str) -> dict:
    return raw | {"verdicts": [raw["verdicts"][0] | entry]}


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda raw: raw | {"expressions": "0" * 16}, "judges expressions 0000000000000000, .* has [0-9a-f]{16}"),
        (lambda raw: change(raw, verdict="fine"), "is 'fine'; known are right, wrong roles"),
        (lambda raw: change(raw, expression="9999"), "/9999 is 'right'"),
        (lambda raw: change(raw, clip="another"), "another/.* is 'right'"),
        (lambda raw: raw | {"verdicts": []}, "nothing was judged"),
        (lambda raw: raw | {"verdicts": raw["verdicts"] * 2}, "is judged twice"),
        (lambda raw: raw | {"verdicts": ["right"]}, "verdict 0 is 'right'"),
        (lambda raw: raw | {"verdicts": 7}, "verdicts is 7"),
    ],
)
def test_verdicts_that_are_none(out: Path, tmp_path: Path, spoil, said: str):
    file = tmp_path / "verdicts.json"
    file.write_text(json.dumps(spoil(judged(out, "right"))))
    with pytest.raises(DataError, match=said):
        audit.report(out, file)


def test_nothing_to_judge(annotate, tmp_path: Path):
    with pytest.raises(DataError, match="no expressions to judge"):
        audit.write(annotate(refusal=1.0).out, tmp_path / "audit.html", 5, 0)


def test_negatives_are_judged_as_what_they_are(annotate, tmp_path: Path):
    out = annotate(options=Options(negatives=True), complete=True).out
    audit.write(out, tmp_path / "audit.html", 10_000, 0)
    facts = [item["facts"] for item in content(tmp_path / "audit.html")["items"]]
    assert {"partner absent"} == {f["negative"] for f in facts if "negative" in f}


# What a person does: judge the first as right, the second as wrong roles, go back, change it to wrong object, then on.
DRIVER = """{
  for (const key of ["1", "2", "ArrowLeft", "3", "ArrowRight", "4"]) {
    document.dispatchEvent(new KeyboardEvent("keydown", { key, bubbles: true }));
  }
  document.dispatchEvent(new KeyboardEvent("keydown", { key: "1", ctrlKey: true, bubbles: true }));
  const make = URL.createObjectURL;
  let saved;
  URL.createObjectURL = (blob) => { saved = blob.text(); return make(blob); };
  HTMLAnchorElement.prototype.click = () => {};
  document.getElementById("save").click();
  saved;
}"""


@chromium.here
def test_in_a_browser_keys_judge_and_the_button_saves(out: Path, tmp_path: Path):
    page = tmp_path / "audit.html"
    audit.write(out, page, 5, 0)
    with chromium.opened(page.as_uri(), tmp_path / "browser") as shown:
        saved = shown.js(DRIVER)
        said, frames = shown.js("document.body.innerText"), shown.js("[...document.images].map(i => i.naturalWidth)")
    items, verdicts = content(page)["items"], json.loads(saved)["verdicts"]
    assert [(v["clip"], v["expression"]) for v in verdicts] == [
        (item["clip"], item["expression"]) for item in (items[0], items[1], items[3])
    ]
    assert [v["verdict"] for v in verdicts] == ["right", "wrong object", "wrong text"]
    (tmp_path / "verdicts.json").write_text(saved)
    assert audit.report(out, tmp_path / "verdicts.json")[0]["judged"] == 3
    assert "5 of 5, 3 judged" in said and len(frames) == audit.FRAMES
