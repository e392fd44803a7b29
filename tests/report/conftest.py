"""A store of runs of one's own."""

from __future__ import annotations

import shutil
from pathlib import Path

import mlflow
import pytest
from mlflow import MlflowClient

from reviosa_core.report import store as where
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
    monkeypatch.delenv(where.SWITCH, raising=False)
    monkeypatch.setattr(tracking, "_answered", set())
    yield tmp_path
    mlflow.set_tracking_uri(None)
