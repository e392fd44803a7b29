"""Tables of scores: both ways to see a target, frames where there is something to find, and what is not supported."""

from __future__ import annotations

import numpy as np
import pytest

from reviosa_core.report import tables
from reviosa_core.scoring import metrics


def entry(value: float | None) -> dict:
    return {"value": value, "n": 8, "interval": None}


def setting(value: float) -> dict:
    return {"J": value, "F": value + 2, "J&F": value + 1, "J&F present": value - 30, "n": 8, "interval": [60.0, 80.25]}


SCORES = {name: setting(70.0) for name in metrics.SETTINGS}
DIRECTION = {name: entry(40.0 + i) for i, name in enumerate(metrics.DIRECTION)}


def cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip("|").split("|")]


def table(text: str) -> dict[str, dict[str, str]]:
    """Rows by their first cell."""
    head, _, *rows = (cells(line) for line in text.strip().splitlines())
    return {row[0]: dict(zip(head[1:], row[1:], strict=True)) for row in rows}


def test_scores_say_what_is_found_where_there_is_something():
    settings, direction = tables.scores(SCORES | {"InterRVOS-Target": None}, DIRECTION).split("\n\n")
    found = table(settings)
    assert found["RVOS"] == {"J": "70.0", "F": "72.0", "J&F": "71.0 [60.0, 80.2]", "J&F present": "40.0", "n": "8"}
    assert found["InterRVOS-Target"] == {"J": "–", "F": "–", "J&F": "role not supported", "J&F present": "–", "n": "0"}
    assert list(table(direction)) == list(metrics.DIRECTION)


def test_tokens_that_nobody_knows_are_left_out_of_scores():
    unknown = DIRECTION | dict.fromkeys((name for name in DIRECTION if name.endswith("by token")), None)
    text = tables.scores(SCORES, unknown)
    assert "by token" not in text and "detection F1" in text


@pytest.mark.parametrize("known", [True, False])
def test_transfer_and_roles_give_both_ways(known):
    direction = DIRECTION if known else DIRECTION | {"detection recall by token": None, "detection F1 by token": None}
    text = tables.transfer({"other": {"full": {**SCORES, "direction": direction}}})
    row = table(text)["other"]
    assert row["targets drawn"] == "47.0" and row["targets written"] == ("50.0" if known else "–")
    text = tables.roles({"direction": direction, "by subset": {"cue": {"motion": {"direction": direction}}}})
    row = table(text)["motion"]
    assert row["detection F1"] == "48.0" and row["detection F1 by token"] == ("51.0" if known else "–")


def test_what_the_rule_chooses_by_seed():
    """Another seed may choose another layer, and order them the other way round."""
    one = np.array([[0.1, 0.2], [0.5, 0.3], [0.7, 0.9]])
    found = tables.chosen_by_seed({0: one, 5: one[::-1] / 2}, heads=1)
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in found.splitlines()[-2:]]
    assert rows == [["0", "2", "1", "80.0", "+1.00"], ["5", "0", "1", "40.0", "-1.00"]]
