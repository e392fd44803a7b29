"""MLflow: what each run was and what it gave. The only `import mlflow`; nothing in the pipeline reads it back.

with tracking.run("train@full", params=profile, inputs={"train": "data/train"}, parent="ablation tiny") as run:
    fit(system, clips, profile.train, log=run.log)
    run.figure(figure, "attention.png")
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import subprocess
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")  # read at import

import mlflow
import pandas as pd
from filelock import FileLock
from matplotlib.figure import Figure
from mlflow import MlflowClient
from sqlalchemy import URL

from reviosa_core import config

EXPERIMENT = "reviosa"
GROUP = "reviosa.group"


def tracking_uri() -> str:
    """MLFLOW_TRACKING_URI when the user has set one, else SQLite at the project's root, whatever the current folder."""
    return os.environ.get("MLFLOW_TRACKING_URI") or _own_store(config.project().root)


def _own_store(root: Path) -> str:
    """A URL: `?`, `#` and `%` of the path are quoted, or the database would be another file, outside the project."""
    url = URL.create("sqlite", database=str(root / "mlflow.db"))
    if "%" in (quoted := url.render_as_string()):
        # The driver is SQLAlchemy's default; MLflow would make a folder of the quoted name for the shorter scheme.
        quoted = url.set(drivername="sqlite+pysqlite").render_as_string()
    return quoted


@dataclass(frozen=True)
class Run:
    """The active run: somewhere to put numbers, figures, tables and files."""

    id: str

    def log(self, metrics: Mapping[str, float | None], step: int | None = None) -> None:
        """Metrics at a step; None (undefined) is left out. MLflow allows no `&` in names: `J&F` is stored as `JF`."""
        defined = {name.replace("&", ""): float(value) for name, value in metrics.items() if value is not None}
        mlflow.log_metrics(defined, step=step)

    def card(self) -> dict[str, str]:
        """What the card of weights made in this run says of it: its id, and the commit where there is one."""
        tags = mlflow.get_run(self.id).data.tags
        commit = tags.get("mlflow.source.git.commit")
        changed = " with changes" if tags.get("git.dirty") == "True" else ""
        return {"run_id": self.id} | ({"git_commit": commit + changed} if commit else {})

    def figure(self, figure: Figure, name: str) -> None:
        """A matplotlib figure as artifact `name` (with its extension)."""
        mlflow.log_figure(figure, name)

    def table(self, rows: pd.DataFrame | Iterable[Mapping[str, Any]], name: str) -> None:
        """Rows as a table that MLflow's page shows; `name` without extension."""
        mlflow.log_table(rows if isinstance(rows, pd.DataFrame) else pd.DataFrame(list(rows)), f"{name}.json")

    def artifact(self, path: str | Path, folder: str | None = None) -> None:
        """A file, or a folder with all it holds. Not for weights of gigabytes: DVC keeps those."""
        (mlflow.log_artifacts if Path(path).is_dir() else mlflow.log_artifact)(str(path), folder)


@contextmanager
def run(
    stage: str,
    *,
    params: Any = None,
    inputs: Mapping[str, str | Path] | None = None,
    parent: str | None = None,
    tags: Mapping[str, str] | None = None,
) -> Iterator[Run]:
    """A run of `stage`, FINISHED when the block ends and FAILED when it raises.

    params: mappings and pydantic models, nested at will; logged once, flattened to dotted names.
    inputs: name -> file or folder; tagged with the md5 that dvc.lock gives it.
    parent: a group's name; runs of one group, in any process, are children of one parent run (made when missing).
    """
    flat, root = flatten(params), config.project().root
    described = commit(root) | {f"md5.{name}": md5(path) for name, path in (inputs or {}).items()} | dict(tags or {})
    described["mlflow.source.name"] = described["dvc.stage"] = os.environ.get("DVC_STAGE", stage)
    described["params.hash"] = hashlib.md5(json.dumps(flat, sort_keys=True).encode()).hexdigest()[:12]
    mlflow.set_tracking_uri(tracking_uri())
    for name in ("alembic", "mlflow"):  # their INFO lines would fill the first notebook
        logging.getLogger(name).setLevel(logging.WARNING)
    # One process makes the database, the experiment and the parent; the others wait for it, then find them.
    with FileLock(root / "mlflow.db.lock"):
        experiment = _experiment(root)
        parent_id = _parent(experiment, parent, root) if parent else None
    with mlflow.start_run(experiment_id=experiment, run_name=stage, parent_run_id=parent_id, tags=described) as active:
        names = sorted(flat)
        for start in range(0, len(names), 100):  # a server takes at most 100 parameters in one call
            mlflow.log_params({name: flat[name] for name in names[start : start + 100]})
        yield Run(active.info.run_id)


def flatten(params: Any, prefix: str = "") -> dict[str, str]:
    """Nested mappings and pydantic models to dotted names; everything below them to text (JSON where it is a list)."""
    params = params.model_dump(mode="json") if hasattr(params, "model_dump") else params
    if isinstance(params, Mapping):
        items = [flatten(value, f"{prefix}.{key}" if prefix else str(key)) for key, value in params.items()]
        return {name: value for part in items for name, value in part.items()}
    if params is None and not prefix:
        return {}
    return {prefix: params if isinstance(params, str) else json.dumps(params, default=str)}


def md5(path: str | Path) -> str:
    """The md5 that DVC writes for a file or a folder (`.dir` at its end), to match a run with dvc.lock."""
    path = Path(path)
    if path.is_dir():
        files = sorted((file.relative_to(path).as_posix(), file) for file in path.rglob("*") if file.is_file())
        listing = [{"md5": md5(file), "relpath": name} for name, file in files]
        return hashlib.md5(json.dumps(listing, sort_keys=True).encode()).hexdigest() + ".dir"
    with open(path, "rb") as stream:
        return hashlib.file_digest(stream, "md5").hexdigest()


def _experiment(root: Path) -> str:
    found = mlflow.get_experiment_by_name(EXPERIMENT)
    if found:
        return found.experiment_id
    # A server keeps artifacts where it likes; for our own file, beside it rather than in the current folder.
    own = tracking_uri() == _own_store(root)
    return mlflow.create_experiment(EXPERIMENT, (root / "mlruns").as_uri() if own else None)


def _parent(experiment: str, group: str, root: Path) -> str:
    client = MlflowClient()
    found = client.search_runs([experiment], f"tags.`{GROUP}` = '{group}'", max_results=1)
    if found:
        return found[0].info.run_id
    made = client.create_run(
        experiment, run_name=group, tags={GROUP: group, "mlflow.source.name": group} | commit(root)
    )
    client.set_terminated(made.info.run_id)  # it holds its children together and runs nothing itself
    return made.info.run_id


def commit(root: Path) -> dict[str, str]:
    """Commit and whether tracked files differ from it; nothing outside a repository."""
    ask = ["git", "-C", str(root)]
    head = subprocess.run([*ask, "rev-parse", "HEAD"], capture_output=True, text=True)
    if head.returncode:
        return {}
    status = subprocess.run([*ask, "status", "--porcelain", "--untracked-files=no"], capture_output=True, text=True)
    return {"mlflow.source.git.commit": head.stdout.strip(), "git.dirty": str(bool(status.stdout.strip()))}


def notebook_minutes(folder: str | Path) -> dict[str, float]:
    """How long each executed notebook of a folder took, by its name, as papermill noted it."""
    paths = sorted(Path(folder).glob("*.ipynb"))
    noted = {path.stem: json.loads(path.read_text())["metadata"].get("papermill", {}) for path in paths}
    return {name: about["duration"] / 60 for name, about in noted.items() if about.get("duration")}


def keep_notebooks(folder: str | Path) -> None:
    """Attach each executed notebook to the newest run of its stage, which bears its name up to the experiment."""
    mlflow.set_tracking_uri(tracking_uri())
    client, root = MlflowClient(), config.project().root
    for path in sorted(Path(folder).glob("*.ipynb")):
        name = path.stem.replace("@", " ")
        found = client.search_runs([_experiment(root)], f"tags.mlflow.runName LIKE '{name}%'", max_results=1)
        if found:
            client.log_artifact(found[0].info.run_id, str(path))
