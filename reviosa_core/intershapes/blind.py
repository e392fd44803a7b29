"""Predictors that must fail: how far one gets on InterShapes without reading, or without watching.

Each is scored on the questions that were made against it, beside chance, and where it is of interest on the others;
`frame_table` says what one frame gives away in all. `order_table` asks what the order of frames is worth to somebody
who knows every place.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float
from sklearn.ensemble import HistGradientBoostingClassifier

from reviosa_core.intershapes import language, pairs, verbs, world
from reviosa_core.schema import Clip
from reviosa_core.scoring import intervals

Side = Mapping[str, Mapping[str, Any]]  # splits.read_side_file
AFTER = ("chase", "follow", "catch")  # verbs of one that goes after another

SAID = sorted(  # what is said of an event's subject, and whether that is the one who does it
    ((said, first) for verb in verbs.VERBS.values() for _, said, first in verb.voices()), key=lambda one: -len(one[0])
)

# --- blind predictors -------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Question:
    """A sentence about two objects: which is the grammatical subject? `low`, `high` are the two in number order."""

    video: str
    clip: Mapping[str, Any]
    text: str
    cue: str
    verb: str
    anchor: str
    low: int
    high: int
    low_is_actor: bool

    @property
    def passive(self) -> bool:
        """Whether it is done to the subject: "being pushed by", and "leading", who is followed."""
        return not next(first for said, first in SAID if f" {said} " in self.text)

    @property
    def paths(self) -> np.ndarray:
        """Centres of the two, [2 t 2]."""
        return np.array([self.clip["centres"][k] for k in (self.low, self.high)])


def questions(clips: Sequence[Clip], side: Side) -> list[Question]:
    """One for each sentence with an actor and a target."""
    found = []
    for clip in clips:
        known = side[clip.id]
        for expression in clip.expressions:
            note = known["expressions"][expression.id]
            if note["target"] is not None:
                (actor,), (target,) = note["actor"], note["target"]
                low, high = sorted((actor, target))
                anchor = next(i["anchor"] for i in known["interactions"] if {i["a"], i["b"]} == {actor, target})
                asked = (clip.id, known, expression.text, note["cue"], note["verb"], anchor, low, high, actor == low)
                found.append(Question(*asked))
    return found


def alike(side: Side) -> tuple[int, int]:
    """Sentences with a target whose names, in the same roles, also fit another pair of the clip that is at another of
    AFTER: a fine difference of motion tells which is meant. And all sentences with a target."""
    found = total = 0
    for clip in side.values():
        looks = [{"class": s["kind"], "appearance": f"{s['color']} {s['kind']}"} for s in clip["shapes"]]
        events = [e for e in clip["interactions"] if e["verb"] in AFTER]
        for note in clip["expressions"].values():
            if note["target"] is None:
                continue
            total += 1
            pair = {*note["actor"], *note["target"]}
            called = {e["verb"]: [looks[k][note["level"]] for k in (e["a"], e["b"])] for e in events}
            own = [e["verb"] for e in events if {e["a"], e["b"]} == pair]
            found += any(called[verb] == called[v] for v in own for verb in called if verb != v)
    return found, total


def _moves_first(q: Question) -> bool:
    """Whether the object of lower number sets out earlier; in one frame, whether it goes further in it."""
    steps = np.linalg.norm(np.diff(q.paths, axis=1), axis=2)  # [2 t-1]
    low, high = (int(np.argmax(s > 0.004)) if (s > 0.004).any() else len(s) for s in steps)
    return low < high if low != high else bool(steps[0, 0] > steps[1, 0])


Guess = Callable[[Sequence[Question], Sequence[Question], int], np.ndarray]  # train, test, seed -> low is the actor


def _rule(rule: Callable[[Question], bool]) -> Guess:
    return lambda train, test, seed: np.array([rule(q) for q in test])


def _learned(see: Callable[[Question], list[float]]) -> Guess:
    """What could be had from features, not what somebody thought of."""

    def guess(train: Sequence[Question], test: Sequence[Question], seed: int) -> np.ndarray:
        return _fitted([see(q) for q in train], [q.low_is_actor for q in train], [see(q) for q in test], seed) > 0.5

    return guess


def _placed(t: int) -> Guess:
    """What the text and one frame give away, read as `order_table` reads all of them: trees say which of the two does
    it, from the verb and the frame, asked with either one first; the voice says whether that is the subject."""

    def guess(train: Sequence[Question], test: Sequence[Question], seed: int) -> np.ndarray:
        see = lambda q, turned: [float(q.verb == name) for name in verbs.DIRECTED] + _frame(q, t, turned)  # noqa: E731
        asked = [(q, turned) for q in test for turned in (False, True)]
        known = [(q, turned) for q in train for turned in (False, True)]
        answers = [(q.low_is_actor != q.passive) != turned for q, turned in known]
        sure = _fitted([see(*one) for one in known], answers, [see(*one) for one in asked], seed).reshape(-1, 2)
        return (sure[:, 0] > sure[:, 1]) != np.array([q.passive for q in test], dtype=bool)

    return guess


def _fitted(
    known: Sequence[Sequence[float]], answers: Sequence[bool], asked: Sequence[Sequence[float]], seed: int
) -> Float[np.ndarray, " n"]:
    """How sure boosted trees are of yes, both answers weighing alike; wholly, where too little is known."""
    if not asked or len(set(answers)) < 2:
        return np.ones(len(asked))
    trees = HistGradientBoostingClassifier(max_iter=100, random_state=seed, class_weight="balanced")
    return trees.fit(known, answers).predict_proba(asked)[:, 1]


def _words(q: Question) -> list[float]:
    text = q.text.split()
    return [float(word in text) for word in language.vocabulary()]


def _frame(q: Question, t: int, turned: bool) -> list[float]:
    """The two objects' places, sizes and looks, and where the others are, in one frame; the higher one first where
    they are `turned`."""
    features = []
    everywhere = np.array(q.clip["centres"])[:, t]
    for k in (q.high, q.low) if turned else (q.low, q.high):
        shape, here = q.clip["shapes"][k], everywhere[k]
        others = np.delete(everywhere, [q.low, q.high], axis=0)
        crowd = np.linalg.norm(others - here, axis=1).min(initial=1.0)
        looks = (list(world.COLORS).index(shape["color"]), world.KINDS.index(shape["kind"]))
        features += [*here, shape["radius"], shape["angle"], crowd, np.abs(here - 0.5).max(), *looks]
    one, other = np.array(features, float).reshape(2, -1)
    return [*one, *other, *(one - other)]


SENTENCES: dict[str, Callable[[Question], bool]] = {
    "all": lambda q: True,
    "same names": lambda q: q.cue == "motion",
    "same names, first frame shared": lambda q: q.cue == "motion" and q.anchor == "start",
    "same names, last frame shared": lambda q: q.cue == "motion" and q.anchor == "end",
}
# Predictor -> the sentences made against it, and the predictor.
BLIND: dict[str, tuple[str, Guess]] = {
    "random": ("all", lambda train, test, seed: np.random.default_rng(seed).random(len(test)) < 0.5),
    "text only": ("same names", _learned(_words)),
    "text and first frame": ("same names, first frame shared", _placed(0)),
    "text and last frame": ("same names, last frame shared", _placed(-1)),
    "larger = actor": (
        "same names",
        _rule(lambda q: q.clip["shapes"][q.low]["radius"] > q.clip["shapes"][q.high]["radius"]),
    ),
    "larger acts, voice read": (
        "same names",
        _rule(lambda q: (q.clip["shapes"][q.low]["radius"] > q.clip["shapes"][q.high]["radius"]) != q.passive),
    ),
    "first mover = actor": ("all", _rule(_moves_first)),
    "first mover acts, voice read": ("all", _rule(lambda q: _moves_first(q) != q.passive)),
}
# One frame where it is not shared, so that the other one is: what it gives away, and that these predictors find it.
ONE_FRAME = {
    "text and first frame": ("same names, last frame shared", BLIND["text and first frame"][1]),
    "text and last frame": ("same names, first frame shared", BLIND["text and last frame"][1]),
}


def blind_table(
    train: tuple[Sequence[Clip], Side], test: tuple[Sequence[Clip], Side], bootstrap: int, seed: int
) -> pd.DataFrame:
    """Accuracy of every blind predictor in percent, with n, interval and chance.

    Columns: predictor, question, sentences, accuracy, interval, n, chance; and against, whether these sentences were
    made against the predictor, so that it should stay near chance. Who acts: of the two objects of a sentence,
    the grammatical subject. Who takes part: of all pairs of a clip with one interaction, the interacting one. Is the
    partner there: whether a sentence with two different names has a target. Is anything there: whether a sentence is
    about something, asked where some are not. Of these two accuracy is balanced.
    """
    asked, known = questions(*test), questions(*train)
    rows = []
    tried = [(True, *item) for item in BLIND.items()] + [(False, *item) for item in ONE_FRAME.items()]
    for against, name, (subset, guess) in tried:
        here, there = (list(filter(SENTENCES[subset], qs)) for qs in (asked, known))
        right = guess(there, here, seed) == np.array([q.low_is_actor for q in here])
        table = pd.DataFrame({"video": [q.video for q in here], "right": right})
        rows.append((against, name, "who acts?", subset, intervals.mean(table, "right", bootstrap, seed), 50.0))
    learnt, half = (pairs.read({clip.id: side[clip.id] for clip in part}) for part, side in (train, test))
    every = pairs.read(test[1])  # a rule needs no half to learn from
    for against, name, clips, picks in (
        (True, "nearest pair", every, pairs.nearest(every, 0)),
        (False, "nearest pair, last frame", every, pairs.nearest(every, -1)),
        (False, "gap and place, first frame", half, pairs.likeliest(learnt, half, seed)),
    ):
        score = intervals.mean(pairs.picked(clips, picks), "right", bootstrap, seed)
        rows.append((against, name, "who takes part?", "one pair", score, pairs.chance(clips)))
    told = [("is the partner there?", "two names", _two_names)]
    if any(e.is_about_nothing for clip in test[0] for e in clip.expressions):
        told.append(("is anything there?", "all", _any))
    for question, subset, sentences in told:
        there = intervals.mean(_by_words(sentences, train, test, seed), "right", bootstrap, seed)
        rows.append((True, "text only", question, subset, there, 50.0))
    return pd.DataFrame(
        [
            {
                "predictor": name,
                "question": question,
                "sentences": subset,
                "accuracy": score["value"],
                "interval": score["interval"],
                "n": score["n"],
                "chance": chance,
                "against": against,
            }
            for against, name, question, subset, score, chance in rows
        ]
    )


def frame_table(
    train: tuple[Sequence[Clip], Side], asked: Mapping[str, tuple[Sequence[Clip], Side]], bootstrap: int, seed: int
) -> pd.DataFrame:
    """What one frame and the text say of who acts, of objects that are called the same: of all of them, whichever frame
    is shared. Fitted on `train`, scored on each split of `asked`.

    Columns: split, predictor, question, sentences, accuracy in percent, interval, n, chance.
    """
    known, rows = list(filter(SENTENCES["same names"], questions(*train))), []
    for split, part in asked.items():
        here = list(filter(SENTENCES["same names"], questions(*part)))
        for name, (_, guess) in ONE_FRAME.items():
            right = guess(known, here, seed) == np.array([q.low_is_actor for q in here], dtype=bool)
            score = intervals.mean(
                pd.DataFrame({"video": [q.video for q in here], "right": right}), "right", bootstrap, seed
            )
            row = {"split": split, "predictor": name, "question": "who acts?", "sentences": f"same names, {split}"}
            rows.append(
                row | {"accuracy": score["value"], "interval": score["interval"], "n": score["n"], "chance": 50.0}
            )
    return pd.DataFrame(rows)


def confusion(table: pd.DataFrame) -> dict[str, dict[str, Any]]:
    """`frame_table` as a system's role confusion, the share that is wrong: by split and predictor."""
    found: dict[str, dict[str, Any]] = {}
    for row in table.to_dict("records"):
        if row["n"]:
            ends = [100 - end for end in reversed(row["interval"])] if row["interval"] else None
            wrong = {"value": 100 - row["accuracy"], "interval": ends, "n": row["n"]}
            found.setdefault(row["split"], {})[row["predictor"]] = {"role confusion": wrong}
    return found


Said = list[tuple[str, str, bool]]  # video, sentence, answer


def _two_names(clips: Sequence[Clip], side: Side) -> Said:
    """Does a sentence that names two different things have a target?"""
    found = []
    for clip in clips:
        for e in clip.expressions:
            note = side[clip.id]["expressions"][e.id]
            alike = note["form"] == "mutual" or " other " in e.text or " another " in e.text
            if note["verb"] and note["actor"] and not alike:
                found.append((clip.id, e.text, e.is_interaction))
    return found


def _any(clips: Sequence[Clip], side: Side) -> Said:
    return [(clip.id, e.text, not e.is_about_nothing) for clip in clips for e in clip.expressions]


def _by_words(
    sentences: Callable[[Sequence[Clip], Side], Said],
    train: tuple[Sequence[Clip], Side],
    test: tuple[Sequence[Clip], Side],
    seed: int,
) -> pd.DataFrame:
    """Text only: what is answered by the words that a sentence has."""
    known, asked = sentences(*train), sentences(*test)
    vocabulary = language.vocabulary()
    see = lambda text: [float(word in text.split()) for word in vocabulary]  # noqa: E731
    due = np.array([due for *_, due in asked], dtype=bool)
    sure = _fitted([see(t) for _, t, _ in known], [due for *_, due in known], [see(t) for _, t, _ in asked], seed)
    right = (sure > 0.5) == due
    # Both answers weigh alike: doubling the rarer one's rows would say the same with a wrong n.
    weight = len(due) / 2 / np.maximum(np.where(due, due.sum(), (~due).sum()), 1)
    return pd.DataFrame({"video": [video for video, *_ in asked], "right": right * weight})


# --- oracles ----------------------------------------------------------------------------------------------------------

ORDERS: dict[str, Callable[[int, np.random.Generator], Sequence[int]]] = {
    "in order": lambda count, rng: range(count),
    "shuffled": lambda count, rng: rng.permutation(count).tolist(),
}


def order_table(train: Side, test: Side, bootstrap: int, seed: int) -> pd.DataFrame:
    """What is in the order of frames, for somebody who knows every place: boosted trees on the verb and the true places
    of the two objects of a directed interaction say which of them acts. Chance is 50.

    Columns: frames (names in ORDERS; learned and asked alike), accuracy in percent, interval, n.
    """
    rng, rows = np.random.default_rng(seed), []
    for name, order in ORDERS.items():
        (_, known, answers), (videos, asked, truth) = (_places(side, order, rng) for side in (train, test))
        right = (_fitted(known, answers, asked, seed) > 0.5) == np.array(truth, dtype=bool)
        score = intervals.mean(pd.DataFrame({"video": videos, "right": right}), "right", bootstrap, seed)
        rows.append({"frames": name, "accuracy": score["value"], "interval": score["interval"], "n": score["n"]})
    return pd.DataFrame(rows)


def _places(
    side: Side, order: Callable[[int, np.random.Generator], Sequence[int]], rng: np.random.Generator
) -> tuple[list[str], list[list[float]], list[bool]]:
    """Videos, features and answers of the directed interactions; each is asked twice, with either object first."""
    videos, features, answers = [], [], []
    for video, clip in side.items():
        places = np.array(clip["centres"])
        places = places[:, list(order(places.shape[1], rng))]
        for event in (event for event in clip["interactions"] if event["directed"]):
            for first, other in ((event["a"], event["b"]), (event["b"], event["a"])):
                one, two = places[first], places[other]
                steps = [np.linalg.norm(np.diff(path, axis=0), axis=1) for path in (one, two)]
                spread = [np.sort([np.linalg.norm(p - q) for p, q in combinations(path, 2)]) for path in (one, two)]
                apart = np.linalg.norm(one - two, axis=1)
                verb = [float(event["verb"] == name) for name in verbs.DIRECTED]
                parts = (one, two, one - two, apart, np.sort(apart), *steps, steps[0] - steps[1], *spread, verb)
                videos.append(video)
                features.append(np.concatenate([np.ravel(part) for part in parts]).tolist())
                answers.append(first == event["a"])
    return videos, features, answers
