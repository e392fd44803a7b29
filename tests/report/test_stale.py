from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from dvc.repo import Repo
from typer.testing import CliRunner

from reviosa_core.cli.app import app
from reviosa_core.report import stale
from reviosa_core.schema import DataError

PIPELINE = """\
stages:
  train:
    cmd: cp start.txt weights.txt
    deps: [start.txt]
    params: [steps]
    outs: [weights.txt]
  table:
    cmd: cp weights.txt table.md
    deps: [weights.txt]
    outs: [{table.md: {cache: false}}]
  figure:
    cmd: cp table.md figure.txt
    deps: [table.md]
    metrics: [{figure.txt: {cache: false}}]
  apart:
    cmd: cp other.txt apart.txt
    deps: [other.txt]
    outs: [apart.txt]
"""


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pipeline")
    for name, text in (("dvc.yaml", PIPELINE), ("params.yaml", "steps: 3\n"), ("start.txt", "a"), ("other.txt", "o")):
        (folder / name).write_text(text)
    Repo.init(str(folder), no_scm=True).close()
    return folder


def found(folder: Path) -> dict[str, stale.Stage]:
    return {stage.name: stage for stage in stale.stages(folder)}


def test_from_nothing_to_up_to_date_and_stale_again(made: Path, monkeypatch: pytest.MonkeyPatch):
    assert all(stage.why for stage in found(made).values()), "nothing has run"
    with monkeypatch.context() as there, Repo(str(made)) as repo:
        there.chdir(made)
        repo.reproduce()
    fresh = found(made)
    assert [*fresh] == ["train", "table", "figure", "apart"] and not any(stage.why for stage in fresh.values())
    text = stale.as_text([*fresh.values()], "dvc.yaml")
    assert text == "up to date: train, table, figure, apart. `dvc repro dvc.yaml` has nothing to run."

    (made / "params.yaml").write_text("steps: 4\n")
    (made / "table.md").write_text("typed in by hand")
    stages = found(made)
    assert stages["train"].why == ("steps modified",)
    assert stages["table"].why == ("table.md modified, its result",)
    assert stages["figure"].why == ("table.md modified",) and not stages["apart"].why
    assert {name: (stage.makes, stage.after) for name, stage in stages.items()} == {
        "train": ((), ("table", "figure")),
        "table": (("table.md",), ("figure",)),
        "figure": (("figure.txt",), ()),
        "apart": ((), ()),
    }
    lines = stale.as_text([*stages.values()], "dvc.yaml").splitlines()
    assert lines[:9] == [
        "train is stale",
        "  because  steps modified",
        "  makes    nothing that git keeps",
        "  then     table, figure",
        "",
        "table is stale",
        "  because  table.md modified, its result",
        "  makes    table.md",
        "  then     figure",
    ]
    alone = stale.as_text([stages["train"], replace(stages["table"], why=()), stages["figure"]], "dvc.yaml")
    assert "  then     table (table.md), figure" in alone
    assert lines[-1].startswith("up to date: apart.")


def test_long_lists_are_counted():
    stage = stale.Stage("train", tuple(f"{n} modified" for n in range(9)), (), ())
    assert "4 modified, and 4 more" in stale.as_text([stage], "dvc.yaml")


def test_what_dvc_cannot_say_is_a_line(tmp_path: Path, root: Path, monkeypatch: pytest.MonkeyPatch):
    with pytest.raises(DataError, match=r"dvc\.yaml: no such file"):
        stale.stages(tmp_path)
    (tmp_path / "dvc.yaml").write_text(PIPELINE)
    with pytest.raises(DataError, match="not inside of a DVC repository"):
        stale.stages(tmp_path)
    Repo.init(str(tmp_path), no_scm=True).close()
    (tmp_path / "dvc.yaml").write_text("stages: [")
    with pytest.raises(DataError, match=r"dvc\.yaml: .*[Yy][Aa][Mm][Ll]") as caught:
        stale.stages(tmp_path)
    assert "\n" not in str(caught.value)
    monkeypatch.chdir(root)
    done = CliRunner().invoke(app, ["status", "nowhere/dvc.yaml"])
    assert done.exit_code == 2 and "nowhere/dvc.yaml: no such file" in done.output and done.output.count("\n") == 1
