from dataclasses import replace

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pycocotools import mask as coco

from reviosa_core import masks
from reviosa_core.schema import Clip, DataError, Expression, Prediction

MASK = np.array([[0, 1], [1, 1], [0, 0]], dtype=bool)  # down the columns: 0 1 0 1 1 0, so runs of 1 1 1 2 1


def test_rle_is_cocos():
    # COCO stores runs from the fourth on as differences to the run two before: 1 1 1 (2 - 1) (1 - 1).
    assert masks.encode(MASK) == {"size": [3, 2], "counts": "11110"}


@pytest.mark.parametrize("counts", ["11110", b"11110", [1, 1, 1, 2, 1]])
def test_decode_reads_text_bytes_and_lists(counts):
    out = masks.decode({"size": [3, 2], "counts": counts}, (3, 2))
    assert out.dtype == bool and (out == MASK).all()


def test_decode_none_is_an_absent_object():
    assert masks.decode(None, (3, 2)).shape == (3, 2) and not masks.decode(None, (3, 2)).any()


def test_round_trip():
    mask = np.random.default_rng(0).random((7, 11)) < 0.5
    assert (masks.decode(masks.encode(mask), (7, 11)) == mask).all()


@pytest.mark.parametrize("frames", [None, [2, 0], [1, 2, 0]])
def test_arrays_and_run_lengths_come_as_arrays_of_the_frames_asked_for(frames):
    drawn = np.random.default_rng(0).random((3, 5, 7)) < 0.4
    drawn[0] = False
    stored = [None, *(masks.encode(mask) for mask in drawn[1:])]
    for found in (drawn, stored):
        assert (masks.arrays(found, (5, 7), frames) == drawn[frames or [0, 1, 2]]).all()
    with pytest.raises(DataError, match="mask size"):
        masks.arrays(stored, (7, 5), frames)


def test_decode_names_both_sizes():
    with pytest.raises(DataError, match=r"\(3, 2\).*\(2, 3\)"):
        masks.decode(masks.encode(MASK), (2, 3))


@pytest.fixture
def clip():
    other = ~MASK
    rles = {"a": [masks.encode(MASK), None, masks.encode(other)], "b": [masks.encode(other), None, None]}
    frames = np.zeros((3, 3, 2, 3), np.uint8)
    return Clip("c", frames, ("0", "1", "2"), (3, 2), (Expression("0", "it", "single", ("a",)),), rles)


def test_union_over_keys_and_frames(clip):
    assert masks.union(clip, ("a", "b")).sum(axis=(1, 2)).tolist() == [6, 0, 3]
    picked = masks.union(clip, ("a",), [2, 0])
    assert (picked == np.stack([~MASK, MASK])).all()


@pytest.mark.parametrize("keys", [None, ()])
def test_union_of_nothing_is_empty(clip, keys):
    assert masks.union(clip, keys).shape == (3, 3, 2) and not masks.union(clip, keys).any()


def test_union_names_clip_mask_and_frame(clip):
    wrong = Clip("c", clip.frames, ("0", "1", "2"), (2, 3), (), clip.masks)
    with pytest.raises(DataError, match="clip c, mask a, frame 2: .*"):
        masks.union(wrong, ("a",), [2])


def test_area_resize_cuts_pixels():
    # Three pixels on two cells: each cell is 1.5 pixels wide, the middle pixel is shared.
    assert masks.area_resize(np.array([[True, False, False]]), (1, 2)) == pytest.approx(np.array([[2 / 3, 0]]))
    assert masks.area_resize(np.array([[False, True, False]]), (1, 2)) == pytest.approx(np.array([[1 / 3, 1 / 3]]))


@pytest.mark.parametrize("size", [(2, 3), (5, 7), (1, 1), (9, 13)])
def test_area_resize_keeps_the_covered_share(size):
    mask = np.random.default_rng(1).random((2, 4, 5, 7)) < 0.5
    out = masks.area_resize(mask, size)
    assert out.shape == (2, 4, *size) and out.dtype == np.float32
    assert out.mean(axis=(2, 3)) == pytest.approx(mask.mean(axis=(2, 3)), abs=1e-6)


@pytest.mark.parametrize(
    ("video", "grid"),
    [((1080, 1920), (16, 16)), ((1080, 1920), (4, 4)), ((480, 854), (4, 4)), ((720, 1280), (7, 7)), ((37, 53), (6, 6))],
)
def test_a_full_cell_is_not_more_than_full(video, grid):
    """By rounding it was, for which sizes depends on the processor; cross-entropy refuses it, 1080p did not train."""
    shares = masks.area_resize(np.ones((1, *video), dtype=bool), grid)
    assert shares.max() <= 1 and shares == pytest.approx(np.ones_like(shares), abs=1e-5)


def test_area_resize_of_whole_cells_is_the_mean():
    mask = np.random.default_rng(2).random((6, 10)) < 0.5
    assert masks.area_resize(mask, (3, 2)) == pytest.approx(mask.reshape(3, 2, 2, 5).mean(axis=(1, 3)), abs=1e-6)


@pytest.mark.parametrize(
    ("counts", "message"),
    [
        ([5, 3, 68], "cover 76 pixels, the frame has 77"),
        ([90, -13], "a run of -13 pixels, the frame has 77"),
        ("5", "cover 5 pixels"),
        ("R", "not COCO's alphabet, or cut off"),
        ("\u00fc", "cannot be read"),
        ("!!", "not COCO's alphabet"),
        ("", "cannot be read"),
        (None, "a list or a text is needed, got NoneType"),
        ([], "cover 0 pixels, the frame has 77"),
        ([5.0, 3, 69], "not all are whole numbers: .5.0, 3, 69."),
        (["5", "72"], "not all are whole numbers"),
        ([True, 76], "not all are whole numbers"),
        ([[5], [72]], "not all are whole numbers"),
        ([2**64 + 77], "cover 18446744073709551693 pixels, the frame has 77"),
        ([2**63, 2**63, 77], "cover 18446744073709551693 pixels"),
        ([np.uint32(2**32 - 1), np.uint32(78)], "cover 4294967373 pixels"),
        (13 * "o" + "1", "a number of 14 groups"),
        ("Q" + 6 * "P" + "1", "a number of 8 groups"),
    ],
)
def test_runs_refuse_what_is_no_mask(counts, message):
    with pytest.raises(DataError, match=message):
        masks.runs({"size": [7, 11], "counts": counts}, (7, 11))


@pytest.mark.parametrize("counts", ["11110", [1, 1, 1, 2, 1]])
@pytest.mark.parametrize(
    "size", [96, None, [96], [3, 2, 1], [3.0, 2], [float("nan"), 2], ["3", "2"], [True, 6], [0, 6], [-3, -2], "32"]
)
def test_a_size_is_two_whole_numbers(counts, size):
    for read in (masks.decode, masks.runs):
        with pytest.raises(DataError, match="mask size .* is not two whole numbers"):
            read({"size": size, "counts": counts}, (3, 2))


@pytest.mark.parametrize("rle", [3, "11110", [], {"size": [3, 2]}, {"counts": "11110"}])
def test_what_is_no_rle(rle):
    for read in (masks.decode, masks.runs):
        with pytest.raises(DataError, match="not an RLE with size and counts"):
            read(rle, (3, 2))


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.integers(1, 40), st.integers(1, 40), st.integers(0, 2**32 - 1), st.floats(0, 1))
def test_decoding_is_cocos(height, width, seed, share):
    mask = np.random.default_rng(seed).random((height, width)) < share
    for rle in (masks.encode(mask), {"size": (height, width), "counts": _counted(mask)}):
        known = coco.frPyObjects(dict(rle), height, width) if isinstance(rle["counts"], list) else rle
        assert (masks.decode(rle, (height, width)) == coco.decode(known)).all()


def _counted(mask: np.ndarray) -> list[int]:
    """Uncompressed counts, the first of pixels that are False."""
    edges = np.flatnonzero(np.diff(mask.T.ravel(), prepend=False)).tolist()
    return [b - a for a, b in zip([0, *edges], [*edges, mask.size], strict=True)]


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.text(st.characters(min_codepoint=48, max_codepoint=111), max_size=12))
def test_any_text_fills_the_frame_or_is_an_error(counts):
    """The same as pycocotools wherever that has no uninitialised memory to show."""
    rle = {"size": [3, 5], "counts": counts}
    try:
        found = masks.decode(rle, (3, 5))
    except DataError:
        return
    assert (found == coco.decode(rle)).all() and masks.run_lengths(rle).sum() == 15


def test_runs_leave_empty_ones_out():
    starts, stops = masks.runs({"size": [7, 11], "counts": [0, 5, 0, 3, 60, 0, 9]}, (7, 11))
    assert starts.tolist() == [0, 5] and stops.tolist() == [5, 8]
    starts, stops = masks.runs({"size": [7, 11], "counts": [77]}, (7, 11))
    assert len(starts) == len(stops) == 0


def test_a_model_is_asked_about_so_many_sentences_together(clip):
    class System:
        def __init__(self):
            self.asked = []

        def segment(self, clip, expressions=None):
            self.asked.append(len(expressions))
            return [Prediction(clip.id, e.id, {}) for e in expressions]

    many = [replace(clip.expressions[0], id=str(i)) for i in range(2 * masks.AT_ONCE + 1)]
    found = masks.segmented(system := System(), clip, many)
    assert system.asked == [masks.AT_ONCE, masks.AT_ONCE, 1]
    assert [p.expression_id for p in found] == [e.id for e in many]
