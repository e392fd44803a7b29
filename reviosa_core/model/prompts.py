"""What the language model reads and writes: chat templates, special tokens, questions and answers. Stated once, for
training, evaluation and demo alike."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from reviosa_core.schema import Expression, Role

TOKENS: dict[Role, str] = {Role.ACTOR: "[SEG_ACT]", Role.TARGET: "[SEG_TAR]"}
BEFORE: dict[Role, str] = {Role.ACTOR: "is", Role.TARGET: "and"}  # the word of every reply that a role's token follows
IMAGE_START, IMAGE_CONTEXT, IMAGE_END = "<img>", "<IMG_CONTEXT>", "</img>"


@dataclass(frozen=True)
class Template:
    """A chat as strings around the question and the answer (`end` closes it), and the words of both."""

    name: str
    user: str
    assistant: str
    end: str
    ask: str = "Please segment {}."
    reply: str = "Sure, it is {}."

    def question(self, text: str) -> str:
        """The instruction for one expression."""
        return self.ask.format(clean(text))

    def answer(self, expression: Expression, roles: Sequence[Role]) -> str:
        """What the model should write: one token, or two when a target is due and the system has the target role."""
        due = [Role.ACTOR, Role.TARGET] if Role.TARGET in roles and expression.is_interaction else [Role.ACTOR]
        return self.reply.format(" and ".join(TOKENS[role] for role in due))


QWEN = ("<|im_start|>user\n", "<|im_end|>\n<|im_start|>assistant\n", "<|im_end|>")
TEMPLATES = {
    t.name: t
    for t in (
        # The chats of the released weights: qwen_chat for 1B, phi3_chat for 4B.
        Template("qwen_chat", *QWEN),
        Template("phi3_chat", "<|user|>\n", "<|end|>\n<|assistant|>\n", "<|end|>"),
        # The tiny backbone's: the few words it was pretrained with (pretrain.py asks for places in the same ones).
        Template("tiny_chat", *QWEN, ask="Where is {} ?", reply="it is {} ."),
    )
}


def clean(text: str) -> str:
    """The expression as the question holds it: lower case, no full stops (InterRVOS's own normalisation), one line."""
    return " ".join(text.replace(".", " ").lower().split())


def place(cell: int) -> str:
    """The word for a cell of the visual grid, row-major: the tiny backbone's grounded answers are written in it."""
    return f"at{cell}"


def visual_prefix(frames: int, tokens_per_frame: int) -> str:
    """The frames of a video as InternVL-2.5 reads them: `Frame1: <img>...</img>` a line."""
    image = IMAGE_START + IMAGE_CONTEXT * tokens_per_frame + IMAGE_END
    return "".join(f"Frame{i + 1}: {image}\n" for i in range(frames))
