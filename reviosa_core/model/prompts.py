"""What the language model reads and writes: chat templates, special tokens, questions and answers. Stated once, for
training, evaluation and demo alike; a checkpoint names the chat and the wording it was trained in."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from reviosa_core import config
from reviosa_core.schema import Expression, Role

TOKENS: dict[Role, str] = {Role.ACTOR: "[SEG_ACT]", Role.TARGET: "[SEG_TAR]"}
BEFORE: dict[Role, str] = {
    Role.ACTOR: "is",
    Role.TARGET: "and",
}  # the word of every `reply` that a role's token follows
IMAGE_START, IMAGE_CONTEXT, IMAGE_END = "<img>", "<IMG_CONTEXT>", "</img>"


@dataclass(frozen=True)
class Template:
    """A chat as strings around the question and the answer (`end` closes it), and the words of both.

    `ask`, `postfix` and `reply` are the fixed words, `nothing` what is said where nothing is meant.
    `asks`, `postfixes` and `replies` are what training draws from; where they are empty there is nothing to draw.
    """

    name: str
    user: str
    assistant: str
    end: str
    ask: str = "Please segment {}."
    reply: str = "Sure, it is {}."
    nothing: str = "It is not in the video."
    postfix: str = ""  # after every question
    wording: config.Wording = "labelled"
    label: str = "Frame{}: "  # before each frame, which are a line each
    gap: str = "\n"  # between the last frame and the question
    dot: str = " "  # what a full stop in an expression becomes
    asks: tuple[str, ...] = ()
    postfixes: tuple[str, ...] = ()
    replies: tuple[str, ...] = ()

    def frames(self, count: int, tokens_per_frame: int) -> str:
        """The frames of a video: a line each."""
        image = IMAGE_START + IMAGE_CONTEXT * tokens_per_frame + IMAGE_END
        return "\n".join(self.label.format(i + 1) + image for i in range(count)) + self.gap

    def question(self, text: str, rng: np.random.Generator | None = None) -> str:
        """The instruction for one expression: in the fixed words, or in words drawn by `rng`."""
        ask, postfix = _one(self.ask, self.asks, rng), _one(self.postfix, self.postfixes, rng)
        return ask.format(clean(text, self.dot)) + postfix

    def answer(self, expression: Expression, roles: Sequence[Role], rng: np.random.Generator | None = None) -> str:
        """What the model should write: one token, or two when a target is due and the system has the target role; none,
        in fixed words, of an expression about nothing."""
        if expression.is_about_nothing:
            return self.nothing
        due = [Role.ACTOR, Role.TARGET] if Role.TARGET in roles and expression.is_interaction else [Role.ACTOR]
        return self._say(_one(self.reply, self.replies, rng), due)

    @property
    def answers(self) -> list[str]:
        """Every answer with both tokens that this chat has words for."""
        return [self._say(reply, list(TOKENS)) for reply in (self.reply, *self.replies)]

    @staticmethod
    def _say(reply: str, due: Sequence[Role]) -> str:
        return reply.format(" and ".join(TOKENS[role] for role in due))


def _one(fixed: str, several: Sequence[str], rng: np.random.Generator | None) -> str:
    return several[int(rng.integers(len(several)))] if several and rng is not None else fixed


QWEN = ("<|im_start|>user\n", "<|im_end|>\n<|im_start|>assistant\n", "<|im_end|>")
TEMPLATES = {
    t.name: t
    for t in (
        # The chats of the released weights, qwen_chat for 1B, phi3_chat for 4B. Neither has a system message, which
        # InternVL-2.5's own chat begins with.
        Template("qwen_chat", *QWEN),
        Template("phi3_chat", "<|user|>\n", "<|end|>\n<|assistant|>\n", "<|end|>"),
        # The tiny backbone's: the few words it was pretrained with (pretrain.py asks for places in the same ones).
        Template("tiny_chat", *QWEN, ask="Where is {} ?", reply="it is {} .", nothing="it is background ."),
    )
}

# ReVIOSa's training words (cvlab-kaist/InterRVOS at 14c261e, InterRVOS_Dataset.py); questions and answers are Sa2VA's
# (magic-research/Sa2VA, ReVOS_Dataset.py). Eight questions, and the same without their last sign.
QUESTIONS = (
    "Can you segment the {} in this image?",
    "Please segment {} in this image.",
    "What is {} in this image? Please respond with segmentation mask.",
    "What is {} in this image? Please output segmentation mask.",
    "Could you provide a segmentation mask for the {} in this image?",
    "Please identify and segment the {} in this image.",
    "Where is the {} in this picture? Please respond with a segmentation mask.",
    "Can you highlight the {} in this image with a segmentation mask?",
)
POSTFIXES = tuple(
    f" If both a subject and an object are present, {rest}"
    for rest in (
        "please provide separate segmentation masks for each.",
        "return individual segmentation masks for the subject and the object.",
        "kindly provide two distinct segmentation masks: one for the subject and one for the object.",
        "please segment them separately and output both masks.",
        "ensure that each is segmented independently and their masks are returned separately.",
        "please distinguish between them and generate separate masks accordingly.",
        "generate and return individual masks for each of them.",
    )
)
ANSWERS = ("It is {}.", "Sure, {}.", "Sure, it is {}.", "Sure, the segmentation result is {}.", "{}.")
RELEASED: dict[str, Any] = {
    "label": "",
    "gap": "",
    "dot": "",
    "ask": "Please segment {} in this image.",  # of the sixteen, the nearest to what the released evaluation asks
    "asks": (*QUESTIONS, *(question[:-1] for question in QUESTIONS)),
    "replies": ANSWERS,
}
# What a wording changes in a chat. "unlabelled" is word for word what the released evaluations ask, ReVIOSa's and
# Sa2VA's: none of the sixteen questions, a line break before it, no postfix.
WORDINGS: dict[config.Wording, dict[str, Any]] = {
    "labelled": {},
    "unlabelled": {"label": ""},
    "sa2va": RELEASED,
    "reviosa": {**RELEASED, "postfix": POSTFIXES[3], "postfixes": POSTFIXES},
}


def chat(template: str, wording: config.Wording = "labelled") -> Template:
    """The chat of these two names. Raises ValueError for the tiny one in released words: its backbone knows none."""
    if template == "tiny_chat" and "ask" in WORDINGS[wording]:
        raise ValueError(f"{template} has words of its own: it cannot be asked in those of {wording!r}")
    return replace(TEMPLATES[template], wording=wording, **WORDINGS[wording])


def released(roles: Sequence[Role]) -> config.Wording:
    """The wording that a released system of these roles was trained in: only one with two is asked for two."""
    return "reviosa" if Role.TARGET in roles else "sa2va"


def clean(text: str, dot: str = " ") -> str:
    """The expression as the question holds it: lower case, no full stops (InterRVOS's own normalisation), one line."""
    return " ".join(text.replace(".", dot).lower().split())


def place(cell: int) -> str:
    """The word for a cell of the visual grid, row-major: the tiny backbone's grounded answers are written in it."""
    return f"at{cell}"
