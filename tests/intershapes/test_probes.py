"""Blind predictors are at chance, and find a leak where there is one; controls change what they say they do."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import asdict, replace

import numpy as np
import pandas as pd
import pytest
import tiny

from reviosa_core import masks
from reviosa_core.intershapes import blind, controls, pairs, scenes, splits
from reviosa_core.schema import Clip, Prediction, Role
from reviosa_core.scoring import evaluate

CONFIG = tiny.data(32, 8)


def made(first: int, count: int) -> tuple[list[Clip], dict]:
    clips, side = [], {}
    for index in range(first, first + count):
        scene = scenes.make_scene(CONFIG, (3, 0, index))
        name = f"clip{index}"
        clips.append(splits.to_clip(scene, name))
        known = {
            "shapes": [asdict(s) for s in scene.shapes],
            "centres": scene.centres.astype(float).tolist(),
            "interactions": [asdict(e) for e in scene.interactions],
            "expressions": {str(i): splits._note(scene, u) for i, u in enumerate(scene.utterances)},
        }
        side[name] = json.loads(json.dumps(known))
    return clips, side


@pytest.fixture(scope="module")
def train() -> tuple[list[Clip], dict]:
    return made(0, 1000)


@pytest.fixture(scope="module")
def test() -> tuple[list[Clip], dict]:
    return made(1000, 800)


@pytest.fixture(scope="module")
def table(train, test) -> pd.DataFrame:
    return blind.blind_table(train, test, bootstrap=100, seed=0)


@pytest.mark.parametrize(
    ("verbs", "kinds", "found"),
    [
        (("chase", "catch"), ("ring", "star", "ring", "star"), 3),
        (("chase", "chase"), ("ring", "star", "ring", "star"), 0),  # the same words: nothing is said of either
        (("chase", "push"), ("ring", "star", "ring", "star"), 0),
        (("follow", "catch"), ("ring", "star", "star", "ring"), 0),  # the names tell
    ],
)
def test_sentences_that_another_pair_nearly_fits_are_counted(verbs: tuple, kinds: tuple, found: int):
    shapes = [{"kind": kind, "color": color} for kind, color in zip(kinds, ("red", "blue", "red", "blue"), strict=True)]
    events = [{"verb": verb, "a": 2 * k, "b": 2 * k + 1} for k, verb in enumerate(verbs)]
    notes = [
        {"actor": [0], "target": [1], "level": "class"},
        {"actor": [3], "target": [2], "level": "class"},
        {"actor": [0], "target": [1], "level": "appearance"},
        {"actor": [0], "target": None, "level": "class"},
    ]
    clip = {"shapes": shapes, "interactions": events, "expressions": dict(enumerate(notes))}
    assert blind.alike({"clip": clip}) == (found, 3)


def test_every_blind_predictor_is_near_chance(table):
    made = table[table["against"]]
    first = made["predictor"] == "first mover acts, voice read"
    assert 35 < made[first]["accuracy"].item() < 48, "who is followed, chased or caught sets out first: it is said"
    for name, row in made[~first].iterrows():
        spread = 3 * 50 / np.sqrt(row["n"] / 2)  # an active and its passive are one draw
        assert abs(row["accuracy"] - row["chance"]) < max(spread, 4), (name, row.to_dict())
        assert row["n"] > 150 and row["interval"][0] <= row["accuracy"] <= row["interval"][1]


def test_what_was_not_made_against_a_predictor_is_said(table):
    """One frame gives something away where it is not shared: these also show that the predictors are able to learn."""
    given = table[~table["against"]].set_index("predictor")
    least = {"text and first frame": 8, "text and last frame": 20}
    least |= {"nearest pair, last frame": 10, "gap and place, first frame": 15}
    assert (given["accuracy"] - given["chance"] > pd.Series(least)).all() and set(given.index) == set(least)


def test_what_was_made_against_a_predictor_and_what_was_not_are_all_there_is(table, test):
    for name in blind.ONE_FRAME:
        both = table[table["predictor"] == name].set_index("against")
        assert both["n"].sum() == table[table["sentences"] == "same names"]["n"].max() and (both["n"] > 150).all()
        sides = [blind.SENTENCES[both.loc[against, "sentences"]] for against in (True, False)]
        found = Counter((q.cue == "motion", *(side(q) for side in sides)) for q in blind.questions(*test))
        assert set(found) == {(False, False, False), (True, True, False), (True, False, True)}


def test_what_one_frame_gives_away_in_all(train, test):
    """Of all sentences with one name, the shares of both kinds; and as what a system's role confusion is given as."""
    (clips, side), few = test, ([], {})
    found = blind.frame_table(train, {"test": test, "few": few}, bootstrap=50, seed=0)
    again = blind.frame_table(train, {"test": test}, bootstrap=50, seed=0)
    assert list(found["split"]) == ["test", "test", "few", "few"] and found[found["split"] == "test"].equals(again)
    asked = [q for q in blind.questions(clips, side) if q.cue == "motion"]
    assert (again["n"] == len(asked)).all() and (again["accuracy"] > 53).all()
    wrong = blind.confusion(found)
    assert set(wrong) == {"test"} and set(wrong["test"]) == set(blind.ONE_FRAME), "no sentence, no number"
    for row in again.to_dict("records"):
        own = wrong["test"][row["predictor"]]["role confusion"]
        assert own["value"] + row["accuracy"] == pytest.approx(100) and own["n"] == row["n"]
        assert own["interval"] == pytest.approx([100 - row["interval"][1], 100 - row["interval"][0]])


def random_pairs(count: int, seed: int, gap_tells: bool) -> list[pairs.Pairs]:
    """Four objects anywhere, of which a pair interacts: any, or the one whose gap is nearest to 0.2."""
    rng, found = np.random.default_rng(seed), []
    for k in range(count):
        clip = {"centres": rng.random((4, 1, 2)), "shapes": [{"radius": 0.05}] * 4, "interactions": [{"a": 0, "b": 1}]}
        (own,) = pairs.read({str(k): clip})
        due = int(np.argmin(np.abs(np.array(own.gaps(0)) - 0.2)) if gap_tells else rng.integers(6))
        found.append(replace(own, interacts=[i == due for i in range(6)]))
    return found


@pytest.mark.parametrize("gap_tells", [True, False])
def test_who_takes_part_is_learned_where_something_tells(gap_tells: bool):
    known, asked = random_pairs(300, 1, gap_tells), random_pairs(300, 2, gap_tells)
    assert pairs.chance(asked) == pytest.approx(100 / 6)
    picks = pairs.likeliest(known, asked, seed=0)
    right = 100 * pairs.picked(asked, picks)["right"].mean()
    assert right > 60 if gap_tells else abs(right - 100 / 6) < 3 * 100 * np.sqrt(5 / 36 / 300), right
    assert picks == pairs.likeliest(known, asked, seed=0)
    assert pairs.likeliest([], asked, seed=0) == [0] * 300 and np.isnan(pairs.chance([]))


def test_the_fitted_pair_is_not_asked_about_clips_it_learned_from(train, test):
    """The side file knows every clip of a split, of which the fitted one sees a half."""
    side = train[1] | test[1]
    found = blind.blind_table((train[0], side), (test[0], side), bootstrap=0, seed=0).set_index("predictor")
    assert found.loc["gap and place, first frame", "n"] == len(pairs.read(test[1]))


def test_too_few_clips_give_no_number(test):
    clips, side = test
    few = blind.blind_table((clips[:2], side), ([], {}), bootstrap=10, seed=0)
    assert few["accuracy"].isna().all() and (few["n"] == 0).all() and len(few) == 14


def test_a_leak_would_be_found(train, test):
    """Without this, predictors too weak for anything would pass for honesty: the first frame leans to the roles."""
    leaky = []
    for clips, side in (train, test):
        side = json.loads(json.dumps(side))
        for known in side.values():
            for event in known["interactions"]:
                a, b = (known["centres"][event[k]][0] for k in ("a", "b"))
                if a[0] > b[0]:  # the agent starts on the left
                    a[:], b[:] = b[:], a[:]
        leaky.append((clips, side))
    found = blind.blind_table(*leaky, bootstrap=0, seed=0)
    found = found[found["against"]].set_index("predictor")
    assert found.loc["text and first frame", "accuracy"] > 58


def test_one_frame_tells_where_it_is_not_shared(train, test):
    """The reason for sharing frames: with last frames that differ by role, a predictor that sees one does well."""
    asked, known = (
        [q for q in blind.questions(*part) if q.cue == "motion" and q.anchor == "start"] for part in (test, train)
    )
    _, guess = blind.BLIND["text and last frame"]
    right = guess(known, asked, 0) == np.array([q.low_is_actor for q in asked])
    assert right.mean() > 0.7


# --- controls ---------------------------------------------------------------------------------------------------------


def test_reversed_time_moves_masks_with_frames(test):
    clips, side = test
    (changed,) = controls.controlled(clips[:1], side, "reversed time", 0)
    clip = clips[0]
    assert [e.id for e in changed.expressions] == [e.id for e in clip.expressions if e.is_interaction]
    for i in range(len(clip)):
        assert (np.asarray(changed.frames[i]) == clip.frames[len(clip) - 1 - i]).all()
    for e in changed.expressions:
        assert (masks.union(changed, e.actor) == masks.union(clip, e.actor)[::-1]).all()


def test_shuffled_frames_are_the_same_frames(test):
    clips, side = test
    (changed,) = controls.controlled(clips[:1], side, "shuffled frames", 0)
    assert sorted(f.tobytes() for f in changed.frames) == sorted(np.asarray(f).tobytes() for f in clips[0].frames)


def test_wrong_names_name_others(test):
    clips, side = test
    original = {(c.id, e.id): e for c in clips for e in c.expressions}
    changed = [(c, e) for c in controls.controlled(clips, side, "wrong names", 0) for e in c.expressions]
    assert len(changed) > 100
    for clip, e in changed:
        known, before = side[clip.id], original[clip.id, e.id]
        note = known["expressions"][e.id]
        assert e.text != before.text and (e.actor, e.target) == (before.actor, before.target)
        words = e.text.split()
        for phrase in note["phrases"]:
            own = [known["shapes"][k] for k in phrase["objects"]]
            said = words[phrase["start"] + 1 : phrase["stop"]]
            assert all(said != [s["color"], s["kind"]][-len(said) :] for s in own), (before.text, e.text)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("the red star pushing the ring", "the red star being pushed by the ring"),
        ("the star being caught by another star", "the star catching another star"),
        ("the star following the ring", "the star leading the ring"),
        ("the star being led by the ring", "the star being followed by the ring"),
    ],
)
def test_the_opposite_verb_turns_the_roles(test, before, after):
    clips, side = test
    clip = next(c for c in clips if any(e.is_interaction for e in c.expressions))
    expression = next(e for e in clip.expressions if e.is_interaction)
    asked = Clip(
        clip.id, clip.frames, clip.frame_names, clip.size,
        (type(expression)(expression.id, before, "unidirectional", expression.actor, expression.target),), clip.masks,
    )  # fmt: skip
    (changed,) = controls.controlled([asked], side, "opposite verb", 0)
    assert [e.text for e in changed.expressions] == [after]


def test_no_by(test):
    clips, side = test
    texts = [e.text for c in controls.controlled(clips[:50], side, 'passive without "by"', 0) for e in c.expressions]
    assert texts and all("being" in t and " by " not in t for t in texts)


@pytest.mark.parametrize("prefix", ["", "7"])
def test_right_pair_knows_its_pair(test, prefix):
    """Whatever the masks are called: on disk their keys are numbers of the whole folder."""
    clips, side = test
    named = lambda keys: keys and tuple(prefix + k for k in keys)  # noqa: E731
    clips = [
        replace(
            c,
            masks={prefix + k: rles for k, rles in c.masks.items()},
            expressions=tuple(replace(e, actor=named(e.actor), target=named(e.target)) for e in c.expressions),
        )
        for c in clips[:200]
    ]
    two = [c for c in clips if len(side[c.id]["interactions"]) == 2][:10]
    empty = {c.id: np.zeros((len(c), *c.size), dtype=bool) for c in two}

    def answers(clip: Clip, other: bool) -> list[Prediction]:
        pairs = [{e["a"], e["b"]} for e in side[clip.id]["interactions"]]
        found = []
        for e in clip.expressions:
            about = {int(k[len(prefix) :]) for k in (*e.actor, *(e.target or ()))}
            shown = next((pairs[1 - i] if other else pair for i, pair in enumerate(pairs) if pair == about), about)
            keys = sorted(prefix + str(k) for k in shown)
            found.append(
                Prediction(
                    clip.id, e.id, {Role.ACTOR: masks.union(clip, keys[:1]), Role.TARGET: masks.union(clip, keys[1:])}
                )
            )
        return found

    own = controls.right_pair(two, side, [answers(c, False) for c in two])
    assert len(own) >= 10 and own["right"].all()
    assert not controls.right_pair(two, side, [answers(c, True) for c in two])["right"].any()
    silent = [[Prediction(c.id, e.id, {Role.ACTOR: empty[c.id]}) for e in c.expressions] for c in two]
    assert not controls.right_pair(two, side, silent)["right"].any()


# -- oracles -----------------------------------------------------------------------------------------------------------


def test_who_knows_every_place_knows_who_acts_whatever_the_order(train, test):
    found = blind.order_table(train[1], test[1], bootstrap=20, seed=0).set_index("frames")
    assert list(found.index) == ["in order", "shuffled"]
    assert found.loc["in order", "accuracy"] > 97 and found.loc["shuffled", "accuracy"] > 90
    events = [event for clip in test[1].values() for event in clip["interactions"] if event["directed"]]
    assert (found["n"] == 2 * len(events)).all()


def test_shuffled_places_are_the_same_in_another_order(test):
    side, rng = dict(list(test[1].items())[:40]), np.random.default_rng(0)
    order, shuffled = (np.array(blind._places(side, blind.ORDERS[name], rng)[1]) for name in blind.ORDERS)
    places = slice(0, 2 * len(next(iter(side.values()))["centres"][0]))  # x and y of the first object, frame by frame
    assert len(order) > 10 and not np.array_equal(order[:, places], shuffled[:, places])
    np.testing.assert_allclose(np.sort(order[:, places][:, ::2]), np.sort(shuffled[:, places][:, ::2]))


def test_whose_places_are_of_another_clip_does_not(train, test):
    strangers = list(test[1].values())
    moved = {video: {**clip, "centres": None} for video, clip in test[1].items()}
    for video, clip, other in zip(moved, strangers, strangers[1:] + strangers[:1], strict=True):
        count, places = len(clip["centres"]), other["centres"]
        moved[video]["centres"] = [places[k % len(places)] for k in range(count)]
    found = blind.order_table(train[1], moved, bootstrap=0, seed=0).set_index("frames")
    assert abs(found.loc["in order", "accuracy"] - 50) < 8


def test_what_other_frames_cost_where_nobody_has_to_watch():
    """Beside the controls of the frames, and the unchanged clips, stands the score of sentences by looks alone."""
    clips, side = made(0, 2)
    notes = pd.DataFrame(
        [
            {"video": c.id, "expression": e.id, "cue": side[c.id]["expressions"][e.id]["cue"]}
            | {"kind": controls.LOOKS if not i else "active"}
            for c in clips
            for i, e in enumerate(c.expressions)
        ]
    )

    class First:
        """Leaves everything where it is in the first frame."""

        roles = (Role.ACTOR, Role.TARGET)

        def segment(self, clip, expressions=None):
            drawn = {e.id: masks.by_role(clip, e) for e in (clip.expressions if expressions is None else expressions)}
            still = {i: {r: np.repeat(m[:1], len(m), 0) for r, m in found.items()} for i, found in drawn.items()}
            return [Prediction(clip.id, i, found) for i, found in still.items()]

    answered = evaluate.evaluate(First(), clips, progress=False).merge(notes, on=["video", "expression"])
    found = controls.measured(First(), clips, side, notes, answered, 0, 0)
    looks = {name: own["looks"] and own["looks"]["n"] for name, own in found.items()}
    assert looks == {name: 2 if name in ("unchanged", *controls.FRAMES) else None for name in found}
    assert found["unchanged"]["looks"]["J&F"] < 100


def test_one_frame_is_read_with_the_verb_and_every_voice():
    """Who is further left does it; said in the active, the passive, and of who is followed."""
    said = {"following": False, "being followed by": True, "leading": True, "being led by": False, "pushing": False}
    rng = np.random.default_rng(0)

    def ask(number: int) -> blind.Question:
        words = list(said)[number % len(said)]
        places = rng.random((2, 2))
        left = int(places[1, 0] < places[0, 0])
        shapes = [{"color": "red", "kind": "star", "radius": 0.1, "angle": 0.0}] * 2
        clip = {"centres": places[:, None].tolist(), "shapes": shapes}
        subject = 1 - left if said[words] else left
        verb = "push" if words == "pushing" else "follow"
        return blind.Question(
            str(number), clip, f"the star {words} another star", "motion", verb, "start", 0, 1, not subject
        )

    asked = [ask(number) for number in range(600)]
    assert [q.passive for q in asked[:5]] == list(said.values())
    right = blind._placed(0)(asked[:400], asked[400:], 0) == np.array([q.low_is_actor for q in asked[400:]])
    assert right.mean() > 0.95
    once = blind._placed(0)(asked[:400], asked[400:], 0)
    turned = [replace(q, low=q.high, high=q.low) for q in asked[400:]]
    assert (blind._placed(0)(asked[:400], turned, 0) != once).mean() > 0.99, "the other one first: the other answer"
