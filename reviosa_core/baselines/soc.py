"""SOC (Luo et al., NeurIPS 2023): queries of frames are gathered to queries of the video, and given back to each frame.

The published code folds (layer, frame, pair) into (layer x pair, frame) without swapping them first, which mixes clips
and frames up as soon as there are several of both (its journal version does not). Here each layer's queries are
[p t q d] throughout. Masks are compared at stride 4, Dice over the whole sequence, as in the other two systems; the
published code does it at full size, a frame at a time.

What is said at the end is what the last decoder layer says, as the paper has it and as the journal version's code does.
The published code, when it evaluates, clusters the last layer only and pairs that one result with the first of the
per-layer outputs: its masks are those of decoder layer 0, with the last layer's video queries added, by the first
layer's heads. Numbers of the released weights, run here, are therefore not those that its script prints.
"""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from transformers import PreTrainedTokenizerBase

from reviosa_core.baselines import losses
from reviosa_core.baselines.attention import Attend, FeedForward, Multiply
from reviosa_core.baselines.ifirvos import places
from reviosa_core.baselines.pyramid import Pyramid
from reviosa_core.baselines.query import Decoded, QuerySystem
from reviosa_core.baselines.referformer import read
from reviosa_core.baselines.sizes import SocSizes
from reviosa_core.baselines.text import Words


class Soc(QuerySystem):
    """Queries of frames start empty and differ by their learned positions; the sentence comes in with the video's."""

    SEEN = 2  # the level that the words are multiplied by: stride 32

    def __init__(self, sizes: SocSizes, tokenizer: PreTrainedTokenizerBase) -> None:
        super().__init__(sizes, tokenizer)
        self.contrastive = sizes.contrastive
        self.fusion = Multiply(sizes.dim, sizes.heads)
        self.words_see = Multiply(sizes.dim, sizes.heads)
        self.cluster = Cluster(sizes)
        self.pyramid = Pyramid(sizes, self.backbone.channels[0])
        self.eval()

    def fuse(self, levels: list[Float[Tensor, "p t d _ _"]], words: Words) -> tuple[list[Tensor], Words]:
        """Words that have seen the video are for the contrastive loss only: the sentence stays as it was said."""
        level = levels[self.SEEN]
        seen = self.words_see(words.features, level.movedim(2, -1).flatten(1, 3), places(level))
        fused = [read(self.fusion, level, words) for level in levels]
        return fused, Words(seen, words.real, words.positions, words.sentence)

    def first(self, words: Words) -> Float[Tensor, "p d"]:
        return torch.zeros_like(words.sentence)

    def conclude(
        self, decoded: list[Decoded], words: Words
    ) -> tuple[list[Float[Tensor, "p t q d"]], list[Float[Tensor, "p q d"]]]:
        """Every frame's queries with the video's added: query i of the video belongs to query i of each frame."""
        videos = [self.cluster(layer.states, words.sentence) for layer in decoded]
        return [layer.states + video[:, None] for layer, video in zip(decoded, videos, strict=True)], videos

    def video_loss(
        self, videos: Float[Tensor, "p q d"], words: Words, matched: Int[Tensor, "p o"]
    ) -> dict[str, Tensor]:
        """Of the matched video query with the mean over the words that have seen the video."""
        real = words.real[..., None].float()
        language = (words.features * real).sum(1) / real.sum(1)
        return {"contrastive": self.contrastive * losses.contrastive(videos, language, matched)}


class Cluster(nn.Module):
    """Video object cluster: queries of all frames attend to each other; then as many video queries, each starting as
    the sentence, read them."""

    def __init__(self, sizes: SocSizes) -> None:
        super().__init__()
        self.frames = nn.ModuleList(_Gather(sizes) for _ in range(sizes.cluster_layers))
        self.frame_positions = nn.Parameter(torch.randn(sizes.queries, sizes.dim))
        self.video_positions = nn.Parameter(torch.randn(sizes.queries, sizes.dim))
        self.videos = nn.ModuleList(_Read(sizes) for _ in range(sizes.video_layers))
        self.norm = nn.LayerNorm(sizes.dim)

    def forward(self, states: Float[Tensor, "p t q d"], sentence: Float[Tensor, "p d"]) -> Float[Tensor, "p q d"]:
        frames = states.flatten(1, 2)
        for layer in self.frames:
            frames = layer(frames)
        keys = self.frame_positions.repeat(states.shape[1], 1)[None]
        own = self.video_positions[None]
        videos = sentence[:, None].expand(-1, len(self.video_positions), -1)
        for layer in self.videos:
            videos = layer(videos, own, frames, keys)
        return self.norm(videos)


class _Gather(nn.Module):
    def __init__(self, sizes: SocSizes) -> None:
        super().__init__()
        self.attend = Attend(sizes.dim, sizes.heads, sizes.dropout)
        self.forth = FeedForward(sizes.dim, sizes.ffn, sizes.dropout)

    def forward(self, frames: Float[Tensor, "p n d"]) -> Float[Tensor, "p n d"]:
        return self.forth(self.attend(frames))


class _Read(nn.Module):
    def __init__(self, sizes: SocSizes) -> None:
        super().__init__()
        self.across = Attend(sizes.dim, sizes.heads, sizes.dropout)
        self.attend = Attend(sizes.dim, sizes.heads, sizes.dropout)
        self.forth = FeedForward(sizes.dim, sizes.ffn, sizes.dropout)

    def forward(
        self,
        videos: Float[Tensor, "p q d"],
        own: Float[Tensor, "1 q d"],
        frames: Float[Tensor, "p n d"],
        keys: Float[Tensor, "1 n d"],
    ) -> Float[Tensor, "p q d"]:
        """Frames first, then each other: the other way round from the usual."""
        videos = self.across(videos, frames, own=own, positions=keys)
        return self.forth(self.attend(videos, own=own))
