from __future__ import annotations

import json
from pathlib import Path

import mlflow
import pytest
from mlflow import MlflowClient

from reviosa_core.report import models, origin, tracking


@pytest.fixture
def project(store: Path) -> Path:
    """A project with weights and data."""
    for name in ("data/tiny/test", "data/tiny/shift", "runs/tiny/full", "runs/tiny/best"):
        (store / name).mkdir(parents=True)
        (store / name / "content").write_text(name)
    return store


def found() -> dict[str, mlflow.entities.LoggedModel]:
    (experiment,) = [e.experiment_id for e in MlflowClient().search_experiments() if e.name == tracking.EXPERIMENT]
    listed = mlflow.search_logged_models([experiment], output_format="list")
    assert len({model.name for model in listed}) == len(listed)
    return {model.name: model for model in listed}


def test_rows_are_models_with_scores_by_dataset(project: Path, capfd):
    data = project / "data" / "tiny"
    weights = {row: project / "runs" / "tiny" / row for row in ("full", "best")}
    with tracking.run("train full") as trained:
        pass
    (weights["full"] / "reviosa.json").write_text(json.dumps({"card": {"run_id": trained.id}}))
    (weights["best"] / "reviosa.json").write_text(json.dumps({"card": {"run_id": "0" * 32}}))  # of another store
    with tracking.run("evaluate") as run:
        for row, value in (("full", 70.004), ("best", 76.0)):
            scores = {"test RVOS J&F": value, "test undefined": None}
            run.scored(f"tiny {row}", weights[row], data / "test", scores, {"aml": True})
    with tracking.run("transfer") as later:
        later.scored("tiny best", weights["best"], data / "shift", {"shift RVOS J&F": 30.0})
        later.champion("tiny", weights["full"])
        later.champion("tiny", weights["best"])
        later.champion("tiny", weights["best"])
    assert not capfd.readouterr().err

    client = MlflowClient()
    full, best = found()["tiny full"], found()["tiny best"]
    assert (full.source_run_id, best.source_run_id) == (trained.id, run.id)
    assert full.tags["path"] == "runs/tiny/full" and full.tags["md5"] == origin.md5(weights["full"])
    assert full.params == {"aml": "true"} and full.model_type == "segmenter"
    digests = {name: origin.md5(data / name) for name in ("test", "shift")}
    assert {(m.key, m.value, m.dataset_name, m.dataset_digest) for m in best.metrics} == {
        ("test RVOS JF", 76.0, "data/tiny/test", digests["test"]),
        ("shift RVOS JF", 30.0, "data/tiny/shift", digests["shift"]),
    }
    assert client.get_run(trained.id).data.metrics == {"test RVOS JF": 70.0}, "beside its loss"
    assert [o.model_id for o in client.get_run(trained.id).outputs.model_outputs] == [full.model_id]
    assert [i.model_id for i in client.get_run(later.id).inputs.model_inputs] == [best.model_id]

    assert "champion" in best.tags and "champion" not in full.tags
    assert len(client.search_model_versions("name = 'reviosa-tiny'")) == 2
    assert client.get_model_version_by_alias("reviosa-tiny", "champion").source == f"models:/{best.model_id}"
    assert json.loads(best.tags["mlflow.modelVersions"]) == [{"name": "reviosa-tiny", "version": 2}]
    assert best.tags["mlflow.source.name"] == "evaluate"
    assert not list((project / "mlruns").rglob("content")), "weights stay where they are"


def test_weights_that_were_made_again_are_another_model(project: Path):
    weights = project / "runs" / "tiny" / "best"
    with tracking.run("evaluate") as run:
        run.scored("tiny best", weights, project / "data" / "tiny" / "test", {"test RVOS J&F": 1.0})
        (weights / "content").write_text("others")
        run.scored("tiny best", weights, project / "data" / "tiny" / "test", {"test RVOS J&F": 2.0})
        models.crown(run.id, "tiny", weights)
    (experiment,) = [e.experiment_id for e in MlflowClient().search_experiments() if e.name == tracking.EXPERIMENT]
    listed = mlflow.search_logged_models([experiment], output_format="list")
    assert {m.metrics[0].value: "champion" in m.tags for m in listed} == {1.0: False, 2.0: True}


def test_a_champion_that_was_scored_in_another_store(project: Path, capsys):
    with tracking.run("ablations") as run:
        run.champion("tiny", project / "runs" / "tiny" / "best")
        run.log({"gain": 1.0})
    assert not capsys.readouterr().err and MlflowClient().get_run(run.id).data.metrics == {"gain": 1.0}
    assert not MlflowClient().search_registered_models()
