"""MLflow: what each run was and what it gave. With `models` the only one that imports it; nothing reads it back.

It is decoration, and costs nobody a result: a server that does not answer is named before any work (`reach`), one that
stops answering later costs a line, and REVIOSA_TRACKING=off goes without. docs/tracking.md says how to read the pages.

with tracking.run("train@full", params=profile, inputs={"data": "data/train"}, parent="ablation tiny") as run:
    fit(system, clips, profile.train, log=run.log)
    run.figure(figure, "attention.png")

A notebook whose cells are the work begins its run in the first of them, `run = tracking.begin(...)`, and ends it in the
last, `run.finish()`; one that does not get there has failed.
"""

from __future__ import annotations

import atexit
import hashlib
import json
import logging
import os
import random
import sqlite3
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path
from typing import Any

# What the user has set goes first. MLflow's own two minutes and seven tries are four minutes of silence.
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")  # read at import
os.environ.setdefault("MLFLOW_ENABLE_SYSTEM_METRICS_LOGGING", "true")
os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "20")
os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")
os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")  # a password may stand in it

import mlflow
import pandas as pd
from filelock import FileLock, Timeout
from matplotlib.figure import Figure
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException
from sqlalchemy.exc import SQLAlchemyError

from reviosa_core import config
from reviosa_core.data.jsonfile import read_json
from reviosa_core.report import models, store
from reviosa_core.report.naming import TAG, VALUE, fitting, legal_name, without_password
from reviosa_core.report.origin import commit, flatten, gone, md5, this_process
from reviosa_core.report.store import tracking_uri, wanted

EXPERIMENT = "reviosa"
GROUP = "reviosa.group"
PROCESS = "reviosa.process"  # host, number and start of the process that a run belongs to
MAKING = 300  # seconds until whoever makes the database must be done
LOCKED = 30  # seconds until SQLite's file must be free
# Of the store, whatever it is: its own errors, those of the database below it, and the network's.
LOSSES = (MlflowException, SQLAlchemyError, sqlite3.Error, OSError)
ABOUT = {  # tags of the experiment, which MLflow's pages read
    "mlflow.experimentKind": "custom_model_development",  # or it opens on the pages for language models
    "mlflow.experiment.primaryMetric.name": "test RVOS JF",
    "mlflow.experiment.primaryMetric.greaterIsBetter": "True",
    "mlflow.note.content": """**How to read this.** A run is a stage of `make repro`, named for its notebook.

- *Runs*: group `ablation <profile>` holds the rows of Table 4. `03_train <row>` has the training loss by step and, once
  the row was evaluated, its scores on test (`test RVOS JF`: J&F in percent, all expressions).
- *Models*: one line a trained row, with its scores by dataset; weights stay with DVC (tags `path`, `md5`). Row `best`
  is tagged `champion`, which is its alias in the registry, too.
- *Dataset*: the digest is the md5 that DVC computes. FAILED: the stage raised; KILLED: its process was ended.

Intervals, paired differences and what follows from them are in `reports/README.md`, not here.""",
}

_answered: set[str] = set()  # stores that have answered this process
_begun: dict[str, Run] = {}  # by id; they end with the process


class NoServer(ConnectionError):
    """Nobody answers at MLFLOW_TRACKING_URI. The message names the address, without its password, and a way out."""


def reach() -> None:
    """Have the store answer, before any work is done that it should be told of.

    Raises NoServer after at most store.PATIENCE seconds. Nothing happens with tracking off, or for a file.
    """
    if not wanted():
        return
    uri = tracking_uri()
    mlflow.set_tracking_uri(uri)
    try:
        if parts := store.host(uri):
            store.knock(parts)
            with store.hurried():
                MlflowClient().get_experiment_by_name(EXPERIMENT)
    except Exception as error:  # whatever it is that a client makes of a server that is none
        raise NoServer(
            f"MLflow at {without_password(uri)} does not answer: {store.reason(error, uri)}; start it, "
            f"or correct MLFLOW_TRACKING_URI, or go without it: {store.SWITCH}=off"
        ) from None
    _answered.add(uri)


class Run:
    """The active run: somewhere to put numbers, figures, tables and files. Without an id, nowhere."""

    def __init__(self, id: str | None, described: Mapping[str, str], parent: str | None = None) -> None:
        self.id, self.described, self.parent = id, dict(described), parent
        self.taken = self.open = id is not None

    def finish(self) -> None:
        """The end of a run that `begin` began: all its work is done."""
        _end(self, "FINISHED")

    def log(self, metrics: Mapping[str, float | None], step: int | None = None) -> None:
        """Metrics at a step, by any names (`legal_name`); None (undefined) is left out."""
        self.send(mlflow.log_metrics, _defined(metrics), step=step)

    def uses(self, inputs: Mapping[str, str | Path]) -> None:
        """Files and folders that the run reads, by name: tagged with their md5, computed as DVC does. Where the name
        begins with `data`, MLflow lists it as a dataset, too. Raises OSError for one that is not there."""
        if not self.taken:
            return
        digests = {name: md5(path) for name, path in inputs.items()}
        self.send(mlflow.set_tags, {f"md5.{legal_name(name)}": digest for name, digest in digests.items()})
        for name, digest in digests.items():
            if name.startswith("data"):
                self.send(mlflow.log_input, models.dataset(inputs[name], digest), context=Path(inputs[name]).name)

    def scored(
        self, name: str, weights: Path, data: str | Path, scores: Mapping[str, float | None], params: Any = None
    ) -> None:
        """Scores of saved weights on a data set. They stand at the *logged model* of those weights (made when missing;
        their bytes stay where they are), which MLflow compares with others, and in the run that trained them."""
        self.send(models.score, self.id, name, weights, data, _defined(scores), flatten(params))

    def champion(self, group: str, weights: Path) -> None:
        """Of the models that `scored` named `<group> ...`, these weights are the best: tag and alias `champion`."""
        self.send(models.crown, self.id, group, weights)

    def card(self) -> dict[str, str]:
        """What the card of weights made in this run says of it: its id, and the commit where there is one."""
        commit = self.described.get("mlflow.source.git.commit")
        changed = " with changes" if self.described.get("git.dirty") == "True" else ""
        known = {"run_id": self.id} if self.id else {}
        return known | ({"git_commit": commit + changed} if commit else {})

    def send(self, call: Callable[..., Any], *args: Any, **kwargs: Any) -> None:
        """Tell MLflow something. Where that fails, a line says so, and it is told nothing more: the work goes on."""
        if not self.taken:
            return
        try:
            _told(call, *args, **kwargs)
        except LOSSES as error:
            self.taken = False
            _lost(error)

    def figure(self, figure: Figure, name: str, step: int | None = None) -> None:
        """A matplotlib figure as artifact `name` (with its extension); at a step, as one of the slides of that name."""
        self.send(*((mlflow.log_figure, figure, name) if step is None else (models.slide, figure, name, step)))

    def table(self, rows: pd.DataFrame | Iterable[Mapping[str, Any]], name: str) -> None:
        """Rows as a table that MLflow's page shows; `name` without extension."""
        table = rows if isinstance(rows, pd.DataFrame) else pd.DataFrame(list(rows))
        self.send(mlflow.log_table, table, f"{name}.json")

    def trace(self, name: str, asked: Mapping[str, Any], answer: Any, about: Mapping[str, Any]) -> None:
        """A question and its answer, as a trace of this run; from any thread."""
        self.send(_trace, self.id, name, dict(asked), answer, {key: str(value) for key, value in about.items()})

    def artifact(self, path: str | Path, folder: str | None = None) -> None:
        """A file, or a folder with all it holds. Not for weights of gigabytes: DVC keeps those."""
        self.send(mlflow.log_artifacts if Path(path).is_dir() else mlflow.log_artifact, str(path), folder)


def _defined(metrics: Mapping[str, float | None]) -> dict[str, float]:
    return {legal_name(name): float(value) for name, value in metrics.items() if value is not None}


def _told(call: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """A call to the store, again while SQLite's file is locked: notebooks side by side write into one file, and of two
    that wait for each other SQLite refuses one at once."""
    until = time.monotonic() + LOCKED
    while True:
        try:
            return call(*args, **kwargs)
        except LOSSES as error:
            if "is locked" not in str(error) or time.monotonic() > until:
                raise
        time.sleep(random.SystemRandom().uniform(0.1, 0.5))  # the work's own generators are left alone


def _trace(run: str, name: str, asked: dict[str, Any], answer: Any, about: dict[str, str]) -> None:
    experiment = MlflowClient().get_run(run).info.experiment_id
    span = mlflow.start_span_no_context(
        name, "LLM", None, asked, about, metadata={"mlflow.sourceRun": run}, experiment_id=experiment
    )
    span.end(outputs=answer)


def _lost(error: BaseException) -> None:
    uri = tracking_uri()
    reason = f"MLflow at {without_password(uri)} takes nothing more: {store.reason(error, uri)}"
    print(f"{reason}; the work goes on without it", file=sys.stderr)


def begin(
    stage: str,
    *,
    params: Any = None,
    inputs: Mapping[str, str | Path] | None = None,
    parent: str | None = None,
    tags: Mapping[str, str] | None = None,
) -> Run:
    """A run that lasts from here to `Run.finish`; where the process ends before, it is FAILED. What is described as in
    `run`. One run is open at a time: beginning another (a notebook run again from its top) marks the first KILLED."""
    started = _start(stage, params, inputs, parent, tags)
    if started.id:
        _begun[started.id] = started
    return started


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
    inputs: name -> file or folder; as `Run.uses`.
    parent: a group's name; runs of one group, in any process, are children of one parent run (made when missing), which
    ends as and when the last of them does.

    Raises NoServer as `reach`, unless the store has answered this process before: then the block runs without it.
    """
    started, status = _start(stage, params, inputs, parent, tags), "FAILED"
    try:
        yield started
        status = "FINISHED"
    finally:
        _end(started, status)


def _start(
    stage: str,
    params: Any,
    inputs: Mapping[str, str | Path] | None,
    parent: str | None,
    tags: Mapping[str, str] | None,
) -> Run:
    for left in [*_begun.values()]:
        _end(left, "KILLED")
    project = config.project()
    started = Run(None, commit(project))
    if not (wanted() and _reached()):
        return started
    flat = flatten(params)
    about = {**started.described, "profile": project.profile, **(tags or {})}
    about["mlflow.source.name"] = about["dvc.stage"] = os.environ.get("DVC_STAGE", stage)
    about["params.hash"] = hashlib.md5(json.dumps(flat, sort_keys=True).encode()).hexdigest()[:12]
    for name in ("alembic", "mlflow"):  # their INFO lines would fill the first notebook
        logging.getLogger(name).setLevel(logging.WARNING)
    for name in ("mlflow.store.db.utils", "mlflow.system_metrics"):  # a page for what `_lost` says in a line
        logging.getLogger(name).setLevel(logging.CRITICAL)
    try:
        started = Run(*_begin(project, stage, parent, about))
    except LOSSES as error:
        _lost(error)
    names = sorted(flat)
    for start in range(0, len(names), 100):  # a server takes at most 100 parameters in one call
        told = {legal_name(name): fitting(flat[name], VALUE) for name in names[start : start + 100]}
        started.send(mlflow.log_params, told)
    try:
        started.uses(inputs or {})
    except BaseException:  # an input that is not there
        _end(started, "FAILED")
        raise
    return started


def _reached() -> bool:
    """`reach`, but where the store has answered before there may be work that must not be lost: then in a line."""
    known = tracking_uri() in _answered
    try:
        reach()
    except NoServer as error:
        if not known:
            raise
        _lost(error)
        return False
    return True


def _begin(
    project: config.Project, stage: str, parent: str | None, described: Mapping[str, str]
) -> tuple[str, Mapping[str, str], str | None]:
    """The id of a new active run, its description, and its parent. One process makes the database, the experiment and
    the parent; the others wait for it, then find them."""
    lock = project.root / "mlflow.db.lock"
    try:
        with FileLock(lock, timeout=MAKING):
            experiment = _told(_experiment, project.root)
            known = {"profile": described["profile"], **commit(project)}
            above = _told(_parent, experiment, parent, known) if parent else None
    except Timeout:
        raise NoServer(
            f"{lock}: another process has held it for {MAKING} s; end it, or set {store.SWITCH}=off"
        ) from None
    _told(_bury, experiment, stage)
    tags = {name: fitting(value, TAG) for name, value in {**described, PROCESS: this_process()}.items()}
    new = _told(mlflow.start_run, experiment_id=experiment, run_name=stage, parent_run_id=above, tags=tags)
    return new.info.run_id, described, above


def _end(run: Run, status: str) -> None:
    """The run is no longer active, and MLflow knows how it ended, where it can be told."""
    if run.id is None or not run.open:
        return
    run.open = False
    _begun.pop(run.id, None)
    set_terminated = MlflowClient().set_terminated
    try:
        with nullcontext() if run.taken else store.hurried():
            _told(set_terminated, run.id, status)
            mlflow.end_run(status)  # the run leaves this process, and the thread of its system metrics ends
            if run.parent:
                _told(set_terminated, run.parent, status)
    except LOSSES as error:
        if run.taken:
            _lost(error)
        with store.hurried(), suppress(*LOSSES):
            mlflow.end_run(status)  # where it had not come to that
    run.taken = False


@atexit.register  # before MLflow's own, which calls every open run FINISHED
def _given_up() -> None:
    for left in [*_begun.values()]:
        _end(left, "FAILED")


def _bury(experiment: str, stage: str) -> None:
    """Earlier runs of a stage that were killed still count as running: they are marked KILLED."""
    client = MlflowClient()
    for run in client.search_runs([experiment], "attributes.status = 'RUNNING'"):
        if run.info.run_name == stage and gone(run.data.tags.get(PROCESS)):
            client.set_terminated(run.info.run_id, "KILLED")


def _experiment(root: Path) -> str:
    found = mlflow.get_experiment_by_name(EXPERIMENT)
    if found:
        # MLflow's page notes what it takes the experiment for, where nobody has said it.
        missing = {k: v for k, v in ABOUT.items() if found.tags.get(k, "_inferred").endswith("_inferred")}
        for name, value in missing.items():
            MlflowClient().set_experiment_tag(found.experiment_id, name, value)
        return found.experiment_id
    # A server keeps artifacts where it likes; for our own file, beside it rather than in the current folder.
    own = tracking_uri() == store.own(root)
    return mlflow.create_experiment(EXPERIMENT, (root / "mlruns").as_uri() if own else None, ABOUT)


def _parent(experiment: str, group: str, known: Mapping[str, str]) -> str:
    client = MlflowClient()
    found = client.search_runs([experiment], f"tags.`{GROUP}` = '{group}'", max_results=1)
    if found:
        return found[0].info.run_id
    made = client.create_run(experiment, run_name=group, tags={**known, GROUP: group, "mlflow.source.name": group})
    client.set_terminated(made.info.run_id)  # until its children end
    return made.info.run_id


def notebook_minutes(folder: str | Path) -> dict[str, float]:
    """How long each executed notebook of a folder took, by its name, as papermill noted it. DataError naming a file
    that is no notebook: one that was killed while it was written."""
    noted = {path.stem: read_json(path) for path in sorted(Path(folder).glob("*.ipynb"))}
    about = {name: notebook.get("metadata", {}).get("papermill", {}) for name, notebook in noted.items()}
    return {name: found["duration"] / 60 for name, found in about.items() if found.get("duration")}


def keep_notebooks(folder: str | Path, profile: str) -> None:
    """Attach each executed notebook to its stage's newest run of the profile, named as it is up to the experiment."""
    if not wanted():
        return
    mlflow.set_tracking_uri(tracking_uri())
    client, root = MlflowClient(), config.project().root
    try:
        for path in sorted(Path(folder).glob("*.ipynb")):
            name = path.stem.replace("@", " ")
            alike = f"= '{name}'" if "@" in path.stem else f"LIKE '{name}%'"
            named = f"tags.mlflow.runName {alike} AND tags.profile = '{profile}'"
            if found := client.search_runs([_experiment(root)], named, max_results=1):
                client.log_artifact(found[0].info.run_id, str(path))
    except LOSSES as error:
        _lost(error)
