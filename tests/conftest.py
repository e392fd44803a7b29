"""Shared fixtures. Everything a test needs beyond them it makes itself, in tmp_path."""

from __future__ import annotations

import os
from pathlib import Path

import matplotlib
import numpy as np
import pytest

matplotlib.use("Agg")

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="session")
def root() -> Path:
    """The project's root: where params.yaml lies."""
    return ROOT


@pytest.fixture(scope="session")
def shared() -> Path:
    """Real data that does not travel with the project: $REVIOSA_SHARED, else a folder `shared` beside the checkout."""
    path = Path(os.environ.get("REVIOSA_SHARED") or ROOT.parent / "shared")
    if not path.is_dir():
        pytest.skip("no shared data: set REVIOSA_SHARED to the folder that holds data/davis_interactions")
    return path


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)


@pytest.fixture(autouse=True)
def _fixed_torch(request: pytest.FixtureRequest) -> None:
    """The same numbers in every order of tests. Only where torch is imported: the others stay fast."""
    import sys

    if torch := sys.modules.get("torch"):
        torch.manual_seed(0)
        torch.set_num_threads(1)  # minute models: a second thread costs more than it gives


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: item.path.stem != "test_pipeline")  # the longest file first: two processes end together
    gpu = [item for item in items if item.get_closest_marker("gpu")]  # a keyword would be a folder's name, too
    if not gpu:
        return
    import torch

    if not torch.cuda.is_available():
        for item in gpu:
            item.add_marker(pytest.mark.skip(reason="no CUDA device"))
