from __future__ import annotations

from reviosa_core.report import pages


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
