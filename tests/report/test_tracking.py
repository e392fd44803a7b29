from __future__ import annotations

import logging
import os
import shutil
import sqlite3
import subprocess
import sys
from pathlib import Path

import mlflow
import pytest
from matplotlib.figure import Figure
from mlflow import MlflowClient
from pydantic import BaseModel

from reviosa_core.report import tracking


@pytest.fixture(scope="session")
def tables(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database with its tables and no runs: making one takes seconds."""
    path = tmp_path_factory.mktemp("mlflow") / "mlflow.db"
    MlflowClient(f"sqlite:///{path}").search_experiments()
    return path


@pytest.fixture
def store(tmp_path: Path, root: Path, tables: Path, monkeypatch: pytest.MonkeyPatch):
    """A project folder without runs. MLflow writes MLFLOW_TRACKING_URI itself: set first, it is surely put back."""
    shutil.copy(tables, tmp_path)
    shutil.copy(root / "params.yaml", tmp_path)  # what makes a folder a project
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "")
    monkeypatch.setenv("DVC_ROOT", str(tmp_path))
    monkeypatch.delenv("DVC_STAGE", raising=False)
    yield tmp_path
    mlflow.set_tracking_uri(None)


def runs(store: Path) -> dict[str, mlflow.entities.Run]:
    client = MlflowClient(f"sqlite:///{store / 'mlflow.db'}")
    experiment = client.get_experiment_by_name(tracking.EXPERIMENT)
    assert experiment is not None
    return {run.info.run_name: run for run in client.search_runs([experiment.experiment_id])}


class Loop(BaseModel):
    lr: float = 1e-5
    betas: tuple[float, float] = (0.9, 0.999)


def test_flattened_by_hand():
    nested = {"train": Loop(), "profile": "tiny", "data": {"splits": {"test": 3}, "shift": None}}
    assert tracking.flatten(nested) == {
        "train.lr": "1e-05",
        "train.betas": "[0.9, 0.999]",
        "profile": "tiny",
        "data.splits.test": "3",
        "data.shift": "null",
    }
    assert tracking.flatten(None) == {}


def test_a_run_holds_what_it_was_and_what_it_gave(store: Path, caplog: pytest.LogCaptureFixture, capfd):
    (store / "clips").mkdir()
    (store / "clips" / "a.txt").write_text("a")
    params = {f"p{i:03d}": i for i in range(130)}  # more than a server takes in one call
    with caplog.at_level(logging.INFO):
        with tracking.run(
            "train@full", params=params, inputs={"clips": store / "clips"}, tags={"profile": "tiny"}
        ) as run:
            for step in range(3):
                run.log({"loss": 3.0 - step, "J&F": step}, step=step)
            run.figure(Figure(), "figures/curve.png")
            run.table([{"role": "actor", "J": 61.5}], "scores")
            run.artifact(store / "clips", "inputs")
    assert not capfd.readouterr().err and not caplog.records, "quiet"

    stored = runs(store)["train@full"]
    assert stored.info.status == "FINISHED"
    assert stored.data.metrics == {"loss": 1.0, "JF": 2.0}
    assert stored.data.params == {name: str(value) for name, value in params.items()}
    assert stored.data.tags["md5.clips"].endswith(".dir") and stored.data.tags["profile"] == "tiny"
    assert stored.data.tags["dvc.stage"] == "train@full" and len(stored.data.tags["params.hash"]) == 12
    history = MlflowClient().get_metric_history(run.id, "loss")
    assert [(point.step, point.value) for point in history] == [(0, 3.0), (1, 2.0), (2, 1.0)]
    kept = {path.relative_to(store / "mlruns").parts[-1] for path in (store / "mlruns").rglob("*") if path.is_file()}
    assert kept == {"curve.png", "scores.json", "a.txt"}


def test_a_crash_ends_failed_and_is_not_swallowed(store: Path):
    with pytest.raises(ZeroDivisionError), tracking.run("train"):
        _ = 1 / 0
    assert runs(store)["train"].info.status == "FAILED"
    with tracking.run("evaluate"):  # and the next one starts clean
        pass
    assert runs(store)["evaluate"].info.status == "FINISHED"


def test_runs_of_one_group_are_children_of_one_parent(store: Path):
    for name, group in [("train@baseline", "ablation tiny"), ("train@full", "ablation tiny"), ("train@x", "other")]:
        with tracking.run(name, parent=group):
            pass
    stored = runs(store)
    parents = {name: stored[name].data.tags["mlflow.parentRunId"] for name in stored if name.startswith("train")}
    assert parents["train@baseline"] == parents["train@full"] == stored["ablation tiny"].info.run_id
    assert parents["train@x"] == stored["other"].info.run_id
    assert stored["ablation tiny"].info.status == "FINISHED" and len(stored) == 5


@pytest.mark.slow
def test_processes_that_start_at_once_share_database_and_parent(store: Path):
    (store / "mlflow.db").unlink()  # the first run of a fresh checkout
    code = "import sys\nfrom reviosa_core.report import tracking\nwith tracking.run(sys.argv[1], parent='group'): pass"
    started = [
        subprocess.Popen([sys.executable, "-c", code, f"run{i}"], stderr=subprocess.PIPE, text=True) for i in range(3)
    ]
    for process in started:
        error = process.communicate(timeout=120)[1]
        assert process.returncode == 0, error
    stored = runs(store)
    assert sorted(stored) == ["group", "run0", "run1", "run2"]
    assert {stored[f"run{i}"].data.tags["mlflow.parentRunId"] for i in range(3)} == {stored["group"].info.run_id}


def test_the_users_server_wins(store: Path, monkeypatch: pytest.MonkeyPatch):
    assert tracking.tracking_uri() == f"sqlite:///{store / 'mlflow.db'}"
    theirs = (store / "mlflow.db").rename(store / "theirs.db")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{theirs}")
    with tracking.run("train"):
        pass
    assert MlflowClient(f"sqlite:///{theirs}").get_experiment_by_name(tracking.EXPERIMENT) is not None
    assert not (store / "mlflow.db").exists()


@pytest.mark.parametrize("name", ["a b", "a?b", "a%20b", "a#b", "a%3Fb"])
def test_the_store_is_in_the_project_whatever_its_path(store: Path, monkeypatch: pytest.MonkeyPatch, name: str):
    project = store / "all" / name
    project.mkdir(parents=True)
    for file in ("params.yaml", "mlflow.db"):
        (store / file).rename(project / file)
    monkeypatch.setenv("DVC_ROOT", str(project))
    with tracking.run("train") as run:
        run.log({"loss": 1.0})
    database = sqlite3.connect(project / "mlflow.db")
    assert database.execute("select count(*) from metrics").fetchone() == (1,)
    database.close()
    assert [path.name for path in (store / "all").iterdir()] == [name], "nothing beside the project"


def test_without_dvc_the_store_is_at_the_projects_root(monkeypatch: pytest.MonkeyPatch, root: Path):
    monkeypatch.delenv("DVC_ROOT", raising=False)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "")
    monkeypatch.chdir(root / "tests")  # MLflow's own default would be here
    assert tracking.tracking_uri() == f"sqlite:///{root / 'mlflow.db'}"


def test_commit_and_dirt_of_the_project(store: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("DVC_STAGE", "train@tokens")
    for name in [name for name in os.environ if name.startswith("GIT_")]:
        monkeypatch.delenv(name)  # set when the tests run inside a git hook
    with tracking.run("outside"):
        pass

    def git(*words: str) -> str:
        who = ["-c", "user.name=t", "-c", "user.email=t@t"]
        return subprocess.run(["git", "-C", store, *who, *words], check=True, capture_output=True, text=True).stdout

    git("init", "-q")
    (store / "a").write_text("1")
    git("add", "a")
    git("commit", "-qm", "one")
    with tracking.run("clean"):
        pass
    (store / "a").write_text("2")
    with tracking.run("dirty"):
        pass
    tags = {name: run.data.tags for name, run in runs(store).items()}
    assert "mlflow.source.git.commit" not in tags["outside"]
    assert tags["clean"]["mlflow.source.git.commit"] == git("rev-parse", "HEAD").strip()
    assert (tags["clean"]["git.dirty"], tags["dirty"]["git.dirty"]) == ("False", "True")
    assert tags["clean"]["dvc.stage"] == tags["clean"]["mlflow.source.name"] == "train@tokens"


def test_md5_is_the_one_dvc_writes(tmp_path: Path):
    from dvc_data.hashfile.build import build
    from dvc_data.hashfile.db import HashFileDB
    from dvc_objects.fs.local import LocalFileSystem
    from dvc_objects.fs.memory import MemoryFileSystem

    for name in ("b.txt", "a/z.txt", "a.txt", "a/b/c.txt"):
        (tmp_path / "d" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "d" / name).write_text(name)
    for path in (tmp_path / "d", tmp_path / "d" / "b.txt"):
        built = build(HashFileDB(MemoryFileSystem(), "/odb"), str(path), LocalFileSystem(), "md5")[2]
        assert tracking.md5(path) == built.hash_info.value
