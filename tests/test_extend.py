"""docs/extend.md does what it says: every diff applies to a copy of the project, and its commands pass."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest
from checkout import copied

pytestmark = pytest.mark.slow
PAGE = Path(__file__).parents[1] / "docs" / "extend.md"
NEEDED = ("reviosa_core/", "tests/", "notebooks/", "baselines/", ".dvc", "dvc.yaml", "params.yaml", "pyproject.toml")
FEW = 45  # lines that one adds, those of tests included


class Section(NamedTuple):
    title: str
    diff: str
    commands: str


def sections() -> list[Section]:
    found = []
    for part in re.split(r"^## ", PAGE.read_text(), flags=re.MULTILINE)[1:]:
        (diff,), (commands,) = (re.findall(rf"^```{kind}\n(.*?)^```$", part, re.M | re.S) for kind in ("diff", "sh"))
        found.append(Section(part.partition("\n")[0], diff, commands))
    return found


def test_all_six_are_there_and_small():
    titles = ["A system", "A loss", "A metric", "A dataset", "A verb of InterShapes", "A stage"]
    assert [section.title for section in sections()] == titles
    added = {s.title: len(re.findall(r"^\+(?!\+\+)", s.diff, re.M)) for s in sections()}
    assert max(added.values()) <= FEW, added


@pytest.mark.parametrize("section", sections(), ids=lambda s: s.title)
def test_each_applies_and_works(section: Section, root: Path, tmp_path: Path):
    copied(root, tmp_path, lambda name: name.startswith(NEEDED))
    (tmp_path / "docs").mkdir()  # which a command writes to
    params = tmp_path / "params.yaml"
    params.write_text(re.sub(r"(?m)^profile: \w+", "profile: smoke", params.read_text()))
    subprocess.run(["git", "apply", "-"], cwd=tmp_path, input=section.diff, text=True, check=True)
    clean = {key: value for key, value in os.environ.items() if not key.startswith(("DVC_", "MLFLOW_", "PYTEST_"))}
    env = clean | {
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": str(tmp_path),
        "DVC_NO_ANALYTICS": "1",
        "MLFLOW_DISABLE_TELEMETRY": "true",
    }
    done = subprocess.run(["sh", "-e"], cwd=tmp_path, env=env, input=section.commands, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
