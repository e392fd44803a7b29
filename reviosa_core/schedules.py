"""What a training loop is told: steps, rates, what a batch is. And the query systems' sizes at a profile's scale."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field, model_validator

from reviosa_core.bounds import Count, Few, Fraction, Name, Rate, Seed, Share, Strict, Weight, Words, changed, need
from reviosa_core.sizes import Model, Width


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


class LossWeights(Strict):
    """Weights of Eq. 7-8; `points` is how many points the mask losses look at (uncertainty-sampled).

    AML of several heads is their `sum` as in Eq. 6, or their `mean` as in the release; it is averaged over all
    `expressions`, as the mask losses are, or over each role's own `rows`, as in the release. It looks at `all` of the K
    frames, or at the `prompted` ones. Its form is Eq. 6's `bce`; the others (`model.losses.FORMS`) are for studies.
    """

    ce: Weight
    dice: Weight
    aml: Weight
    text: Weight
    points: Count
    aml_heads: Literal["sum", "mean"] = "sum"
    aml_over: Literal["expressions", "rows"] = "expressions"
    aml_frames: Literal["all", "prompted"] = "all"
    aml_form: Literal["bce", "renormalised", "kl", "mass"] = "bce"

    @model_validator(mode="after")
    def _masks(self) -> LossWeights:
        need(self.ce + self.dice > 0, "ce", self.ce, "ce or dice must be above 0: nothing else teaches the masks")
        return self


class Clips(Loop):
    """Training any system on clips: `clips` a micro-batch, `expressions` a clip."""

    clips: Count
    expressions: Count
    frames: Literal["uniform", "contiguous", "random"]  # which K of a clip's frames; evaluation takes uniform ones
    lr: Rate


class Train(Clips):
    """Fine-tuning ReVIOSa (phase b); `processes` share the micro-batches of a step, on a GPU each where there
    are GPUs.

    `visual_projector`: InternVL's `mlp1`, which the release trains. `role_tokens`: their embeddings start as `words` of
    the backbone's answers, where it has such, or at `random` (`mllm.add_role_tokens`).
    """

    processes: Few = 1
    decoder_lr: Rate
    projector_lr: Rate
    visual_projector: Literal["frozen", "trained"] = "frozen"
    role_tokens: Literal["words", "random"] = "words"
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

    def train(self, train: Train) -> Train:
        """Raises ValueError as `changed`."""
        return changed(train, **self.model_dump(include={*Rules.model_fields}, exclude_none=True))


class Otherwise(Rules):
    """What a study does otherwise than the profile, in the loss, in the model and in what it is shown; None: the same.

    `heads`: how many of its layer AML is put on, those that look most at the video. `shown`: K, the frames that the
    language model sees. `prompted`: which of these the mask decoder is prompted on. `only`: the sentences that training
    keeps, by how InterShapes' names of their kinds begin ("one", "one, motion"); `sentences`: so many of them
    (`studies.kept`). `flips`: the share of events whose roles the training clips have the wrong way round; `verifier`:
    how often one errs that has looked at each sentence (`studies.labelled`).
    """

    LOSS: ClassVar = ("aml", "aml_heads", "aml_over", "aml_frames", "aml_form")
    OF_AML: ClassVar = (*LOSS, "heads")  # without AML they change nothing

    visual_projector: Literal["frozen", "trained"] | None = None
    role_tokens: Literal["words", "random"] | None = None
    aml: Weight | None = None
    aml_heads: Literal["sum", "mean"] | None = None
    aml_over: Literal["expressions", "rows"] | None = None
    aml_frames: Literal["all", "prompted"] | None = None
    aml_form: Literal["bce", "renormalised", "kl", "mass"] | None = None
    heads: Few | None = None
    shown: Few | None = None
    prompted: Literal["first", "all"] | None = None
    only: tuple[Words, ...] | None = None
    sentences: Count | None = None
    flips: Share | None = None
    verifier: Share | None = None

    def train(self, train: Train) -> Train:
        """Raises ValueError as `changed`."""
        loss = self.model_dump(include={*self.LOSS}, exclude_none=True)
        own = self.model_dump(include={"visual_projector", "role_tokens"}, exclude_none=True)
        return changed(super().train(train), loss=changed(train.loss, **loss), **own)

    def model(self, model: Model) -> Model:
        """Raises ValueError as `changed`."""
        frames, prompted = self.shown or model.mllm.frames, self.prompted or model.segmenter.prompted
        mllm, segmenter = changed(model.mllm, frames=frames), changed(model.segmenter, prompted=prompted)
        return changed(model, mllm=mllm, segmenter=segmenter)


class Study(Strict):
    """Runs that differ in one or two things: every row under every rule, with every seed; AML on every named layer (or
    on `every` one), and without any it is where the main pipeline has it. `clips`: how many of the train split, or all.
    `backbones`: which of `studies.backbones` they start from, or from the profile's own; on another, AML is put where
    the paper's rule wants it there.
    """

    rows: Annotated[tuple[Name, ...], Field(min_length=1)]
    rules: Annotated[tuple[Name, ...], Field(min_length=1)]
    layers: tuple[Annotated[int, Field(ge=0, le=1000)], ...] | Literal["every"] = ()
    clips: tuple[Count, ...] = ()
    backbones: tuple[Name, ...] = ()
    seeds: Annotated[tuple[Seed, ...], Field(min_length=1)]


class Backbone(Strict):
    """A language model that was pretrained otherwise: `reading` is the share of the profile's steps of that phase,
    `looking` the weight of the loss that tells attention where to look; with a `seed` of its own its first weights, its
    clips and their order are others than the profile's."""

    reading: Annotated[float, Field(gt=0, le=10)]
    looking: Weight = 0.0
    seed: Seed | None = None

    def pretrain(self, phases: Pretrain) -> Pretrain:
        """Raises ValueError as `changed`."""
        steps = max(1, round(self.reading * phases.mllm.steps))
        return changed(phases, mllm=changed(phases.mllm, steps=steps))


class Studies(Strict):
    """Scored on the split `dev`. `rules` and `backbones` are named here, and studies name them."""

    rules: dict[Name, Otherwise]
    backbones: dict[Name, Backbone] = {}
    runs: dict[Name, Study]

    @model_validator(mode="after")
    def _rules(self) -> Studies:
        for name, study in self.runs.items():
            for key, named, known in (
                ("rules", study.rules, self.rules),
                ("backbones", study.backbones, self.backbones),
            ):
                unknown = [one for one in named if one not in known]
                need(not unknown, f"runs.{name}.{key}", unknown, f"must be among {key}, {sorted(known)}")
        return self


TEXT_HEADS = 4  # of the query systems' text encoder


class Encoders(Clips):
    """Pretraining of the query systems' encoders, on `pool` InterShapes clips that no split contains."""

    pool: Count


class Baselines(Strict):
    """The query systems, of one size for all three; what is not here is as in their papers. `shown` is T, the frames of
    a clip in training. `encoder_rate`: the encoders' rate, as a share of everybody else's."""

    channels: tuple[Width, Width, Width, Width]  # of the backbone's maps
    text: Width
    text_layers: Few
    dim: Width
    heads: Few
    points: Few = 4  # where a head looks, of each level
    ffn: Width
    layers: Few  # of the deformable encoder, and of the decoder
    queries: Few
    mask_channels: Width
    mask_stride: Literal[1, 2, 4]
    shown: Few
    encoder_rate: Weight
    encoders: Encoders
    train: Clips
    studies: Clips  # of each variant in the papers' ablations, and of each of the rates
    rates: tuple[Rate, ...] = ()  # tried on `dev`, all of them with every system

    @model_validator(mode="after")
    def _fit(self) -> Baselines:
        """What the networks take for granted of each other."""
        need(self.dim % self.heads == 0, "heads", self.heads, f"must divide dim {self.dim}")
        need(self.dim % 16 == 0, "dim", self.dim, "must be a multiple of 16: SOC's pyramid halves it four times")
        need(all(n % 8 == 0 for n in self.channels), "channels", self.channels, "must be multiples of 8: norms' groups")
        need(self.text % TEXT_HEADS == 0, "text", self.text, f"must be a multiple of {TEXT_HEADS}, the encoder's heads")
        return self
