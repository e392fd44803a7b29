"""J and F against hand-made values and a plain second implementation; direction metrics on constructed predictors."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from reviosa_core import masks
from reviosa_core.schema import Clip, DataError, Expression, Prediction, Role
from reviosa_core.scoring import bitmasks, metrics
from reviosa_core.scoring.evaluate import score_clip
from reviosa_core.scoring.metrics import contour_accuracy, region_similarity

T, H, W = 3, 7, 11


def mask(text: str) -> np.ndarray:
    """One-frame mask [1 h w] from rows of '.' and '#'."""
    return np.array([[[c == "#" for c in line] for line in text.split()]])


def plain_boundary(seg: np.ndarray) -> np.ndarray:
    """The DAVIS definition, pixel by pixel: neighbours beyond the frame count as background, then three corrections."""
    h, w = seg.shape
    at = lambda y, x: bool(seg[y, x]) if y < h and x < w else False  # noqa: E731
    out = np.zeros((h, w), dtype=bool)
    for y in range(h):
        for x in range(w):
            here, east, south, south_east = at(y, x), at(y, x + 1), at(y + 1, x), at(y + 1, x + 1)
            out[y, x] = here != east or here != south or here != south_east
            if y == h - 1:
                out[y, x] = here != east
            if x == w - 1:
                out[y, x] = here != south
    out[h - 1, w - 1] = False
    return out


def plain_f(pred: np.ndarray, true: np.ndarray) -> float:
    """Boundary F by brute force: every boundary pixel of one looks at every boundary pixel of the other."""
    radius = int(np.ceil(0.008 * np.linalg.norm(pred.shape)))
    a, b = np.argwhere(plain_boundary(pred)), np.argwhere(plain_boundary(true))
    if len(a) == 0 and len(b) == 0:
        precision, recall = 1.0, 1.0
    elif len(a) == 0:
        precision, recall = 1.0, 0.0
    elif len(b) == 0:
        precision, recall = 0.0, 1.0
    else:
        near = ((a[:, None] - b[None]) ** 2).sum(-1) <= radius**2
        precision, recall = near.any(1).sum() / len(a), near.any(0).sum() / len(b)
    return 0.0 if precision + recall == 0 else 2 * precision * recall / (precision + recall)


# --- J and F, frame by frame -----------------------------------------------------------------------------------------


def test_region_similarity_by_hand():
    pred = mask("##.. ##.. .... ....")
    true = mask(".##. .##. .##. ....")
    assert region_similarity(pred, true).tolist() == [2 / 8]


def test_contour_accuracy_by_hand():
    # 12 x 12: diagonal 16.97, radius ceil(0.136) = 1. A pixel at (y, x) has the 2 x 2 boundary (y-1..y, x-1..x).
    pred, true = np.zeros((2, 1, 12, 12), dtype=bool)
    pred[0, 5, 5] = true[0, 5, 8] = True  # boundary columns 4, 5 and 7, 8: nearest distance 2
    assert contour_accuracy(pred, true).tolist() == [0.0]
    true[:] = False
    true[0, 5, 7] = True  # columns 4, 5 and 6, 7: columns 5 and 6 are one apart, half of each boundary
    assert contour_accuracy(pred, true).tolist() == [0.5]
    pred[0, 5, 6] = True  # columns 4..6 against 6, 7: 2/3 of 6 within one pixel of 6; 6 and 7 both match
    precision, recall = 4 / 6, 1.0
    assert contour_accuracy(pred, true).tolist() == [2 * precision * recall / (precision + recall)]


def test_radius_is_that_of_the_frame():
    # 0.008 * hypot(75, 100) = 1 exactly: radius 1. One pixel wider, and it is 2.
    for width, found in ((100, 0.0), (101, 1.0)):
        pred, true = np.zeros((2, 1, 75, width), dtype=bool)
        pred[0, 40, 50:52] = true[0, 43, 50:52] = True  # boundary rows 39, 40 and 42, 43
        assert contour_accuracy(pred, true).tolist() == [0.5 * found]


def test_disk_is_round():
    # Radius 2 at 150 x 200 (0.008 * 250 = 2): offsets (2, 0) match, (2, 1) do not.
    def near(size: tuple[int, int]) -> set[tuple[int, int]]:
        """Offsets from a boundary of four pixels (0..1, 0..1) that are near it."""
        mask = np.zeros(size, dtype=bool)
        mask[y0 + 1, x0 + 1] = True
        first, words = bitmasks.BitMask(mask)._near
        rows = np.unpackbits(words.view(np.uint8), axis=1, bitorder="little")
        return {(int(y) - y0, int(x) + first - x0) for x, y in np.argwhere(rows)}

    y0, x0 = 80, 91
    for size, r in (((150, 200), 2), ((480, 854), 8), ((5400, 7200), 72)):  # the last: more than a word of 64 rows
        assert bitmasks.tolerance(size) == r
        disk = {(y, x) for y in range(-r, r + 1) for x in range(-r, r + 1) if y * y + x * x <= r * r}
        assert near(size) == {(y + i, x + j) for y, x in disk for i in (0, 1) for j in (0, 1)}


@pytest.mark.parametrize("size", [(1080, 1920), (2160, 3840), (5400, 7200)])
@pytest.mark.parametrize("row", [0, 1, 7, 20, 33, 60, -2, -7, -34])
def test_disk_is_whole_beside_the_frames_ends(size: tuple[int, int], row: int):
    """In the first and the last column of what is packed, where bits fall off; a pixel, with radius 18 to 72."""
    (height, _), r, x = size, bitmasks.tolerance(size), 300
    y = row % height
    mask = np.zeros(size, dtype=bool)
    mask[y, x] = True
    first, words = bitmasks.BitMask(mask)._near
    rows = np.unpackbits(words.view(np.uint8), axis=1, bitorder="little")[:, :height].T  # [y x], x from `first`
    edge = np.array([(i, j) for i in (y - 1, y) for j in (x - 1, x) if i >= 0])
    place = np.stack(np.mgrid[:height, first : first + rows.shape[1]], -1)[max(0, y - r - 2) : y + r + 3]
    due = (((place[:, :, None] - edge) ** 2).sum(-1) <= r * r).any(-1)
    assert np.array_equal(rows[max(0, y - r - 2) : y + r + 3].astype(bool), due) and rows.sum() == due.sum()


@pytest.mark.parametrize(
    ("pred", "true", "j", "f"),
    [
        ("... ... ...", "... ... ...", 1.0, 1.0),  # both empty
        ("... ... ...", "... .#. ...", 0.0, 0.0),  # one empty
        ("... .#. ...", "... ... ...", 0.0, 0.0),
        ("### ### ###", "### ### ###", 1.0, 1.0),
        ("### ### ###", "... ... ...", 0.0, 1.0),  # DAVIS: a full frame has no boundary, as an empty one
        ("... ... ..#", "... ... ...", 0.0, 0.0),  # the last pixel is seen through its neighbours
        ("#", "#", 1.0, 1.0),
        ("#", ".", 0.0, 1.0),
    ],
)
def test_empty_and_full(pred, true, j, f):
    assert region_similarity(mask(pred), mask(true)).tolist() == [j]
    assert contour_accuracy(mask(pred), mask(true)).tolist() == [f]


def objects() -> dict[str, np.ndarray]:
    """Shapes that try the crop: one pixel in every corner and border, full rows and columns, the whole frame."""
    out = {"full": np.ones((H, W), dtype=bool)}
    for name, index in {
        "top": (0, slice(3, 6)),
        "bottom": (H - 1, slice(3, 6)),
        "left": (slice(2, 4), 0),
        "right": (slice(2, 4), W - 1),
        "first": (0, 0),
        "last": (H - 1, W - 1),
        "top right": (0, W - 1),
        "bottom left": (H - 1, 0),
        "row": (3, slice(None)),
        "last row": (H - 1, slice(None)),
        "column": (slice(None), 4),
        "last column": (slice(None), W - 1),
        "middle": (slice(2, 5), slice(3, 8)),
        "all but last": (slice(0, H - 1), slice(0, W - 1)),
    }.items():
        out[name] = np.zeros((H, W), dtype=bool)
        out[name][index] = True
    return out


@pytest.mark.parametrize("name", objects())
def test_borders(name):
    pred = objects()[name]
    first, words, count = bitmasks.BitMask(pred)._edge
    found = np.zeros((H, W), dtype=bool)
    found[:, first : first + len(words)] = np.unpackbits(words.view(np.uint8), 1, H, "little").T
    assert (found == plain_boundary(pred)).all() and found.sum() == count
    assert region_similarity(pred[None], pred[None]) == contour_accuracy(pred[None], pred[None]) == 1
    for true in objects().values():
        assert contour_accuracy(pred[None], true[None])[0] == plain_f(pred, true)


@st.composite
def mask_pairs(draw) -> tuple[np.ndarray, np.ndarray]:
    """Two masks of one size: noise, or boxes (large enough frames to have radius 2), or both."""
    shape = draw(
        array_shapes(min_dims=2, max_dims=2, max_side=9) | st.tuples(st.integers(90, 140), st.integers(90, 140))
    )
    pair = []
    for _ in range(2):
        if max(shape) < 10 and draw(st.booleans()):
            pair.append(draw(arrays(bool, shape)))
            continue
        out = np.zeros(shape, dtype=bool)
        for _ in range(draw(st.integers(0, 2))):
            y, x = (sorted(draw(st.tuples(st.integers(0, n), st.integers(0, n)))) for n in shape)
            out[slice(*y), slice(*x)] ^= True
        pair.append(out)
    return pair[0], pair[1]


def as_rle(mask: np.ndarray, kind: str) -> dict:
    """A COCO run length as it comes from files: compressed text or bytes, or plain counts."""
    rle = masks.encode(mask)
    if kind == "bytes":
        return {**rle, "counts": rle["counts"].encode()}
    if kind == "list":
        flat = np.concatenate([[False], mask.ravel(order="F"), [not mask[-1, -1]]])
        turns = np.flatnonzero(np.diff(flat))
        return {**rle, "counts": np.diff(np.concatenate([[0], turns])).tolist()}
    return rle


@settings(max_examples=1500, deadline=None)
@given(mask_pairs(), st.sampled_from(["str", "bytes", "list"]))
@example((np.zeros((1, 1), dtype=bool), np.ones((1, 1), dtype=bool)), "str")
def test_equals_plain_implementation(pair, kind):
    pred, true = pair
    f, j = contour_accuracy(pred[None], true[None])[0], region_similarity(pred[None], true[None])[0]
    assert f == plain_f(pred, true)
    assert f == contour_accuracy(true[None], pred[None])[0]
    union = (pred | true).sum()
    assert j == ((pred & true).sum() / union if union else 1.0)
    stored = [as_rle(pred, kind)], [as_rle(true, kind)]
    assert (contour_accuracy(*stored)[0], region_similarity(*stored)[0]) == (f, j)
    both = bitmasks.union([bitmasks.BitMask(pred), bitmasks.BitMask(true)])
    assert both.area == union and bitmasks.iou(both, bitmasks.BitMask(pred | true), 1.0) == 1


def test_frames_are_independent():
    shapes = list(objects().values())
    pred, true = np.stack(shapes[:5]), np.stack(shapes[5:10])
    for score_frames in (region_similarity, contour_accuracy):
        assert score_frames(pred, true).shape == (5,)
        assert score_frames(pred, true)[3] == score_frames(pred[3:4], true[3:4])[0]


# --- tables ----------------------------------------------------------------------------------------------------------


BOXES = {"a": (slice(1, 4), slice(1, 4)), "b": (slice(3, 6), slice(6, 10)), "c": (slice(0, 2), slice(8, 11))}


def interaction_clip(number: int, there: int = T, frames: int = T, boxes=BOXES) -> Clip:
    """A and B side by side, both seen in the first `there` of the frames; A acts on B (expression 0), B on A (1), and
    one plain expression (2). C stands by."""
    stored = {}
    for key, index in boxes.items():
        frame = np.zeros((H, W), dtype=bool)
        frame[index] = True
        stored[key] = [masks.encode(frame) if t < there else None for t in range(frames)]
    return Clip(
        id=f"v{number}",
        frames=np.zeros((frames, H, W, 3), dtype=np.uint8),
        frame_names=tuple(f"{t:05d}" for t in range(frames)),
        size=(H, W),
        expressions=(
            Expression("0", "a pushes b", "unidirectional", ("a",), ("b",)),
            Expression("1", "b pushes a", "unidirectional", ("b",), ("a",)),
            Expression("2", "the thing a", "single", ("a",)),
        ),
        masks=stored,
    )


def rows_of(predictor, clips: int = 4, **made) -> pd.DataFrame:
    """Scores of `predictor(clip, expression) -> {role: keys of the clip's masks}` on constructed clips."""
    rows = []
    for clip in (interaction_clip(number, **made) for number in range(clips)):
        predictions = [
            Prediction(clip.id, e.id, {role: masks.union(clip, keys) for role, keys in predictor(clip, e).items()})
            for e in clip.expressions
        ]
        rows += score_clip(clip, predictions)
    return pd.DataFrame(rows)


PREDICTORS = {
    "perfect": lambda clip, e: {Role.ACTOR: e.actor, Role.TARGET: e.target},
    "swapped": lambda clip, e: {Role.ACTOR: e.target or e.actor, Role.TARGET: e.actor if e.target else None},
    "constant": lambda clip, e: {Role.ACTOR: ("a",), Role.TARGET: ("b",) if e.target else None},
    "union": lambda clip, e: {Role.ACTOR: (*e.actor, *(e.target or ())), Role.TARGET: (*e.actor, *(e.target or ()))},
    "silent": lambda clip, e: {Role.ACTOR: e.actor, Role.TARGET: None},
    "actor only": lambda clip, e: {Role.ACTOR: e.actor},
    # Answers that do not tell the roles apart.
    "nothing": lambda clip, e: {Role.ACTOR: None, Role.TARGET: None},
    "the actor twice": lambda clip, e: {Role.ACTOR: e.actor, Role.TARGET: e.actor},
    "the target twice": lambda clip, e: {Role.ACTOR: e.target or (), Role.TARGET: e.target},
    "a twice": lambda clip, e: {Role.ACTOR: ("a",), Role.TARGET: ("a",)},
    "a third": lambda clip, e: {Role.ACTOR: ("c",), Role.TARGET: ("c",)},
}


def values(rows: pd.DataFrame) -> dict[str, float | None]:
    return {name: entry and entry["value"] for name, entry in metrics.direction(rows, bootstrap=0, seed=0).items()}


ALL, NONE = (
    pytest.approx([100 * low, 100 * high]) for low, high in ((0.025**0.25, 1), (0, 1 - 0.025**0.25))
)  # of four
DETECTION = ("detection precision", "detection recall", "detection F1")


def test_perfect():
    rows = rows_of(PREDICTORS["perfect"])
    for setting, entry in metrics.summarise(rows, bootstrap=100, seed=0).items():
        n = 12 if setting == "RVOS" else 8
        assert entry == {"J": 100, "F": 100, "J&F": 100, "J&F present": 100, "n": n, "interval": ALL}
    assert values(rows) == {
        "joint J&F": 100,
        "both above 0.5": 100,
        "role confusion": 0,
        "role leakage": 0,
        "strict pair accuracy": 100,
        "swap consistency": 100,
        "detection precision": 100,
        "detection recall": 100,
        "detection F1": 100,
        **dict.fromkeys((f"{name} by token" for name in DETECTION), None),  # nobody says what was written
    }
    assert metrics.direction(rows, 20, 0)["role leakage"]["interval"] == [0, 0], "which is not the least there is"
    assert metrics.direction(rows, 20, 0)["role confusion"]["interval"][1] > 10
    counted = {name: entry["n"] for name, entry in metrics.direction(rows, 0, 0).items() if entry}
    assert counted["joint J&F"] == 8 and counted["strict pair accuracy"] == 4 and counted["detection recall"] == 8


def test_swapped_is_consistent_and_wrong():
    got = values(rows_of(PREDICTORS["swapped"]))
    assert got["role confusion"] == 100 and got["strict pair accuracy"] == 0 and got["both above 0.5"] == 0
    assert got["swap consistency"] == 100 and got["role leakage"] == 0 and got["detection F1"] == 100


def test_constant_is_right_half_the_time():
    got = values(rows_of(PREDICTORS["constant"]))
    assert got["role confusion"] == 50 and got["both above 0.5"] == 50 and got["strict pair accuracy"] == 0
    assert got["swap consistency"] == 0  # the same object stays the actor when the sentence is turned round


@pytest.mark.parametrize("name", ["union", "nothing", "the actor twice", "the target twice", "a twice", "a third"])
@pytest.mark.parametrize("there", [T, 2, 0])
def test_an_answer_that_does_not_tell_the_roles_apart_is_half_confused(name, there):
    """Each of these was "not confused" while a tie counted as none."""
    got = values(rows_of(PREDICTORS[name], there=there))
    assert got["role confusion"] == 50 and got["strict pair accuracy"] == 0


def test_a_tie_is_one_whatever_the_order_of_frames():
    """Sums of J over three frames that differ in the last bit only."""
    rows = rows_of(PREDICTORS["perfect"], clips=1)
    assert 0.1 + 0.2 > 0.3 + 0.0
    for own, other in [((0.1, 0.2), (0.3, 0.0)), ((0.3, 0.0), (0.1, 0.2))]:
        actor = rows["role"] == "actor"
        tied = rows.assign(J=np.where(actor, *own), J_cross=np.where(actor, *other))
        assert values(tied)["role confusion"] == 50


def test_union_leaks():
    rows = rows_of(PREDICTORS["union"])
    got = values(rows)
    assert got["role leakage"] == 100 and got["swap consistency"] == 100
    assert got["detection precision"] == pytest.approx(200 / 3) and got["detection recall"] == 100
    by_type = metrics.detection_by_caption_type(rows, bootstrap=10, seed=0)
    assert by_type["single"] == {
        "emitted": 100, "precision": 0, "recall": None, "F1": None, "n": 4, "interval": ALL, "by token": None,
    }  # fmt: skip
    assert by_type["unidirectional"]["F1"] == 100 and by_type["unidirectional"]["n"] == 8


def spoken(written, drawn) -> pd.DataFrame:
    """Rows of one clip where the target's token is written for the expressions `written`, and one stray pixel of it is
    drawn for those in `drawn`."""
    clip = interaction_clip(0)
    nothing = np.zeros((T, H, W), dtype=bool)
    stray = nothing.copy()
    stray[T - 1, H - 1, W - 1] = True
    found = [
        Prediction(
            clip.id,
            e.id,
            {Role.ACTOR: nothing, Role.TARGET: stray if e.id in drawn else nothing},
            written=frozenset({Role.ACTOR, Role.TARGET} if e.id in written else {Role.ACTOR}),
        )
        for e in clip.expressions
    ]
    return pd.DataFrame(score_clip(clip, found))


def test_a_target_is_given_by_its_mask_or_by_its_token():
    """Due for 0 and 1. Written for 0 and 1, of which 1 is drawn empty; a stray pixel is drawn for 0 and for 2."""
    rows = spoken(written={"0", "1"}, drawn={"0", "2"})
    entry = metrics.direction(rows, 0, 0)
    by_mask = {name: (entry[name]["value"], entry[name]["n"]) for name in DETECTION}
    by_token = {name: (entry[f"{name} by token"]["value"], entry[f"{name} by token"]["n"]) for name in DETECTION}
    assert by_mask == dict(zip(DETECTION, [(50, 2), (50, 2), (50, 3)], strict=True))
    assert by_token == dict(zip(DETECTION, [(100, 2), (100, 2), (100, 2)], strict=True))
    by_type = metrics.detection_by_caption_type(rows, 0, 0)
    assert by_type["single"]["emitted"] == 100 and by_type["single"]["by token"]["answered"] == 0
    assert by_type["unidirectional"]["recall"] == 50 and by_type["unidirectional"]["by token"]["recall"] == 100


def test_tokens_are_known_of_all_or_not_said():
    rows = spoken(written={"0"}, drawn={"0"})
    mixed = pd.concat([rows, rows_of(PREDICTORS["perfect"], clips=3).query("video != 'v0'")])
    assert metrics.direction(mixed, 0, 0)["detection recall by token"] is None
    assert metrics.direction(mixed, 0, 0)["detection recall"]["n"] == 6
    by_type = metrics.detection_by_caption_type(mixed, 0, 0)
    assert by_type["single"]["by token"] is None and by_type["single"]["n"] == 3


def test_a_union_of_equals_is_above_the_threshold_and_no_strict_pair():
    """Two boxes of one size: their union has J = 0.5 with each, and a J&F above that."""
    rows = rows_of(PREDICTORS["union"], boxes=BOXES | {"b": (slice(3, 6), slice(6, 9))})
    interactions = rows[rows["is_interaction"]]
    assert (interactions["J"] == 0.5).all() and (interactions["F"] > 0.5).all()
    got = values(rows)
    assert got["both above 0.5"] == 100 and got["strict pair accuracy"] == 0 and got["role confusion"] == 50


def test_a_strict_pair_needs_each_mask_to_fit_its_own_role():
    """Above the threshold in both directions, and in one of them one mask fits the other role as well as its own."""
    rows = rows_of(PREDICTORS["perfect"])
    assert values(rows)["strict pair accuracy"] == 100
    for expression, role, cross in [
        ("0", "actor", 1.0),
        ("0", "target", 1.0),
        ("1", "actor", 1.0),
        ("1", "target", 1.0),
    ]:
        one = (rows["video"] == "v0") & (rows["expression"] == expression) & (rows["role"] == role)
        spoilt = rows.assign(J_cross=rows["J_cross"].where(~one, cross))
        assert values(spoilt)["strict pair accuracy"] == 75 and values(spoilt)["both above 0.5"] == 100


def test_thresholds_are_taken_where_there_is_something_to_find():
    """Both objects are seen in 3 of 10 frames: silence has J&F 70, and has found nothing."""
    silence = values(rows_of(PREDICTORS["nothing"], there=3, frames=10))
    assert silence["joint J&F"] == pytest.approx(70)
    assert silence["both above 0.5"] == 0 and silence["strict pair accuracy"] == 0
    found = values(rows_of(PREDICTORS["perfect"], there=3, frames=10))
    assert found["both above 0.5"] == 100 and found["strict pair accuracy"] == 100
    # Drawn on all frames: J is 0.3 and J present 1, as the docstring says, which J&F present does not hold against it.
    rows = rows_of(PREDICTORS["perfect"], there=3, frames=10)
    late = rows.assign(J=rows["J"].where(~rows["is_interaction"], 0.3), J_present=1.0)
    assert values(late)["both above 0.5"] == 100


def test_exactly_half_is_not_above():
    rows = rows_of(PREDICTORS["perfect"])
    assert values(rows.assign(J_present=0.5, F_present=0.5))["both above 0.5"] == 0
    assert values(rows.assign(J_present=0.5, F_present=0.5 + 1e-6))["both above 0.5"] == 100


def test_what_is_never_seen_is_found_by_drawing_nothing():
    """The truth is empty in every frame: no threshold on present frames, and no expression is left out."""
    rows = rows_of(PREDICTORS["nothing"], there=0)
    entry = metrics.direction(rows, 0, 0)["both above 0.5"]
    assert entry["value"] == 100 and entry["n"] == 8
    clip = interaction_clip(0, there=0)
    drawn = np.zeros((T, H, W), dtype=bool)
    nothing, drawn[T - 1, 0, 0] = drawn.copy(), True
    found = [Prediction(clip.id, e.id, {Role.ACTOR: nothing, Role.TARGET: drawn}) for e in clip.expressions]
    stray = pd.DataFrame(score_clip(clip, found))
    assert values(stray)["both above 0.5"] == 0 and stray["J"].min() == pytest.approx(2 / 3)
    missing = pd.DataFrame(score_clip(clip, [], tuple(Role), missing="zero"))
    assert values(missing)["both above 0.5"] == 0, "a missing prediction has found nothing"


def test_silence_is_zero_and_unsupported_is_none():
    silent, unsupported = rows_of(PREDICTORS["silent"]), rows_of(PREDICTORS["actor only"])
    summary = metrics.summarise(silent, 10, 0)
    assert summary["InterRVOS-Target"]["J&F"] == 0 and summary["InterRVOS-Target"]["n"] == 8
    assert metrics.direction(silent, 10, 0)["detection recall"] == {"value": 0, "n": 8, "interval": NONE}
    assert metrics.direction(silent, 10, 0)["detection precision"] == {"value": None, "n": 0, "interval": None}
    summary = metrics.summarise(unsupported, 10, 0)
    assert summary["InterRVOS-Target"] is None and summary["InterRVOS-Actor"]["J&F"] == 100
    assert set(metrics.direction(unsupported, 10, 0)) == set(metrics.DIRECTION)
    assert set(metrics.direction(unsupported, 10, 0).values()) == {None}
    assert metrics.detection_by_caption_type(unsupported, 10, 0) is None


def test_no_interaction_at_all():
    rows = rows_of(PREDICTORS["perfect"])
    rows = rows[rows["caption_type"] == "single"]
    summary = metrics.summarise(rows, 10, 0)
    assert summary["RVOS"]["n"] == 4
    assert summary["InterRVOS-Target"] == {
        "J": None, "F": None, "J&F": None, "J&F present": None, "n": 0, "interval": None,
    }  # fmt: skip
    assert metrics.direction(rows, 10, 0)["strict pair accuracy"] == {"value": None, "n": 0, "interval": None}


def test_subset_counts_whole_pairs_only():
    rows = rows_of(PREDICTORS["perfect"])
    part = rows[(rows["video"] == "v0") | (rows["expression"] == "0")]
    entry = metrics.direction(part, 0, 0)
    assert entry["role confusion"]["n"] == 5 and entry["strict pair accuracy"]["n"] == 1


def noisy(seed: int) -> pd.DataFrame:
    """Rows with random scores around a difficulty that the expressions of one video share."""
    rng = np.random.default_rng(seed)
    rows = rows_of(PREDICTORS["perfect"], clips=20)
    shared = dict(zip(rows["video"].unique(), rng.uniform(0.2, 0.8, 20), strict=True))
    scores = rows["video"].map(shared) + rng.uniform(-0.1, 0.1, len(rows))
    return rows.assign(J=scores, F=scores)


def test_bootstrap_is_seeded_and_covers_the_mean():
    rows = noisy(0)
    entry = metrics.summarise(rows, 4000, seed=1)["RVOS"]
    assert entry == metrics.summarise(rows, 4000, seed=1)["RVOS"]
    assert entry["interval"] != metrics.summarise(rows, 4000, seed=2)["RVOS"]["interval"]
    lo, hi = entry["interval"]
    assert lo < entry["J&F"] < hi
    # The spread is that of 20 video means, not of 60 expressions.
    spread = 100 * rows[rows["role"] == "actor"].groupby("video")["J"].mean().std(ddof=0) / np.sqrt(20)
    assert hi - lo == pytest.approx(2 * 1.96 * spread, rel=0.05)
    assert metrics.summarise(rows, 0, seed=1)["RVOS"]["interval"] is None
    assert metrics.summarise(rows[rows["video"] == "v0"], 500, seed=1)["RVOS"]["interval"] is None


def test_mean_of_runs():
    """J and F are averaged by row, whatever the order of rows; everything else stays."""
    rows = noisy(0)
    other = rows.assign(J=rows["J"] + 0.25, F=rows["F"] - 0.5, J_present=rows["J_present"] + 0.5)
    found = metrics.mean_of_runs([rows, other.sample(frac=1, random_state=1)])
    pd.testing.assert_series_equal(found["J"], rows["J"] + 0.125)
    pd.testing.assert_series_equal(found["F"], rows["F"] - 0.25)
    pd.testing.assert_series_equal(found["J_present"], rows["J_present"] + 0.25)
    pd.testing.assert_series_equal(found["caption_type"], rows["caption_type"])
    with pytest.raises(DataError, match=rf"runs differ in {(rows['video'] == 'v0').sum()} of {len(rows)} rows"):
        metrics.mean_of_runs([rows, rows[rows["video"] != "v0"]])


def test_paired_difference():
    rows = noisy(0)
    better = rows.assign(J=rows["J"] + 0.04, F=rows["F"] + 0.02)
    entry = metrics.paired_difference(better.sample(frac=1, random_state=0), rows, "RVOS", 200, 0)
    assert entry["value"] == pytest.approx(3) and entry["interval"] == pytest.approx([3, 3]) and entry["n"] == 60
    assert metrics.paired_difference(rows, rows[rows["role"] == "actor"], "InterRVOS-Target", 10, 0) is None
    with pytest.raises(DataError, match="3 expressions only in a, 0 only in b"):
        metrics.paired_difference(rows, rows[rows["video"] != "v0"], "RVOS", 10, 0)
    with pytest.raises(ValueError, match="rvos"):
        metrics.paired_difference(rows, rows, "rvos", 10, 0)


def test_paired_over_runs():
    """Runs are paired with their own partner; the interval holds over runs, too."""
    rows, shuffled = noisy(0), lambda table: table.sample(frac=1, random_state=1)
    runs = [rows.assign(J=rows["J"] + gain) for gain in (0.02, 0.04, 0.12)]
    found = metrics.paired_over_runs([shuffled(run) for run in runs], [rows] * 3, "RVOS", 2000, 0)
    assert found["value"] == pytest.approx(3) and (found["n"], found["runs"]) == (60, 3)
    assert found["interval"] == pytest.approx([1, 6]), "one run three times is 1 of 27: the ends"
    half = 4.303 * np.std([1, 2, 6], ddof=1) / np.sqrt(3)  # t of 2 degrees of freedom
    assert found["t interval"] == pytest.approx([3 - half, 3 + half], abs=0.01)
    assert metrics.paired_over_runs(runs, [rows[rows["role"] == "actor"]] * 3, "InterRVOS-Target", 10, 0) is None
    fewer = rows[rows["video"] != "v0"]
    with pytest.raises(DataError, match="RVOS: runs differ in 3 of 60 expressions"):
        metrics.paired_over_runs([rows, fewer], [rows, fewer], "RVOS", 10, 0)


def test_differences_of_every_system_to_those_before_it():
    rows = noisy(0)
    better = rows.assign(J=rows["J"] + 0.04)
    found = metrics.differences({"a": [rows], "b": [better], "c": [rows]}, 200, 0)
    assert {name: list(others) for name, others in found.items()} == {"a": [], "b": ["a"], "c": ["a", "b"]}
    assert found["b"]["a"]["RVOS"]["value"] == pytest.approx(2) == -found["c"]["b"]["RVOS"]["value"]
    alone = metrics.paired_difference(rows, better, "RVOS", 200, 0)
    assert found["c"]["b"]["RVOS"]["interval"] == pytest.approx(alone["interval"]), "of one run: over videos"


def test_difference_by_subset():
    """What one system gains where motion tells, it loses where looks do; over all, nothing is left."""
    rows = noisy(0)
    rows = rows.assign(cue=np.where(rows["video"].isin(sorted(set(rows["video"]))[:5]), "motion", "looks"))
    other = rows.assign(J=rows["J"] + np.where(rows["cue"] == "motion", 0.04, -0.02))
    found = metrics.difference_by_subset([other], [rows], ("cue", "caption_type"), "InterRVOS-Actor", 50, 0)
    alone = [other[other["cue"] == "motion"]], [rows[rows["cue"] == "motion"]]
    assert found["cue"]["motion"] == metrics.paired_over_runs(*alone, "InterRVOS-Actor", 50, 0)
    assert found["cue"]["motion"]["value"] == pytest.approx(2) and found["cue"]["looks"]["value"] == pytest.approx(-1)
    assert list(found) == ["cue", "caption_type"] and set(found["cue"]) == {"motion", "looks"}


def test_absent_frames_are_told_apart():
    rows = rows_of(PREDICTORS["perfect"])
    # Right to be silent on one of two frames, wrong on the other: 0.5 on all frames, 0 where there is something.
    rows = rows.assign(J=0.5, F=0.5, frames=2, present=1, J_present=0.0, F_present=0.0)
    entry = metrics.summarise(rows, 0, 0)["InterRVOS-Actor"]
    assert entry["J&F"] == 50 and entry["J&F present"] == 0


def test_bad_tables():
    rows = rows_of(PREDICTORS["perfect"])
    with pytest.raises(DataError, match="24 of 48 rows are doubled.*'v0'"):
        metrics.summarise(pd.concat([rows, rows]), 0, 0)
    with pytest.raises(DataError, match="1 of 24 rows have no J or F"):
        metrics.summarise(rows.assign(J=rows["J"].where(rows.index != 5)), 0, 0)
    with pytest.raises(DataError, match="11 target rows for 12 actor rows"):
        metrics.direction(rows.drop(index=1), 0, 0)
