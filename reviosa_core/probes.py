"""What a score proves: predictors that must fail, and changed inputs that must change the answer.

`blind_table` asks how far one gets on InterShapes without reading or without watching. Each predictor is scored on the
questions that were made against it, beside chance. `CONTROLS` change what a system is given: a system that reads
cannot keep its score when the names are wrong, one that watches cannot when time runs backwards.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Bool
from sklearn.ensemble import HistGradientBoostingClassifier

from reviosa_core import bitmasks, masks, metrics
from reviosa_core.data import intershapes, verbs
from reviosa_core.schema import Clip, Expression, Prediction

Side = Mapping[str, Mapping[str, Any]]  # intershapes.read_side_file

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
        return " by " in f"{self.text} "

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
        return _fitted([see(q) for q in train], [q.low_is_actor for q in train], [see(q) for q in test], seed)

    return guess


def _fitted(
    known: Sequence[Sequence[float]], answers: Sequence[bool], asked: Sequence[Sequence[float]], seed: int
) -> Bool[np.ndarray, " n"]:
    """Answers of boosted trees, both answers weighing alike; always yes where there is too little to learn from."""
    if not asked or len(set(answers)) < 2:
        return np.ones(len(asked), dtype=bool)
    trees = HistGradientBoostingClassifier(max_iter=100, random_state=seed, class_weight="balanced")
    return trees.fit(known, answers).predict(asked)


def _words(q: Question) -> list[float]:
    text = q.text.split()
    return [float(word in text) for word in intershapes.vocabulary()]


def _frame(q: Question, t: int) -> list[float]:
    """The two objects' places, sizes and looks, and where the others are, in one frame."""
    features = []
    everywhere = np.array(q.clip["centres"])[:, t]
    for own, k in enumerate((q.low, q.high)):
        shape, here = q.clip["shapes"][k], q.paths[own, t]
        others = np.delete(everywhere, [q.low, q.high], axis=0)
        crowd = np.linalg.norm(others - here, axis=1).min(initial=1.0)
        looks = (list(intershapes.COLORS).index(shape["color"]), intershapes.KINDS.index(shape["kind"]))
        features += [*here, shape["radius"], shape["angle"], crowd, np.abs(here - 0.5).max(), *looks]
    low, high = np.array(features, float).reshape(2, -1)
    return [*low, *high, *(low - high)]


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
    "text and first frame": ("same names, first frame shared", _learned(lambda q: _words(q) + _frame(q, 0))),
    "text and last frame": ("same names, last frame shared", _learned(lambda q: _words(q) + _frame(q, -1))),
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
# One frame where it is not shared, too: what it gives away, and that these predictors find it.
ONE_FRAME = {name: ("same names", BLIND[name][1]) for name in ("text and first frame", "text and last frame")}


def blind_table(
    train: tuple[Sequence[Clip], Side], test: tuple[Sequence[Clip], Side], bootstrap: int, seed: int
) -> pd.DataFrame:
    """Accuracy of every blind predictor in percent, with n, interval and chance.

    Columns: predictor, question, sentences, accuracy, interval, n, chance; and against, whether these sentences were
    made against the predictor, so that it should stay near chance. Who acts: of the two objects of a sentence,
    the grammatical subject. Who takes part: of all pairs of a clip with one interaction, the interacting one. Is the
    partner there: whether a sentence with two different names has a target; accuracy is balanced.
    """
    asked, known = questions(*test), questions(*train)
    rows = []
    tried = [(True, *item) for item in BLIND.items()] + [(False, *item) for item in ONE_FRAME.items()]
    for against, name, (subset, guess) in tried:
        here, there = (list(filter(SENTENCES[subset], qs)) for qs in (asked, known))
        right = guess(there, here, seed) == np.array([q.low_is_actor for q in here])
        table = pd.DataFrame({"video": [q.video for q in here], "right": right})
        rows.append((against, name, "who acts?", subset, metrics.mean(table, "right", bootstrap, seed), 50.0))
    for against, name, t in ((True, "nearest pair", 0), (False, "nearest pair, last frame", -1)):
        nearest, chance = _nearest_pairs(test[1], t)
        score = metrics.mean(nearest, "right", bootstrap, seed)
        rows.append((against, name, "who takes part?", "one pair", score, chance))
    there = metrics.mean(_partner_there(train, test, seed), "right", bootstrap, seed)
    rows.append((True, "text only", "is the partner there?", "two names", there, 50.0))
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


def _nearest_pairs(side: Side, t: int) -> tuple[pd.DataFrame, float]:
    """Is the pair that is nearest at frame t the interacting one? And what guessing would give."""
    rows, chances = [], []
    for video, clip in side.items():
        if len(clip["interactions"]) == 1 and len(clip["shapes"]) > 2:
            (event,) = clip["interactions"]
            pairs = list(combinations(range(len(clip["shapes"])), 2))
            places, radii = np.array(clip["centres"])[:, t], [s["radius"] for s in clip["shapes"]]
            gaps = [np.linalg.norm(places[i] - places[j]) - radii[i] - radii[j] for i, j in pairs]
            rows.append({"video": video, "right": set(pairs[int(np.argmin(gaps))]) == {event["a"], event["b"]}})
            chances.append(100 / len(pairs))
    return pd.DataFrame(rows, columns=["video", "right"]), float(np.mean(chances)) if chances else float("nan")


def _partner_there(train: tuple[Sequence[Clip], Side], test: tuple[Sequence[Clip], Side], seed: int) -> pd.DataFrame:
    """Text only: does a sentence that names two different things have a target?"""

    def sentences(clips: Sequence[Clip], side: Side) -> list[tuple[str, str, bool]]:
        found = []
        for clip in clips:
            for e in clip.expressions:
                note = side[clip.id]["expressions"][e.id]
                if note["verb"] and note["form"] != "mutual" and " other " not in e.text and " another " not in e.text:
                    found.append((clip.id, e.text, e.is_interaction))
        return found

    known, asked = sentences(*train), sentences(*test)
    vocabulary = intershapes.vocabulary()
    see = lambda text: [float(word in text.split()) for word in vocabulary]  # noqa: E731
    due = np.array([due for *_, due in asked], dtype=bool)
    guess = _fitted([see(t) for _, t, _ in known], [due for *_, due in known], [see(t) for _, t, _ in asked], seed)
    right = guess == due
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
        right = _fitted(known, answers, asked, seed) == np.array(truth, dtype=bool)
        score = metrics.mean(pd.DataFrame({"video": videos, "right": right}), "right", bootstrap, seed)
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


# --- controls ---------------------------------------------------------------------------------------------------------


def reorder(clip: Clip, order: Sequence[int]) -> Clip:
    """The clip with its frames, and the masks with them, in another order."""
    moved = {key: [rles[i] for i in order] for key, rles in clip.masks.items()}
    frames = np.stack([clip.frames[i] for i in order])
    return replace(clip, frames=frames, masks=moved)


def reword(clip: Clip, change: Callable[[Expression], str | None]) -> Clip:
    """The clip with its interaction expressions as `change` words them; those it gives None for are left out."""
    asked = [(e, change(e)) for e in clip.expressions if e.is_interaction]
    return replace(clip, expressions=tuple(replace(e, text=text) for e, text in asked if text))


def shuffled(clip: Clip, known: Mapping[str, Any], rng: np.random.Generator) -> Clip:
    """Frames in random order."""
    return reorder(clip, rng.permutation(len(clip)).tolist())


def reversed_time(clip: Clip, known: Mapping[str, Any], rng: np.random.Generator) -> Clip:
    """Frames from last to first."""
    return reorder(clip, range(len(clip))[::-1])


def wrong_names(clip: Clip, known: Mapping[str, Any], rng: np.random.Generator) -> Clip:
    """Names of other objects of the clip in the same sentence, where their names differ from the pair's."""

    def change(e: Expression) -> str | None:
        note = known["expressions"][e.id]
        own = {(s["color"], s["kind"]) for s in (known["shapes"][k] for k in (*note["actor"], *note["target"]))}
        kinds = {kind for _, kind in own}
        level = note["level"]
        others = [
            (s["color"], s["kind"])
            for s in known["shapes"]
            if ((s["color"], s["kind"]) not in own if level == "appearance" else s["kind"] not in kinds)
        ]
        if not others:
            return None
        words = e.text.split()
        for phrase in sorted(note["phrases"], key=lambda p: -p["start"]):
            color, kind = others[rng.integers(len(others))]
            words[phrase["start"] + 1 : phrase["stop"]] = [color, kind] if level == "appearance" else [kind]
        return " ".join(words)

    return reword(clip, change)


def wrong_verb(clip: Clip, known: Mapping[str, Any], rng: np.random.Generator) -> Clip:
    """A verb that says the opposite: to lead for to follow, the passive for the active. Roles should turn round."""
    opposite = {}
    for verb in verbs.VERBS.values():
        for form, words, a_first in verb.voices():
            others = [w for f, w, first in verb.voices() if first != a_first and (f == form or not verb.converse)]
            opposite[words] = others[0]
    by_length = sorted(opposite, key=len, reverse=True)

    def change(e: Expression) -> str | None:
        said = next((words for words in by_length if f" {words} " in e.text), None)
        return e.text.replace(f" {said} ", f" {opposite[said]} ") if said else None

    return reword(clip, change)


def no_by(clip: Clip, known: Mapping[str, Any], rng: np.random.Generator) -> Clip:
    """Passives without "by": the roles should stay, since the verb's form still tells."""
    return reword(clip, lambda e: e.text.replace(" by ", " ") if " by " in e.text else None)


def unchanged(clip: Clip, known: Mapping[str, Any], rng: np.random.Generator) -> Clip:
    """The interaction expressions as they are, to compare with."""
    return reword(clip, lambda e: e.text)


Control = Callable[[Clip, Mapping[str, Any], np.random.Generator], Clip]
CONTROLS: dict[str, Control] = {
    "unchanged": unchanged,
    "wrong names": wrong_names,
    "opposite verb": wrong_verb,
    'passive without "by"': no_by,
    "shuffled frames": lambda clip, known, rng: shuffled(unchanged(clip, known, rng), known, rng),
    "reversed time": lambda clip, known, rng: reversed_time(unchanged(clip, known, rng), known, rng),
}


def controlled(clips: Sequence[Clip], side: Side, control: str, seed: int) -> Iterator[Clip]:
    """Clips under a control of CONTROLS; ground truth stays with the objects it was for."""
    for number, clip in enumerate(clips):
        changed = CONTROLS[control](clip, side[clip.id], np.random.default_rng((seed, number)))
        if changed.expressions:
            yield changed


def right_pair(clips: Sequence[Clip], side: Side, predictions: Iterable[Sequence[Prediction]]) -> pd.DataFrame:
    """In clips with two pairs: is the predicted pair, roles aside, nearer to the described one than to the other?

    One row per sentence about a pair: video, expression, right. An empty prediction is wrong. Clips in which no
    sentence mentions some object of the two pairs are left out: their masks are not loaded.
    """
    rows = []
    for clip, found in zip(clips, predictions, strict=True):
        pairs = [(event["a"], event["b"]) for event in side[clip.id]["interactions"]]
        if len(pairs) != 2:
            continue
        keys: dict[int, str] = {}  # object number -> its mask, as far as sentences mention it
        for e in clip.expressions:
            note = side[clip.id]["expressions"][e.id]
            for objects, named in ((note["actor"], e.actor), (note["target"] or (), e.target or ())):
                keys |= dict(zip(objects, named, strict=True))
        if any(k not in keys for pair in pairs for k in pair):
            continue
        truth = [masks.union(clip, [keys[k] for k in pair]) for pair in pairs]
        for prediction in found:
            note = side[clip.id]["expressions"][prediction.expression_id]
            named = {*note["actor"], *(note["target"] or ())}
            own = next((i for i, pair in enumerate(pairs) if named == set(pair)), None)
            if own is not None:
                by_role = [bitmasks.pack(m, clip.size) for m in prediction.masks.values()]
                guess = [bitmasks.union(frame) for frame in zip(*by_role, strict=True)]
                j = [metrics.overlap(guess, t).mean() for t in truth]
                row = {"video": clip.id, "expression": prediction.expression_id}
                rows.append(row | {"right": bool(j[own] > j[1 - own])})
    return pd.DataFrame(rows, columns=["video", "expression", "right"])
