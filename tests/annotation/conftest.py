"""Five InterShapes clips with all that is known of them, and an endpoint that knows it, too."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import tiny
from running import Ran, run

from reviosa_core.config import Splits
from reviosa_core.intershapes.splits import write_split


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("world")
    made = tiny.data(128, 6, no_interaction=0.0).model_copy(
        update={"splits": Splits(train=1, val=5, dev=1, test=1, shift=1)}
    )
    write_split(made, "val", folder, seed=0, progress=False)
    return folder / "val"


@pytest.fixture
def annotate(world: Path, tmp_path: Path) -> Callable[..., Ran]:
    """`run`; `out` to go on from."""
    return lambda out=None, **more: run(world, out or tmp_path / "out", **more)


@pytest.fixture(scope="session")
def once(world: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a run without errors gives: look, don't touch."""
    return run(world, tmp_path_factory.mktemp("once") / "out").out
