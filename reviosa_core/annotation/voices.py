"""A directed text taken apart by its other voice, and put together with the roles the other way round."""

from __future__ import annotations

from collections.abc import Sequence

from reviosa_core.annotation.records import Text


def split(text: Text, texts: Sequence[Text]) -> tuple[str, str, str] | None:
    """Subject, verb and object: the other voice among `texts` begins with the object and ends with the subject. None
    without one that does."""
    voice = {"active": "passive", "passive": "active"}.get(text.voice)
    about = (text.event, text.level, voice)
    other = next((t for t in texts if voice and (t.event, t.level, t.voice) == about), None)
    if other is None:
        return None
    a, b = text.text.split(), other.text.split()
    subject = max((n for n in range(1, len(a)) if _same(a[:n], b[-n:])), default=0)
    object = max((n for n in range(1, len(a)) if _same(a[-n:], b[:n])), default=0)
    if not subject or not object or subject + object >= len(a):
        return None
    return " ".join(a[:subject]), " ".join(a[subject : len(a) - object]), " ".join(a[len(a) - object :])


def exchanged(text: Text, texts: Sequence[Text]) -> str | None:
    """What is said when subject and object change places: "the dog pulling the man" for "the man pulling the dog", and
    the same words where both have the same name. None where it cannot be told how the words go, and where one of
    `texts` says just that: both directions are claimed."""
    parts = split(text, texts)
    if text.target is None or parts is None:
        return None
    subject, verb, object = parts
    alike = _same(subject.split(), object.split())
    said = text.text if alike else f"{_first(object)} {verb} {subject}"
    turned = (set(text.target), set(text.actor))
    both = any((set(t.actor), set(t.target or ())) == turned and words(t.text) == words(said) for t in texts)
    return None if both else said


def words(text: str) -> str:
    """A text as it is compared with others."""
    return " ".join(text.lower().split())


def _first(phrase: str) -> str:
    """Of a name that comes first now."""
    return f"the {phrase.removeprefix('another ')}" if phrase.startswith("another ") else phrase


def _same(a: Sequence[str], b: Sequence[str]) -> bool:
    return ["the" if w == "another" else w for w in a] == ["the" if w == "another" else w for w in b]
