"""N-acc and T-acc of each role on rows whose answers are known by construction."""

from __future__ import annotations

import pandas as pd
import pytest

from reviosa_core.scoring import existence

T = 3


def rows(video: str, expression: str, actor: tuple[int, bool], target: tuple[int, bool] | None) -> list[dict]:
    """Of each role the frames in which something is due, and whether anything is drawn."""
    roles = {"actor": actor} | ({} if target is None else {"target": target})
    return [
        {"video": video, "expression": expression, "role": role, "present": present, "emitted": emitted}
        for role, (present, emitted) in roles.items()
    ]


def table(*said: list[dict]) -> pd.DataFrame:
    return pd.DataFrame([row for sentence in said for row in sentence])


SOMETHING = (
    rows("a", "0", (T, True), (T, True)),  # an interaction
    rows("a", "1", (T, True), (1, False)),  # an interaction whose target is missed
    rows("a", "2", (T, True), (0, False)),  # its partner is not there
    rows("b", "0", (T, False), (0, True)),  # one object, missed; a target for no reason
)


def test_each_role_counts_its_own():
    said = (*SOMETHING, rows("b", "1", (0, True), (0, False)), rows("c", "0", (0, False), (0, False)))
    found = existence.by_role(table(*said), 50, 0)
    assert {name: (score["value"], score["n"]) for name, score in found.items()} == {
        "N-acc actor": (50, 2),
        "T-acc actor": (75, 4),
        "N-acc target": (75, 4),
        "T-acc target": (50, 2),
    }
    low, high = found["N-acc actor"]["interval"]
    assert low == 0 and high == 100, "over videos"


def test_where_no_sentence_is_about_nothing_there_is_nothing_to_say():
    assert existence.by_role(table(*SOMETHING), 50, 0) == {}


def test_a_system_without_targets_and_a_split_without_actors():
    alone = existence.by_role(table(rows("a", "0", (0, False), None)), 50, 0)
    assert alone["N-acc actor"]["value"] == 100 and alone["N-acc actor"]["n"] == 1
    assert [alone[name] for name in ("T-acc actor", "N-acc target", "T-acc target")] == [None] * 3


def test_silence_and_noise_have_all_of_one_and_none_of_the_other():
    for emitted in (False, True):
        drawn = [
            [row | {"emitted": emitted} for row in own] for own in (*SOMETHING, rows("b", "1", (0, True), (0, True)))
        ]
        found = existence.by_role(table(*drawn), 0, 0)
        for role in ("actor", "target"):
            assert found[f"N-acc {role}"]["value"] == pytest.approx(0 if emitted else 100)
            assert found[f"T-acc {role}"]["value"] == pytest.approx(100 if emitted else 0)


def test_silence_by_a_prediction_that_is_missing_is_not_right():
    said = table(*SOMETHING, rows("b", "1", (0, False), (0, False)), rows("c", "0", (0, False), (0, False)))
    assert existence.by_role(said, 0, 0)["N-acc actor"]["value"] == 100
    gone = said.assign(missing=said["video"] == "c")
    assert existence.by_role(gone, 0, 0)["N-acc actor"]["value"] == 50
