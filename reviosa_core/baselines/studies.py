"""The papers' own ablations, in miniature: IFIRVOS's modules one by one, SOC's cluster and its loss.

By composition: each variant is a system of its own, made of the parts that it has.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, NamedTuple

from jaxtyping import Float
from torch import Tensor, nn
from transformers import PreTrainedTokenizerBase

from reviosa_core.baselines.ifirvos import BetweenFrames, Ifirvos
from reviosa_core.baselines.query import QuerySystem
from reviosa_core.baselines.referformer import ReferFormer, read
from reviosa_core.baselines.sizes import IFIRVOS, SOC, Sizes
from reviosa_core.baselines.soc import Soc
from reviosa_core.baselines.text import Words


class InterFrame(ReferFormer):
    """IFIRVOS's inter-frame interaction alone ("+ IFI"): language and vision meet as in ReferFormer."""

    def __init__(self, sizes: Sizes, tokenizer: PreTrainedTokenizerBase) -> None:
        super().__init__(sizes, tokenizer)
        self.between_frames = nn.ModuleList(BetweenFrames(sizes) for _ in range(sizes.decoder_layers))
        self.eval()

    def between(self, layer: int, states: Float[Tensor, "p t q d"]) -> Float[Tensor, "p t q d"]:
        return self.between_frames[layer](states)


class VisionLanguage(Ifirvos):
    """IFIRVOS's vision-language interaction alone ("+ VLI"): frames do not talk to each other."""

    def __init__(self, sizes: Sizes, tokenizer: PreTrainedTokenizerBase) -> None:
        super().__init__(sizes, tokenizer)
        del self.between_frames

    def between(self, layer: int, states: Float[Tensor, "p t q d"]) -> Float[Tensor, "p t q d"]:
        return states


class Dynamic(Ifirvos):
    """The paper's Table 5, "dynamic text feature": each level reads the words as the level before it left them (4.4),
    the first one the raw words. What the decoder's query starts as, and what the pyramid reads, is as in IFIRVOS."""

    def fuse(self, levels: list[Float[Tensor, "p t d _ _"]], words: Words) -> tuple[list[Tensor], Words]:
        *before, last = self.words_see.chain(levels, words)
        enhanced = [
            read(fusion, level, replace(words, features=seen))
            for fusion, level, seen in zip(self.vision_reads, levels, before, strict=True)
        ]
        return enhanced, replace(words, sentence=self.words_see.pool(last[:, 0]))


class Variant(NamedTuple):
    """A row: the system, and the sizes it changes."""

    system: type[QuerySystem]
    published: Sizes
    changes: Mapping[str, Any] = {}


STUDIES: dict[str, dict[str, Variant]] = {
    "IFIRVOS": {
        "baseline": Variant(ReferFormer, IFIRVOS),
        "+ VLI": Variant(VisionLanguage, IFIRVOS),
        "+ IFI": Variant(InterFrame, IFIRVOS),
        "+ IFI + VLI, fixed text": Variant(Ifirvos, IFIRVOS),
        "dynamic text": Variant(Dynamic, IFIRVOS),
        "one frame": Variant(Ifirvos, IFIRVOS, {"frames": 1}),
        "four frames": Variant(Ifirvos, IFIRVOS, {"frames": 4}),
    },
    "SOC": {
        "sizes of the profile": Variant(Soc, SOC),
        "two cluster layers": Variant(Soc, SOC, {"cluster_layers": 2}),
        "five queries": Variant(Soc, SOC, {"queries": 5}),
        "five queries, without the contrastive loss": Variant(Soc, SOC, {"queries": 5, "contrastive": 0.0}),
    },
}
