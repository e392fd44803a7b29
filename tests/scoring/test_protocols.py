"""Each protocol on tables whose scores are known by construction, and COCO's mAP against pycocotools."""

from __future__ import annotations

import contextlib
import io

import numpy as np
import pandas as pd
import pytest
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from reviosa_core import masks
from reviosa_core.schema import DataError
from reviosa_core.scoring import protocols

T, H, W = 3, 24, 31


def row(video: str, expression: str, j: float, f: float, present: int = T, emitted: bool = True, **more) -> dict:
    base = {
        "video": video,
        "expression": expression,
        "role": "actor",
        "is_interaction": False,
        "caption_type": "single",
    }
    return base | {"J": j, "F": f, "J_present": j, "F_present": f, "present": present, "emitted": emitted} | more


def test_mevis_counts_no_target_both_ways():
    rows = [row("a", "0", 0.8, 0.6), row("a", "1", 0.0, 0.0, emitted=False), row("b", "0", 1.0, 1.0)]
    plain = protocols.mevis(pd.DataFrame(rows), 50, 0)
    assert plain["J&F"]["J&F"] == pytest.approx(100 * (0.7 + 0 + 1) / 3) and plain["N-acc"] is None
    assert plain["T-acc"]["value"] == pytest.approx(200 / 3)
    rows += [row("b", "1", 1, 1, 0, False), row("b", "2", 0, 0, 0, True), row("c", "0", 0, 0, 0, True)]
    found = protocols.mevis(pd.DataFrame(rows), 50, 0)
    assert found["N-acc"]["value"] == pytest.approx(100 / 3) and found["N-acc"]["n"] == 3
    assert found["T-acc"] == plain["T-acc"]


def test_davis_each_by_set():
    rows = pd.DataFrame([row("a", str(4 * k + s), 0.1 * s, 0.1 * s) for k in range(2) for s in range(4)])
    found = protocols.davis_each(rows, 0, 0)
    assert found["J&F"]["J&F"] == pytest.approx(15) and found["J&F"]["n"] == 8
    assert [found[f"set {s}"]["J&F"] for s in range(4)] == pytest.approx([0, 10, 20, 30])


def squares() -> np.ndarray:
    """Labels 1 and 2 side by side."""
    labels = np.zeros((T, H, W), dtype=int)
    labels[:, 4:12, 3:12], labels[:, 6:20, 16:28] = 1, 2
    return labels


def test_davis_compose_gives_a_pixel_to_the_first():
    first, second = np.array([[[1, 1, 0, 0]]], bool), np.array([[[0, 1, 1, 0]]], bool)
    assert protocols.davis_compose([first, None, second], (1, 1, 4)).tolist() == [[[1, 1, 3, 0]]]


def test_davis_match_does_not_punish_a_swap():
    true = squares()
    swapped = np.where(true == 1, 2, np.where(true == 2, 1, 0))
    assert protocols.davis_match(swapped, true) == [{"object": k, "J": 1.0, "F": 1.0} for k in (1, 2)]
    one = np.where(true == 2, 5, 0)  # one label for two objects: the other is empty
    assert [r["J"] for r in protocols.davis_match(one, true)] == [0.0, 1.0]


def test_davis_match_leaves_void_out():
    true, void = squares(), np.zeros((T, H, W), dtype=bool)
    pred = true.copy()
    pred[:, 4:12, 12:15] = 1
    assert protocols.davis_match(pred, true)[0]["J"] < 1
    void[:, :, 12:15] = True
    assert protocols.davis_match(pred, true, void)[0]["J"] == 1


def test_davis_match_takes_void_for_no_object():
    true, void = squares(), np.zeros((T, H, W), dtype=bool)
    true[:, :2] = 255
    with pytest.raises(DataError, match=rf"{T * 2 * W} of {T * H * W} true pixels have label 255, which is void"):
        protocols.davis_match(squares(), true)
    void[:, :1] = True
    with pytest.raises(DataError, match=rf"{T * W} of {T * (H - 1) * W} true pixels have label 255"):
        protocols.davis_match(squares(), true, void)
    void[:, :2] = True
    assert protocols.davis_match(squares(), true, void) == [{"object": k, "J": 1.0, "F": 1.0} for k in (1, 2)]
    drawn = squares()
    drawn[0, 3, 3] = 255
    with pytest.raises(DataError, match="1 of .* predicted pixels have label 255"):
        protocols.davis_match(drawn, squares())
    drawn[0, 3, 3] = -1
    with pytest.raises(DataError, match="1 of .* predicted pixels have labels below 0, lowest -1"):
        protocols.davis_match(drawn, squares())


def test_davis_merged_is_the_mean_of_four_sets():
    rows = [
        {"set": s, "video": v, "object": k, "J": 0.1 * s + 0.2 * k, "F": 0.5}
        for s in range(4)
        for v, k in (("a", 1), ("a", 2), ("b", 1))
    ]
    found = protocols.davis_merged(pd.DataFrame(rows), 50, 0)
    by_set = [np.mean([r["J"] for r in rows if r["set"] == s]) for s in range(4)]
    assert found["J"] == pytest.approx(100 * np.mean(by_set)) and found["F"] == pytest.approx(50) and found["n"] == 3
    with pytest.raises(DataError, match="4 sets over the same objects"):
        protocols.davis_merged(pd.DataFrame(rows[:-1]), 0, 0)


def test_sentences_by_hand():
    rows = pd.DataFrame(
        [
            {"video": "a", "expression": "0", "intersection": 50, "union": 100},  # exactly 0.5 is not above 0.5
            {"video": "a", "expression": "1", "intersection": 95, "union": 100},
            {"video": "b", "expression": "0", "intersection": 0, "union": 300},
            {"video": "b", "expression": "1", "intersection": 130, "union": 200},
        ]
    )
    found = protocols.sentences(rows, 50, 0)
    assert [found[f"P@{t}"]["value"] for t in (0.5, 0.6, 0.7, 0.8, 0.9)] == [50, 50, 25, 25, 25]
    assert found["overall IoU"] == pytest.approx(100 * 275 / 700)
    assert found["mean IoU"]["value"] == pytest.approx(100 * (0.5 + 0.95 + 0 + 0.65) / 4)
    empty = pd.DataFrame([*rows.to_dict("records"), {"video": "c", "expression": "9", "intersection": 0, "union": 0}])
    found = protocols.sentences(empty, 0, 0)  # MTTR: (0 + 1e-6) / (0 + 1e-6)
    assert found["P@0.9"]["value"] == pytest.approx(40) and found["overall IoU"] == pytest.approx(100 * 275 / 700)
    assert found["mean IoU"]["value"] == pytest.approx(100 * (0.5 + 0.95 + 0 + 0.65 + 1) / 5)


@pytest.mark.parametrize("seed", [0, 1])
def test_mean_average_precision_is_cocos(seed):
    """Random masks and confidences, one object an image, against COCOeval."""
    rng = np.random.default_rng(seed)
    images, truths, guesses, rows = [], [], [], []
    for i in range(1, 41):
        true, pred = np.zeros((2, H, W), dtype=bool)
        y, x, h, w = rng.integers(0, 8), rng.integers(0, 8), rng.integers(6, 14), rng.integers(6, 20)
        true[y : y + h, x : x + w] = True
        pred[y + rng.integers(0, 4) : y + h, x : x + w - rng.integers(0, 4)] = True
        confidence = float(rng.random())
        images.append({"id": i, "height": H, "width": W})
        truth = {"id": i, "image_id": i, "category_id": 1, "iscrowd": 0, "area": int(true.sum())}
        truths.append(truth | {"segmentation": masks.encode(true), "bbox": [int(x), int(y), int(w), int(h)]})
        guesses.append({"image_id": i, "category_id": 1, "segmentation": masks.encode(pred), "score": confidence})
        both = {"intersection": int((true & pred).sum()), "union": int((true | pred).sum())}
        rows.append({"video": str(i), "expression": "0", "score": confidence} | both)
    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO()
        coco.dataset = {"images": images, "annotations": truths, "categories": [{"id": 1}]}
        coco.createIndex()
        reference = COCOeval(coco, coco.loadRes(guesses), "segm")
        reference.evaluate()
        reference.accumulate()
        reference.summarize()
    found = protocols.sentences(pd.DataFrame(rows), 0, 0)["mAP"]
    assert 10 < found < 95 and found == pytest.approx(100 * reference.stats[0], abs=1e-9)


def scored(ious: list[float], scores: list[float] | None) -> pd.DataFrame:
    """A row a sentence, of 100 pixels."""
    rows = pd.DataFrame({"video": "v", "expression": [str(i) for i in range(len(ious))], "union": 100})
    rows["intersection"] = [round(100 * iou) for iou in ious]
    return rows if scores is None else rows.assign(score=scores)


@pytest.mark.parametrize("scores", [None, [0.5] * 4, [np.nan] * 4])
def test_without_scores_there_is_no_map(scores):
    """It would be the order of the rows: more with the right answers first. Everything else stands."""
    for order in ([0.96, 0.96, 0.0, 0.0], [0.0, 0.0, 0.96, 0.96]):
        found = protocols.sentences(scored(order, scores), 0, 0)
        assert found["mAP"] is None and found["P@0.9"]["value"] == 50 and found["overall IoU"] == 48


def test_map_by_hand():
    # Right, wrong, right, wrong, from the surest down: precision 1 up to recall 1/4, then 2/3 up to 1/2, then 0. Of the
    # recalls 0, 0.01 ... 1, 26 are at most 1/4, and 25 more at most 1/2.
    found = protocols.sentences(scored([0.96, 0.0, 0.96, 0.0], [0.9, 0.8, 0.7, 0.6]), 0, 0)
    assert found["mAP"] == pytest.approx(100 * (26 * 1 + 25 * 2 / 3) / 101)


def test_map_does_not_depend_on_the_order_of_rows():
    """Two equal scores, one of a right answer: they come together, and precision after them is 2 of 3."""
    rows = scored([0.96, 0.96, 0.0, 0.0], [0.9, 0.7, 0.7, 0.1])
    want = 100 * (26 * 1 + 25 * 2 / 3) / 101
    for seed in range(5):
        found = protocols.sentences(rows.sample(frac=1, random_state=seed), 0, 0)
        assert found["mAP"] == pytest.approx(want)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_score_for_some_rows_is_an_error(bad):
    with pytest.raises(DataError, match="1 of 4 rows have no finite score, first: v/2"):
        protocols.sentences(scored([0.96, 0.96, 0.0, 0.0], [0.9, 0.7, bad, 0.1]), 0, 0)


def test_robustness_counts_false_positives_against_the_foreground():
    labels = squares()
    first, both = labels == 1, labels > 0
    assert protocols.robustness(first, first, both) == 1
    assert protocols.robustness(both, first, both) == pytest.approx(1 - (labels == 2).sum() / both.sum())
    assert protocols.robustness(~first, first, first) == 0  # never below
    wrong = first.copy()
    wrong[0] = both[0]
    share = (labels[0] == 2).sum() / both[0].sum()
    assert protocols.robustness(wrong, first, both) == pytest.approx(1 - share / len(labels)), "a frame at a time"
    none = np.zeros_like(first)
    assert protocols.robustness(none, none, none) == 1 and protocols.robustness(first, none, none) == 0


def test_revos_is_the_mean_of_its_groups():
    rows = [row("a", "0", 0.2, 0.4, type_id=0, R=np.nan), row("a", "1", 0.9, 0.9, type_id=1, R=np.nan)]
    rows += [row("b", "0", 0.4, 0.6, type_id=0, R=np.nan), row("b", "1", 0.0, 0.0, type_id=2, R=0.25)]
    found = protocols.revos(pd.DataFrame(rows), 0, 0)
    assert (found["referring"]["J"], found["reasoning"]["n"]) == (pytest.approx(30), 1)
    assert found["overall"]["J&F"] == pytest.approx((40 + 90) / 2)
    assert found["R"]["about nothing"]["value"] == 25 and found["R"]["overall"] is None
    for own, r in zip(rows, (0.5, 0.9, 0.7, 0.1), strict=True):
        own["R"] = r
    robust = protocols.revos(pd.DataFrame(rows), 0, 0)["R"]
    assert {group: (round(line["value"], 6), line["n"]) for group, line in robust.items()} == {
        "referring": (60, 2), "reasoning": (90, 1), "overall": (75, 3), "about nothing": (10, 1)
    }  # fmt: skip
    half = protocols.revos(pd.DataFrame(rows[:1]), 0, 0)
    assert half["referring"]["J"] == pytest.approx(20) and half["reasoning"]["n"] == 0 and half["overall"] is None
    assert half["R"]["referring"]["value"] == 50 and half["R"]["reasoning"] is half["R"]["overall"] is None
