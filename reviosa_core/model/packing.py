"""Several questions about one video in one sequence: a shared visual prefix, then blocks that cannot see each other.

Each question reads the prefix and itself, at the positions it would have if it were asked alone, so its logits equal
the unpacked ones, and the video is read once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Int
from torch import Tensor

IGNORE = -100  # the label transformers' losses skip
PAD, PREFIX = -1, 0  # segment numbers; the blocks count from 1


@dataclass(frozen=True)
class Turn:
    """Token ids of one question and its answer (empty when it is to be generated)."""

    question: Sequence[int]
    answer: Sequence[int] = ()


@dataclass(frozen=True)
class Packed:
    """A right-padded batch of packed sequences."""

    ids: Int[Tensor, "b n"]
    positions: Int[Tensor, "b n"]
    segments: Int[Tensor, "b n"]  # PAD, PREFIX, or 1 + index of the turn
    labels: Int[Tensor, "b n"]  # the next token to predict, IGNORE outside answers

    def mask(self) -> Bool[Tensor, "b 1 n n"]:
        """True where the query (row) may read the key (column): causal, own block or prefix. Padding reads itself."""
        n = self.ids.shape[1]
        causal = torch.ones(n, n, dtype=torch.bool, device=self.ids.device).tril()
        query, key = self.segments[:, :, None], self.segments[:, None, :]
        return (causal & ((query == key) | ((key == PREFIX) & (query != PAD))))[:, None]

    def find(self, token: int) -> tuple[Int[Tensor, "r 2"], Int[Tensor, "r"]]:
        """(batch, position) of each `token` in the answers, and the index of its turn, in order."""
        # A token of the answer is the label of the position before it.
        answered = torch.zeros_like(self.labels, dtype=torch.bool)
        answered[:, 1:] = (self.labels[:, :-1] == token) & (self.ids[:, 1:] == token)
        where = answered.nonzero()
        return where, self.segments[where[:, 0], where[:, 1]] - 1

    def to(self, device: torch.device | str) -> Packed:
        return Packed(*(t.to(device) for t in (self.ids, self.positions, self.segments, self.labels)))


def pack(prefixes: Sequence[Sequence[int]], turns: Sequence[Sequence[Turn]], pad: int) -> Packed:
    """One row a video: its prefix, then its turns. The label of a position is the token that follows it in its answer.

    Raises ValueError when the numbers of prefixes and of lists of turns differ.
    """
    if len(prefixes) != len(turns):
        raise ValueError(f"{len(prefixes)} prefixes for {len(turns)} lists of turns")
    rows = []
    for prefix, blocks in zip(prefixes, turns, strict=True):
        ids, positions, segments = list(prefix), list(range(len(prefix))), [PREFIX] * len(prefix)
        labels = [IGNORE] * len(prefix)
        for number, turn in enumerate(blocks, start=1):
            block = [*turn.question, *turn.answer]
            ids += block
            positions += range(len(prefix), len(prefix) + len(block))
            segments += [number] * len(block)
            labels += [IGNORE] * (len(turn.question) - 1) + list(turn.answer) + [IGNORE]
        rows.append((ids, positions, segments, labels))
    n = max(len(row[0]) for row in rows)
    columns = zip(*rows, strict=True)
    return Packed(
        *(
            torch.tensor([row + [fill] * (n - len(row)) for row in column])
            for column, fill in zip(columns, (pad, 0, PAD, IGNORE), strict=True)
        )
    )
