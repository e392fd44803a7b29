"""The papers' numbers as typed in: three numbers of a row must agree with each other."""

from __future__ import annotations

from pathlib import Path

import pytest

from reviosa_core import config


def test_j_and_f_is_the_mean_of_j_and_f(root: Path):
    published, checked = config.read_yaml(root / "reports" / "published.yaml"), 0
    for rows in published["table 2"]["methods"].values():
        for j, f, both in (row for row in rows.values() if row):
            assert both == pytest.approx((j + f) / 2, abs=0.11)  # each is rounded
            checked += 1
    for j, f, both in published["table 4"]["experiments"].values():
        assert both == pytest.approx((j + f) / 2, abs=0.11)
        checked += 1
    for table in ("table 1", "table 2", "table 4", "table 5"):
        assert published["IFIRVOS"][table]["columns"] == ["J&F", "J", "F"]
        for both, j, f in published["IFIRVOS"][table]["methods"].values():
            if j is not None:
                assert both == pytest.approx((j + f) / 2, abs=0.11), table
                checked += 1
    assert checked == 18 + 4 + 24
    for row in published["IFIRVOS"]["table 3"]["methods"].values():
        assert len(row) == 8 and row[:5] == sorted(row[:5], reverse=True)  # precision falls with the threshold
