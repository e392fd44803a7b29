"""The networks' shapes, in numbers, and what their code takes for granted of these; how large a question about a video
is."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from reviosa_core.bounds import Count, Few, Fraction, Seed, Share, Strict, need

# Upper ends as for the descriptions that come with checkpoints: what a profile builds can be saved and read again.
Pixels = Annotated[int, Field(ge=1, le=2048)]
Layers = Annotated[int, Field(ge=1, le=128)]
Heads = Annotated[int, Field(ge=1, le=256)]
Width = Annotated[int, Field(ge=1, le=16_384)]
Wide = Annotated[int, Field(ge=1, le=2**19)]
Blocks = Annotated[int, Field(ge=1, le=64)]  # SAM2's: of a stage, and a window's cells
Block = Annotated[int, Field(ge=0, lt=128)]


class Vision(Strict):
    hidden: Width
    layers: Layers
    heads: Heads
    ffn: Wide

    @model_validator(mode="after")
    def _heads(self) -> Vision:
        need(self.hidden % self.heads == 0, "heads", self.heads, f"must divide hidden {self.hidden}")
        return self


class Language(Vision):
    kv_heads: Heads

    @model_validator(mode="after")
    def _rules(self) -> Language:
        need(self.heads % self.kv_heads == 0, "kv_heads", self.kv_heads, f"must divide heads {self.heads}")
        wide = self.hidden // self.heads
        need(wide % 2 == 0, "heads", self.heads, f"hidden {self.hidden} / heads must be even, for rotary positions")
        return self


class Lora(Strict):
    rank: Width
    alpha: Width
    dropout: Fraction


class Mllm(Strict):
    """InternVL at any size; `frames` is the paper's T': how many frames the language model sees."""

    image_size: Pixels
    patch_size: Pixels
    frames: Few
    vision: Vision
    language: Language
    lora: Lora

    @model_validator(mode="after")
    def _grid(self) -> Mllm:
        rule = f"2 x patch_size must divide image_size {self.image_size}: four patches become a visual token"
        need(self.image_size % (2 * self.patch_size) == 0, "patch_size", self.patch_size, rule)
        return self


class Segmenter(Strict):
    """SAM2 at any size. `prompted`: decode the language prompt on the first of the K frames, or on all of them."""

    image_size: Pixels
    embed: Annotated[int, Field(ge=1, le=256)]
    heads: Annotated[int, Field(ge=1, le=16)] = 1  # of the first stage; every stage doubles them
    stages: tuple[Blocks, Blocks, Blocks, Blocks]
    windows: tuple[Blocks, Blocks, Blocks, Blocks]
    global_blocks: Annotated[tuple[Block, ...], Field(max_length=32)]
    dim: Annotated[int, Field(ge=1, le=512)]
    memory_dim: Annotated[int, Field(ge=1, le=512)]
    num_maskmem: Annotated[int, Field(ge=1, le=32)]
    prompted: Literal["first", "all"]

    @model_validator(mode="after")
    def _geometry(self) -> Segmenter:
        """What SAM2's own code takes for granted."""
        grid, blocks = self.image_size // 4, sum(self.stages)
        need(blocks <= 128, "stages", self.stages, f"have {blocks} blocks together, and at most 128 are built")
        need(self.image_size % 32 == 0, "image_size", self.image_size, "must be a multiple of 32")
        need(self.embed % self.heads == 0, "heads", self.heads, f"must divide embed {self.embed}")
        need(grid % self.windows[0] == 0, "windows", self.windows, f"the first must divide the stride-4 grid {grid}")
        even = all(window % 2 == 0 for window in self.windows[:3])
        need(even, "windows", self.windows, "the first three must be even: the next stage halves them")
        need(self.dim % 16 == 0, "dim", self.dim, "must be a multiple of 16")
        fits = self.dim % self.memory_dim == 0 and self.memory_dim % 4 == 0
        need(fits, "memory_dim", self.memory_dim, f"must be a multiple of 4 that divides dim {self.dim}")
        pooling, chosen = {sum(self.stages[:i]) for i in (1, 2, 3)}, self.global_blocks
        need(len(set(chosen)) == len(chosen), "global_blocks", chosen, "must be distinct")
        need(
            max(chosen, default=0) < blocks, "global_blocks", chosen, f"must be below the {blocks} blocks of all stages"
        )
        clash = pooling.isdisjoint(chosen)
        need(clash, "global_blocks", chosen, f"none may be the first of its stage, one of {sorted(pooling)}")
        return self


class Model(Strict):
    mllm: Mllm
    segmenter: Segmenter


class Study(Strict):
    """What notebook 11 tries on InterShapes: `flips`, shares of events whose roles are answered the wrong way round;
    `wrong`, shares of claims that the verifier itself judges wrongly."""

    clips: Count = 60
    flips: tuple[Share, ...] = (0.0, 0.05, 0.1, 0.2)
    wrong: tuple[Share, ...] = (0.0, 0.1)


class Annotation(Strict):
    """How videos are annotated: what a question shows, how it is asked, and which tracks are good enough."""

    frames: Few = 8  # of a clip, shown in one question
    side: Annotated[int, Field(ge=32, le=4096)] = 512  # pixels of the longer side of a picture shown
    objects: Annotated[int, Field(ge=2, le=12)] = 12  # of a clip, at most; each has a colour of its own
    words: Annotated[int, Field(ge=3, le=200)] = 30  # of a text, at most
    presence: Share = 0.3  # a track is seen in at least this share of the frames,
    area: Share = 0.0005  # covers at least this share of those,
    stability: Share = 0.5  # and keeps at least this share of its area from frame to frame
    grid: Few = 6  # points a side, where there are neither masks nor boxes
    at_once: Few = 8  # questions under way
    tokens: Annotated[int, Field(ge=16, le=100_000)] = 2000  # of an answer, at most
    seed: Seed = 0
    study: Study = Study()
