"""Rows of scores from clips and predictions: values by hand, every way to be incomplete, the released file layout."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest

from reviosa_core import masks, metrics
from reviosa_core.evaluate import evaluate, read_predictions, score, write_predictions
from reviosa_core.schema import Clip, DataError, Expression, Prediction, Role

T, H, W = 3, 7, 11
BOXES = {"a": (slice(1, 4), slice(1, 4)), "b": (slice(3, 6), slice(6, 10)), "c": (slice(0, 2), slice(8, 11))}
EXPRESSIONS = (
    Expression("0", "a pushes b", "unidirectional", ("a",), ("b",)),
    Expression("1", "b pushes a", "unidirectional", ("b",), ("a",)),
    Expression("2", "the small a nudges b", "unidirectional", ("a",), ("b",)),
    Expression("3", "a and c push b", "unidirectional", ("a", "c"), ("b",)),
    Expression("10", "a and c", "multi", ("a", "c")),
)


def frame(*keys: str) -> np.ndarray:
    out = np.zeros((H, W), dtype=bool)
    for key in keys:
        out[BOXES[key]] = True
    return out


def make_clip(clip_id: str = "v0", expressions=EXPRESSIONS) -> Clip:
    """Three boxes standing still; b is absent from the last frame."""
    stored = {key: [masks.encode(frame(key))] * T for key in BOXES}
    stored["b"] = [*stored["b"][:2], None]
    return Clip(
        id=clip_id,
        frames=np.zeros((T, H, W, 3), dtype=np.uint8),
        frame_names=tuple(f"{t:05d}" for t in range(T)),
        size=(H, W),
        expressions=expressions,
        masks=stored,
    )


class Oracle:
    """Answers with the truth, in the roles it supports; `change` may spoil a prediction."""

    def __init__(self, roles=(Role.ACTOR, Role.TARGET), change=lambda prediction: prediction) -> None:
        self.roles, self.change = roles, change

    def collate(self, samples):
        raise NotImplementedError

    def training_losses(self, batch):
        raise NotImplementedError

    def segment(self, clip, expressions):
        out = []
        for e in expressions:
            truth = {Role.ACTOR: masks.union(clip, e.actor), Role.TARGET: masks.union(clip, e.target)}
            out.append(self.change(Prediction(clip.id, e.id, {role: truth[role] for role in self.roles})))
        return out


def with_actor(prediction: Prediction, mask: np.ndarray) -> Prediction:
    return Prediction(prediction.clip_id, prediction.expression_id, {**prediction.masks, Role.ACTOR: mask})


def test_rows_by_hand():
    clip = make_clip()
    predictions = Oracle().segment(clip, clip.expressions)
    # Expression 0: the actor is a on frame 0, b on frame 1, nothing on frame 2; the target is always b, absent in 2.
    wrong = np.stack([frame("a"), frame("b"), frame()])
    predictions[0] = Prediction("v0", "0", {Role.ACTOR: wrong, Role.TARGET: np.stack([frame("b")] * 3)})
    rows = {(row["expression"], row["role"]): row for row in score(clip, predictions)}
    assert list(rows)[:3] == [("0", "actor"), ("0", "target"), ("1", "actor")] and len(rows) == 10

    actor = rows["0", "actor"]
    assert actor["J"] == actor["F"] == pytest.approx(1 / 3)
    assert (actor["frames"], actor["present"], actor["emitted"]) == (3, 3, True)
    assert actor["J_cross"] == pytest.approx((0 + 1 + 1) / 3)  # with b: apart, equal, both empty
    assert actor["overlap"] == pytest.approx(1 / 3) and actor["overlap_true"] == 0
    assert actor["inverse"] == "1" and actor["J_inverse"] == pytest.approx(1 / 3)  # with 1's target: a, a, a

    target = rows["0", "target"]
    assert target["J"] == pytest.approx(2 / 3) and target["J_present"] == 1 and target["present"] == 2
    assert target["J_cross"] == 0 and target["J_inverse"] == pytest.approx(2 / 3)  # with a; with 1's actor: b, b, empty

    plain = rows["10", "target"]  # no interaction, nothing emitted
    assert plain["J"] == 1 and not plain["emitted"] and not plain["is_interaction"] and plain["present"] == 0
    assert np.isnan([plain[key] for key in ("J_present", "J_cross", "J_inverse", "overlap")]).all()


def test_pairs_are_one_to_one_and_need_the_same_objects():
    pairs = {
        row["expression"]: row["inverse"] for row in score(make_clip(), Oracle().segment(make_clip(), EXPRESSIONS))
    }
    # 0 and 2 are both inverse to 1: the first takes it. 3 has another actor, 10 no target.
    assert pairs == {"0": "1", "1": "0", "2": None, "3": None, "10": None}


def test_actor_only_system_has_no_target_rows():
    rows = evaluate(Oracle(roles=(Role.ACTOR,)), [make_clip()], progress=False)
    assert set(rows["role"]) == {"actor"} and len(rows) == len(EXPRESSIONS)
    assert metrics.summarise(rows, 0, 0)["InterRVOS-Target"] is None


def test_evaluate_feeds_the_metrics():
    rows = evaluate(Oracle(), [make_clip("v0"), make_clip("v1")], progress=False)
    assert len(rows) == 20 and rows["J"].eq(1).all() and rows["F"].eq(1).all()
    assert metrics.direction(rows, 10, 0)["strict pair accuracy"] == {"value": 100, "n": 2, "interval": [100, 100]}


def test_missing_doubled_unknown():
    clip = make_clip()
    predictions = Oracle().segment(clip, clip.expressions)
    with pytest.raises(DataError, match=r"v0: 3 predictions for 5 expressions; missing \['10', '3'\]"):
        score(clip, predictions[:3])
    with pytest.raises(DataError, match=r"6 predictions for 5 .*doubled \['0'\]"):
        score(clip, [*predictions, predictions[0]])
    with pytest.raises(DataError, match=r"missing \['10'\], unknown \['11'\]"):
        score(clip, [*predictions[:4], Prediction("v0", "11", predictions[4].masks)])
    with pytest.raises(DataError, match=r"v0: predictions for other clips \['v1'\]"):
        score(clip, [*predictions[:4], Prediction("v1", "10", predictions[4].masks)])


@pytest.mark.parametrize(
    ("shape", "dtype", "message"),
    [
        ((T + 1, H, W), bool, r"expression 0: actor mask bool \(4, 7, 11\), clip has bool \(3, 7, 11\)"),
        ((T, W, H), bool, r"actor mask bool \(3, 11, 7\), clip has bool \(3, 7, 11\)"),
    ],
)
def test_wrong_masks(shape, dtype, message):
    system = Oracle(roles=(Role.ACTOR,), change=lambda p: with_actor(p, np.zeros(shape, dtype=dtype)))
    with pytest.raises(DataError, match=message):
        evaluate(system, [make_clip()], progress=False)


def test_roles_must_be_constant_and_hold_the_actor():
    clip = make_clip()
    predictions = Oracle().segment(clip, clip.expressions)
    part = Prediction("v0", "10", {Role.ACTOR: predictions[4].masks[Role.ACTOR]})
    with pytest.raises(DataError, match=r"expression 10: roles \['actor'\]"):
        score(clip, [*predictions[:4], part])
    with pytest.raises(DataError, match="the actor is always due"):
        evaluate(Oracle(roles=(Role.TARGET,)), [clip], progress=False)


def test_nothing_to_evaluate():
    assert score(make_clip(expressions=()), []) == []
    with pytest.raises(DataError, match="no clip has an expression"):
        evaluate(Oracle(), [make_clip(expressions=())], progress=False)


def test_released_layout_round_trip(tmp_path):
    clips, path = [make_clip("v0"), make_clip("v1")], tmp_path / "deeper" / "predictions.json"
    rows = evaluate(Oracle(), clips, progress=False, save=path)
    stored = json.loads(path.read_text())
    assert list(stored) == ["v0", "v1"] and list(stored["v0"]) == ["0", "1", "2", "3", "10"]
    entry = stored["v0"]["10"]
    assert set(entry) == {"prediction_masks_act", "prediction_masks_tar"}
    assert [rle["size"] for rle in entry["prediction_masks_tar"]] == [[H, W]] * T  # empty, but never null
    again = [row for clip, p in zip(clips, read_predictions(path, clips), strict=True) for row in score(clip, p)]
    pd.testing.assert_frame_equal(pd.DataFrame(again), rows)


def test_reading_reports_what_is_missing(tmp_path):
    path = tmp_path / "predictions.json"
    evaluate(Oracle(), [make_clip("v0")], progress=False, save=path)
    absent = make_clip("v1")
    with pytest.raises(DataError, match="v1: 0 predictions for 5 expressions"):
        score(absent, next(read_predictions(path, [absent])))
    stored = json.loads(path.read_text())
    del stored["v0"]["0"]["prediction_masks_tar"][0]
    path.write_text(json.dumps(stored))
    with pytest.raises(DataError, match="expression 0: 2 prediction_masks_tar for 3 frames"):
        list(read_predictions(path, [make_clip("v0")]))


def test_an_unfinished_file_is_not_there(tmp_path):
    path, predictions = tmp_path / "predictions.json", Oracle().segment(make_clip(), EXPRESSIONS)
    with pytest.raises(KeyboardInterrupt), write_predictions(path) as write:
        write(predictions)
        raise KeyboardInterrupt
    assert not path.exists()
    with pytest.raises(DataError, match="v0 written twice"), write_predictions(path) as write:
        write(predictions)
        write(predictions)
    with write_predictions(path) as write:
        pass
    assert json.loads(path.read_text()) == {}
