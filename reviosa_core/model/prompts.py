"""What the language model reads and writes: chat templates, special tokens, questions and answers. Stated once, for
training, evaluation and demo alike."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from reviosa_core.schema import Expression, Role

TOKENS: dict[Role, str] = {Role.ACTOR: "[SEG_ACT]", Role.TARGET: "[SEG_TAR]"}
IMAGE_START, IMAGE_CONTEXT, IMAGE_END = "<img>", "<IMG_CONTEXT>", "</img>"


@dataclass(frozen=True)
class Template:
    """A chat template as three strings around the question and the answer. `end` closes the answer."""

    name: str
    user: str
    assistant: str
    end: str


# The two chats of the released weights: qwen_chat for 1B, phi3_chat for 4B.
TEMPLATES = {
    t.name: t
    for t in (
        Template("qwen_chat", "<|im_start|>user\n", "<|im_end|>\n<|im_start|>assistant\n", "<|im_end|>"),
        Template("phi3_chat", "<|user|>\n", "<|end|>\n<|assistant|>\n", "<|end|>"),
    )
}


def clean(text: str) -> str:
    """The expression as the question holds it: lower case, no full stops (InterRVOS's own normalisation), one line."""
    return " ".join(text.replace(".", " ").lower().split())


def question(text: str) -> str:
    """The instruction for one expression."""
    return f"Please segment {clean(text)}."


def answer(expression: Expression, roles: Sequence[Role]) -> str:
    """What the model should write: one token, or two when a target is due and the system has the target role."""
    if Role.TARGET in roles and expression.is_interaction:
        return f"Sure, it is {TOKENS[Role.ACTOR]} and {TOKENS[Role.TARGET]}."
    return f"Sure, it is {TOKENS[Role.ACTOR]}."


def visual_prefix(frames: int, tokens_per_frame: int) -> str:
    """The frames of a video as InternVL-2.5 reads them: `Frame1: <img>...</img>` a line."""
    image = IMAGE_START + IMAGE_CONTEXT * tokens_per_frame + IMAGE_END
    return "".join(f"Frame{i + 1}: {image}\n" for i in range(frames))
