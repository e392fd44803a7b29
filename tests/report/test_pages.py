from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from reviosa_core import config
from reviosa_core.report import pages, tables


def test_chance_is_not_all_that_a_system_has_to_be_better_than():
    wrong = {"value": 31.03, "interval": [19.5, 42.11], "n": 174}
    said = pages.by_one_frame({"text and first frame": {"role confusion": wrong}})
    assert "31.0 [19.5, 42.1] with text and first frame" in said and "](intershapes.md)" in said
    assert pages.by_one_frame({}) == "", "data of one's own"


def test_the_few_numbers_that_are_compared():
    """A row without the target role, one that was asked nothing, and none of the rest of what is measured."""
    found = {
        "baseline": {"InterRVOS-Actor": {"J&F": 22.0, "n": 3}, "InterRVOS-Target": None, "RVOS": {"J&F": 24.5, "n": 7}},
        "best": {"InterRVOS-Actor": {"J&F": None, "n": 0}, "InterRVOS-Target": {"J&F": 7.0}, "RVOS": {"J&F": 9.0}},
    }
    assert pages.summary(found | {"best": found["best"] | {"direction": {}}}) == {
        "baseline": {"InterRVOS-Actor": 22.0, "RVOS": 24.5},
        "best": {"InterRVOS-Target": 7.0, "RVOS": 9.0},
    }


@pytest.fixture
def project(root: Path, tmp_path: Path) -> Callable[[str], config.Project]:
    """The tiny profile's measurements, as if another profile had made them."""
    for part in ("metrics", "tables", "selection.json"):
        copy = shutil.copytree if (source := root / "reports" / part).is_dir() else shutil.copy
        (tmp_path / "reports").mkdir(exist_ok=True)
        copy(source, tmp_path / "reports" / part)
    return lambda profile: config.Project(tmp_path, profile, config.load(root / "params.yaml"))


def own_data(project: config.Project, split: str) -> None:
    project.data(split).mkdir(parents=True)
    (project.data(split) / "meta_expressions.json").write_text("{}")


def measured(project: config.Project, *names: str) -> dict[str, Any]:
    return {name: json.loads(project.report("metrics", f"{name}.json").read_text()) for name in names}


def written(project: config.Project, root: Path) -> tuple[str, str]:
    """The report and the findings, without the tables that other notebooks wrote."""
    published = config.read_yaml(root / "reports" / "published.yaml")
    scores = measured(project, *project.params.experiments)
    for table in project.report("tables").glob("*.md"):
        table.write_text("(a table)")
    left = dict.fromkeys(scores, 10) | {"baseline": None}
    clips = {"train": 8123, "test": 120}
    found = measured(project, "selection", "ablation", "attention") | {"plateau": left}
    return (
        pages.report(project, scores, published, {}, left, clips, 2_345_678_901),
        pages.findings(project, scores, published, found, 2_345_678_901),
    )


def test_released_weights_on_data_of_ones_own_are_called_so(project, root: Path):
    its = project("paper-1b")
    for split in ("train", "shift"):
        own_data(its, split)
    its.report("metrics", "controls.json").write_text('{"right pair": null}')
    its.report("selection.json").write_text('{"layer": 22, "heads": [11, 7, 10, 5]}')
    for row in its.params.experiments:
        path = its.report("metrics", f"{row}.json")
        path.write_text(json.dumps(json.loads(path.read_text()) | {"by subset": {"cue": {}, "verb": {}}}))
    report, found = written(its, root)
    for page in (report, found):
        assert "weights as released (InternVL2_5-1B, sam2_hiera_large.pt; 2,345.7 million parameters)" in page
        assert "procedural" not in page and "from nothing" not in page and "for minutes" not in page
    assert "the 8,123 clips of `data/paper-1b`/train" in report and "the 120 of `data/paper-1b`/test" in report
    assert "Attention of the four heads that AML supervises" in report and "nothing trained here" in report
    assert "best: as (iv)" in report and "trained longer" not in report and "with nothing changed" in report
    assert "Does it read" not in report and "By diagnostic subset" not in report and "n = 0" not in report
    assert "InterShapes' `shift`" not in report and "hold on the paper's" in found


def test_rates_that_differ_are_named(project, root: Path):
    report, found = written(project("small"), root)
    said = "learning rates of 0.001, 0.0001 for the mask decoder and 0.001 for the role tokens' MLP"
    assert said in report and said in found and "one learning rate" not in report + found
    assert "the paper's architecture from nothing, at 2,345.7 million parameters" in report
    assert "8,123 procedural clips (InterShapes)" in report and "InterShapes' `shift`" in report
    its = project("small").settings
    other = its.model_copy(update={"best": config.Rules(steps=9000, lr=1e-4)})
    assert [tables.named(own)["best"] for own in (its, other)] == [tables.ROW["best"], "best: (iv), trained otherwise"]


@pytest.mark.parametrize(
    ("clips", "due"), [(60, "on the first 60 of the 120 test clips"), (200, "on all 120 test clips")]
)
def test_changed_inputs_are_said_with_their_interval_and_on_how_many_clips(project, root: Path, clips: int, due: str):
    found = measured(project("tiny"), "controls")["controls"]
    heading, text = pages._controls(found, clips, 120)
    assert heading.startswith("## ") and due in text
    assert "opposite verb, 97.2 [91.7, 100.0] % (n = 72; more than 50)" in text
    assert "in reversed time, 62.5 [45.5, 79.7] % (n = 72; not told from 50)" in text
    assert "(n = 314; chance 50)" in text
    no_pairs = pages._controls({**found, "right pair": {"value": None, "n": 0, "interval": None}}, clips, 120)[1]
    assert "two pairs" not in no_pairs and pages._controls({"right pair": None}, clips, 120) == []
