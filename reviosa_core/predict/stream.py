"""A video as it comes: what is said of a frame depends on it and on frames before it, and memory does not grow.

The language model reads K of the frames seen last. It is asked at the first frame, then while the window of frames it
reads from fills, then where SAM2 is unsure or masks jump, and now and then; between two answers SAM2 carries the masks
on. What is held: the window's frames, the features of K + 1 of them, and what SAM2's memory looks back to.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, UInt8
from torch import Tensor

from reviosa_core import masks
from reviosa_core.data import sampling
from reviosa_core.model.mllm import Answer
from reviosa_core.model.reviosa import ReVIOSa
from reviosa_core.model.segmenter import Carried, FrameFeatures
from reviosa_core.predict.streamed import LONGEST, Question, Stream, Streamed, Why
from reviosa_core.schema import Clip, Confidence, Expression, Prediction, Role
from reviosa_core.scoring import metrics


@dataclass(frozen=True)
class Shown:
    """What is said of one sentence in one frame. `why` the language model was asked here, or None."""

    masks: Mapping[Role, Bool[np.ndarray, "h w"]]
    iou: Mapping[Role, float]  # SAM2's estimate; 0 where there is no mask
    present: Mapping[Role, float]  # SAM2's object score as a probability; 0 where there is no mask
    token: Mapping[Role, float]  # as in `Confidence`, of the last answer
    written: frozenset[Role]
    answer: str
    why: Why | None


class _View:
    """The newest frame, and K of those seen last, it among them: each encoded when that is needed, once for all."""

    def __init__(self, model: ReVIOSa, window: Sequence[UInt8[np.ndarray, "h w 3"]]) -> None:
        newest = len(window) - 1
        back = sampling.frame_indices(len(window), model.frames)  # from the newest: that is among them at K = 1, too
        self.model = model
        self.frames = [torch.tensor(np.asarray(window[newest - i])) for i in reversed(back)]
        self.size = self.frames[-1].shape[:2]
        self.features: dict[int, FrameFeatures] = {}

    def __len__(self) -> int:
        return len(self.frames)

    @cached_property
    def visual(self) -> Float[Tensor, "k p p d"]:
        return self.model.mllm.see(torch.stack(self.frames))

    def sam(self, k: int) -> FrameFeatures:
        if k not in self.features:
            self.features[k] = self.model.segmenter.see(self.frames[k][None])
        return self.features[k]

    def newest(self, _: int = 0) -> FrameFeatures:
        return self.sam(len(self) - 1)


class _Track:
    """One sentence: the last answer, and where SAM2 has carried its masks."""

    def __init__(self, model: ReVIOSa, text: str, settings: Stream) -> None:
        self.model, self.settings = model, settings
        self.question = model.mllm.template.question(text)
        self.answer: Answer | None = None
        self.since = 0  # frames since the last question
        self.read = 0  # frames that the window held then
        self.before: Mapping[Role, Bool[np.ndarray, "h w"]] = {}
        self.steps: Iterator[tuple[int, Carried]] = iter(())
        self.see: Callable[[int], FrameFeatures]

    def go_on(self, view: _View) -> Shown | None:
        """The next frame by SAM2 alone; None before the first answer."""
        if self.answer is None:
            return None
        self.since, self.see = self.since + 1, view.newest
        found = next(self.steps)[1] if self._roles else None
        return self._shown(view, found, None)

    def doubt(self, shown: Shown | None, filled: int) -> Why | None:
        """Why to ask about this frame; `filled` frames are in the window."""
        own = self.settings
        if shown is None:
            return "first"
        if self.since < own.gap:
            return None
        if filled >= min(2 * self.read, own.window) > self.read:
            return "filling"
        carried = [role for role in self.before if role in shown.written]
        if any(shown.iou[role] * shown.present[role] < own.unsure for role in carried):
            return "unsure"
        pairs = ((self.before[role][None], shown.masks[role][None]) for role in carried)
        if any(metrics.region_similarity(*pair)[0] < own.jump for pair in pairs):
            return "jump"
        return "due" if self.since >= own.every else None

    def ask(self, view: _View, answer: Answer, why: Why, filled: int) -> Shown:
        """The same frame by a new answer. The prompt is decoded where it was in training, on the first of the K frames
        or on all, and carried over them up to the newest."""
        model, seg = self.model, self.model.segmenter
        self.answer, self.since, self.read, self.see = answer, 0, filled, view.sam
        states = [answer.states[role] for role in self._roles]
        if not states:
            return self._shown(view, None, why)
        prompt, size = model.prompt(torch.stack(states)), (seg.image_size, seg.image_size)
        shown = range(1 if model.prompted == "first" else len(view))
        decoded = {k: seg.answer(view.sam(k)[[0] * len(prompt)], prompt) for k in shown}
        given = {k: seg.upsample(d.logits, size) > 0 for k, d in decoded.items()}
        # As long as nobody looks at the next frame, SAM2 does not ask for it either.
        self.steps = seg.carry(lambda t: self.see(t), len(view) + LONGEST, given)
        found = [next(self.steps)[1] for _ in range(len(view))][-1]
        own = decoded.get(len(view) - 1)  # SAM2 gives a prompted mask back coarser than it was decoded
        if own is not None:
            found = Carried(own.logits, own.iou, found.score if own.score is None else own.score)
        return self._shown(view, found, why)

    @property
    def _roles(self) -> list[Role]:
        return [role for role in self.model.roles if self.answer is not None and role in self.answer.states]

    def _shown(self, view: _View, found: Carried | None, why: Why | None) -> Shown:
        assert self.answer is not None
        drawn = {role: np.zeros(tuple(view.size), bool) for role in self.model.roles}
        iou, present = dict.fromkeys(drawn, 0.0), dict.fromkeys(drawn, 0.0)
        if found is not None:
            grown = (self.model.segmenter.upsample(found.logits, tuple(view.size)) > 0).cpu().numpy()
            estimates = found.iou.float().clamp(0, 1).tolist(), found.score.float().sigmoid().tolist()
            for row, role in enumerate(self._roles):
                drawn[role], iou[role], present[role] = grown[row], estimates[0][row], estimates[1][row]
        token = {role: self.answer.probability.get(role, 0.0) for role in drawn}
        return Shown(drawn, iou, present, token, frozenset(self._roles), self.answer.text, why)


def follow(
    model: ReVIOSa, frames: Iterable[UInt8[np.ndarray, "h w 3"]], texts: Sequence[str], settings: Stream | None = None
) -> Iterator[list[Shown]]:
    """What is said of every sentence, frame by frame, each before the next frame is asked for.

    Sentences share the encoders' passes, and the visual prefix where several are asked at one frame; one that is in
    doubt has only itself asked again.
    """
    settings = settings or Stream()
    window: deque[np.ndarray] = deque(maxlen=settings.window)
    tracks = [_Track(model, text, settings) for text in texts]
    for frame in frames:
        window.append(frame)
        with torch.no_grad(), model.numbers():
            shown = _at_newest(model, tracks, window)
        yield shown


def _at_newest(model: ReVIOSa, tracks: Sequence[_Track], window: Sequence[np.ndarray]) -> list[Shown]:
    view = _View(model, window)
    shown = [track.go_on(view) for track in tracks]
    reasons = [track.doubt(own, len(window)) for track, own in zip(tracks, shown, strict=True)]
    asked = [i for i, why in enumerate(reasons) if why]
    if asked:
        answers = model.mllm.write(view.visual, [tracks[i].question for i in asked])
        for i, answer in zip(asked, answers, strict=True):
            shown[i] = tracks[i].ask(view, answer, reasons[i] or "first", len(window))
    done = [own for own in shown if own is not None]
    for track, own in zip(tracks, done, strict=True):
        track.before = own.masks
    return done


class Streaming:
    """ReVIOSa as a system that reads every clip from its first frame to its last, once."""

    def __init__(self, model: ReVIOSa, settings: Stream | None = None) -> None:
        self.model, self.settings, self.roles = model, settings or Stream(), model.roles

    def run_lengths(self, clip: Clip, expressions: Sequence[Expression] | None = None) -> list[Prediction]:
        """One prediction per expression (by default all of the clip's), as `ReVIOSa.run_lengths`."""
        expressions = clip.expressions if expressions is None else expressions
        found = [_Log(self.roles) for _ in expressions]
        frames = (np.asarray(clip.frames[t]) for t in range(len(clip) if expressions else 0))
        for shown in follow(self.model, frames, [e.text for e in expressions], self.settings):
            for log, own in zip(found, shown, strict=True):
                log.add(own)
        return [log.prediction(clip.id, e.id) for log, e in zip(found, expressions, strict=True)]

    def segment(self, clip: Clip, expressions: Sequence[Expression] | None = None) -> list[Prediction]:
        """`run_lengths`, with bool masks [t h w] by role."""
        return [
            replace(p, masks={role: masks.decode_all(list(own), clip.size) for role, own in p.masks.items()})
            for p in self.run_lengths(clip, expressions)
        ]


class _Log:
    """What was shown of one sentence so far."""

    def __init__(self, roles: Sequence[Role]) -> None:
        self.masks: dict[Role, list[Any]] = {role: [] for role in roles}
        self.sure: dict[Role, list[tuple[float, float, float]]] = {role: [] for role in roles}
        self.questions: list[Question] = []
        self.written: frozenset[Role] = frozenset()

    def add(self, shown: Shown) -> None:
        if shown.why:
            self.questions.append(Question(len(next(iter(self.masks.values()))), shown.why, shown.answer, shown.token))
        for role, own in self.masks.items():
            own.append(masks.encode(shown.masks[role]))
            self.sure[role].append((shown.token[role], shown.iou[role], shown.present[role]))
        self.written |= shown.written

    def prediction(self, clip: str, expression: str) -> Streamed:
        sure = {}
        for role, own in self.sure.items():
            token, iou, present = np.array(own).T
            sure[role] = Confidence(float(token.mean()), iou, present)
        return Streamed(
            clip,
            expression,
            self.masks,
            self.questions[-1].answer,
            self.written,
            confidence=sure,
            questions=tuple(self.questions),
        )


def line(shown: Shown, text: str, frame: int, time: float) -> dict[str, Any]:
    """One sentence in one frame, for JSON: run lengths, how sure it is, and the answer where one was asked for."""
    roles = {
        str(role): {
            "mask": masks.encode(mask),
            "token": round(shown.token[role], 4),
            "iou": round(shown.iou[role], 4),
            "present": round(shown.present[role], 4),
        }
        for role, mask in shown.masks.items()
    }
    asked = {"why": shown.why, "answer": shown.answer} if shown.why else None
    return {"frame": frame, "time": round(time, 6), "text": text, "asked": asked, "roles": roles}
