"""Packed questions read exactly what each would read alone."""

from __future__ import annotations

import pytest
import tiny
import torch
from torch import Tensor

from reviosa_core.model.packing import IGNORE, PAD, Packed, Turn, pack

N = IGNORE
TURNS = [
    [Turn([21, 22, 23], [31, 32]), Turn([24], [33, 34, 35])],
    [Turn([25, 26], [36])],
]
PREFIXES = [[11, 12], [13, 14, 15]]


@pytest.fixture
def packed() -> Packed:
    return pack(PREFIXES, TURNS, pad=99)


def test_golden(packed):
    assert packed.ids.tolist() == [
        [11, 12, 21, 22, 23, 31, 32, 24, 33, 34, 35],
        [13, 14, 15, 25, 26, 36, 99, 99, 99, 99, 99],
    ]
    assert packed.positions.tolist() == [[0, 1, 2, 3, 4, 5, 6, 2, 3, 4, 5], [0, 1, 2, 3, 4, 5, 0, 0, 0, 0, 0]]
    assert packed.segments.tolist() == [[0, 0, 1, 1, 1, 1, 1, 2, 2, 2, 2], [0, 0, 0, 1, 1, 1, *[PAD] * 5]]
    assert packed.labels.tolist() == [
        [N, N, N, N, 31, 32, N, 33, 34, 35, N],
        [N, N, N, N, 36, N, N, N, N, N, N],
    ]


def test_mask_golden():
    rows = pack([[1, 2], [1]], [[Turn([3], [4]), Turn([5])], [Turn([3], [4])]], pad=0).mask()
    assert rows.shape == (2, 1, 5, 5) and rows.dtype == torch.bool
    assert rows[0, 0].int().tolist() == [
        [1, 0, 0, 0, 0],
        [1, 1, 0, 0, 0],
        [1, 1, 1, 0, 0],
        [1, 1, 1, 1, 0],
        [1, 1, 0, 0, 1],  # the second question sees the prefix, not the first
    ]
    assert rows[1, 0].int().tolist() == [
        [1, 0, 0, 0, 0],
        [1, 1, 0, 0, 0],
        [1, 1, 1, 0, 0],
        [0, 0, 0, 1, 0],  # padding reads padding only, and so always something
        [0, 0, 0, 1, 1],
    ]


def alone(model, prefix: list[int], turn: Turn, features: Tensor) -> Tensor:
    """Hidden states of one question and its answer, read by itself with plain causal attention."""
    ids = torch.tensor([[*prefix, *turn.question, *turn.answer]])
    out = model.language(inputs_embeds=model.embed(ids, [features]), use_cache=False)
    return out.last_hidden_state[0]


def test_packed_states_and_logits_equal_those_of_one_question_alone():
    model = tiny.reader(lora=True)
    features = [torch.randn(t, tiny.GRID, tiny.GRID, model.width) for t in (3, 2)]
    prefixes = [model.prefix_ids(len(f)) for f in features]
    turns = [
        [
            model.turn("segment the red circle .", "Sure , it is [SEG_ACT] ."),
            model.turn("please", "[SEG_ACT] and [SEG_TAR]"),
            model.turn("the square is moving to the left"),
        ],
        [model.turn("Please segment the blue star .", "it is [SEG_TAR] .")],
    ]
    packed = pack(prefixes, turns, model.tokenizer.pad_token_id)
    assert (packed.segments[1] == PAD).any() and len({len(t.question) + len(t.answer) for t in turns[0]}) == 3
    with torch.no_grad():
        hidden = model(packed, features)
        for b, own in enumerate(turns):
            for number, turn in enumerate(own, start=1):
                want = alone(model, prefixes[b], turn, features[b])
                got = hidden[b, (packed.segments[b] == 0) | (packed.segments[b] == number)]
                torch.testing.assert_close(got, want, atol=1e-5, rtol=1e-5)
                head = model.internvl.lm_head
                torch.testing.assert_close(head(got), head(want), atol=1e-5, rtol=1e-5)


def test_find_gives_row_position_and_turn_of_answer_tokens_only():
    where, turns = pack(
        [[7], [8, 9]],
        [
            [Turn([50, 1], [2]), Turn([3, 50], [4, 50, 5]), Turn([6], [50])],  # 50 in questions does not count
            [Turn([1], [2]), Turn([1, 2, 3], [50, 50])],
        ],
        pad=50,  # nor does padding
    ).find(50)
    assert where.tolist() == [[0, 7], [0, 10], [1, 7], [1, 8]]
    assert turns.tolist() == [1, 2, 1, 1]


def test_find_of_nothing_is_empty(packed):
    where, turns = packed.find(77)
    assert where.shape == (0, 2) and turns.shape == (0,)


def test_a_prefix_without_turns_is_an_error():
    with pytest.raises(ValueError, match="2 prefixes for 1 "):
        pack(PREFIXES, TURNS[:1], pad=0)


def test_to_moves_every_tensor(packed):
    moved = packed.to("meta")
    assert {getattr(moved, name).device.type for name in ("ids", "positions", "segments", "labels")} == {"meta"}
