"""Tables of rows as `metrics` describes them, from what `reviosa evaluate` wrote: .csv, .parquet, or scores (.json)."""

from __future__ import annotations

import csv
import io
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from reviosa_core.data import files, jsonfile
from reviosa_core.schema import DataError

TEXT = ("video", "expression", "role", "caption_type", "inverse")  # never numbers, and "NA" is a name as others are
NEEDED = ("video", "expression", "role", "caption_type", "is_interaction", "J", "F")
NONE = ["", "nan", "NaN"]  # of what is no text


def read(path: str | Path) -> pd.DataFrame:
    """The rows of one system. DataError, naming the file, for what is not such a table: columns that are missing, or
    hold something else than text, truth and scores in [0, 1]."""
    path = Path(path)
    try:
        if path.suffix == ".csv":
            table = _csv(files.text(path))
        elif path.suffix == ".parquet":
            table = pd.read_parquet(files.regular(path))
        else:
            table = _scores(jsonfile.read_json(path, nan=True))
    except DataError as error:
        raise DataError(str(error) if str(path) in str(error) else f"{path}: {error}") from None
    except (OSError, ValueError, TypeError) as error:
        raise DataError(f"{path}: no table of rows: {' '.join(str(error).split())}") from None
    _check(table, str(path))
    return table


def _csv(text: str) -> pd.DataFrame:
    columns = next(csv.reader(io.StringIO(text)), [])
    if len(set(columns)) < len(columns):
        raise DataError(f"its {len(columns)} columns have {len(set(columns))} different names")  # pandas renames them
    missing = {name: NONE for name in columns if name not in TEXT} | {"inverse": [""]}
    return pd.read_csv(
        io.StringIO(text), dtype=dict.fromkeys(TEXT, str), keep_default_na=False, na_values=missing, low_memory=False
    )


def _scores(stored: dict[str, Any]) -> pd.DataFrame:
    rows = stored.get("rows")
    if not isinstance(rows, dict) or {"columns", "data"} - rows.keys():
        raise DataError("holds no rows; compare what `reviosa evaluate` wrote, or tables of rows (.csv)")
    return pd.DataFrame(rows["data"], columns=rows["columns"])


def _check(table: pd.DataFrame, where: str) -> None:
    if (names := table.columns.nunique()) < len(table.columns):
        raise DataError(f"{where}: its {len(table.columns)} columns have {names} different names")
    missing = [name for name in NEEDED if name not in table]
    if missing:
        raise DataError(f"{where}: no columns {missing}, only {[str(name) for name in table.columns][:8]}")
    for name in ("video", "expression", "role", "caption_type"):
        found = next((value for value in table[name] if not isinstance(value, str) or not value), None)
        if found is not None:
            raise DataError(f"{where}: {name} {found!r} is not a text")
    if table["is_interaction"].dtype != bool and len(table):
        raise DataError(f"{where}: is_interaction is {table['is_interaction'].iloc[0]!r}, not True or False")
    for name in ("J", "F"):
        try:
            values = np.asarray(pd.to_numeric(table[name], errors="coerce"), np.float64)
        except (OverflowError, TypeError) as error:
            raise DataError(f"{where}: {name}: {error}") from None
        wrong = np.flatnonzero((np.isnan(values) & table[name].notna()) | (values < 0) | (values > 1))
        if len(wrong):
            row = table.iloc[wrong[0]]
            raise DataError(
                f"{where}: video {row['video']}, expression {row['expression']}: {name} is {row[name]}; a number from "
                "0 to 1 is due"
            )
