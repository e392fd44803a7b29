"""MLflow's pages of models, a line for saved weights whose bytes stay where they are, and of pictures by step."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

import mlflow
from matplotlib.figure import Figure
from mlflow import MlflowClient
from mlflow.data import dataset_source_registry
from mlflow.data.meta_dataset import MetaDataset
from mlflow.entities import LifecycleStage, LoggedModel, LoggedModelInput, LoggedModelOutput
from mlflow.exceptions import MlflowException
from PIL import Image

from reviosa_core import config
from reviosa_core.data.jsonfile import read_json
from reviosa_core.report.naming import fitting
from reviosa_core.report.origin import md5
from reviosa_core.report.style import png

BEST = "champion"  # tag and alias
VERSIONS = "mlflow.modelVersions"  # tag by which MLflow's page finds a model in the registry
NAME = 500  # characters of a dataset's name that MLflow takes


def dataset(path: str | Path, digest: str) -> MetaDataset:
    """Named by its place in the project, with DVC's digest; MLflow looks at none of its files."""
    name = place(path)
    # The class itself: asked to guess what a path is, MLflow warns that there are several answers.
    local = next(s for s in dataset_source_registry.get_registered_sources() if s._get_source_type() == "local")
    return MetaDataset(local(name), name=fitting(name, NAME), digest=digest)


def slide(figure: Figure, key: str, step: int) -> None:
    """A picture of the active run, that its page shows by step, with a slider. Raises MlflowException."""
    with Image.open(io.BytesIO(png(figure))) as picture:
        mlflow.log_image(picture.convert("RGB"), key=key, step=step, synchronous=True)


def place(path: str | Path) -> str:
    """Relative to the project's root, where it is inside."""
    path, root = Path(path).resolve(), config.project().root
    return path.relative_to(root).as_posix() if path.is_relative_to(root) else path.as_posix()


def score(
    run: str, name: str, weights: Path, data: str | Path, scores: Mapping[str, float], params: Mapping[str, str]
) -> None:
    """Scores, by legal names, of weights on a data set: at the model of that name and those bytes (made when missing),
    and in the run that trained it, or in `run` where the store does not know that one. Raises MlflowException."""
    client, digest = MlflowClient(), md5(weights)
    model = next((m for m in _all(run) if m.name == name and m.tags.get("md5") == digest), None)
    if model is None:
        trained = _active(_named(weights)) or run
        stage = mlflow.get_run(run).data.tags.get("mlflow.source.name", "")
        about = {"md5": digest, "path": place(weights), "mlflow.source.name": stage}
        model = mlflow.create_external_model(name, trained, about, dict(params), "segmenter")
        client.log_outputs(trained, [LoggedModelOutput(model.model_id, 0)])
    home = _active(model.source_run_id) or run
    shown = {key: round(value, 2) for key, value in scores.items()}  # the page shows all digits there are
    mlflow.log_metrics(shown, run_id=home, model_id=model.model_id, dataset=dataset(data, md5(data)))
    if home != run:
        client.log_inputs(run, models=[LoggedModelInput(model.model_id)])


def crown(run: str, group: str, weights: Path) -> None:
    """Among the models whose names begin with `group`, these weights are the best: tag and alias in the registry, where
    the model is `reviosa-<group>`. Nothing happens where they were scored in another store. Raises MlflowException."""
    client, digest = MlflowClient(), md5(weights)
    models = [model for model in _all(run) if model.name.partition(" ")[0] == group]
    best = next((model for model in models if model.tags.get("md5") == digest), None)
    if best is None:
        return
    for model in models:
        if BEST in model.tags and model is not best:
            client.delete_logged_model_tag(model.model_id, BEST)
    registered = f"reviosa-{group}"
    if not client.search_registered_models(f"name = '{registered}'"):
        client.create_registered_model(registered)
    source = f"models:/{best.model_id}"
    versions = client.search_model_versions(f"name = '{registered}'")
    known = next((version for version in versions if version.source == source), None)
    version = known or client.create_model_version(registered, source, model_id=best.model_id)
    client.set_registered_model_alias(registered, BEST, version.version)
    here = json.dumps([{"name": registered, "version": version.version}])
    client.set_logged_model_tags(best.model_id, {BEST: "true", VERSIONS: here})


def _all(run: str) -> list[LoggedModel]:
    """Of the run's experiment."""
    return mlflow.search_logged_models([mlflow.get_run(run).info.experiment_id], output_format="list")


def _named(weights: Path) -> str | None:
    """The run that the weights' card says they come from."""
    about = weights / "reviosa.json"
    return read_json(about)["card"].get("run_id") if about.is_file() else None


def _active(run: str | None) -> str | None:
    """The same, where this store has it and nobody has deleted it."""
    with suppress(MlflowException):
        if run and mlflow.get_run(run).info.lifecycle_stage == LifecycleStage.ACTIVE:
            return run
    return None
