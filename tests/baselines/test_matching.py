from __future__ import annotations

from itertools import permutations

import pytest
import torch

from reviosa_core.baselines import losses, matching
from reviosa_core.baselines.heads import Sequences
from reviosa_core.baselines.sizes import Terms

P, T, Q, K, H, W = 2, 3, 5, 2, 4, 7
TERMS = Terms(cls=2, l1=5, giou=3, focal=7, dice=11)


def found() -> Sequences:
    return Sequences(torch.randn(P, T, Q), torch.rand(P, T, Q, 4), torch.randn(P, T, Q, H, W))


def truth() -> matching.Truth:
    masks = torch.rand(P, K, T, 4 * H, 4 * W - 3) > 0.7
    masks[0, 1, 2] = False  # absent from one frame
    masks[1, 0] = False  # absent from all
    return matching.Truth.of(masks, 4)


def test_truth_is_every_fourth_pixel_filled_up_to_whole_cells():
    masks = torch.rand(1, 1, 2, 6, 9) > 0.5
    made = matching.Truth.of(masks, 4)
    assert made.masks.shape == (1, 1, 2, 2, 3)
    assert torch.equal(
        made.masks[0, 0, :, 0],
        masks[0, 0, :, 2, 2::4]
        .float()[:, :2]
        .new_tensor([[float(masks[0, 0, t, 2, 2]), float(masks[0, 0, t, 2, 6]), 0.0] for t in range(2)]),
    )
    assert not made.masks[:, :, :, 1].any()  # row 6 is beyond the frame
    torch.testing.assert_close(made.boxes, losses.boxes_of(masks))


def test_costs_by_hand_one_by_one():
    """The same with loops, and focal and Dice by the functions that the losses use."""
    said, true = found(), truth()
    cost = matching.costs(said, true, TERMS)
    assert cost.shape == (P, Q, K)
    for p in range(P):
        for q in range(Q):
            for o in range(K):
                want = 0.0
                frames = [t for t in range(T) if true.there[p, o, t]]
                for t in frames:
                    x, box, real = said.scores[p, t, q], said.boxes[p, t, q], true.boxes[p, o, t]
                    part = TERMS.cls * (losses.focal(x, torch.tensor(1.0)) - losses.focal(x, torch.tensor(0.0)))
                    part += TERMS.l1 * (box - real).abs().sum() + TERMS.giou * (1 - losses.giou(box, real))
                    want += part / len(frames)
                logits, mask = said.masks[p, :, q].flatten(), true.masks[p, o].flatten()
                want += TERMS.focal * losses.focal(logits, mask).mean() + TERMS.dice * losses.dice(
                    logits.sigmoid(), mask
                )
                torch.testing.assert_close(cost[p, q, o], torch.as_tensor(want), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("o", [1, 2, 4])
def test_assignment_equals_brute_force(o: int):
    cost = torch.randn(6, Q, o)
    matched = matching.assign(cost)
    assert matched.shape == (6, o)
    for one, picked in zip(cost, matched, strict=True):
        best = min(permutations(range(Q), o), key=lambda way: sum(float(one[q, i]) for i, q in enumerate(way)))
        assert tuple(picked.tolist()) == best


def test_more_sequences_than_queries_are_refused():
    with pytest.raises(ValueError, match="6 sequences for 5 queries"):
        matching.assign(torch.randn(1, Q, 6))


def test_one_query_for_the_whole_sequence():
    """Query 1 is best in most frames, query 0 in the whole: it is the whole that counts."""
    true = matching.Truth.of(torch.ones(1, 1, 3, 8, 8, dtype=torch.bool), 4)
    boxes = true.boxes[:, 0, :, None].repeat(1, 1, 2, 1)
    boxes[0, :, 0, 0] += 0.02
    boxes[0, 2, 1, 0] += 0.4
    said = Sequences(torch.zeros(1, 3, 2), boxes, torch.zeros(1, 3, 2, 2, 2))
    assert matching.assign(matching.costs(said, true, TERMS)).tolist() == [[0]]


def test_the_same_frames_twice_cost_the_same_in_every_term():
    """Masks are a mean over frames as boxes are: not divided by their number once more, as in the published code."""
    said, true = found(), truth()
    true = matching.Truth(torch.ones_like(true.there), true.boxes, true.masks)
    matched = torch.tensor([[3, 1], [0, 4]])
    twice = Sequences(*(torch.cat([x, x], 1) for x in (said.scores, said.boxes, said.masks)))
    longer = matching.Truth(*(torch.cat([x, x], 2) for x in (true.there, true.boxes, true.masks)))
    once, again = (matching.compare(*given, matched) for given in ((said, true), (twice, longer)))
    for name in ("cls", "l1", "giou", "focal", "dice"):
        torch.testing.assert_close(again[name], once[name], atol=0.03 if name == "dice" else 1e-5, rtol=1e-4)


def test_an_absent_object_has_no_box_to_be_far_from():
    said, true = found(), truth()
    matched = torch.tensor([[3, 1], [0, 4]])
    moved = Sequences(said.scores, said.boxes.clone(), said.masks)
    moved.boxes[0, 2, 1] += 0.2  # the query of the object that the third frame does not have
    before, after = (matching.compare(x, true, matched) for x in (said, moved))
    assert torch.equal(before["l1"], after["l1"]) and torch.equal(before["giou"], after["giou"])


def test_what_a_match_costs_golden():
    said, true = found(), truth()
    matched = torch.tensor([[3, 1], [0, 4]])
    terms = matching.compare(said, true, matched)
    assert set(terms) == set(Terms.model_fields)
    right = torch.zeros(T, Q)
    right[:, 3], right[:2, 1] = 1, 1  # its object is in the first two frames only
    torch.testing.assert_close(terms["cls"][0], losses.focal(said.scores[0], right).sum() / 5)
    l1 = (said.boxes[0, :, 3] - true.boxes[0, 0]).abs().sum(-1).mean()
    l1 += (said.boxes[0, :2, 1] - true.boxes[0, 1, :2]).abs().sum(-1).mean()
    torch.testing.assert_close(terms["l1"][0], l1 / 2)
    giou = losses.giou(said.boxes[1, :, 4], true.boxes[1, 1])
    torch.testing.assert_close(terms["giou"][1], (1 - giou).mean() / 2)  # the absent one has no box
    picked = said.masks[1][:, [0, 4]].transpose(0, 1).flatten(1)
    torch.testing.assert_close(terms["focal"][1], losses.focal(picked, true.masks[1].flatten(1)).mean())
    torch.testing.assert_close(terms["dice"][1], losses.dice(picked.sigmoid(), true.masks[1].flatten(1)).mean())
