"""Rows taken on the way equal those of eager attention, in value and in gradient."""

from __future__ import annotations

import pytest
import tiny
import torch
from torch import Tensor

from reviosa_core.model import attention, mllm, packing

B, R, V = 2, 5, 48  # clips, rows asked for, width
LAYERS = {0: (3, 1), 2: None, 1: (2, 0, 3)}  # chosen heads, not sorted; None: all four
QUERIES = torch.tensor([[1, 9], [0, 16], [0, 5], [1, 12], [0, 10]])  # not sorted either; from both clips, all blocks


@pytest.fixture
def model() -> mllm.Mllm:
    return tiny.reader(lora=True).requires_grad_(True)  # the base weights too


@pytest.fixture
def packed() -> packing.Packed:
    """A prefix and three blocks; a prefix and one block, then padding."""
    turns = [
        [packing.Turn([8, 9], [10, 11]), packing.Turn([9, 8, 7], [6]), packing.Turn([12], [13, 14])],
        [packing.Turn([8, 9, 10, 7], [11, 12, 13])],
    ]
    batch = packing.pack([[3, 4, 5, 6, 7, 8], [5, 4, 3, 7, 8, 9]], turns, pad=0)
    assert batch.ids.shape == (B, 17) and (batch.segments == packing.PAD).sum() == 4
    return batch


def read(model: mllm.Mllm, inputs: Tensor, mask: Tensor | None, positions: Tensor, **kwargs):
    return model.language(inputs_embeds=inputs, attention_mask=mask, position_ids=positions, use_cache=False, **kwargs)


def tapped(model: mllm.Mllm, inputs: Tensor, mask: Tensor | None, positions: Tensor) -> dict[int, Tensor]:
    tap = attention.RowTap(QUERIES, LAYERS)
    read(model, inputs, mask, positions, row_tap=tap)
    return {layer: tap.rows[layer] for layer in LAYERS}


def eager(model: mllm.Mllm, inputs: Tensor, mask: Tensor | None, positions: Tensor) -> dict[int, Tensor]:
    """The same rows cut out of the whole N x N matrices."""
    model.language.set_attn_implementation("eager")
    if mask is not None:  # eager attention adds its mask
        mask = torch.zeros(mask.shape).masked_fill(~mask, torch.finfo(torch.float32).min)
    maps = read(model, inputs, mask, positions, output_attentions=True).attentions
    model.language.set_attn_implementation(attention.NAME)
    batch, position = QUERIES.unbind(-1)
    return {
        layer: maps[layer][batch, :, position][:, range(4) if heads is None else list(heads)]
        for layer, heads in LAYERS.items()
    }


def gradients(model: mllm.Mllm, rows: dict[int, Tensor], inputs: Tensor) -> dict[str, Tensor]:
    """Of an uneven sum over the rows, by parameter name, and `inputs`."""
    torch.manual_seed(1)
    total = torch.stack([(rows[layer] * torch.randn(rows[layer].shape)).sum() for layer in sorted(rows)]).sum()
    named = dict(model.language.named_parameters(), inputs=inputs)
    found = torch.autograd.grad(total, list(named.values()), allow_unused=True)
    return {name: g for name, g in zip(named, found, strict=True) if g is not None}


def assert_same(got: dict, want: dict, tolerance: float = 1e-5) -> None:
    assert got.keys() == want.keys()
    for name in want:
        torch.testing.assert_close(got[name], want[name], atol=tolerance, rtol=1e-4, msg=lambda m, n=name: f"{n}: {m}")


@pytest.mark.parametrize("masked", [True, False])
def test_rows_and_their_gradients_equal_eager_attention(model, packed, masked):
    mask = packed.mask() if masked else None  # None is causal; positions that restart would mean packing
    positions = packed.positions if masked else torch.arange(17).expand(B, -1)
    inputs = model.language.get_input_embeddings()(packed.ids).detach().requires_grad_()
    got = tapped(model, inputs, mask, positions)
    want = eager(model, inputs, mask, positions)
    assert [got[layer].shape for layer in (0, 1, 2)] == [(R, 2, 17), (R, 3, 17), (R, 4, 17)]
    assert_same(got, want)
    ours, theirs = gradients(model, got, inputs), gradients(model, want, inputs)
    assert {n.split(".")[-4] for n in ours if "lora_B" in n} >= {"q_proj", "k_proj", "v_proj"}
    assert any("base_layer" in n for n in ours) and ours["inputs"].abs().max() > 1e-3
    assert_same(ours, theirs)


def test_rows_sum_to_one_and_see_only_what_is_allowed(model, packed):
    inputs = model.language.get_input_embeddings()(packed.ids)
    rows = tapped(model, inputs, packed.mask(), packed.positions)
    batch, position = QUERIES.unbind(-1)
    allowed = packed.mask()[batch, 0, position]
    for row in rows.values():
        torch.testing.assert_close(row.sum(-1), torch.ones(row.shape[:2]))
        assert (row[~allowed[:, None].expand_as(row)] == 0).all()
        assert (row[allowed[:, None].expand_as(row)] > 0).all()


def test_an_additive_mask_means_the_same_as_a_boolean_one(model, packed):
    inputs, mask = model.language.get_input_embeddings()(packed.ids), packed.mask()
    additive = torch.zeros(mask.shape).masked_fill(~mask, torch.finfo(torch.float32).min)
    assert_same(tapped(model, inputs, additive, packed.positions), tapped(model, inputs, mask, packed.positions), 1e-6)


def test_tapping_changes_nothing_in_the_output(model, packed):
    inputs = model.language.get_input_embeddings()(packed.ids)
    plain = read(model, inputs, packed.mask(), packed.positions).last_hidden_state
    tap = attention.RowTap(QUERIES, LAYERS)
    with_tap = read(model, inputs, packed.mask(), packed.positions, row_tap=tap).last_hidden_state
    assert torch.equal(plain, with_tap)


def test_gradient_checkpointing_changes_nothing(model, packed):
    inputs = model.language.get_input_embeddings()(packed.ids).detach().requires_grad_()
    want = tapped(model, inputs, packed.mask(), packed.positions)
    theirs = gradients(model, want, inputs)
    model.train()
    model.checkpoint_gradients()
    calls = []
    model.language.layers[1].register_forward_pre_hook(lambda *_: calls.append(1))
    got = tapped(model, inputs, packed.mask(), packed.positions)
    assert len(calls) == 1
    ours = gradients(model, got, inputs)
    assert len(calls) == 2  # the tapped layer did run again
    assert_same(got, want, 0.0)
    assert_same(ours, theirs, 1e-6)


@pytest.mark.parametrize("heads", [(4,), (0, 7)])
def test_a_head_that_does_not_exist_is_an_error(model, packed, heads):
    tap = attention.RowTap(QUERIES, {1: heads})
    inputs = model.language.get_input_embeddings()(packed.ids)
    with pytest.raises(ValueError, match=rf"head {heads[-1]} of layer 1, which has 4"):
        read(model, inputs, packed.mask(), packed.positions, row_tap=tap)


def test_gradients_of_rows_of_one_clip_are_the_same_every_time():
    """Many rows gather the keys of one clip; their gradients must be added in one order, whatever the threads do."""
    torch.set_num_threads(2)
    query, key = torch.randn(3, 4, 400, 32), torch.randn(3, 2, 400, 32)
    tap = torch.stack([torch.arange(24) % 3, 300 + torch.arange(24)], 1)

    def gradient() -> Tensor:
        keys = key.clone().requires_grad_(True)
        taken = attention.RowTap(tap, {0: None})
        taken.take(0, query, keys, None, 0.2)
        (taken.rows[0] ** 2).sum().backward()
        assert keys.grad is not None
        return keys.grad

    first = gradient()
    assert all(torch.equal(gradient(), first) for _ in range(20))
