from __future__ import annotations

import hashlib
import json
import logging
import os
import re
import socket
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import mlflow
import nbformat
import pytest
import sqlalchemy
from matplotlib.figure import Figure
from mlflow import MlflowClient
from pydantic import BaseModel

from reviosa_core import config
from reviosa_core.report import machine, origin, tracking
from reviosa_core.report import store as where
from reviosa_core.schema import DataError


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


def test_a_training_is_known_by_its_settings_and_by_what_its_files_hold(tmp_path):
    data, moved = tmp_path / "data.json", tmp_path / "moved.json"
    for path, text in ((data, "a"), (moved, "a")):
        path.write_text(text)
    known = origin.made_of({"lr": 1e-3}, {"data": data})
    assert known == origin.made_of({"lr": 1e-3}, {"data": moved}), "wherever they are"
    moved.write_text("other")
    others = [({"lr": 2e-3}, {"data": data}), ({"lr": 1e-3}, {"data": moved}), ({"lr": 1e-3}, {})]
    assert len({known, *(origin.made_of(*other) for other in others)}) == 4


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


@pytest.mark.filterwarnings("ignore:.*Any type hint is inferred as AnyType:UserWarning")  # mlflow's, of its own hints
def test_a_call_is_a_trace_of_its_run_from_whatever_thread(store: Path):
    with tracking.run("annotate") as run, ThreadPoolExecutor(3) as pool:
        for number in range(3):
            pool.submit(
                run.trace, "events", {"frames": [number]}, {"events": []}, {"model": "m", "tries": [1]}
            ).result()
    mlflow.flush_trace_async_logging()
    (experiment,) = [e.experiment_id for e in MlflowClient().search_experiments() if e.name == tracking.EXPERIMENT]
    traces = MlflowClient().search_traces([experiment])
    assert {trace.info.request_metadata["mlflow.sourceRun"] for trace in traces} == {run.id}
    spans = [trace.data.spans[0] for trace in traces]
    assert sorted(span.inputs["frames"] for span in spans) == [[0], [1], [2]]
    assert all(
        (span.name, span.attributes["model"], span.attributes["tries"]) == ("events", "m", [1]) for span in spans
    )
    assert all(span.outputs == {"events": []} for span in spans)


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


def test_what_lies_behind_a_link_to_a_folder_counts(tmp_path: Path):
    """Data sets are large, and often elsewhere; DVC does not look there."""
    disk, data = tmp_path / "disk", tmp_path / "data"
    for folder in (disk, data):
        folder.mkdir()
    (disk / "00000.jpg").write_bytes(b"one")
    (data / "JPEGImages").symlink_to(disk)
    before = origin.md5(data)
    (disk / "00000.jpg").write_bytes(b"other")
    assert (after := origin.md5(data)) != before
    (disk / "back").symlink_to(data)
    (disk / "itself").symlink_to(disk)
    assert origin.md5(data) == after, "a folder counts once, wherever its links lead"


def test_commit_and_dirt_of_the_project(store: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("DVC_STAGE", "train@tokens")
    for name in [name for name in os.environ if name.startswith("GIT_")]:
        monkeypatch.delenv(name)  # set when the tests run inside a git hook
    with tracking.run("outside"):
        pass

    def git(*words: str) -> str:
        who = ["-c", "user.name=t", "-c", "user.email=t@t"]
        return subprocess.run(["git", "-C", store, *who, *words], check=True, stdout=subprocess.PIPE, text=True).stdout

    git("init", "-q")
    kept = ("a", "notebooks/01.ipynb", "dvc.yaml", "reports/published.yaml")
    made = ("dvc.lock", "seeds/dvc.lock", "reports/README.md", "reports/metrics/a.json", "backbones/tiny/sam2")
    for name in (*kept, *made):
        (store / name).parent.mkdir(parents=True, exist_ok=True)
        (store / name).write_text("1")
    git("add", *kept, *made, "params.yaml")
    git("commit", "-qm", "one")
    for name in made[:2]:
        (store / name).write_text("2")
    for name in made[2:]:
        (store / name).unlink()
    with tracking.run("clean", parent="group"):
        pass
    for name in (*kept, "params.yaml"):
        before = (store / name).read_text()
        (store / name).write_text(f"{before}\n# 2")
        assert origin.commit(config.project())["git.dirty"] == "True", name
        (store / name).write_text(before)
    assert origin.commit(config.project())["git.dirty"] == "False"
    with monkeypatch.context() as without:
        without.setenv("PATH", str(store))
        assert origin.commit(config.project()) == {}, "no git here"
    (store / "a").write_text("2")
    with tracking.run("dirty"):
        pass
    tags = {name: run.data.tags for name, run in runs(store).items()}
    assert "mlflow.source.git.commit" not in tags["outside"]
    assert tags["clean"]["mlflow.source.git.commit"] == git("rev-parse", "HEAD").strip()
    assert [tags[name]["git.dirty"] for name in ("clean", "group", "dirty")] == ["False", "False", "True"]
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


def test_a_file_is_read_again_for_its_md5_only_when_it_changed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "a").write_text("one")
    first, read, digest = tracking.md5(tmp_path), [], hashlib.file_digest
    monkeypatch.setattr(hashlib, "file_digest", lambda *given: read.append(given) or digest(*given))
    assert tracking.md5(tmp_path) == first and not read
    (tmp_path / "a").write_text("two!")
    second = tracking.md5(tmp_path)
    assert second != first and len(read) == 1
    (tmp_path / "a").write_text("2wo!")  # as long
    os.utime(tmp_path / "a", ns=(1, 1))
    assert tracking.md5(tmp_path) not in (first, second)


# -- servers that do not answer ----------------------------------------------------------------------------------------


@pytest.fixture
def port() -> Iterator[int]:
    """Of this machine, where nobody listens, nor can."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield taken.getsockname()[1]


@pytest.fixture
def silent() -> Iterator[int]:
    """The port of somebody who takes every call and never says a word."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen()
        yield listening.getsockname()[1]


@pytest.fixture
def refusing() -> Iterator[int]:
    """The port of a web server that is no MLflow."""

    class Refuse(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_error(403, "not for you")

        def log_message(self, *_: object) -> None: ...

    with HTTPServer(("127.0.0.1", 0), Refuse) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server.server_port
        server.shutdown()
        thread.join()


def refused(address: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """What a run says that finds nobody at an address; its work is not begun."""
    monkeypatch.setattr(where, "PATIENCE", 1)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", address)
    begun = time.monotonic()
    with pytest.raises(tracking.NoServer) as caught, tracking.run("train"):
        pytest.fail("work was begun")
    assert time.monotonic() - begun < 5
    assert caught.value.__suppress_context__, "the causes name the address in full"
    return str(caught.value)


@pytest.mark.parametrize("scheme", ["http", "postgresql", "mysql+pymysql"])
def test_a_server_that_is_down_is_named_before_any_work(store: Path, port: int, monkeypatch, scheme: str, capfd):
    message = refused(f"{scheme}://me:geheim@127.0.0.1:{port}/runs", monkeypatch)
    assert f"MLflow at {scheme}://***@127.0.0.1:{port}/runs does not answer" in message and "refused" in message
    assert "REVIOSA_TRACKING=off" in message and "\n" not in message and len(message) < 500
    assert "geheim" not in message + "".join(capfd.readouterr())
    assert not (store / "mlflow.db.lock").exists(), "nobody waits for who waits for a server"


def test_a_server_that_never_answers_is_named(store: Path, silent: int, monkeypatch):
    message = refused(f"http://me:geheim@127.0.0.1:{silent}", monkeypatch)
    assert f"http://***@127.0.0.1:{silent} does not answer" in message and "timed out" in message
    assert "geheim" not in message


def test_a_server_that_refuses_is_quoted(store: Path, refusing: int, monkeypatch):
    message = refused(f"http://127.0.0.1:{refusing}", monkeypatch)
    assert "403" in message and "does not answer" in message


def test_an_address_that_is_none(store: Path, monkeypatch):
    assert "gopher" in refused("gopher://127.0.0.1", monkeypatch)
    assert "geheim" not in refused("http://me:geheim@[nowhere", monkeypatch)


def test_a_server_that_goes_away_costs_a_line_and_no_work(store: Path, port: int, monkeypatch, capsys):
    """It had answered this process before: what has been done since is not to be lost."""
    monkeypatch.setattr(where, "PATIENCE", 1)
    address = f"http://me:geheim@127.0.0.1:{port}"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", address)
    tracking._answered.add(address)
    with tracking.run("train") as run:
        run.log({"loss": 1.0})
        assert run.id is None and "run_id" not in run.card()
    tracking.keep_notebooks(store, "tiny")
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 1 and said[0].endswith("the work goes on without it") and "geheim" not in said[0]


def test_what_cannot_be_logged_costs_a_line_and_no_work(store: Path, monkeypatch, capsys):
    def broken(*_: object, **__: object) -> None:
        raise mlflow.MlflowException("the disk is full")

    with tracking.run("train") as run:
        monkeypatch.setattr(mlflow, "log_metrics", broken)
        for step in range(3):
            run.log({"loss": 1.0}, step)
        run.artifact(store / "params.yaml")  # told nothing more
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 1 and "the disk is full; the work goes on without it" in said[0]
    assert runs(store)["train"].info.status == "FINISHED" and not list((store / "mlruns").rglob("params.yaml"))


def test_a_notebook_is_kept_with_the_newest_run_of_its_own_profile(store: Path):
    """Two profiles may share a store, and run one after the other."""
    (store / "05_evaluate@full.ipynb").write_text("{}")
    with tracking.run("05_evaluate full") as own:
        pass
    with tracking.run("05_evaluate full", tags={"profile": "small"}) as other:
        pass
    with tracking.run("05_evaluate full_mean") as row:
        pass
    tracking.keep_notebooks(store, "tiny")
    client = MlflowClient()
    assert [client.get_run(run.id).data.tags["profile"] for run in (own, other, row)] == ["tiny", "small", "tiny"]
    kept = [[file.path for file in client.list_artifacts(run.id)] for run in (own, other, row)]
    assert kept == [["05_evaluate@full.ipynb"], [], []]


def test_tracking_can_be_off(store: Path, port: int, monkeypatch, capfd):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{port}")
    monkeypatch.setenv(where.SWITCH, "off")
    (store / "mlflow.db").unlink()
    tracking.reach()
    with tracking.run("train", params={"lr": 1}, inputs={"data": store / "nowhere"}, parent="group") as run:
        run.log({"loss": 1.0}, 1)
        run.figure(Figure(), "curve.png")
        run.table([{"a": 1}], "rows")
        run.artifact(store / "params.yaml")
        assert run.card() == {}
    tracking.keep_notebooks(store, "tiny")
    assert [file.name for file in store.iterdir()] == ["params.yaml"] and not "".join(capfd.readouterr())
    monkeypatch.setenv(where.SWITCH, "no")
    with pytest.raises(ValueError, match="REVIOSA_TRACKING is 'no'; it can be on or off"):
        tracking.reach()


def test_machine_shows_where_runs_go(store: Path, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://me:geheim@host")
    assert machine.describe()["project"]["runs"] == "http://***@host"
    monkeypatch.setenv(where.SWITCH, "off")
    assert machine.describe()["project"]["runs"] == "not logged"


def test_machine_names_data_sets_wherever_they_lie(store: Path):
    params = store / "params.yaml"
    params.write_text(params.read_text().replace("datasets: []", "datasets: [/elsewhere/mine, ../mine, data/mine]"))
    shown = machine.describe()["data"]
    assert list(shown) == [
        *(f"data/tiny/{split}" for split in ("train", "val", "dev", "test", "shift")),
        "/elsewhere/mine",
        "../mine",
        "data/mine",
    ]


# -- names and texts from data -----------------------------------------------------------------------------------------


def test_what_data_are_called_kills_no_run(store: Path, capfd):
    names = ["/data/mine", "../mine", "data/my clips (v2)", "data/a+b", "data/run#3", "data/run&3", "..", "", "x" * 300]
    params = {"transfer (all)": {"datasets": names}, "long": "x" * 7000, "longer": "x" * 7001}
    with tracking.run("transfer", params=params, tags={"text": "y" * 9000}) as run:
        run.log({f"{name} full RVOS J&F": float(place) for place, name in enumerate(names)})
    assert not capfd.readouterr().err
    stored = runs(store)["transfer"].data
    assert sorted(stored.metrics.values()) == list(range(len(names)))
    assert len(stored.params["long"]) == 6000 and re.search(
        r"x\.\.\. 7000 characters, md5 \w{32}$", stored.params["long"]
    )
    assert stored.params["long"][-20:] != stored.params["longer"][-20:]
    assert "9000 characters" in stored.tags["text"]


# -- runs that were killed ---------------------------------------------------------------------------------------------


def test_a_killed_run_is_marked_when_its_stage_runs_again(store: Path):
    code = "import os\nfrom reviosa_core.report import tracking\nwith tracking.run('train'): os._exit(9)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 9
    assert runs(store)["train"].info.status == "RUNNING"
    killed = runs(store)["train"].info.run_id
    with tracking.run("evaluate"):
        assert MlflowClient().get_run(killed).info.status == "RUNNING", "another stage knows nothing of it"
    with tracking.run("train") as run:
        assert MlflowClient().get_run(killed).info.status == "KILLED"
        assert MlflowClient().get_run(run.id).info.status == "RUNNING"


def test_only_runs_of_processes_that_are_gone_are_marked(store: Path):
    host, number, start = origin.this_process().rsplit(" ", 2)
    assert not origin.gone(f"{host} {number} {start}")
    assert origin.gone(f"{host} {number} {int(start) - 60}"), "its number was given again"
    assert origin.gone(f"{host} 4194304 {start}"), "no process has this number"
    for unknown in (None, "", "x", f"elsewhere {number} 1", f"{host} x 1"):
        assert not origin.gone(unknown)


# -- notebooks ---------------------------------------------------------------------------------------------------------


def test_minutes_of_notebooks(tmp_path: Path):
    (tmp_path / "a.ipynb").write_text(json.dumps({"metadata": {"papermill": {"duration": 90}}}))
    (tmp_path / "b.ipynb").write_text(json.dumps({"metadata": {}}))
    assert tracking.notebook_minutes(tmp_path) == {"a": 1.5}
    (tmp_path / "c.ipynb").write_text('{"metadata": {"pap')
    with pytest.raises(DataError, match=r"c\.ipynb: Unterminated string"):
        tracking.notebook_minutes(tmp_path)


# -- runs that span the cells of a notebook ----------------------------------------------------------------------------

BEGINS = "from reviosa_core.report import tracking\nrun = tracking.begin('evaluate', parent='group')"


def test_a_begun_run_lasts_until_it_is_finished(store: Path):
    run = tracking.begin("evaluate", parent="group")
    assert runs(store)["evaluate"].info.status == "RUNNING"
    time.sleep(0.2)
    run.log({"loss": 1.0})
    run.finish()
    run.finish()  # the cell again
    run.log({"loss": 2.0})  # too late, and no new run
    stored = runs(store)
    assert sorted(stored) == ["evaluate", "group"] and stored["evaluate"].data.metrics == {"loss": 1.0}
    mine, above = stored["evaluate"].info, stored["group"].info
    assert mine.status == above.status == "FINISHED" and mine.end_time - mine.start_time >= 200
    assert above.start_time <= mine.start_time and above.end_time >= mine.end_time


def test_a_parent_ends_as_and_when_its_last_child_does(store: Path):
    with tracking.run("train a", parent="group"):
        pass
    first = runs(store)["group"].info
    with pytest.raises(ZeroDivisionError), tracking.run("train b", parent="group"):
        _ = 1 / 0
    stored = runs(store)
    assert stored["group"].info.end_time >= stored["train b"].info.end_time > first.end_time
    assert (first.status, stored["group"].info.status) == ("FINISHED", "FAILED")


def test_a_notebook_run_again_from_its_top_leaves_no_open_run(store: Path):
    first, second = tracking.begin("evaluate"), tracking.begin("evaluate")
    first.finish()  # of the older cell's name: the second run is not ended by it
    client = MlflowClient()
    assert client.get_run(first.id).info.status == "KILLED" and client.get_run(second.id).info.status == "RUNNING"
    second.finish()
    assert client.get_run(second.id).info.status == "FINISHED"


@pytest.mark.slow
def test_a_notebook_that_raises_is_a_failed_run(store: Path):
    """As a stage runs it: papermill ends the kernel, and MLflow's own exit would call the run FINISHED."""
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(text) for text in (BEGINS, "1 / 0")])
    nbformat.write(notebook, store / "evaluate.ipynb")
    command = [sys.executable, "-m", "papermill", "-k", "python3", "evaluate.ipynb", "out.ipynb"]
    done = subprocess.run(command, cwd=store, capture_output=True, text=True, check=False)
    assert done.returncode and "ZeroDivisionError" in done.stderr
    assert {name: run.info.status for name, run in runs(store).items()} == {"evaluate": "FAILED", "group": "FAILED"}


# -- a database that is locked -----------------------------------------------------------------------------------------


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """MLflow waits a tenth of a second for a locked file, not twenty."""

    def shorten(connection, cursor, statement: str, parameters, context, many):
        return statement.replace("busy_timeout = 20000", "busy_timeout = 100"), parameters

    monkeypatch.setattr(tracking, "LOCKED", 2)
    sqlalchemy.event.listen(sqlalchemy.Engine, "before_cursor_execute", shorten, retval=True)
    yield
    sqlalchemy.event.remove(sqlalchemy.Engine, "before_cursor_execute", shorten)


def test_a_locked_database_is_waited_for(store: Path, impatient: None, monkeypatch, capfd):
    """Somebody writes for longer than MLflow waits; another notebook, say."""
    monkeypatch.setattr(tracking, "LOCKED", 60)
    holder = sqlite3.connect(store / "mlflow.db", isolation_level=None, check_same_thread=False)
    with tracking.run("train") as run:
        holder.execute("begin exclusive")
        release = threading.Timer(1, holder.rollback)
        begun = time.monotonic()
        release.start()
        run.log({"loss": 1.0})
        assert time.monotonic() - begun >= 1
        release.join()
    holder.close()
    assert runs(store)["train"].data.metrics == {"loss": 1.0} and not capfd.readouterr().err


def test_a_database_that_stays_locked_costs_a_line_and_no_work(store: Path, impatient: None, capfd):
    holder = sqlite3.connect(store / "mlflow.db", isolation_level=None)
    with tracking.run("train") as run:
        holder.execute("begin exclusive")
        run.log({"loss": 1.0})
        run.log({"loss": 2.0})
    said = capfd.readouterr().err.splitlines()
    assert len(said) == 1 and "database is locked" in said[0] and said[0].endswith("the work goes on without it")
    tracking.keep_notebooks(Path("nowhere"), "tiny")
    holder.rollback()
    holder.close()


def test_a_database_that_is_locked_from_the_start(store: Path, impatient: None, monkeypatch, capfd):
    """MLflow has not opened it yet: what it raises then is SQLAlchemy's own error."""
    import mlflow.store.db.utils as database

    monkeypatch.setattr(database, "MAX_RETRY_COUNT", 1)
    monkeypatch.setattr(tracking, "LOCKED", 0)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{store / 'mlflow.db'}?timeout=0.1")
    holder = sqlite3.connect(store / "mlflow.db", isolation_level=None)
    holder.execute("begin exclusive")
    done = []
    for start in (lambda: tracking.run("train"), lambda: nullcontext(tracking.begin("evaluate"))):
        with start() as run:
            run.log({"loss": 1.0})
            done.append(run.id)
    said = capfd.readouterr().err.splitlines()
    holder.rollback()
    holder.close()
    assert done == [None, None]
    assert len(said) == 2 and all("database is locked" in line and "goes on without" in line for line in said)


@pytest.mark.slow
def test_notebooks_side_by_side_lose_nothing(store: Path):
    code = (
        "import sys\nfrom reviosa_core.report import tracking\n"
        "with tracking.run(sys.argv[1], parent='group') as run:\n"
        "    for step in range(100):\n        run.log({'loss': step, 'other': step}, step)\n"
    )
    started = [subprocess.Popen([sys.executable, "-c", code, f"run{i}"], stderr=subprocess.PIPE) for i in range(3)]
    assert [process.communicate(timeout=300)[1] for process in started] == [b"", b"", b""]
    client = MlflowClient(f"sqlite:///{store / 'mlflow.db'}")
    stored = runs(store)
    for number in range(3):
        assert len(client.get_metric_history(stored[f"run{number}"].info.run_id, "loss")) == 100


# -- what experts expect -----------------------------------------------------------------------------------------------


def test_the_experiment_says_how_to_read_it(store: Path):
    with tracking.run("train"):
        pass
    client = MlflowClient()
    (found,) = [e for e in client.search_experiments() if e.name == tracking.EXPERIMENT]
    assert found.tags["mlflow.experimentKind"] == "custom_model_development"
    assert "How to read this" in found.tags["mlflow.note.content"]
    client.set_experiment_tag(found.experiment_id, "mlflow.note.content", "mine")
    client.set_experiment_tag(found.experiment_id, "mlflow.experimentKind", "genai_development_inferred")
    with tracking.run("train"):
        pass
    tags = client.get_experiment(found.experiment_id).tags
    assert tags["mlflow.note.content"] == "mine" and tags["mlflow.experimentKind"] == "custom_model_development"


def test_inputs_that_are_data_are_datasets_with_dvcs_digest(store: Path):
    folder = store / "data" / "tiny" / "test"
    folder.mkdir(parents=True)
    (folder / "a.txt").write_text("a")
    elsewhere = store.parent / "b.txt"
    elsewhere.write_text("b")
    with tracking.run("evaluate", inputs={"data": folder, "data of mine": elsewhere, "model": folder}):
        pass
    run = runs(store)["evaluate"]
    assert {(i.dataset.name, i.dataset.digest, i.tags[0].value) for i in run.inputs.dataset_inputs} == {
        ("data/tiny/test", origin.md5(folder), "test"),
        (str(elsewhere), origin.md5(elsewhere), "b.txt"),
    }
    assert run.data.tags["md5.model"] == origin.md5(folder)
    with pytest.raises(FileNotFoundError), tracking.run("train", inputs={"data": store / "nowhere"}):
        pytest.fail("work was begun")
    assert runs(store)["train"].info.status == "FAILED"


def test_system_metrics_are_taken(store: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("MLFLOW_SYSTEM_METRICS_SAMPLING_INTERVAL", "0.1")
    with tracking.run("train") as run:
        time.sleep(1.5)
    assert "system/system_memory_usage_percentage" in MlflowClient().get_run(run.id).data.metrics
