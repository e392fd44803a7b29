"""transformers' private layers, behind the adapter, against a plain deformable attention of our own."""

from __future__ import annotations

import pytest
import queries
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from reviosa_core.baselines import deformable, positions
from reviosa_core.baselines.referformer import ReferFormer

SIZES = queries.SIZES[ReferFormer].model_copy(update={"encoder_layers": 2})
SHAPES = [(5, 7), (3, 4), (2, 3), (1, 2)]
N, D, HEADS, POINTS = 2, SIZES.dim, SIZES.heads, SIZES.points


def plain(part: nn.Module, x: Tensor, reference: Tensor, cells: Tensor) -> Tensor:
    """Deformable attention [n q d], a query, head, level and point at a time: bilinear, zero outside of the frame."""
    value = part.value_proj(cells).unflatten(-1, (HEADS, -1))
    shift = part.sampling_offsets(x).view(N, x.shape[1], HEADS, len(SHAPES), POINTS, 2)
    weight = part.attention_weights(x).unflatten(-1, (HEADS, -1)).softmax(-1).unflatten(-1, (len(SHAPES), POINTS))
    out = torch.zeros(N, x.shape[1], HEADS, D // HEADS)
    for n, q, h, level, k in torch.cartesian_prod(*map(torch.arange, weight.shape)).tolist():
        height, width = SHAPES[level]
        rows = value[n, sum(a * b for a, b in SHAPES[:level]) :, h]
        if reference.shape[-1] == 2:
            place = reference[n, q] * torch.tensor([width, height]) + shift[n, q, h, level, k]
        else:
            box = reference[n, q, :2] + shift[n, q, h, level, k] / POINTS * reference[n, q, 2:] / 2
            place = box * torch.tensor([width, height])
        (left, top), part_of = (place - 0.5).floor().long().tolist(), (place - 0.5) % 1
        for i, j in ((0, 0), (0, 1), (1, 0), (1, 1)):
            if 0 <= top + i < height and 0 <= left + j < width:
                share = (part_of[1] if i else 1 - part_of[1]) * (part_of[0] if j else 1 - part_of[0])
                out[n, q, h] = out[n, q, h] + weight[n, q, h, level, k] * share * rows[(top + i) * width + left + j]
    return part.output_proj(out.flatten(2))


def forth(layer: nn.Module, x: Tensor) -> Tensor:
    return layer.final_layer_norm(x + layer.mlp.fc2(F.relu(layer.mlp.fc1(x))))


def shaken(module: nn.Module) -> nn.Module:
    """Weights that differ everywhere: offsets and weights of the points start as constants."""
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return module.eval()


def same_gradients(module: nn.Module, ours: Tensor, theirs: Tensor, *inputs: Tensor) -> None:
    torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-4)
    pull = torch.randn_like(ours)
    wanted = [*inputs, *module.parameters()]
    found = [torch.autograd.grad((x * pull).sum(), wanted, retain_graph=True) for x in (ours, theirs)]
    for mine, other in zip(*found, strict=True):
        torch.testing.assert_close(mine, other, atol=1e-4, rtol=1e-3)


def test_encoder_equals_a_plain_one_in_value_and_gradient():
    encoder = shaken(deformable.Encoder(SIZES))
    levels = [torch.randn(N, D, *shape, requires_grad=True) for shape in SHAPES]
    memory = encoder(levels)
    x = torch.cat([level.flatten(2).mT for level in levels], 1)
    place = [positions.of_cells(*s, D, x.device).flatten(1).T + encoder.level[i] for i, s in enumerate(SHAPES)]
    centres = [[((j + 0.5) / w, (i + 0.5) / h) for i in range(h) for j in range(w)] for h, w in SHAPES]
    reference = torch.tensor(sum(centres, [])).expand(N, -1, -1)
    for layer in encoder.layers:
        seen = plain(layer.self_attn, x + torch.cat(place), reference, x)
        x = forth(layer, layer.self_attn_layer_norm(x + seen))
    same_gradients(encoder, memory.cells, x, *levels)


@pytest.mark.parametrize("known", [2, 4])
def test_decoder_layer_equals_a_plain_one_in_value_and_gradient(known: int):
    made = shaken(deformable.DecoderLayer(SIZES))
    layer, q = made.layer, 3
    states = torch.randn(N, q, D, requires_grad=True)
    cells = torch.randn(N, sum(h * w for h, w in SHAPES), D, requires_grad=True)
    own = torch.randn(q, D, requires_grad=True)
    reference = torch.rand(N, q, known)
    found = made(states, own, reference, deformable.Memory(cells, SHAPES))

    part, x = layer.self_attn, states
    heads = [
        project(y).unflatten(-1, (HEADS, -1)).transpose(1, 2)
        for project, y in ((part.q_proj, x + own), (part.k_proj, x + own), (part.v_proj, x))
    ]
    among = (heads[0] @ heads[1].mT / (D // HEADS) ** 0.5).softmax(-1) @ heads[2]
    x = layer.self_attn_layer_norm(x + part.o_proj(among.transpose(1, 2).flatten(2)))
    x = layer.encoder_attn_layer_norm(x + plain(layer.encoder_attn, x + own, reference, cells))
    same_gradients(made, found, forth(layer, x), states, cells, own)


def test_memory_gives_the_levels_back():
    levels = [torch.randn(N, D, *shape) for shape in SHAPES]
    memory = deformable.Memory(torch.cat([level.flatten(2).mT for level in levels], 1), SHAPES)
    for level, again in zip(levels, memory.maps(), strict=True):
        assert torch.equal(level, again)


def test_points_start_in_as_many_directions_as_heads_and_one_cell_further_each():
    part = deformable.Encoder(SIZES).layers[0].self_attn
    start = part.sampling_offsets.bias.view(HEADS, len(SHAPES), POINTS, 2)
    torch.testing.assert_close(start[0, 2], torch.tensor([[1.0, 0], [2, 0], [3, 0], [4, 0]]))
    torch.testing.assert_close(start[1, 0, 1], torch.tensor([0.0, 2.0]), atol=1e-6, rtol=0)
    assert not part.sampling_offsets.weight.any() and not part.attention_weights.weight.any()
