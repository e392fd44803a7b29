"""`import reviosa_core as rv`: quick, a dozen names that explain themselves, and the README's lines run."""

from __future__ import annotations

import inspect
import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tiny

import reviosa_core as rv
from reviosa_core.data.video import write_mp4
from reviosa_core.intershapes.splits import write_split
from reviosa_core.model.reviosa import ReVIOSa
from reviosa_core.report import pages
from reviosa_core.scoring import predictions
from reviosa_core.weights import folders


def test_a_dozen_names_at_most_and_each_explains_itself():
    assert len(rv.__all__) <= 12 and set(rv.__all__) <= set(dir(rv))
    for name in rv.__all__:
        text = inspect.getdoc(getattr(rv, name)) or ""
        assert len(text.splitlines()) >= 1 and text.strip().endswith((".", "]", "`")), name
    with pytest.raises(AttributeError, match=r"no attribute 'laod'; it has load, open_clip"):
        _ = rv.laod


def test_importing_it_imports_nothing_heavy():
    code = "import sys, reviosa_core; print([m for m in ('torch', 'numpy', 'pandas', 'av') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, check=True)
    assert done.stdout == "[]\n"


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """What the README's lines name: a trained model, a test split, predictions, a video."""
    write_split(tiny.data(64, 4), "test", tmp_path / "data" / "tiny", seed=0, progress=False)
    model = ReVIOSa(tiny.reader(), tiny.seeing(), tuple(rv.Role), frames=2, prompted="first")
    folders.save(model, tmp_path / "runs" / "tiny" / "best")
    (tmp_path / "runs" / "tiny" / "predictions").mkdir()
    with predictions.writer(tmp_path / "runs" / "tiny" / "predictions" / "best.json") as write:
        for clip in rv.read(tmp_path / "data" / "tiny" / "test"):
            nothing = np.zeros((len(clip), *clip.size), bool)
            write([rv.Prediction(clip.id, e.id, {role: nothing for role in rv.Role}) for e in clip.expressions])
    frames = np.random.default_rng(0).integers(0, 256, (5, 48, 64, 3), dtype=np.uint8)
    write_mp4(tmp_path / "clip.mp4", frames, 5.0)
    return tmp_path


def test_the_readmes_lines_run(project: Path, root: Path, monkeypatch: pytest.MonkeyPatch, capsys):
    (code,) = re.findall(r"```python\n(.*?)```", (root / "README.md").read_text(), re.S)
    assert len([line for line in code.splitlines() if line and not line.startswith("import")]) <= 8
    monkeypatch.chdir(project)
    exec(compile(code, "README.md", "exec"), {})
    said = capsys.readouterr().out
    assert "(5, 48, 64)" in said and "InterRVOS-Target" in said and "role confusion" in said
    assert (project / "sheet.png").stat().st_size > 1000


def test_score_takes_files_predictions_and_systems(project: Path):
    clips = rv.read(project / "data" / "tiny" / "test")
    file = project / "runs" / "tiny" / "predictions" / "best.json"
    by_file = rv.score(file, clips, bootstrap=20, workers=1, progress=False)
    in_memory = [p for _, found in predictions.read(file) for p in found]
    by_list = rv.score(in_memory, clips, bootstrap=20, progress=False)
    assert by_list.summary == by_file.summary and str(by_list) == str(by_file)

    class Silent:
        def segment(self, clip, expressions):
            return [p for p in in_memory if p.clip_id == clip.id]

    assert rv.score(Silent(), clips, bootstrap=20, progress=False).summary == by_file.summary
    with pytest.raises(rv.DataError, match=r"missing \['0'\]"):
        rv.score(in_memory[1:], clips, progress=False)
    assert rv.score(in_memory[1:], clips, missing="zero", progress=False).rows["missing"].sum() == 2
    with pytest.raises(rv.DataError, match="1 unknown videos .'elsewhere'"):
        rv.score([rv.Prediction("elsewhere", "0", {})], clips, progress=False)


def test_the_readmes_table_is_the_reports(root: Path):
    """Numbers are typed nowhere twice: what the README shows of the report stands in it, line by line."""
    report = (root / "reports" / "README.md").read_text().splitlines()
    shown = [line for line in (root / "README.md").read_text().splitlines() if re.match(r"\| (ours|paper)", line)]
    assert len(shown) == 7 and set(shown) <= set(report)


def test_role_confusion_stands_beside_what_one_frame_gives_away(root: Path):
    """Chance is not all that a system has to be better than: README and report say the data card's number."""
    still = json.loads((root / "reports" / "metrics" / "blind.json").read_text())["test"]
    wrong = {name: still[f"text and {name} frame"]["role confusion"]["value"] for name in ("first", "last")}
    least = min(wrong, key=lambda name: wrong[name])  # what a system must be below
    readme = " ".join((root / "README.md").read_text().split())
    assert f"from one still frame and the text, the {least}, {wrong[least]:.0f})" in readme
    assert pages.by_one_frame(still) in (root / "reports" / "README.md").read_text()
    card = (root / "reports" / "intershapes.md").read_text()
    assert all(f"{100 - share:.1f} [" in card for share in wrong.values())


def test_what_the_readme_says_of_changed_inputs_is_the_reports(root: Path):
    """With its interval, and whether that is told from what an answer has that does not tell the two apart."""
    said = " ".join((root / "README.md").read_text().split())
    report = (root / "reports" / "README.md").read_text()
    for given, stands in (("given the opposite verb", "more than"), ("in reversed time", "not told from")):
        found = re.search(rf"{given}, ([\d.]+ \[[\d., ]+\] %) \(n = \d+; {stands} 50\)", report)
        assert found and found[1] in said, given
    clips = re.search(r"on the first (\d+) of the (\d+) test clips", report)
    assert clips and f"the first {clips[1]} of the {clips[2]} test clips" in said and "not told from 50" in said
