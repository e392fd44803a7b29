"""`reviosa annotate`: what it would take, a run against the embedded endpoint, the audit."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import tiny
from typer.testing import CliRunner

from reviosa_core.annotation.truth import of_intershapes
from reviosa_core.cli.app import app
from reviosa_core.config import Splits
from reviosa_core.data.interrvos import read
from reviosa_core.data.verify import verify
from reviosa_core.intershapes.splits import write_split


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("clips")
    splits = Splits(train=1, val=2, dev=1, test=1, shift=1)
    made = tiny.data(64, 4, no_interaction=0.0).model_copy(update={"splits": splits})
    write_split(made, "val", folder, seed=0, progress=False)
    return folder / "val"


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)  # in no project: the defaults


def annotate(*words: object) -> str:
    result = CliRunner().invoke(app, ["annotate", *map(str, words)])
    assert result.exit_code == 0, f"{result.output}\n{result.exception!r}"
    return result.output


def rows(text: str) -> dict[str, list[str]]:
    """A table that was printed, by its first column."""
    found = [
        [cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if line.startswith("|")
    ]
    return {row[0]: row[1:] for row in found}


def test_a_dry_run_says_what_it_would_take_and_touches_nothing(clips: Path, tmp_path: Path):
    said = annotate(clips, tmp_path / "out", "--dry-run", "--price-in", 2, "--price-out", 8)
    table = rows(said)
    assert table["stage"] == ["calls", "images", "tokens_in", "tokens_out"]
    numbers = {stage: [int(n) for n in row] for stage, row in table.items() if row[0].isdigit()}
    assert list(numbers) == ["objects", "expressions", "events", "interactions", "verify", "all"]
    total = [sum(column) for column in zip(*(row for stage, row in numbers.items() if stage != "all"), strict=True)]
    assert numbers["all"] == total
    assert f"cost: {total[2] * 2e-6 + total[3] * 8e-6:.2f}" in said and "2 clips" in said
    assert "cost" not in annotate(clips, tmp_path / "out", "--dry-run")
    without = rows(annotate(clips, tmp_path / "out", "--dry-run", "--no-verify", "--events", 0))
    assert without["verify"][0] == without["interactions"][0] == "0"
    assert not list(tmp_path.iterdir())


def test_a_run_its_repetition_and_its_audit(clips: Path, tmp_path: Path):
    out = tmp_path / "mine"
    said = annotate(clips, out, "--endpoint", "embedded")
    assert not verify(out, progress=False)["problems"]
    written = re.search(r"written: .*mine: 2 clips, (\d+) expressions", said)
    assert written and rows(said)["events"][0] != "0"
    again = annotate(clips, out, "--endpoint", "embedded")
    assert "0 calls" in again and written[0] in again
    assert {path.name for path in tmp_path.iterdir()} == {"mine", "mine.annotation"}
    assert "written: " in annotate("audit", out, "--count", 3)
    page = (tmp_path / "mine.annotation" / "audit.html").read_text()
    data = json.loads(re.search(r'<script id="data" type="application/json">(.*?)</script>', page, re.S)[1])
    given = [{"clip": i["clip"], "expression": i["expression"], "verdict": "right"} for i in data["items"]]
    (tmp_path / "verdicts.json").write_text(json.dumps(data["about"] | {"verdicts": given}))
    report = rows(annotate("audit", out, "--verdicts", tmp_path / "verdicts.json"))
    assert report["all"][0] == "3" and report["all"][-2:] == ["100.0", "[43.9, 100.0]"]


def test_a_file_of_answers(clips: Path, tmp_path: Path):
    """For clips that nobody made."""
    known = {id: truth.model_dump(mode="json") for id, truth in of_intershapes(clips).items()}
    known["intershapes_val_00001"]["objects"]["4"]["look"] = "odd thing"
    (tmp_path / "truth.json").write_text(json.dumps(known))
    annotate(clips, tmp_path / "out", "--endpoint", "embedded", "--truth", tmp_path / "truth.json")
    texts = [e.text for clip in read(tmp_path / "out") for e in clip.expressions if clip.id.endswith("1")]
    assert "the odd thing" in texts


def test_the_key_comes_from_the_environment(clips: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    from reviosa_core.annotation import endpoint

    monkeypatch.setattr(endpoint, "CALLS", 1)
    monkeypatch.setenv("MY_KEY", "sk-a\nb")
    words = ["annotate", str(clips), "out", "--endpoint", "http://127.0.0.1:9/v1", "--key-env", "MY_KEY"]
    result = CliRunner().invoke(app, words)
    assert result.exit_code == 2 and "characters that no header can have" in result.stderr
    monkeypatch.setenv("MY_KEY", " sk-ab \n")
    result = CliRunner().invoke(app, words)
    assert result.exit_code == 2 and "127.0.0.1:9: ConnectError" in result.stderr and "sk-a" not in result.output


def test_active_and_passive_are_scored_apart(clips: Path, tmp_path: Path):
    """A system that takes the first mover for the actor is right in the active voice, and wrong in the passive one."""
    out = tmp_path / "mine"
    annotate(clips, out, "--endpoint", "embedded")
    roles = json.loads((out / "roles.json").read_text())
    answers: dict[str, dict] = {}
    for clip in read(out):
        track = {key: list(rles) for key, rles in clip.masks.items()}
        for e in clip.expressions:
            turned = roles[clip.id][e.id]["voice"] == "passive" and e.target
            actor, target = (e.target, e.actor) if turned else (e.actor, e.target)
            drawn = {"prediction_masks_act": track[actor[0]], "prediction_masks_tar": track[(target or actor)[0]]}
            answers.setdefault(clip.id, {})[e.id] = drawn
    (tmp_path / "p.json").write_text(json.dumps(answers))
    words = ["evaluate", "--data", out, "--predictions", "p.json", "--out", "scores.json", "--workers", 1]
    result = CliRunner().invoke(app, [str(word) for word in words])
    assert result.exit_code == 0, f"{result.output}\n{result.exception!r}"
    found = json.loads((tmp_path / "scores.json").read_text())["by voice"]
    assert found["active"]["role confusion"]["value"] == 0 and found["active"]["InterRVOS-Actor"]["J&F"] == 100
    assert found["passive"]["role confusion"]["value"] == 100 and found["passive"]["InterRVOS-Actor"]["J&F"] < 50
    table = rows(result.output)
    assert table["active"][0].startswith("100.0") and not table["passive"][0].startswith("100.0")
    (out / "roles.json").unlink()
    result = CliRunner().invoke(app, [str(word) for word in words])
    assert result.exit_code == 0 and "passive" not in result.output
