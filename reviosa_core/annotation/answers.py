"""What the embedded endpoint answers: the truth about a clip, except where an error is drawn."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from itertools import permutations, product
from typing import Any

import numpy as np
from PIL import Image
from pydantic import Field
from scipy import ndimage

from reviosa_core import masks
from reviosa_core.annotation import pictures
from reviosa_core.annotation.questions import FACTS
from reviosa_core.annotation.records import digest, names
from reviosa_core.annotation.truth import Happening, Known, Truth
from reviosa_core.bounds import Share, Strict
from reviosa_core.schema import Clip, DataError

NEAR = 90.0  # distance in RGB up to which a pixel has a colour; JPEG moves it
PIXELS = 12  # of a thumbnail's side
LEAST = 0.06  # of an outline's pixels, in the mean of the pictures, that make an object's number


class Errors(Strict):
    """Rates of what goes wrong. `role` is exact: the share of directed events answered the wrong way round. The
    others are drawn, each for itself: `missed` for each event; `invented` for each clip; `name` for each object;
    `verdict` for each claim; `refusal`, `broken` for each request. `delay` in seconds."""

    role: Share = 0.0
    name: Share = 0.0
    missed: Share = 0.0
    invented: Share = 0.0
    verdict: Share = 0.0
    refusal: Share = 0.0
    broken: Share = 0.0
    delay: float = Field(default=0.0, ge=0)
    seed: int = 0


class Answers:
    """Draws depend on the request alone, not on the order of requests: the same question is answered the same way.
    DataError for an object of a clip that the truth does not have."""

    def __init__(self, clips: Iterable[Clip], truths: Mapping[str, Truth], errors: Errors) -> None:
        self.clips = {clip.id: clip for clip in clips}
        for id, clip in self.clips.items():
            known = truths[id].objects.keys() if id in truths else set()
            if unknown := sorted(clip.masks.keys() - known):
                raise DataError(f"clip {id}: the truth knows {len(known)} objects, and not {unknown[0]!r}")
        self.truths, self.errors = dict(truths), errors
        directed = [(id, k) for id in self.clips for k, e in enumerate(self.truths[id].events) if e.passive]
        directed.sort(key=lambda which: digest(errors.seed, "role", which))
        self.flipped = set(directed[: round(errors.role * len(directed))])  # more of them hold fewer of them
        self.passive = {e.active: e.passive for t in truths.values() for e in t.events if e.passive}
        self._thumbnails: dict[tuple[str, int], np.ndarray] = {}
        self._around: dict[tuple[str, int, int], list[tuple[np.ndarray, np.ndarray]]] = {}

    def message(self, body: dict[str, Any]) -> tuple[dict[str, Any], int]:
        """The assistant's message and the tokens of the request. ValueError, KeyError for what is no question of
        ours."""
        name = body["response_format"]["json_schema"]["name"]
        parts = body["messages"][0]["content"]
        texts = [part["text"] for part in parts if part["type"] == "text"]
        images = {}
        for label, part in zip(parts, parts[1:], strict=False):
            if part["type"] == "image_url":
                images[int(label["text"].removeprefix("frame "))] = pictures.from_data_url(part["image_url"]["url"])
        words = sum(map(len, texts)) + len(json.dumps(body["response_format"]))
        tokens = words // 4 + sum(i.shape[0] * i.shape[1] // 750 for i in images.values())
        draw = Draws(self.errors, digest(body))
        if draw("refusal"):
            return {"role": "assistant", "content": None, "refusal": "I can't help with that."}, tokens
        facts = json.loads(texts[-1].removeprefix(FACTS))
        found = json.dumps(getattr(self, f"_{name}")(facts, images, draw))
        return {"role": "assistant", "content": found[: len(found) // 2] if draw("broken") else found}, tokens

    def _objects(self, facts: dict, images: dict[int, np.ndarray], draw: Draws) -> dict:
        clip = self._which(images)
        (key,) = self._seen(clip, images, numbers=(1,)).values()
        known = self.truths[clip.id].objects[key]
        if draw("name"):
            others = sorted({(o.category, o.look) for t in self.truths.values() for o in t.objects.values()})
            category, look = draw.pick("name of", [o for o in others if o[1] != known.look] or others)
            known = Known(category=category, look=look, motion=known.motion)
        return known.model_dump()

    def _expressions(self, facts: dict, images: dict, draw: Draws) -> dict:
        alike: dict[tuple[str, str], list[str]] = {}
        objects = []
        for o in facts["objects"]:
            alike.setdefault((o["class"], o["motion"]), []).append(o["id"])
            look, motion = f"the {o['look']}", f"the {o['class']} {o['motion']}"
            objects.append({"id": o["id"], "look": look, "motion": motion, "both": f"{look} {o['motion']}"})
        groups = [
            {"ids": ids, "text": f"the {plural(name)} {motion}"} for (name, motion), ids in alike.items() if ids[1:]
        ]
        return {"objects": objects, "groups": groups}

    def _events(self, facts: dict, images: dict[int, np.ndarray], draw: Draws) -> dict:
        clip = self._which(images)
        number = {key: str(n) for n, key in self._seen(clip, images).items()}
        span = {"first_frame": facts["frames"][0], "last_frame": facts["frames"][-1], "confidence": 0.9}
        events = []
        for k, event in enumerate(self.truths[clip.id].events):
            if draw("missed", k) or not event.participants <= number.keys():
                continue
            roles = [[number[key] for key in keys] for keys in (event.agents, event.patients)]
            if (clip.id, k) in self.flipped:
                roles.reverse()
            events.append(_event(event.active, *roles, span))
        free = [p for p in permutations(number, 2) if not any(set(p) <= e.participants for e in self._all(clip))]
        if free and self.passive and draw("invented"):
            a, b = draw.pick("between", free)
            events.append(_event(draw.pick("verb", sorted(self.passive)), [number[a]], [number[b]], span))
        return {"events": events}

    def _all(self, clip: Clip) -> Sequence[Happening]:
        return self.truths[clip.id].events

    def _interactions(self, facts: dict, images: dict, draw: Draws) -> dict:
        active = facts["predicate"]
        passive = self.passive.get(active) or f"being done {active} by"
        words = {"active": active, "mutual": active, "passive": passive}
        texts = []
        for one in facts["texts"]:
            said = " ".join(filter(None, [one["subject"], words[one["voice"]], one["object"]]))
            texts.append({"key": one["key"], "text": said})
        return {"texts": texts}

    def _verify(self, facts: dict, images: dict[int, np.ndarray], draw: Draws) -> dict:
        clip = self._which(images)
        key = {str(n): key for n, key in self._seen(clip, images).items()}
        found = []
        for claim in facts["claims"]:
            subject, object = ([key.get(n, "") for n in claim[role]] for role in ("subject", "object"))
            true = holds(self.truths[clip.id], claim["text"], subject, object) != draw("verdict", claim["label"])
            verdict, evidence = (
                ("supported", "seen throughout") if true else ("contradicted", "the frames show otherwise")
            )
            found.append({"label": claim["label"], "evidence": evidence, "verdict": verdict})
        return {"claims": found}

    def _which(self, images: Mapping[int, np.ndarray]) -> Clip:
        """The clip whose frames look most like these."""
        index, image = next(iter(images.items()))
        small = _thumbnail(image)
        there = [clip for clip in self.clips.values() if len(clip) > index]
        return min(there, key=lambda clip: float(np.abs(self._small(clip, index) - small).mean()))

    def _small(self, clip: Clip, index: int) -> np.ndarray:
        if (clip.id, index) not in self._thumbnails:
            self._thumbnails[clip.id, index] = _thumbnail(clip.frames[index])
        return self._thumbnails[clip.id, index]

    def _seen(
        self, clip: Clip, images: Mapping[int, np.ndarray], numbers: Sequence[int] = range(1, 13)
    ) -> dict[int, str]:
        """Number -> mask key, by the colour around each object's edge."""
        keys = self._keys(clip)
        votes = np.zeros((len(keys), len(numbers)))
        for index, image in images.items():
            for row, (edge, was) in enumerate(self._edges(clip, index, max(image.shape))):
                now = image.reshape(-1, 3)[edge].astype(np.float32)
                changed = np.linalg.norm(now - was, axis=1) > NEAR / 2
                for column, n in enumerate(numbers if len(edge) else ()):
                    near = np.linalg.norm(now - np.array(pictures.COLORS[n - 1], np.float32), axis=1) < NEAR
                    votes[row, column] += (near & changed).mean()
        found: dict[int, str] = {}
        while votes.size and votes.max() > LEAST * len(images):
            row, column = np.unravel_index(int(votes.argmax()), votes.shape)
            found[numbers[column]] = keys[row]
            votes[row], votes[:, column] = 0, 0
        return found

    def _keys(self, clip: Clip) -> list[str]:
        """Of known objects that have masks: a data set may have none of what no sentence is about."""
        return [key for key in self.truths[clip.id].objects if key in clip.masks]

    def _edges(self, clip: Clip, index: int, side: int) -> list[tuple[np.ndarray, np.ndarray]]:
        """For each object, the pixels around it in a frame of this size, and their colours with nothing drawn."""
        if (clip.id, index, side) not in self._around:
            plain = pictures.scaled(clip.frames[index], side).reshape(-1, 3).astype(np.float32)
            edges = []
            for key in self._keys(clip):
                mask = masks.decode(clip.masks[key][index], clip.size)
                edge = np.flatnonzero(ndimage.binary_dilation(pictures.rim(mask, side)))
                edges.append((edge, plain[edge]))
            self._around[clip.id, index, side] = edges
        return self._around[clip.id, index, side]


class Draws:
    """Whether an error happens in this request."""

    def __init__(self, errors: Errors, request: str) -> None:
        self.errors, self.request = errors, request

    def __call__(self, kind: str, which: Any = 0) -> bool:
        return self._uniform(kind, which) < getattr(self.errors, kind)

    def pick(self, what: str, choices: Sequence[Any]) -> Any:
        return choices[int(self._uniform(what, 0) * len(choices))]

    def _uniform(self, kind: str, which: Any) -> float:
        return int(digest(self.errors.seed, self.request, kind, which), 16) / 16**16


def _thumbnail(picture: np.ndarray) -> np.ndarray:
    small = Image.fromarray(picture).resize((PIXELS, PIXELS), Image.Resampling.BOX)
    return np.asarray(small, dtype=float)


def _event(predicate: str, agents: list[str], patients: list[str], span: dict) -> dict:
    roles = {"agents": agents, "patients": patients, "instruments": []}
    return {"predicate": predicate, **roles, "symmetric": not patients, **span}


def plural(noun: str) -> str:
    return noun + ("es" if noun.endswith("s") else "s")


def holds(truth: Truth, text: str, subject: Sequence[str], object: Sequence[str]) -> bool:
    """Whether a text is true with these objects as its grammatical subject and object, names included."""
    text = " ".join(text.lower().split())
    if not object:
        return _of_objects(truth, text, subject) or any(
            e.passive is None and set(subject) == set(e.agents) and _ends(truth, text, e.active, subject)
            for e in truth.events
        )
    for event in truth.events:
        for words, a, b in (
            (event.active, event.agents, event.patients),
            (event.passive, event.patients, event.agents),
        ):
            left, found, right = text.partition(f" {words} ")
            if not found or not words or (set(subject), set(object)) != (set(a), set(b)):
                continue
            if _named(truth, left, subject) and _named(truth, right, object):
                return True
    return False


def _ends(truth: Truth, text: str, words: str, subject: Sequence[str]) -> bool:
    return text.endswith(f" {words}") and _named(truth, text.removesuffix(f" {words}"), subject)


def _named(truth: Truth, phrase: str, ids: Sequence[str]) -> bool:
    """Whether "the a, the b and another c" are names of just these objects."""
    known = [truth.objects[id] for id in ids if id in truth.objects]
    said = phrase.replace("another ", "the ").removeprefix("the ")
    return len(known) == len(ids) and any(
        " ".join(names([f"the {name}" for name in called]).lower().split()).removeprefix("the ") == said
        for order in permutations(known)
        for called in product(*((o.category, o.look) for o in order))
    )


def _of_objects(truth: Truth, text: str, ids: Sequence[str]) -> bool:
    known = [truth.objects[id] for id in ids if id in truth.objects]
    if len(known) != len(ids) or not known:
        return False
    name = plural if len(known) > 1 else str
    return all(
        text.removeprefix("the ")
        in {f"{name(n)}{motion}" for n in (o.category, o.look) for motion in ("", f" {o.motion}")}
        for o in known
    )
