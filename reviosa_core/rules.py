"""How models are trained: the parameters of every loop, of the backbones' pretraining, and of fine-tuning."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from reviosa_core.bounds import Count, Few, Fraction, Rate, Share, Strict, Weight, Words, need


class Loop(Strict):
    """What every training loop needs to know; rates are set a parameter group. `accumulate` micro-batches make a step,
    and its gradient is their mean."""

    steps: Count
    accumulate: Count = 1
    betas: tuple[Fraction, Fraction] = (0.9, 0.999)
    weight_decay: Weight = 0.05
    warmup: Share = 0.05  # share of the steps
    clip_norm: Rate = 1.0
    checkpoint_every: Count = 200


class Phase(Loop):
    """One pretraining phase. `batch` is clips a step (images, for the vision phase). `muon_lr` is the rate of the
    layers' matrices, `lr` that of the rest, by AdamW."""

    batch: Count
    lr: Rate
    muon_lr: Rate


class Pretrain(Strict):
    clips: Count  # kept as pixels, for SAM2 and the vision tower
    reading_clips: Annotated[int, Field(ge=4, le=10_000_000)]  # kept as visual tokens, for the language model
    segmenter_images: Phase
    segmenter_pairs: Phase
    segmenter: Phase
    vision: Phase
    watching: Phase
    mllm: Phase


class Released(Strict):
    """Backbones to start from instead of pretraining some, by path from the project's root: a folder with InternVL, and
    Meta's SAM2 file (with its yaml, where it is none of the packaged ones)."""

    internvl: Words
    sam2: Words
    sam2_yaml: Words | None = None
    template: Literal["qwen_chat", "phi3_chat"]
    license: Words  # of what is made of them, for its card


def start(value: Any) -> str:
    """Which of the two it is, for pydantic."""
    released = isinstance(value, Released) or (isinstance(value, dict) and "internvl" in value)
    return "(released)" if released else "(phases)"  # in brackets: part of a message's place, but no key


class LossWeights(Strict):
    """Weights of Eq. 7-8; `points` is how many points the mask losses look at (uncertainty-sampled).

    AML of several heads is their `sum` as in Eq. 6, or their `mean` as in the release; it is averaged over all
    `expressions`, as the mask losses are, or over each role's own `rows`, as in the release.
    """

    ce: Weight
    dice: Weight
    aml: Weight
    text: Weight
    points: Count
    aml_heads: Literal["sum", "mean"] = "sum"
    aml_over: Literal["expressions", "rows"] = "expressions"

    @model_validator(mode="after")
    def _masks(self) -> LossWeights:
        need(self.ce + self.dice > 0, "ce", self.ce, "ce or dice must be above 0: nothing else teaches the masks")
        return self


class Train(Loop):
    """Fine-tuning (phase b). `clips` a micro-batch, `expressions` a clip; `processes` share the micro-batches of a
    step, on a GPU each where there are GPUs."""

    processes: Few = 1
    clips: Count
    expressions: Count
    frames: Literal["uniform", "contiguous", "random"]  # which K of a clip's frames; evaluation takes uniform ones
    lr: Rate
    decoder_lr: Rate
    projector_lr: Rate
    wording: Literal["labelled", "unlabelled", "released"] = "labelled"  # released: of a ReVIOSa with these roles
    gradient_checkpointing: bool
    cache_gb: Weight  # features of the frozen encoders kept in memory
    loss: LossWeights

    @model_validator(mode="after")
    def _shared(self) -> Train:
        rule = f"must divide accumulate {self.accumulate}: each takes as many micro-batches of a step"
        need(self.accumulate % self.processes == 0, "processes", self.processes, rule)
        return self


class Rules(Strict):
    """What is done otherwise than the profile's `train` says; None: the same."""

    steps: Count | None = None
    lr: Rate | None = None
    decoder_lr: Rate | None = None
    projector_lr: Rate | None = None
