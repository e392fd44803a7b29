"""Every row of every table of bad input: one line that says what is wrong, nothing written, no traceback."""

from __future__ import annotations

import importlib
import json
import re
from pathlib import Path

import pytest
from bad_input import Row, dataset, predictions
from typer.testing import CliRunner

from reviosa_core.cli.app import app

TABLES = sorted(path.stem for path in Path(__file__).parent.glob("rows_*.py"))
ROWS = [row for table in TABLES for row in importlib.import_module(table).ROWS]


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.what.replace(" ", "-"))
def test_one_line_says_what_is_wrong(row: Row, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)  # where a command writes by default
    words = [str(word) for word in row.make(tmp_path)]
    before = sorted(tmp_path.rglob("*"))
    result = CliRunner().invoke(app, words)
    assert result.exit_code == row.code, f"{result.output}\n{result.exception!r}"
    lines = [line for line in result.stderr.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1 and re.search(row.line, lines[0]), result.stderr
    assert "Traceback" not in result.output
    assert sorted(tmp_path.rglob("*")) == before, "something was written"


def test_rows_have_names_of_their_own():
    assert len({row.what for row in ROWS}) == len(ROWS)


def test_what_the_rows_spoil_is_right(tmp_path: Path):
    """Otherwise a row could fail for another reason than its own."""
    (tmp_path / "data").mkdir()
    data, file = dataset(tmp_path / "data"), predictions(tmp_path / "right.json")
    result = CliRunner().invoke(
        app, ["evaluate", "--data", str(data), "--predictions", str(file), "--out", str(tmp_path / "out.json")]
    )
    assert result.exit_code == 0, result.output
    scores = json.loads((tmp_path / "out.json").read_text())
    assert all(scores[s]["J&F"] == 100 for s in ("InterRVOS-Actor", "InterRVOS-Target", "RVOS"))
    assert CliRunner().invoke(app, ["data", "verify", str(data), "--out", str(tmp_path / "v.json")]).exit_code == 0
