"""Truth from a file, and events found against events there."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from reviosa_core.annotation import truth
from reviosa_core.annotation.answers import holds
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


@pytest.mark.parametrize(
    ("text", "subject", "object", "true"),
    [
        ("the man in hat and coat pulling the brown dog", "a", "b", True),
        ("the Man in hat and coat pulling the  dog", "a", "b", True),
        ("the dog being pulled by the man", "b", "a", True),
        ("the dog pulling the man", "b", "a", False),
        ("the man in hat and coat pulling the brown dog", "b", "a", False),
        ("the man pulling the coat", "a", "b", False),
        ("the man and the dog meeting", "ab", "", True),
        ("the dog and the man in hat and coat meeting", "ba", "", True),
        ("the man meeting", "a", "", False),
        ("the man in hat and coat walking", "a", "", True),
        ("the man in hat and coat running", "a", "", False),
        ("the dog running", "c", "", True),
        ("the dogs running", "bc", "", True),
        ("the dog watching another dog and the man", "b", "ca", True),
        ("the dog watching another dog", "b", "ca", False),
        ("the thing running", "x", "", False),
    ],
)
def test_what_holds(text: str, subject: str, object: str, true: bool):
    man = {"category": "man", "look": "man in hat and coat", "motion": "walking"}
    events = [
        {"active": "pulling", "passive": "being pulled by", "agents": ["a"], "patients": ["b"]},
        {"active": "meeting", "passive": None, "agents": ["a", "b"]},
        {"active": "watching", "passive": "being watched by", "agents": ["b"], "patients": ["a", "c"]},
    ]
    found = truth.Truth.model_validate({"objects": {"a": man, "b": THING, "c": THING}, "events": events})
    assert holds(found, text, tuple(subject), tuple(object)) is true
