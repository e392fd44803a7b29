"""What the three query systems share: how they are trained, how they segment, and the way from frames to sequences.

A system says by a few methods what is its own: `fuse`, `first`, `between`, `conclude`, and its pyramid.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import gcd
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import PreTrainedTokenizerBase

from reviosa_core import config
from reviosa_core.baselines import backbones, batch, deformable, heads, matching
from reviosa_core.baselines.batch import Group
from reviosa_core.baselines.heads import Sequences
from reviosa_core.baselines.pyramid import Finer
from reviosa_core.baselines.sizes import LEVELS, Sizes
from reviosa_core.baselines.text import TextEncoder, Words
from reviosa_core.schema import Clip, Expression, Prediction, Role, Sample

PAIRS = 8  # of a clip and a sentence, segmented side by side at most
PIXELS = 2**23  # of all frames of all pairs that are: one pair of the papers' 36 frames of 360 x 640


@dataclass(frozen=True)
class Seen:
    """What the image backbone says of n clips: its map at stride 4, and strides 8, 16, 32, 64 brought to d channels.
    `size` is (h, w) of the frames in pixels; `finer` is what `Finer` sees of them, where masks are finer than stride 4.
    """

    stride4: Float[Tensor, "n t c _ _"]
    levels: list[Float[Tensor, "n t d _ _"]]
    size: tuple[int, int]
    finer: Float[Tensor, "n t m _ _"] | None

    def of(self, owner: Int[Tensor, "p"]) -> Seen:
        finer = None if self.finer is None else self.finer[owner]
        return Seen(self.stride4[owner], [level[owner] for level in self.levels], self.size, finer)


@dataclass(frozen=True)
class Decoded:
    """The queries after one decoder layer, with the references that it started from, and the boxes that it left."""

    states: Float[Tensor, "p t q d"]
    before: Float[Tensor, "p t q r"]
    after: Float[Tensor, "p t q 4"]


class QuerySystem(nn.Module, ABC):
    """Frames and sentences to q sequences of masks each, of which the one with the best mean score is the answer.

    The frames of a clip that are segmented together are at most `sizes.window` neighbours (36, as in the published
    evaluation on Ref-DAVIS; a shorter clip is seen as a whole, as elsewhere in the papers). Windows of a clip are of
    one length, give or take a frame, and scores are averaged over all its frames before the one query is chosen. What
    is kept of a clip until then is the masks of all queries, at stride 4 in the papers: (q h/4 w/4) numbers a frame and
    sentence.

    Nothing is augmented: a mirrored clip would turn "left" round.
    """

    roles: tuple[Role, ...] = (Role.ACTOR,)
    pyramid: nn.Module

    def __init__(self, sizes: Sizes, tokenizer: PreTrainedTokenizerBase) -> None:
        super().__init__()
        self.sizes = sizes
        self.backbone: Any = backbones.build(sizes.backbone)
        self.text = TextEncoder(sizes.text, tokenizer, sizes.dim, sizes.dropout)
        self.project = projections(self.backbone.channels, sizes.dim)
        self.encoder = deformable.Encoder(sizes)
        self.decoder = nn.ModuleList(deformable.DecoderLayer(sizes) for _ in range(sizes.decoder_layers))
        self.queries = nn.Parameter(torch.randn(sizes.queries, sizes.dim))
        self.reference = nn.Linear(sizes.dim, 2)
        nn.init.xavier_uniform_(self.reference.weight)
        nn.init.zeros_(self.reference.bias)
        self.heads = heads.Heads(sizes)
        self.finer = Finer(sizes.mask_channels, sizes.mask_stride) if sizes.mask_stride < 4 else None

    # -- What is a system's own -----------------------------------------------------------------------------------

    @abstractmethod
    def fuse(self, levels: list[Float[Tensor, "p t d _ _"]], words: Words) -> tuple[list[Tensor], Words]:
        """The four levels with the words in them, and the words, perhaps with the levels in them."""

    def first(self, words: Words) -> Float[Tensor, "p d"]:
        """What every query is before the first decoder layer."""
        return words.sentence

    def between(self, layer: int, states: Float[Tensor, "p t q d"]) -> Float[Tensor, "p t q d"]:
        """The queries after decoder layer `layer`, which has seen each frame by itself."""
        return states

    def conclude(
        self, decoded: list[Decoded], words: Words
    ) -> tuple[list[Float[Tensor, "p t q d"]], list[Float[Tensor, "p q d"]]]:
        """What the heads are told of each layer's queries, and of each layer's whole videos, if anything."""
        return [layer.states for layer in decoded], []

    def video_loss(
        self, videos: Float[Tensor, "p q d"], words: Words, matched: Int[Tensor, "p o"]
    ) -> dict[str, Tensor]:
        """Weighted terms [p] of a layer's videos."""
        return {}

    # -- From frames to sequences ---------------------------------------------------------------------------------

    def see(self, group_frames: Float[Tensor, "b t 3 h w"]) -> Seen:
        maps = self.backbone(group_frames)
        inputs = [*maps[1:], maps[-1]]
        clips, height, width = group_frames.shape[0], *group_frames.shape[-2:]
        levels = [
            project(x.flatten(0, 1)).unflatten(0, (clips, -1)) for project, x in zip(self.project, inputs, strict=True)
        ]
        finer = None if self.finer is None else self.finer.see(group_frames)
        return Seen(maps[0], levels, (height, width), finer)

    def sequences(self, seen: Seen, words: Words) -> tuple[list[Sequences], list[Tensor], Words]:
        """What each decoder layer says of p pairs, the videos of each [p q d], and the words as they are then."""
        levels, words = self.fuse(seen.levels, words)
        clips = levels[0].shape[:2]
        memory = self.encoder([level.flatten(0, 1) for level in levels])
        decoded = self.decode(memory, self.first(words), clips[1])
        maps = [level.unflatten(0, clips) for level in memory.maps()[: LEVELS - 1]]
        features = self.pyramid(seen.stride4, maps, words)
        if self.finer is not None:
            features = self.finer(features, seen.finer)
        told, videos = self.conclude(decoded, words)
        found = [
            self.heads(i, states, layer.before, layer.after, features, seen.size)
            for i, (states, layer) in enumerate(zip(told, decoded, strict=True))
        ]
        return found, videos, words

    def decode(self, memory: deformable.Memory, first: Float[Tensor, "p d"], frames: int) -> list[Decoded]:
        """Layer for layer, each frame by itself; each layer's boxes are where the next one looks, and the training of
        that does not reach back."""
        q = len(self.queries)
        states = first[:, None, None].expand(-1, frames, q, -1)
        reference = self.reference(self.queries).sigmoid().expand(*states.shape[:3], 2)
        decoded = []
        for i, layer in enumerate(self.decoder):
            flat = layer(states.flatten(0, 1), self.queries, reference.flatten(0, 1), memory)
            states = self.between(i, flat.unflatten(0, states.shape[:2]))
            after = self.heads.boxes(i, states, reference).detach()
            decoded.append(Decoded(states, reference, after))
            reference = after
        return decoded

    # -- Training -------------------------------------------------------------------------------------------------

    def parameter_groups(self, rates: config.Clips) -> list[dict[str, Any]]:
        """AdamW groups with their learning rates: the encoders of frames and of text, and everything else."""
        encoders = [*self.backbone.parameters(), *self.text.roberta.parameters()]
        known = {id(parameter) for parameter in encoders}
        rest = [parameter for parameter in self.parameters() if id(parameter) not in known]
        return [{"params": rest, "lr": rates.lr}, {"params": encoders, "lr": rates.lr * self.sizes.encoder_rate}]

    def collate(self, samples: Sequence[Sample], rng: np.random.Generator | None = None) -> list[Group]:
        return batch.collate(samples, self.text)

    def forward(self, groups: Sequence[Group]) -> dict[str, Tensor]:
        return self.training_losses(groups)

    def training_losses(self, batch: Sequence[Group]) -> dict[str, Tensor]:
        """The last decoder layer's terms, weighted, each the mean over all pairs of a clip and a sentence; and
        "auxiliary", the sum of all terms of all other layers, each layer matched for itself."""
        pairs = sum(len(group.owner) for group in batch)
        totals: dict[str, Tensor] = {}
        for group in batch:
            for name, term in self._terms(group.to(self.queries.device)):
                totals[name] = totals.get(name, 0.0) + term.sum() / pairs
        return totals

    def _terms(self, group: Group) -> Iterator[tuple[str, Float[Tensor, "p"]]]:
        size = batch.fit(group.frames.shape[2:4], self.sizes.short, self.sizes.long)
        seen = self.see(batch.pixels(group.frames, size)).of(group.owner)
        truth = matching.Truth.of(batch.resized(group.masks, size), self.sizes.mask_stride)
        found, videos, words = self.sequences(seen, self.text(group.tokens))
        for i, layer in enumerate(found):
            matched = matching.assign(matching.costs(layer, truth, self.sizes.cost))
            terms = matching.compare(layer, truth, matched)
            weighted = {name: getattr(self.sizes.loss, name) * term for name, term in terms.items()}
            if videos:
                weighted |= self.video_loss(videos[i], words, matched)
            for name, term in weighted.items():
                yield (name if i == len(found) - 1 else "auxiliary"), term

    # -- Inference ------------------------------------------------------------------------------------------------

    @torch.no_grad()
    def segment(self, clip: Clip, expressions: Sequence[Expression] | None = None) -> list[Prediction]:
        """One prediction per expression (by default all of the clip's), in order: bool masks [t h w] of the actor, over
        all frames, at the clip's own size, and the chosen query's score. Each frame is encoded once, for all."""
        expressions = clip.expressions if expressions is None else expressions
        if not expressions:
            return []
        size = batch.fit(clip.size, self.sizes.short, self.sizes.long)
        scores: list[list[Tensor]] = [[] for _ in expressions]  # of each window [t q]
        masks: list[list[Tensor]] = [[] for _ in expressions]  # [t q h w]
        for window in windows(len(clip), self.sizes.window):
            frames = torch.from_numpy(np.stack([clip.frames[i] for i in window]))[None]
            seen = self.see(batch.pixels(frames.to(self.queries.device), size))
            many = at_once(len(window), size)
            for start in range(0, len(expressions), many):
                found = self._read(seen, [e.text for e in expressions[start : start + many]])
                for i, (score, mask) in enumerate(zip(found.scores.sigmoid(), found.masks, strict=True), start):
                    scores[i].append(score.cpu())
                    masks[i].append(mask.cpu())
        found = [chosen(*own, clip.size) for own in zip(scores, masks, strict=True)]
        return [
            Prediction(clip.id, e.id, {Role.ACTOR: mask}, score=score)
            for e, (mask, score) in zip(expressions, found, strict=True)
        ]

    def _read(self, seen: Seen, texts: Sequence[str]) -> Sequences:
        """The last decoder layer's sequences for these sentences about one clip. (SOC's published script reads another
        layer: `soc` says which.)"""
        tokens = self.text.tokenize(texts)
        device = self.queries.device
        words = self.text(type(tokens)(tokens.ids.to(device), tokens.real.to(device)))
        return self.sequences(seen.of(torch.zeros(len(texts), dtype=torch.long, device=device)), words)[0][-1]


def at_once(frames: int, size: tuple[int, int]) -> int:
    """How many sentences are read side by side, about so many frames of (h, w) pixels."""
    return min(max(PIXELS // (frames * size[0] * size[1]), 1), PAIRS)


def windows(length: int, limit: int) -> list[range]:
    """Neighbouring frames, as few windows as can be, all of one length or one less."""
    edges = np.linspace(0, length, -(-length // limit) + 1).round().astype(int).tolist()
    return [range(first, last) for first, last in zip(edges, edges[1:], strict=False)]


def chosen(
    scores: Sequence[Float[Tensor, "_ q"]], masks: Sequence[Float[Tensor, "_ q _ _"]], size: tuple[int, int]
) -> tuple[np.ndarray, float]:
    """Masks [t h w] of the query with the best mean score over all frames, probability above a half, at `size`; and
    that score."""
    mean = torch.cat(list(scores)).mean(0)
    best = int(mean.argmax())
    logits = torch.cat([window[:, best] for window in masks])
    parts = [F.interpolate(part[:, None], size, mode="bilinear")[:, 0] > 0 for part in logits.split(32)]
    return torch.cat(parts).numpy(), float(mean[best])


def projections(channels: Sequence[int], dim: int) -> nn.ModuleList:
    """Of strides 8, 16, 32 and, made of the last, 64 to d channels; `channels` are those of strides 4 to 32."""
    deep = [_projected(n, dim, 1, 1) for n in channels[1:]]
    return nn.ModuleList([*deep, _projected(channels[-1], dim, 3, 2)])


def _projected(before: int, dim: int, size: int, stride: int) -> nn.Sequential:
    convolution = nn.Conv2d(before, dim, size, stride, size // 2)
    nn.init.xavier_uniform_(convolution.weight)
    nn.init.zeros_(convolution.bias)
    return nn.Sequential(convolution, nn.GroupNorm(gcd(32, dim), dim))
