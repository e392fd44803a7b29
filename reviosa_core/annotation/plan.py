"""What a run would take, before it is paid for: calls, pictures and tokens by stage."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

from reviosa_core.annotation.questions import Prompts
from reviosa_core.annotation.verify import AT_ONCE, looks
from reviosa_core.config import Annotation
from reviosa_core.data.sampling import frame_indices

CHARACTERS = 4  # of English text, a token
PIXELS = 750  # of a picture, a token: what several hosted models count; others count tiles
TEXTS = {"object": 3, "event": 4}  # texts made of one
FACTS = {"objects": 20, "expressions": 30, "events": 25, "interactions": 110, "verify": 45}  # tokens, of a thing listed
SAID = {"objects": 40, "expressions": 45, "events": 60, "interactions": 90, "verify": 45}  # tokens answered, of each
SCHEMA = 150  # tokens


class Shape(NamedTuple):
    """What is known of a clip beforehand."""

    frames: int
    size: tuple[int, int]
    objects: int


class Step(NamedTuple):
    stage: str
    calls: int
    images: int
    tokens_in: int
    tokens_out: int


def estimate(
    clips: Sequence[Shape], settings: Annotation, prompts: Prompts, events: float, verify: bool = True
) -> list[Step]:
    """A step a stage. `events` is how many happen in a clip with two objects or more, in the mean. Answers that must be
    asked for again are not counted."""
    found = []
    pairs = [clip for clip in clips if clip.objects > 1]
    happen = events * len(pairs)
    per_clip = happen / len(pairs) if pairs else 0.0
    shown = {clip: len(frame_indices(clip.frames, settings.frames)) for clip in clips}
    own = {clip: min(clip.objects, settings.objects) for clip in clips}
    texts = {clip: TEXTS["object"] * own[clip] + TEXTS["event"] * per_clip * (clip.objects > 1) for clip in clips}
    rounds = {clip: looks(own[clip]) * math.ceil(texts[clip] / AT_ONCE) for clip in clips}

    def step(stage: str, asked: Sequence[tuple[Shape, int | float, int | float, int | float]], seen: bool) -> None:
        """`asked` holds clips, how often each is asked about, how many things are listed and how many answered."""
        calls, listed, said = (sum(row[column] for row in asked) for column in (1, 2, 3))
        images = sum(times * shown[clip] for clip, times, *_ in asked) if seen else 0
        area = sum(times * shown[clip] * picture(clip, settings) for clip, times, *_ in asked) if seen else 0
        words = calls * (len(prompts[stage]) / CHARACTERS + SCHEMA) + listed * FACTS[stage]
        found.append(Step(stage, round(calls), round(images), round(words + area), round(said * SAID[stage])))

    step("objects", [(clip, own[clip], own[clip], own[clip]) for clip in clips], True)
    step("expressions", [(clip, 1, own[clip], own[clip]) for clip in clips if own[clip]], False)
    step("events", [(clip, 1, own[clip], per_clip) for clip in pairs], True)
    step("interactions", [(clip, per_clip, per_clip, per_clip) for clip in pairs], False)
    claims = [(clip, rounds[clip], *(looks(own[clip]) * texts[clip],) * 2) for clip in clips]
    step("verify", claims if verify else [], True)
    return found


def picture(clip: Shape, settings: Annotation) -> float:
    """Tokens of one picture."""
    height, width = clip.size
    return settings.side**2 * min(height, width) / max(height, width) / PIXELS


def cost(steps: Sequence[Step], price_in: float, price_out: float) -> float:
    """In the currency of the prices, which are for a million tokens."""
    return sum(step.tokens_in * price_in + step.tokens_out * price_out for step in steps) / 1e6
