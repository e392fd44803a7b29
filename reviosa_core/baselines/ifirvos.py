"""IFIRVOS (Lan et al.): ReferFormer, whose frames talk to each other, and whose sentence has seen the video.

There is no public code. What the paper leaves open, and what is chosen here:

- each level has fusion weights of its own, in both directions, with 8 heads at the paper's size;
- words are brought from RoBERTa's width to that of the levels first; so "the poolout operation in the RoBERTa model" is
  done at this width, by a pooler of its own: a linear layer and tanh on the first word, then a norm, for the words have
  been multiplied four times and may be of any size;
- levels are read from stride 8 to stride 64;
- where positions are "added to the visual features before the cross-attention" (3.3), and to the words, they are added
  to keys, as in ReferFormer, not to values;
- a query has no position in the attention between frames: its learned one has been added in the decoder layer before,
  and frames are a set;
- that attention has 8 heads, its feed-forward layer is as wide as the decoder's, both start by adding nothing: so the
  system starts as one without them, "plug and play".
"""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor, nn
from transformers import PreTrainedTokenizerBase

from reviosa_core.baselines import positions
from reviosa_core.baselines.attention import Attend, FeedForward, Multiply
from reviosa_core.baselines.pyramid import CrossModalPyramid
from reviosa_core.baselines.query import QuerySystem
from reviosa_core.baselines.referformer import read
from reviosa_core.baselines.sizes import LEVELS, Sizes
from reviosa_core.baselines.text import Words


class Ifirvos(QuerySystem):
    """ReferFormer with both modules of the paper: `between_frames` is IFI, `vision_reads` and `words_see` are VLI.
    `studies` has systems without the one or the other."""

    def __init__(self, sizes: Sizes, tokenizer: PreTrainedTokenizerBase) -> None:
        super().__init__(sizes, tokenizer)
        self.vision_reads = nn.ModuleList(Multiply(sizes.dim, sizes.heads) for _ in range(LEVELS))
        self.words_see = WordsSee(sizes)
        self.between_frames = nn.ModuleList(BetweenFrames(sizes) for _ in range(sizes.decoder_layers))
        self.pyramid = CrossModalPyramid(sizes, self.backbone.channels[0])
        self.eval()

    def fuse(self, levels: list[Float[Tensor, "p t d _ _"]], words: Words) -> tuple[list[Tensor], Words]:
        """Both read what the other was before: words, the levels without words; every level, the raw words ("fixed" in
        the paper's Table 5)."""
        enhanced = [read(fusion, level, words) for fusion, level in zip(self.vision_reads, levels, strict=True)]
        return enhanced, Words(words.features, words.real, words.positions, self.words_see(levels, words))

    def between(self, layer: int, states: Float[Tensor, "p t q d"]) -> Float[Tensor, "p t q d"]:
        return self.between_frames[layer](states)


class WordsSee(nn.Module):
    """Language enhanced by vision: words are multiplied by what they see in each level in turn, over all frames, and
    pooled to the sentence."""

    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        self.levels = nn.ModuleList(Multiply(sizes.dim, sizes.heads) for _ in range(LEVELS))
        self.pool = nn.Sequential(nn.Linear(sizes.dim, sizes.dim), nn.Tanh(), nn.LayerNorm(sizes.dim, eps=1e-12))

    def forward(self, levels: list[Float[Tensor, "p t d _ _"]], words: Words) -> Float[Tensor, "p d"]:
        return self.pool(self.chain(levels, words)[-1][:, 0])

    def chain(self, levels: list[Float[Tensor, "p t d _ _"]], words: Words) -> list[Float[Tensor, "p l d"]]:
        """The words before the first level, and after each."""
        found = [words.features]
        for fusion, level in zip(self.levels, levels, strict=True):
            found.append(fusion(found[-1], level.movedim(2, -1).flatten(1, 3), places(level)))
        return found


class BetweenFrames(nn.Module):
    """Inter-frame interaction (Eq. 5): all queries of all frames attend to each other."""

    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        self.attend = Attend(sizes.dim, sizes.heads, sizes.dropout)
        self.forth = FeedForward(sizes.dim, sizes.ffn, sizes.dropout)
        for last in (self.attend.attention.out_proj, self.forth.back):
            nn.init.zeros_(last.weight)
            nn.init.zeros_(last.bias)

    def forward(self, states: Float[Tensor, "p t q d"]) -> Float[Tensor, "p t q d"]:
        return self.forth(self.attend(states.flatten(1, 2))).view(states.shape)


def places(level: Float[Tensor, "p t d h w"]) -> Float[Tensor, "1 n d"]:
    """Positions of the cells of all frames, n = t h w; the frame is not told."""
    _, t, d, h, w = level.shape
    return positions.of_cells(h, w, d, level.device).flatten(1).T.repeat(t, 1)[None]
