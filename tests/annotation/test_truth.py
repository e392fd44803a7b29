"""Truth from a file, and events found against events there."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from reviosa_core.annotation import truth
from reviosa_core.annotation.records import Asked, Event
from reviosa_core.schema import DataError

ASKED = Asked(question="q", model="m", prompt="p", images="i")
THING = {"category": "dog", "look": "brown dog", "motion": "running"}


def event(predicate: str, agents: str, patients: str = "") -> Event:
    said = {"instruments": (), "symmetric": not patients, "first_frame": 0, "last_frame": 1, "confidence": 1.0}
    return Event(id="e", predicate=predicate, agents=tuple(agents), patients=tuple(patients), asked=ASKED, **said)


def known(*events: tuple) -> truth.Truth:
    happenings = [{"active": a, "passive": b, "agents": list(c), "patients": list(d)} for a, b, c, d in events]
    return truth.Truth.model_validate({"objects": dict.fromkeys("abc", THING), "events": happenings})


def test_read(tmp_path: Path):
    file = tmp_path / "truth.json"
    chase = {"active": "chasing", "passive": "being chased by", "agents": ["0"], "patients": ["1"]}
    file.write_text(json.dumps({"c": {"objects": {"0": THING, "1": THING}, "events": [chase]}}))
    found = truth.read(file)["c"]
    assert found.objects["0"].look == "brown dog" and found.events[0].participants == {"0", "1"}
    file.write_text(json.dumps({"c": {"objects": {"0": THING}, "events": [{"active": "chasing"}]}}))
    with pytest.raises(DataError, match=r"truth.json: clip c: events.0.passive: Field required; events.0.agents"):
        truth.read(file)
    file.write_text("[]")
    with pytest.raises(DataError, match="truth.json"):
        truth.read(file)


def test_compare_by_hand():
    there = {
        "x": known(("pushing", "being pushed by", "a", "b"), ("meeting", None, "ac", "")),
        "y": known(("pulling", "being pulled by", "a", "bc")),
        "z": known(),
    }
    found = {
        "x": [event("pushing", "b", "a"), event("pushing", "a", "b"), event("meeting", "ca")],  # once too often
        "y": [event("pulling", "a", "b")],  # not all of them
        "z": [event("pushing", "a", "b")],
        "elsewhere": [event("pushing", "a", "b")],
    }
    score = truth.compare(found, there)
    assert (score.found, score.there, score.right, score.directed, score.roles) == (5, 3, 2, 1, 0)
    assert (score.precision, score.recall, score.role_accuracy) == (2 / 5, 2 / 3, 0)
    nothing = truth.compare({}, there)
    assert nothing.recall == 0 and nothing.precision != nothing.precision, "undefined, not 0"
