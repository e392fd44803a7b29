"""Events that are no pair: chains, one to many, many to one, mutual ones; and what no event is."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import pytest
from running import SETTINGS

from reviosa_core.annotation import interactions, pipeline, sources, truth
from reviosa_core.annotation.dataset import ROLES
from reviosa_core.annotation.endpoint import Endpoint
from reviosa_core.annotation.events import check_event
from reviosa_core.annotation.records import Asked, Event, Object, read_lines
from reviosa_core.annotation.server import Server
from reviosa_core.data import interrvos
from reviosa_core.data.verify import verify

ASKED = Asked(question="q", model="m", prompt="p", images="i")
SAID = {"predicate": "pulling", "instruments": (), "symmetric": False, "first_frame": 0, "last_frame": 3}


def event(agents: str, patients: str, **said) -> Event:
    rest = SAID | {"id": "e0", "confidence": 0.5, "asked": ASKED} | said
    return Event(agents=tuple(agents), patients=tuple(patients), **rest)


@pytest.mark.parametrize(
    ("agents", "patients", "more", "said"),
    [
        ("", "b", {}, "0 agents and 1 patients"),
        ("a", "", {}, "1 agents and 0 patients"),
        ("ab", "b", {}, "an object has two parts"),
        ("a", "b", {"instruments": ("a",)}, "an object has two parts"),
        ("aa", "b", {}, "an object has two parts"),
        ("a", "", {"symmetric": True}, "all who take part are agents"),
        ("ab", "c", {"symmetric": True}, "all who take part are agents"),
        ("a", "b", {"first_frame": 5}, "from frame 5 to frame 3"),
        ("a", "b", {"predicate": " "}, "event 0, predicate: the text is empty"),
        ("a", "b", {"predicate": "pulling object 2"}, "by its number"),
    ],
)
def test_what_is_no_event(agents: str, patients: str, more: dict, said: str):
    with pytest.raises(ValueError, match=said):
        check_event(SimpleNamespace(**(SAID | {"agents": agents, "patients": patients} | more)), "event 0", 5)


@pytest.mark.parametrize("event", [event("a", "bc"), event("ab", "c"), event("ab", "", symmetric=True)])
def test_what_is_one(event: Event):
    check_event(event, "event 0", 5)


def test_who_is_subject_and_who_is_object():
    directed = {(w.voice, w.level): (w.subject, w.object) for w in interactions.wanted(event("a", "bc"))}
    assert directed[("active", "class")] == (("a",), ("b", "c")) and len(directed) == 4
    assert directed[("passive", "appearance")] == (("b", "c"), ("a",)), "the paper's actor is the subject"
    mutual = interactions.wanted(event("abc", "", symmetric=True))
    assert [(w.voice, w.level, w.subject, w.object) for w in mutual] == [
        ("mutual", "class", ("a", "b", "c"), ()),
        ("mutual", "appearance", ("a", "b", "c"), ()),
    ]


@pytest.mark.parametrize(
    ("name", "due"),
    [
        ("an old man", "the old man"),
        ("A brown dog", "the brown dog"),
        ("The dog", "the dog"),
        ("theatre", "the theatre"),
        ("a", "the a"),
    ],
)
def test_a_name_has_one_article(name: str, due: str):
    objects = {id: Object(id=id, category=name, look=name, motion="running", asked=ASKED) for id in "ab"}
    for one in interactions.wanted(event("a", "b")):
        assert interactions.naming(one, objects) == (due, due.replace("the ", "another ", 1))


def test_who_is_called_alike_is_another():
    looks = {"a": "brown dog", "b": "black dog", "c": "white cat"}
    objects = {
        id: Object(id=id, category=look.split()[1], look=look, motion="running", asked=ASKED)
        for id, look in looks.items()
    }
    by_class, by_look, *_ = interactions.wanted(event("a", "bc"))
    assert interactions.naming(by_class, objects) == ("the dog", "another dog and the cat")
    assert interactions.naming(by_look, objects) == ("the brown dog", "the black dog and the white cat")


def test_a_chain_and_one_to_many_come_through_whole(world: Path, tmp_path: Path):
    """The truth by hand: a pulls b, b pulls c (a chain); a watches b and c; a and c dance."""
    known = truth.of_intershapes(world)
    by_look = {s.clip.id: {o.look: key for key, o in known[s.clip.id].objects.items()} for s in sources.read(world)}
    source = next(s for s in sources.read(world) if len(by_look[s.clip.id]) > 2)
    look = {key: name for name, key in list(by_look[source.clip.id].items())[:3]}
    a, b, c = look  # three objects with names of their own
    events = [
        {"active": "pulling", "passive": "being pulled by", "agents": [a], "patients": [b]},
        {"active": "pulling", "passive": "being pulled by", "agents": [b], "patients": [c]},
        {"active": "watching", "passive": "being watched by", "agents": [a], "patients": [b, c]},
        {"active": "dancing with each other", "passive": None, "agents": [a, c], "patients": []},
    ]
    file = tmp_path / "truth.json"
    file.write_text(json.dumps({source.clip.id: known[source.clip.id].model_dump(mode="json") | {"events": events}}))
    truths, out = truth.read(file), tmp_path / "out"
    with Server([source.clip], truths) as server, Endpoint(server.url, "m", pipeline.work(out) / "answers") as endpoint:
        pipeline.Pipeline([source], out, endpoint, SETTINGS, progress=False).run()
    lines = read_lines(pipeline.stage_file(out, "events"), pipeline.KINDS["events"])
    score = truth.compare({id: line.items for id, line in lines.items()}, truths)
    assert (score.right, score.there, score.found, score.directed, score.roles) == (4, 4, 4, 3, 3)
    assert not verify(out, progress=False)["problems"]
    roles = json.loads((out / ROLES).read_text())[source.clip.id]
    (clip,) = interrvos.read(out)
    number = {e.text: (e.caption_type, len(e.actor), len(e.target or ())) for e in clip.expressions}
    assert number[f"the {look[a]} watching the {look[b]} and the {look[c]}"] == ("unidirectional", 1, 2)
    assert number[f"the {look[b]} and the {look[c]} being watched by the {look[a]}"] == ("unidirectional", 2, 1)
    assert number[f"the {look[a]} and the {look[c]} dancing with each other"] == ("bidirectional", 2, 0)
    due = [(e, "active", "appearance") for e in ("e0", "e1")]
    pulled = [r for r in roles.values() if (r["event"], r["voice"], r["level"]) in due]
    assert {(tuple(r["agents"]), tuple(r["patients"])) for r in pulled} == {((a,), (b,)), ((b,), (c,))}
