"""Texts that are false of their clip as far as is known: no model is asked anew.

The verifier has contradicted a swap; an object is absent where somebody has said that all objects of the clip have
masks, and no name here has a word of its name. Names are what a model called things: a puppy may be absent where a dog
is.

Such a text tests whether a system says "nothing" where nothing is meant. None is in the released format unless asked
for.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from reviosa_core.annotation.records import Negative, Object, Text, Track, Verdict
from reviosa_core.annotation.voices import exchanged, split, words


def all_known(tracks: Sequence[Track], objects: Sequence[Object], complete: bool) -> bool:
    """Is there no object in the clip but these? Only where its masks are said to be `complete`; and not where a track
    is poor or has no name, nor where tracks begin on the first frame only."""
    named = {o.id for o in objects}
    whole = all(track.id in named and track.source != "grid" for track in tracks)
    return complete and bool(tracks) and whole


def roles_swapped(clip: str, verdicts: Sequence[Verdict]) -> list[Negative]:
    """What the verifier was shown as the swap of a text that holds, and contradicted: "the dog pulling the man" for
    "the man pulling the dog". `verdicts` are all of the clip's, as `verify.run` gives them."""
    texts = [v.text for v in verdicts]
    true = {words(text.text) for text in texts}
    found = []
    for v in verdicts:
        if v.rejected is not None or v.swapped != "contradicted":
            continue
        said = exchanged(v.text, texts)
        if said is not None and words(said) not in true:
            of = f"{clip}/{v.text.id}"
            found.append(Negative(id=f"{v.text.id}.swapped", text=said, kind="roles swapped", actor=(), of=of))
    return found


def _absent(one: Object, here: Sequence[Object]) -> bool:
    """Is there no word of its class in a name here, nor of a class here in its names? A person may be "man in red"."""
    classes = [(_words(one.category), o) for o in here] + [(_words(o.category), one) for o in here]
    return not any(own & (_words(other.category) | _words(other.look)) for own, other in classes)


def _words(name: str) -> set[str]:
    return set(name.casefold().split())


def partner_absent(
    clip: str, texts: Sequence[Text], here: Sequence[Object], elsewhere: Mapping[str, Sequence[Object]], seed: int
) -> list[Negative]:
    """The object's name is that of something of another clip, whose class is in no name here: there is an actor, and
    no target."""
    others = (o for other in elsewhere.values() for o in other if _absent(o, here))
    absent = sorted({(o.category, o.look) for o in others})
    found = []
    for text in texts:
        if text.target is None or not absent or (parts := split(text, texts)) is None:
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
    """A text about a single object of another clip, whose class is in no name here."""
    fits = [
        (other, text)
        for other, texts in elsewhere.items()
        if other != clip
        for text in texts
        if text.caption_type == "single" and all(_absent(o, here) for o in objects[other] if o.id in text.actor)
    ]
    if not fits:
        return []
    other, text = fits[int(np.random.default_rng([seed, *clip.encode()]).integers(len(fits)))]
    of = f"{other}/{text.id}"
    return [Negative(id="absent", text=text.text, kind="object absent", actor=(), of=of)]
