"""Which frames and expressions are drawn, and that their masks are theirs."""

from __future__ import annotations

import dataclasses
import hashlib

import numpy as np
import pytest

from reviosa_core import masks
from reviosa_core.data import sampling
from reviosa_core.schema import Clip, Expression, Role
from reviosa_core.training import sampler

T, H, W = 6, 7, 11
PATTERNS = {key: np.random.default_rng(i).random((T, H, W)) > 0.7 for i, key in enumerate("abc")}


def clip(expressions: tuple[Expression, ...]) -> Clip:
    frames = np.random.default_rng(9).integers(0, 256, (T, H, W, 3), dtype=np.uint8)
    rles = {key: [masks.encode(m) for m in pattern] for key, pattern in PATTERNS.items()}
    rles["a"][3] = None  # absent there
    return Clip("clip", frames, tuple(f"{i:05d}" for i in range(T)), (H, W), expressions, rles)


DIRECTED = Expression("3", "a pushes b and c", "unidirectional", ("a",), ("b", "c"))
PLAIN = tuple(Expression(str(i), f"number {i}", "single", ("abc"[i],)) for i in range(3))
MIXED = (*PLAIN, DIRECTED, Expression("4", "b and c", "multi", ("b", "c")))


@pytest.mark.parametrize(
    ("length", "count", "want"),
    [
        (8, 5, (0, 1, 3, 5, 7)),
        (24, 4, (0, 7, 15, 23)),
        (100, 5, (0, 24, 49, 74, 99)),
        (5, 5, (0, 1, 2, 3, 4)),
        (3, 5, (0, 1, 2)),
        (1, 5, (0,)),
        (9, 1, (0,)),
    ],
)
def test_frame_indices_golden(length, count, want):
    assert sampling.frame_indices(length, count) == want


def test_frame_indices_are_unique_sorted_and_span_the_clip():
    for length in range(1, 60):
        for count in range(2, 18):
            uniform = sampling.frame_indices(length, count)
            drawn = sampling.frame_indices(length, count, np.random.default_rng((length, count)))
            for indices in (uniform, drawn):
                assert len(indices) == min(count, length) and list(indices) == sorted(set(indices))
                assert 0 <= indices[0] and indices[-1] < length
            assert uniform[0] == 0 and uniform[-1] == length - 1


def test_drawing_depends_on_the_generator_alone():
    np.random.seed(1)
    first = sampling.frame_indices(50, 5, np.random.default_rng(3)), draw(0)
    np.random.seed(2)
    state = np.random.get_state()[1].copy()
    assert (sampling.frame_indices(50, 5, np.random.default_rng(3)), draw(0)) == first
    assert (np.random.get_state()[1] == state).all()  # and moves nothing
    assert len({draw(seed) for seed in range(20)}) > 10


def draw(seed: int, expressions: tuple[Expression, ...] = MIXED, count: int = 2, frames: int = 4) -> tuple:
    rng, one = np.random.default_rng(seed), clip(expressions)
    indices = sampling.frame_indices(len(one), frames, rng)
    return indices, tuple(one.expressions[i].id for i in sampler.pick(one, count, rng))


@pytest.mark.parametrize(("length", "count"), [(0, 3), (3, 0)])
def test_nothing_to_pick_is_an_error_with_both_numbers(length, count):
    with pytest.raises(ValueError, match=f"{count} of {length}"):
        sampling.frame_indices(length, count)


def test_a_directed_expression_is_always_among_those_drawn():
    for seed in range(40):
        _, ids = draw(seed)
        assert DIRECTED.id in ids and len(set(ids)) == 2
        assert draw(seed, count=1)[1] == (DIRECTED.id,)


def test_without_a_directed_one_any_are_drawn_and_all_when_few():
    drawn = {draw(seed, PLAIN)[1] for seed in range(40)}
    assert {e for ids in drawn for e in ids} == {"0", "1", "2"} and all(len(ids) == 2 for ids in drawn)
    assert sorted(draw(0, PLAIN, count=9)[1]) == ["0", "1", "2"]


def test_every_expression_gets_its_turn():
    partners = {e for seed in range(60) for e in draw(seed)[1]}
    assert partners == {"0", "1", "2", "3", "4"}


def test_take_gives_frames_and_masks_in_the_asked_order():
    whole = clip(MIXED)
    sample = sampling.take(whole, (5, 0, 3), (4, 3, 0, 1))
    assert [e.id for e in sample.expressions] == ["4", "3", "0", "1"] and sample.indices == (5, 0, 3)
    assert sample.frames.shape == (3, H, W, 3) and (sample.frames == whole.frames[[5, 0, 3]]).all()
    a, b, c = (PATTERNS[key][[5, 0, 3]] for key in "abc")
    a = a.copy()
    a[2] = False
    nothing = np.zeros_like(a)
    assert (sample.masks[Role.ACTOR] == np.stack([b | c, a, a, b])).all()
    assert (sample.masks[Role.TARGET] == np.stack([nothing, b | c, nothing, nothing])).all()
    assert sample.masks[Role.ACTOR].shape == (4, 3, H, W)


def test_take_without_expressions_takes_all():
    sample = sampling.take(clip(MIXED), (1, 2))
    assert sample.expressions == MIXED and sample.masks[Role.TARGET].shape == (5, 2, H, W)


def test_a_clip_without_expressions_gives_an_empty_sample():
    sample = sampling.take(clip(()), (1, 2))
    assert sample.masks[Role.ACTOR].shape == (0, 2, H, W)


def test_a_window_is_of_neighbours_and_reaches_every_place():
    found = {sampler.window(6, 4, np.random.default_rng(seed)) for seed in range(40)}
    assert found == {(0, 1, 2, 3), (1, 2, 3, 4), (2, 3, 4, 5)}
    assert sampler.window(3, 5, np.random.default_rng(0)) == (0, 1, 2)
    with pytest.raises(ValueError, match="0 of 3"):
        sampler.window(3, 0, np.random.default_rng(0))


def clips(count: int = 5) -> list[Clip]:
    whole = clip(MIXED)
    return [dataclasses.replace(whole, id=str(i)) for i in range(count)]


def sampling_run(how: str = "random", seed: int = 7) -> sampler.Sampler:
    return sampler.Sampler(clips(), frames=3, expressions=2, how=how, seed=seed)  # type: ignore[arg-type]


@pytest.mark.parametrize("how", ["uniform", "random"])
def test_drawn_as_the_committed_results_were(how: str):
    """The rule by which they were trained, written out: order, frames, expressions, each from its own numbers."""
    made = sampling_run(how)
    for place in range(13):
        epoch, position = divmod(place, 5)
        index = np.random.default_rng((7, epoch)).permutation(5)[position]
        rng = np.random.default_rng((7, epoch, position))
        frames = np.sort(rng.choice(T, size=3, replace=False)) if how == "random" else [0, 2, 5]
        order = rng.permutation(len(MIXED)).tolist()
        chosen = order[:2] if 3 in order[:2] else [order[0], 3]
        assert made.plan(place) == (epoch, index, tuple(frames), tuple(chosen))


def test_plan_golden():
    want = [(0, 2, (3, 4, 5), (0, 3)), (0, 3, (0, 4, 5), (3, 1)), (1, 3, (3, 4, 5), (2, 3))]
    assert [sampling_run().plan(place) for place in (0, 4, 5)] == want
    starts = [sampling_run("contiguous").plan(place).frames[0] for place in range(6)]
    assert starts == [3, 2, 3, 1, 0, 3]


def test_an_epoch_visits_every_clip_once_and_the_next_in_another_order():
    made = sampling_run()
    epochs = [[made.plan(place).clip for place in range(e * 5, e * 5 + 5)] for e in range(6)]
    assert all(sorted(order) == list(range(5)) for order in epochs) and len({*map(tuple, epochs)}) > 3
    assert len(made) == 5
    assert sampling_run(seed=8).plan(3) != made.plan(3)


def test_what_is_planned_is_what_is_taken():
    for how in ("uniform", "contiguous", "random"):
        made = sampling_run(how)
        for place in (0, 6):
            plan, sample = made.plan(place), made[place]
            assert (sample.clip_id, sample.indices) == (str(plan.clip), plan.frames)
            assert sample.expressions == tuple(MIXED[i] for i in plan.expressions)
            assert (sample.frames == clips()[0].frames[list(plan.frames)]).all()


@pytest.mark.filterwarnings("ignore:This DataLoader will create")  # more workers than the machine has cores
@pytest.mark.parametrize("workers", [1, 3])
@pytest.mark.parametrize("how", ["contiguous", "random"])
def test_any_number_of_workers_gives_the_same(how: str, workers: int):
    from torch.utils.data import DataLoader

    def walk(workers: int) -> list[tuple]:
        loader = DataLoader(sampling_run(how), batch_size=2, sampler=range(3, 14), num_workers=workers, collate_fn=list)
        return [
            (s.clip_id, s.indices, s.expressions, *map(_digest, (s.frames, *s.masks.values())))
            for b in loader
            for s in b
        ]

    alone = walk(0)
    assert walk(workers) == alone and len(alone) == 11


def _digest(array: np.ndarray) -> str:
    return hashlib.sha256(array.tobytes()).hexdigest()
