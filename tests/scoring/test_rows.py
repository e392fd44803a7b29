"""Rows come back as they were written, whatever their ids look like to a spreadsheet."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from reviosa_core.schema import DataError
from reviosa_core.scoring import rows

IDS = ["NA", "null", "1e5", "nan", "007", "None", " a b ", '"quoted", with a comma', "TRUE"]


@pytest.fixture
def table() -> pd.DataFrame:
    """A row an id; the last has no inverse, and no J beside another's target."""
    count = len(IDS)
    return pd.DataFrame(
        {
            "video": IDS,
            "expression": IDS[::-1],
            "role": ["actor", "target"] * (count // 2) + ["actor"],
            "caption_type": "single",
            "is_interaction": [True] * (count - 1) + [False],
            "J": np.linspace(0, 1, count),
            "F": np.linspace(1, 0, count),
            "J_cross": [0.1] * (count - 1) + [np.nan],
            "inverse": pd.Series([*IDS[:-1], None], dtype=str),
        }
    )


@pytest.mark.parametrize("suffix", [".csv", ".parquet", ".json"])
def test_round_trip(table: pd.DataFrame, tmp_path: Path, suffix: str):
    path = tmp_path / f"rows{suffix}"
    if suffix == ".json":
        path.write_text(json.dumps({"rows": table.to_dict("split", index=False)}))
        assert "NaN" in path.read_text()
    else:
        table.to_csv(path, index=False) if suffix == ".csv" else table.to_parquet(path, index=False)
    pd.testing.assert_frame_equal(rows.read(path), table, check_dtype=suffix != ".json")


def test_a_table_with_a_mark(table: pd.DataFrame, tmp_path: Path):
    table.to_csv(tmp_path / "rows.csv", index=False, encoding="utf-8-sig")
    assert list(rows.read(tmp_path / "rows.csv").columns) == list(table.columns)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"rows": []}, "holds no rows"),
        ({"rows": {"columns": ["video"]}}, "holds no rows"),
        ({"rows": {"columns": ["video"], "data": [[1, 2]]}}, "no table of rows: 1 columns passed"),
        ({"rows": {"columns": ["video"], "data": 3}}, "no table of rows"),
        ({"rows": {"columns": ["video", "J"], "data": []}}, r"no columns \['expression', "),
        (
            {"rows": {"columns": list(rows.NEEDED), "data": [[3, "0", "actor", "single", True, 1, 1]]}},
            "video 3 is not a",
        ),
        (
            {"rows": {"columns": list(rows.NEEDED), "data": [["v", "0", "actor", "single", 1, 1, 1]]}},
            "not True or False",
        ),
    ],
)
def test_scores_without_rows(tmp_path: Path, content: dict, message: str):
    (tmp_path / "scores.json").write_text(json.dumps(content))
    with pytest.raises(DataError, match=f"scores.json: .*{message}"):
        rows.read(tmp_path / "scores.json")
