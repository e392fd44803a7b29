"""Attention blocks between words, frames and queries: by product, by sum, and the feed-forward layer after it."""

from __future__ import annotations

from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional as F


class Multiply(nn.Module):
    """x <- x * attention(x to others): no residual and no norm, as the fusion of ReferFormer, IFIRVOS and SOC.

    The papers leave open how it starts. Here the factor starts near 1 (the output's bias is 1, its weights are small):
    from the usual start, near 0, a chain of four of them hands on nothing.
    """

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(dim, heads, batch_first=True)
        nn.init.ones_(self.attention.out_proj.bias)

    def forward(
        self,
        x: Float[Tensor, "p n d"],
        others: Float[Tensor, "p m d"],
        positions: Float[Tensor, "#p m d"],
        real: Bool[Tensor, "p m"] | None = None,
    ) -> Float[Tensor, "p n d"]:
        """`positions` are those of the others, and go into keys only; others that are not `real` are not seen."""
        hidden = None if real is None else ~real
        return x * self.attention(x, others + positions, others, key_padding_mask=hidden, need_weights=False)[0]


class Attend(nn.Module):
    """norm(x + attention(x to others)), positions in queries and keys, not in values."""

    def __init__(self, dim: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(dim, heads, dropout=dropout, batch_first=True)
        self.dropout, self.norm = nn.Dropout(dropout), nn.LayerNorm(dim)
        xavier(self)

    def forward(
        self,
        x: Float[Tensor, "p n d"],
        others: Float[Tensor, "p m d"] | None = None,
        *,
        own: Float[Tensor, "#p n d"] | float = 0.0,
        positions: Float[Tensor, "#p m d"] | float = 0.0,
        real: Bool[Tensor, "p m"] | None = None,
    ) -> Float[Tensor, "p n d"]:
        """Without others, x itself: self-attention. `own` are the positions of x, `positions` those of the others."""
        keys, values = (x + own, x) if others is None else (others + positions, others)
        hidden = None if real is None else ~real
        found, _ = self.attention(x + own, keys, values, key_padding_mask=hidden, need_weights=False)
        return self.norm(x + self.dropout(found))


class FeedForward(nn.Module):
    """norm(x + two linear layers of it)."""

    def __init__(self, dim: int, hidden: int, dropout: float) -> None:
        super().__init__()
        self.wide, self.back = nn.Linear(dim, hidden), nn.Linear(hidden, dim)
        self.dropout, self.norm = nn.Dropout(dropout), nn.LayerNorm(dim)
        xavier(self)

    def forward(self, x: Float[Tensor, "*n d"]) -> Float[Tensor, "*n d"]:
        return self.norm(x + self.dropout(self.back(self.dropout(F.relu(self.wide(x))))))


def xavier(module: nn.Module) -> None:
    """Every matrix of a module, as the three systems start them."""
    for parameter in module.parameters():
        if parameter.dim() > 1:
            nn.init.xavier_uniform_(parameter)
