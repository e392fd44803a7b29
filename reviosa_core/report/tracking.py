"""MLflow: what each run was and what it gave. The only `import mlflow`; nothing in the pipeline reads it back.

It is decoration, and costs nobody a result: a server that does not answer is named before any work (`reach`), one that
stops answering later costs a line, and REVIOSA_TRACKING=off goes without.

with tracking.run("train@full", params=profile, inputs={"train": "data/train"}, parent="ablation tiny") as run:
    fit(system, clips, profile.train, log=run.log)
    run.figure(figure, "attention.png")
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import socket
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import SplitResult, urlsplit

# What the user has set goes first. MLflow's own two minutes and seven tries are four minutes of silence.
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")  # read at import
os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "20")
os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")
os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")  # a password may stand in it

import mlflow
import pandas as pd
import psutil
from filelock import FileLock, Timeout
from matplotlib.figure import Figure
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException
from sqlalchemy import URL

from reviosa_core import config
from reviosa_core.data.jsonfile import read_json
from reviosa_core.report.naming import TAG, VALUE, fitting, legal_name, without_password

EXPERIMENT = "reviosa"
GROUP = "reviosa.group"
PROCESS = "reviosa.process"  # host, number and start of the process that a run belongs to
SWITCH = "REVIOSA_TRACKING"
PATIENCE = 10  # seconds until a server has answered for the first time
LOCKED = 300  # seconds until whoever makes the database must be done
DATABASES = {"postgresql": 5432, "mysql": 3306, "mssql": 1433}  # their usual ports

_answered: set[str] = set()  # stores that have answered this process


class NoServer(ConnectionError):
    """Nobody answers at MLFLOW_TRACKING_URI. The message names the address, without its password, and a way out."""


def wanted() -> bool:
    """Whether runs are logged at all: not with REVIOSA_TRACKING=off. ValueError for anything but on and off."""
    said = os.environ.get(SWITCH) or "on"
    if said not in ("on", "off"):
        raise ValueError(f"{SWITCH} is {said!r}; it can be on or off")
    return said == "on"


def tracking_uri() -> str:
    """MLFLOW_TRACKING_URI when the user has set one, else SQLite at the project's root, whatever the current folder."""
    return os.environ.get("MLFLOW_TRACKING_URI") or _own_store(config.project().root)


def reach() -> None:
    """Have the store answer, before any work is done that it should be told of.

    Raises NoServer after at most PATIENCE seconds. Nothing happens with tracking off, or where the store is a file.
    """
    if not wanted():
        return
    uri = tracking_uri()
    mlflow.set_tracking_uri(uri)
    try:
        parts = urlsplit(uri)
        if parts.hostname:
            _knock(parts)
            with _patience():
                MlflowClient().get_experiment_by_name(EXPERIMENT)
    except Exception as error:  # whatever it is that a client makes of a server that is none
        raise NoServer(
            f"MLflow at {without_password(uri)} does not answer: {_reason(error, uri)}; start it, "
            f"or correct MLFLOW_TRACKING_URI, or go without it: {SWITCH}=off"
        ) from None
    _answered.add(uri)


def _knock(parts: SplitResult) -> None:
    """A connection to a database's port: its client would try for minutes."""
    port = parts.port or next((p for name, p in DATABASES.items() if parts.scheme.startswith(name)), None)
    if port and not parts.scheme.startswith("http"):
        socket.create_connection((parts.hostname or "", port), timeout=PATIENCE).close()


@contextmanager
def _patience() -> Iterator[None]:
    """Inside, MLflow tries once, and not for long."""
    hurried = {"MLFLOW_HTTP_REQUEST_TIMEOUT": str(PATIENCE), "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0"}
    before = {name: os.environ.get(name) for name in hurried}
    os.environ.update(hurried)
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name, None)
            os.environ.update({name: value} if value is not None else {})


def _reason(error: BaseException, uri: str) -> str:
    """The first cause of an error, in a line, without the password of an address."""
    while inner := error.__cause__ or error.__context__:
        error = inner
    text = " ".join(f"{type(error).__name__}: {error}".split())
    before, at, _ = uri.partition("://")[2].rpartition("@")
    for secret in filter(None, [before + at, *before.partition(":")[2:], before]):
        text = text.replace(secret, "***")
    return text if len(text) <= 300 else f"{text[:300]}..."


def _own_store(root: Path) -> str:
    """A URL: `?`, `#` and `%` of the path are quoted, or the database would be another file, outside the project."""
    url = URL.create("sqlite", database=str(root / "mlflow.db"))
    if "%" in (quoted := url.render_as_string()):
        # The driver is SQLAlchemy's default; MLflow would make a folder of the quoted name for the shorter scheme.
        quoted = url.set(drivername="sqlite+pysqlite").render_as_string()
    return quoted


class Run:
    """The active run: somewhere to put numbers, figures, tables and files. Without an id, nowhere."""

    def __init__(self, id: str | None, described: Mapping[str, str]) -> None:
        self.id, self.described, self.taken = id, dict(described), id is not None

    def log(self, metrics: Mapping[str, float | None], step: int | None = None) -> None:
        """Metrics at a step, by any names (`legal_name`); None (undefined) is left out."""
        defined = {legal_name(name): float(value) for name, value in metrics.items() if value is not None}
        self.send(mlflow.log_metrics, defined, step=step)

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
            call(*args, **kwargs)
        except (MlflowException, OSError) as error:
            self.taken = False
            _lost(error)

    def figure(self, figure: Figure, name: str) -> None:
        """A matplotlib figure as artifact `name` (with its extension)."""
        self.send(mlflow.log_figure, figure, name)

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


def _trace(run: str, name: str, asked: dict[str, Any], answer: Any, about: dict[str, str]) -> None:
    experiment = MlflowClient().get_run(run).info.experiment_id
    span = mlflow.start_span_no_context(
        name, "LLM", None, asked, about, metadata={"mlflow.sourceRun": run}, experiment_id=experiment
    )
    span.end(outputs=answer)


def _lost(error: BaseException) -> None:
    uri = tracking_uri()
    reason = f"MLflow at {without_password(uri)} takes nothing more: {_reason(error, uri)}"
    print(f"{reason}; the work goes on without it", file=sys.stderr)


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

    Raises NoServer as `reach`, unless the store has answered this process before: then the block runs without it.
    """
    root = config.project().root
    started = Run(None, commit(root))
    if wanted() and _reached():
        flat = flatten(params)
        about = {f"md5.{name}": md5(path) for name, path in (inputs or {}).items()} | dict(tags or {})
        about["mlflow.source.name"] = about["dvc.stage"] = os.environ.get("DVC_STAGE", stage)
        about["params.hash"] = hashlib.md5(json.dumps(flat, sort_keys=True).encode()).hexdigest()[:12]
        for name in ("alembic", "mlflow"):  # their INFO lines would fill the first notebook
            logging.getLogger(name).setLevel(logging.WARNING)
        try:
            started = Run(_begin(root, stage, parent, started.described | about), started.described | about)
        except (MlflowException, OSError) as error:
            _lost(error)
        names = sorted(flat)
        for start in range(0, len(names), 100):  # a server takes at most 100 parameters in one call
            told = {legal_name(name): fitting(flat[name], VALUE) for name in names[start : start + 100]}
            started.send(mlflow.log_params, told)
    status = "FAILED"
    try:
        yield started
        status = "FINISHED"
    finally:
        if started.id:
            _end(started, status)


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


def _begin(root: Path, stage: str, parent: str | None, described: Mapping[str, str]) -> str:
    """The id of a new active run. One process makes the database, the experiment and the parent; the others wait for
    it, then find them."""
    lock = root / "mlflow.db.lock"
    try:
        with FileLock(lock, timeout=LOCKED):
            experiment = _experiment(root)
            above = _parent(experiment, parent, root) if parent else None
    except Timeout:
        raise NoServer(f"{lock}: another process has held it for {LOCKED} s; end it, or set {SWITCH}=off") from None
    _bury(experiment, stage)
    tags = {name: fitting(value, TAG) for name, value in {**described, PROCESS: _this_process()}.items()}
    return mlflow.start_run(experiment_id=experiment, run_name=stage, parent_run_id=above, tags=tags).info.run_id


def _end(run: Run, status: str) -> None:
    """The run is no longer active, and MLflow knows how it ended, where it can be told."""
    try:
        if run.taken:
            mlflow.end_run(status)
        else:
            with _patience():
                mlflow.end_run(status)
    except (MlflowException, OSError) as error:
        if run.taken:
            _lost(error)


def _this_process() -> str:
    return f"{socket.gethostname()} {os.getpid()} {psutil.Process().create_time():.0f}"


def _gone(process: str | None) -> bool:
    """Whether a process that `_this_process` described has ended. Of one on another machine nothing is known."""
    host, number, start = ((process or "").rsplit(" ", 2) + ["", "", ""])[:3]
    if host != socket.gethostname() or not number.isdecimal():
        return False
    try:
        found = psutil.Process(int(number))
        return found.status() == psutil.STATUS_ZOMBIE or abs(found.create_time() - float(start)) > 2
    except psutil.NoSuchProcess:
        return True
    except psutil.Error:
        return False


def _bury(experiment: str, stage: str) -> None:
    """Earlier runs of a stage that were killed still count as running: they are marked KILLED."""
    client = MlflowClient()
    for run in client.search_runs([experiment], "attributes.status = 'RUNNING'"):
        if run.info.run_name == stage and _gone(run.data.tags.get(PROCESS)):
            client.set_terminated(run.info.run_id, "KILLED")


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
    """How long each executed notebook of a folder took, by its name, as papermill noted it. DataError naming a file
    that is no notebook: one that was killed while it was written."""
    noted = {path.stem: read_json(path) for path in sorted(Path(folder).glob("*.ipynb"))}
    about = {name: notebook.get("metadata", {}).get("papermill", {}) for name, notebook in noted.items()}
    return {name: found["duration"] / 60 for name, found in about.items() if found.get("duration")}


def keep_notebooks(folder: str | Path) -> None:
    """Attach each executed notebook to the newest run of its stage, which bears its name up to the experiment."""
    if not wanted():
        return
    mlflow.set_tracking_uri(tracking_uri())
    client, root = MlflowClient(), config.project().root
    try:
        for path in sorted(Path(folder).glob("*.ipynb")):
            name = path.stem.replace("@", " ")
            found = client.search_runs([_experiment(root)], f"tags.mlflow.runName LIKE '{name}%'", max_results=1)
            if found:
                client.log_artifact(found[0].info.run_id, str(path))
    except (MlflowException, OSError) as error:
        _lost(error)
