"""ReferFormer (Wu et al., CVPR 2022): the sentence itself, several times over, is what the queries start from."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from reviosa_core.baselines.attention import Multiply
from reviosa_core.baselines.pyramid import CrossModalPyramid
from reviosa_core.baselines.query import QuerySystem
from reviosa_core.baselines.sizes import Sizes
from reviosa_core.baselines.text import Words


class ReferFormer(QuerySystem):
    """Every level is multiplied by what its cells read in the words, by one module for all levels; the queries start as
    the sentence, and differ by their learned positions; the way down to the mask features reads the words again.

    Frames meet in the backbone (Video Swin), and in the pyramid's self-attention; queries of frames do not.
    """

    def __init__(self, sizes: Sizes, tokenizer: PreTrainedTokenizerBase) -> None:
        super().__init__(sizes, tokenizer)
        self.fusion = Multiply(sizes.dim, sizes.heads)
        self.pyramid = CrossModalPyramid(sizes, self.backbone.channels[0])
        self.eval()

    def fuse(self, levels: list[Float[Tensor, "p t d _ _"]], words: Words) -> tuple[list[Tensor], Words]:
        return [read(self.fusion, level, words) for level in levels], words


def read(fusion: Multiply, level: Float[Tensor, "p t d h w"], words: Words) -> Float[Tensor, "p t d h w"]:
    """The cells of a level, each multiplied by what it reads in the words."""
    cells = level.movedim(2, -1)
    found = fusion(cells.flatten(1, 3), words.features, words.positions, words.real)
    return found.view(cells.shape).movedim(-1, 2)
