from __future__ import annotations

from reviosa_core.report import pages


def test_chance_is_not_all_that_a_system_has_to_be_better_than():
    wrong = {"value": 31.03, "interval": [19.5, 42.11], "n": 174}
    said = pages.by_one_frame({"text and first frame": {"role confusion": wrong}})
    assert "31.0 [19.5, 42.1] with text and first frame" in said and "](intershapes.md)" in said
    assert pages.by_one_frame({}) == "", "data of one's own"


def test_the_few_numbers_that_are_compared():
    """A row without the target role, one that was asked nothing, and none of the rest of what is measured."""
    found = {
        "baseline": {"InterRVOS-Actor": {"J&F": 22.0, "n": 3}, "InterRVOS-Target": None, "RVOS": {"J&F": 24.5, "n": 7}},
        "best": {"InterRVOS-Actor": {"J&F": None, "n": 0}, "InterRVOS-Target": {"J&F": 7.0}, "RVOS": {"J&F": 9.0}},
    }
    assert pages.summary(found | {"best": found["best"] | {"direction": {}}}) == {
        "baseline": {"InterRVOS-Actor": 22.0, "RVOS": 24.5},
        "best": {"InterRVOS-Target": 7.0, "RVOS": 9.0},
    }
