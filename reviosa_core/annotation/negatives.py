"""Texts that are false of their clip, from what is known already: no model is asked.

Such a text tests whether a system says "nothing" where nothing is meant. None is in the released format unless asked
for.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from reviosa_core.annotation.records import Negative, Object, Text, Track


def all_known(tracks: Sequence[Track], objects: Sequence[Object]) -> bool:
    """Is there no object in the clip but these, as far as its tracks go? What is absent can be told of no other: not
    where a track is poor or has no name, nor where tracks begin on the first frame only."""
    named = {o.id for o in objects}
    return bool(tracks) and all(track.id in named and track.source != "grid" for track in tracks)


def roles_swapped(clip: str, texts: Sequence[Text]) -> list[Negative]:
    """Subject and object exchanged, where another text of the same event shows how the words go and neither direction
    is true of other objects: "the dog pulling the man" for "the man pulling the dog"."""
    true = {_words(t.text) for t in texts}
    found = []
    for text in texts:
        if text.target is None:
            continue
        parts = _split(text, texts)
        if parts is None:
            continue
        subject, verb, object = parts
        swapped = f"{object} {verb} {subject}".replace("another ", "the ")
        if not _same(subject.split(), object.split()) and _words(swapped) not in true:
            of = f"{clip}/{text.id}"
            found.append(Negative(id=f"{text.id}.swapped", text=swapped, kind="roles swapped", actor=(), of=of))
    return found


def _words(text: str) -> str:
    return " ".join(text.lower().split())


def _split(text: Text, texts: Sequence[Text]) -> tuple[str, str, str] | None:
    """Subject, verb and object of a directed text: its other voice begins with the object and ends with the subject."""
    voice = {"active": "passive", "passive": "active"}[text.voice]
    other = next((t for t in texts if (t.event, t.level, t.voice) == (text.event, text.level, voice)), None)
    if other is None:
        return None
    a, b = text.text.split(), other.text.split()
    subject = max((n for n in range(1, len(a)) if _same(a[:n], b[-n:])), default=0)
    object = max((n for n in range(1, len(a)) if _same(a[-n:], b[:n])), default=0)
    if not subject or not object or subject + object >= len(a):
        return None
    return " ".join(a[:subject]), " ".join(a[subject : len(a) - object]), " ".join(a[len(a) - object :])


def _same(a: Sequence[str], b: Sequence[str]) -> bool:
    return ["the" if w == "another" else w for w in a] == ["the" if w == "another" else w for w in b]


def partner_absent(
    clip: str, texts: Sequence[Text], here: Sequence[Object], elsewhere: Mapping[str, Sequence[Object]], seed: int
) -> list[Negative]:
    """The object's name is that of something of another clip, whose class is not here: there is an actor, and no
    target."""
    classes = {o.category.casefold() for o in here}
    others = (o for other in elsewhere.values() for o in other if o.category.casefold() not in classes)
    absent = sorted({(o.category, o.look) for o in others})
    found = []
    for text in texts:
        if text.target is None or not absent or (parts := _split(text, texts)) is None:
            continue
        rng = np.random.default_rng([seed, *clip.encode(), *text.id.encode()])
        category, look = absent[int(rng.integers(len(absent)))]
        name = category if text.level == "class" else look
        said, of = f"{parts[0]} {parts[1]} the {name}", f"{clip}/{text.id}"
        found.append(Negative(id=f"{text.id}.absent", text=said, kind="partner absent", actor=text.actor, of=of))
    return found


def object_absent(
    clip: str,
    here: Sequence[Object],
    elsewhere: Mapping[str, Sequence[Text]],
    objects: Mapping[str, Sequence[Object]],
    seed: int,
) -> list[Negative]:
    """A text about a single object of another clip, of a class that is not here."""
    classes = {o.category.casefold() for o in here}
    fits = [
        (other, text)
        for other, texts in elsewhere.items()
        if other != clip
        for text in texts
        if text.caption_type == "single"
        and not classes & {o.category.casefold() for o in objects[other] if o.id in text.actor}
    ]
    if not fits:
        return []
    other, text = fits[int(np.random.default_rng([seed, *clip.encode()]).integers(len(fits)))]
    of = f"{other}/{text.id}"
    return [Negative(id="absent", text=text.text, kind="object absent", actor=(), of=of)]
