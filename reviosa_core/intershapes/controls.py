"""Changed inputs that must change the answer.

A system that reads cannot keep its score when the names are wrong, one that watches cannot when time runs backwards.
Ground truth stays with the objects it was for.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd

from reviosa_core import masks
from reviosa_core.intershapes import verbs
from reviosa_core.schema import Clip, Expression, Prediction, Segments
from reviosa_core.scoring import bitmasks, evaluate, metrics

Side = Mapping[str, Mapping[str, Any]]  # splits.read_side_file


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
FRAMES: dict[str, Control] = {"shuffled frames": shuffled, "reversed time": reversed_time}
CONTROLS: dict[str, Control] = {
    "unchanged": unchanged,
    "wrong names": wrong_names,
    "opposite verb": wrong_verb,
    'passive without "by"': no_by,
    **{
        name: lambda clip, known, rng, change=change: change(unchanged(clip, known, rng), known, rng)
        for name, change in FRAMES.items()
    },
}
LOOKS = "one, appearance"  # the kind of a sentence that nobody has to watch for


def controlled(clips: Sequence[Clip], side: Side, control: str, seed: int) -> Iterator[Clip]:
    """Clips under a control of CONTROLS; ground truth stays with the objects it was for."""
    for number, clip in enumerate(clips):
        changed = CONTROLS[control](clip, side[clip.id], np.random.default_rng((seed, number)))
        if changed.expressions:
            yield changed


def measured(
    system: Segments,
    clips: Sequence[Clip],
    side: Side,
    notes: pd.DataFrame,
    answered: pd.DataFrame,
    bootstrap: int,
    seed: int,
) -> dict[str, dict[str, Any]]:
    """What each control does to a system: {control: {"scores", "all", "same names", "looks"}}, summaries, and direction
    of all sentences and of those whose two objects bear one name; of the frames' controls also the score of sentences
    about one object by its looks: what other frames cost where nobody has to watch. A control that changes none of
    `clips` is left out.

    `answered` are the rows of the unchanged clips, which need no second answer; `notes` those of `splits.read_notes`.
    """
    changes = {}
    kinds = notes.set_index(["video", "expression"])["kind"].to_dict()
    plain = [replace(c, expressions=tuple(e for e in c.expressions if kinds[c.id, e.id] == LOOKS)) for c in clips]
    for control in CONTROLS:
        changed = list(controlled(clips, side, control, seed))
        if not changed:
            continue
        if control == "unchanged":
            asked = pd.MultiIndex.from_tuples([(clip.id, e.id) for clip in changed for e in clip.expressions])
            found = answered[pd.MultiIndex.from_frame(answered[["video", "expression"]]).isin(asked)]
            looks = answered[answered["video"].isin([clip.id for clip in clips]) & (answered["kind"] == LOOKS)]
        else:
            looks = None
            if change := FRAMES.get(control):
                told = [(c, np.random.default_rng((seed, i))) for i, c in enumerate(plain) if c.expressions]
                moved = [change(c, side[c.id], rng) for c, rng in told]
                looks = evaluate.evaluate(system, moved) if moved else None
            found = evaluate.evaluate(system, changed).merge(notes, on=["video", "expression"], how="left")
        changes[control] = {
            "scores": metrics.summarise(found, bootstrap, seed),
            "all": metrics.direction(found, bootstrap, seed),
            "same names": metrics.direction(found[found["cue"] == "motion"], bootstrap, seed),
            "looks": None if looks is None else metrics.summarise(looks, bootstrap, seed)["RVOS"],
        }
    return changes


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
            if e.is_about_nothing:
                continue
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
