"""What the queries say: is it the one, where is its box, and which pixels are it (by kernels that each query makes)."""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from reviosa_core.baselines.attention import xavier
from reviosa_core.baselines.sizes import Sizes

PRIOR = 0.01  # probability that an untrained query is the one


@dataclass(frozen=True)
class Sequences:
    """What the queries of one decoder layer say about p pairs of a clip and a sentence, frame by frame.

    `scores` and `masks` are logits, masks at stride `sizes.mask_stride`; boxes are (centre x, centre y, w, h), as
    shares of the frame.
    """

    scores: Float[Tensor, "p t q"]
    boxes: Float[Tensor, "p t q 4"]
    masks: Float[Tensor, "p t q h w"]


class Perceptron(nn.Module):
    """Three linear layers."""

    def __init__(self, dim: int, out: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList([nn.Linear(dim, dim), nn.Linear(dim, dim), nn.Linear(dim, out)])

    def forward(self, x: Float[Tensor, "*n d"]) -> Float[Tensor, "*n o"]:
        for layer in self.layers[:-1]:
            x = F.relu(layer(x))
        return self.layers[-1](x)


class Heads(nn.Module):
    """Scores and boxes have weights of their own for each decoder layer; the kernels' are shared by all."""

    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        score, box = nn.Linear(sizes.dim, 1), Perceptron(sizes.dim, 4)
        nn.init.constant_(score.bias, -math.log((1 - PRIOR) / PRIOR))
        nn.init.zeros_(box.layers[-1].weight)
        nn.init.zeros_(box.layers[-1].bias)
        self.score = nn.ModuleList(copy.deepcopy(score) for _ in range(sizes.decoder_layers))
        self.box = nn.ModuleList(copy.deepcopy(box) for _ in range(sizes.decoder_layers))
        with torch.no_grad():
            self.box[0].layers[-1].bias[2:] = -2.0  # the first boxes are small, an eighth of the frame
        self.kernels = DynamicMasks(sizes)

    def boxes(
        self, layer: int, states: Float[Tensor, "*n q d"], reference: Float[Tensor, "*n q r"]
    ) -> Float[Tensor, "*n q 4"]:
        """The box is the reference, (x, y) or (x, y, w, h), moved by what the state says."""
        known = F.pad(inverse_sigmoid(reference), (0, 4 - reference.shape[-1]))
        return (self.box[layer](states) + known).sigmoid()

    def forward(
        self,
        layer: int,
        states: Float[Tensor, "p t q d"],
        before: Float[Tensor, "p t q r"],
        after: Float[Tensor, "p t q 4"],
        features: Float[Tensor, "p t m h w"],
        size: tuple[int, int],
    ) -> Sequences:
        """`before` and `after` are the references that the layer started from and left; `size` is (h, w) in pixels."""
        scores = self.score[layer](states)[..., 0]
        masks = self.kernels(states, after[..., :2], features, size)
        return Sequences(scores, self.boxes(layer, states, before), masks)


class DynamicMasks(nn.Module):
    """Three 1 x 1 convolutions, whose weights each query makes for itself, over the mask features and each pixel's
    distance (x, y) from the query's point, in pixels."""

    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        m, k = sizes.mask_channels, sizes.kernel_channels
        self.stride = sizes.mask_stride
        self.shapes = [(k, m + 2), (k, k), (1, k)]  # weights out, in; then as many biases as out
        self.controller = Perceptron(sizes.dim, sum(out * (into + 1) for out, into in self.shapes))
        xavier(self)
        for layer in self.controller.layers:
            nn.init.zeros_(layer.bias)

    def forward(
        self,
        states: Float[Tensor, "p t q d"],
        points: Float[Tensor, "p t q 2"],
        features: Float[Tensor, "p t m h w"],
        size: tuple[int, int],
    ) -> Float[Tensor, "p t q h w"]:
        """`points` are (x, y) as shares of the frame, which is `size` (h, w) pixels."""
        weights, biases = self.parse(self.controller(states))
        height, width = features.shape[-2:]
        points = points * points.new_tensor([size[1], size[0]])
        rows, columns = (
            self.stride * torch.arange(n, device=points.device) + self.stride // 2 for n in (height, width)
        )
        to_features, to_x, to_y = weights[0].split([features.shape[2], 1, 1], -1)
        # Distances are linear in rows and columns: no map of them is made for each query.
        x = torch.einsum("ptqom,ptmhw->ptqohw", to_features, features)
        x = x + (to_x * (points[..., :1, None] - columns))[..., None, :]
        x = x + (to_y * (points[..., 1:, None] - rows))[..., None]
        x = x + biases[0][..., None, None]
        for weight, bias in zip(weights[1:], biases[1:], strict=True):
            x = torch.einsum("ptqoi,ptqihw->ptqohw", weight, F.relu(x)) + bias[..., None, None]
        return x[:, :, :, 0]

    def parse(self, numbers: Float[Tensor, "p t q n"]) -> tuple[list[Tensor], list[Tensor]]:
        """A query's numbers to weights [p t q out in] and biases [p t q out]: first all weights, then all biases."""
        counts = [out * into for out, into in self.shapes] + [out for out, _ in self.shapes]
        parts = numbers.split(counts, -1)
        weights = [part.unflatten(-1, shape) for part, shape in zip(parts, self.shapes, strict=False)]
        return weights, list(parts[len(self.shapes) :])


def inverse_sigmoid(share: Float[Tensor, "*n"], eps: float = 1e-5) -> Float[Tensor, "*n"]:
    share = share.clamp(0, 1)
    return share.clamp(min=eps).log() - (1 - share).clamp(min=eps).log()
