"""Rows of scores from clips and predictions: values by hand, every way to be incomplete, the released file layout."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from reviosa_core import masks
from reviosa_core.schema import Clip, DataError, Expression, Prediction, Role
from reviosa_core.scoring import metrics, predictions
from reviosa_core.scoring.evaluate import evaluate, evaluate_source, score, score_clip
from reviosa_core.scoring.source import Source

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
    rows = {(row["expression"], row["role"]): row for row in score_clip(clip, predictions)}
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

    assert target["answered"] and not target["by_token"], "what was written is not known: the mask says it"
    plain = rows["10", "target"]  # no interaction, nothing emitted
    assert (
        plain["J"] == 1
        and not plain["emitted"]
        and not plain["answered"]
        and not plain["is_interaction"]
        and plain["present"] == 0
    )
    assert np.isnan([plain[key] for key in ("J_present", "J_cross", "J_inverse", "overlap")]).all()


def test_what_is_written_and_what_is_drawn():
    """Written and not drawn, drawn and not written; a missing prediction has written nothing."""
    clip = make_clip()
    whole = Oracle().segment(clip, clip.expressions)
    found = [
        replace(
            whole[0], masks=whole[0].masks | {Role.TARGET: np.zeros((T, H, W), dtype=bool)}, written=frozenset(Role)
        ),
        *(replace(p, written=frozenset({Role.ACTOR})) for p in whole[1:4]),
    ]
    rows = pd.DataFrame(score_clip(clip, found, missing="zero"))
    targets = rows[rows["role"] == "target"].set_index("expression")
    assert targets["answered"].to_dict() == {"0": True, "1": False, "2": False, "3": False, "10": False}
    assert targets["emitted"].to_dict() == {"0": False, "1": True, "2": True, "3": True, "10": False}
    assert rows["by_token"].all() and rows.loc[rows["role"] == "actor", "answered"].sum() == 4
    actors = [Prediction(p.clip_id, p.expression_id, {Role.ACTOR: p.masks[Role.ACTOR]}) for p in whole]
    actors[1] = replace(actors[1], written=frozenset(Role))
    with pytest.raises(
        DataError, match=r"v0, expression 1: tokens of \['target'\] are written, masks are of \['actor'\]"
    ):
        score_clip(clip, actors)


def test_pairs_are_one_to_one_and_need_the_same_objects():
    pairs = {
        row["expression"]: row["inverse"] for row in score_clip(make_clip(), Oracle().segment(make_clip(), EXPRESSIONS))
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
    due = {"value": 100, "n": 2, "interval": pytest.approx([100 * 0.025**0.5, 100])}  # two videos
    assert metrics.direction(rows, 10, 0)["strict pair accuracy"] == due


def test_missing_doubled_unknown():
    clip = make_clip()
    predictions = Oracle().segment(clip, clip.expressions)
    with pytest.raises(DataError, match=r"v0: 3 predictions for 5 expressions; missing \['10', '3'\]"):
        score_clip(clip, predictions[:3])
    with pytest.raises(DataError, match=r"6 predictions for 5 .*doubled \['0'\]"):
        score_clip(clip, [*predictions, predictions[0]])
    with pytest.raises(DataError, match=r"missing \['10'\], unknown \['11'\]"):
        score_clip(clip, [*predictions[:4], Prediction("v0", "11", predictions[4].masks)])
    with pytest.raises(DataError, match=r"v0: predictions for other clips \['v1'\]"):
        score_clip(clip, [*predictions[:4], Prediction("v1", "10", predictions[4].masks)])


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
    with pytest.raises(DataError, match=r"expression 10: masks of \['actor'\]"):
        score_clip(clip, [*predictions[:4], part])
    with pytest.raises(DataError, match="all need the same roles, an actor among them"):
        evaluate(Oracle(roles=(Role.TARGET,)), [clip], progress=False)


def test_nothing_to_evaluate():
    assert score_clip(make_clip(expressions=()), []) == []
    with pytest.raises(DataError, match="no clip has an expression"):
        evaluate(Oracle(), [make_clip(expressions=())], progress=False)


def test_run_lengths_score_as_arrays_do():
    clip = make_clip()
    spoilt = Oracle(change=lambda p: with_actor(p, np.roll(p.masks[Role.ACTOR], 1, axis=2)))
    found = spoilt.segment(clip, clip.expressions)
    stored = [
        Prediction(p.clip_id, p.expression_id, {r: [masks.encode(m) for m in own] for r, own in p.masks.items()})
        for p in found
    ]
    pd.testing.assert_frame_equal(pd.DataFrame(score_clip(clip, stored)), pd.DataFrame(score_clip(clip, found)))
    stored[0].masks[Role.ACTOR][1]["size"] = [H, W + 1]  # type: ignore[index]
    with pytest.raises(
        DataError, match=r"v0, expression 0, actor: frame 1: mask size \(7, 12\) .* frame size \(7, 11\)"
    ):
        score_clip(clip, stored)


def test_zero_for_what_is_missing():
    """Everything 0, also on frames where nothing is to be found and silence would score 1."""
    clip = make_clip()
    found = Oracle().segment(clip, clip.expressions)
    rows = pd.DataFrame(score_clip(clip, found[1:], missing="zero")).set_index(["expression", "role"])
    gone = rows.loc["0"]
    assert gone["missing"].all() and not rows.loc["1"]["missing"].any()
    assert (gone[["J", "F", "J_cross", "overlap", "J_inverse"]] == 0).all().all() and not gone["emitted"].any()
    assert (rows.loc["1"]["J_inverse"] == 0).all() and (rows.loc["1"]["J"] == 1).all()
    whole = pd.DataFrame(score_clip(clip, [], roles=(Role.ACTOR, Role.TARGET), missing="zero"))
    assert len(whole) == 10 and whole["missing"].all()
    assert metrics.summarise(whole, 0, 0)["RVOS"]["J&F"] == 0  # type: ignore[index]


# --- from files -------------------------------------------------------------------------------------------------------


@pytest.fixture
def stored(tmp_path) -> tuple[Path, list[Clip], pd.DataFrame]:
    """A file of spoilt predictions for three clips, not in the clips' order, and their rows."""
    clips, path = [make_clip(f"v{i}") for i in range(3)], tmp_path / "deeper" / "predictions.json"
    spoilt = Oracle(change=lambda p: with_actor(p, np.roll(p.masks[Role.ACTOR], int(p.clip_id[1]), axis=2)))
    rows = evaluate(spoilt, [clips[2], clips[0], clips[1]], progress=False, save=path)
    return path, clips, rows.sort_values(["video", "expression", "role"], ignore_index=True)


def test_an_interrupted_evaluation_goes_on(tmp_path):
    """What is done is not segmented again, unless something else has made it; rows and file are as of one call."""
    clips, asked = [make_clip(f"v{i}") for i in range(3)], []

    def answer(prediction: Prediction, last: str) -> Prediction:
        if prediction.clip_id > last:
            raise KeyboardInterrupt
        asked.append(prediction.clip_id)
        return with_actor(prediction, np.roll(prediction.masks[Role.ACTOR], int(prediction.clip_id[1]), axis=2))

    def run(last: str, name: str, made_by: str | None = "one") -> pd.DataFrame:
        asked.clear()
        system = Oracle(change=lambda prediction: answer(prediction, last))
        return evaluate(system, clips, progress=False, save=tmp_path / name, made_by=made_by)

    with pytest.raises(KeyboardInterrupt):
        run("v1", "p.json")
    assert not (tmp_path / "p.json").exists() and set(asked) == {"v0", "v1"}
    rows = run("v9", "p.json")
    assert set(asked) == {"v2"} and not (tmp_path / "p.json.partial").exists()
    pd.testing.assert_frame_equal(rows, run("v9", "whole.json"), check_exact=True)
    assert (tmp_path / "p.json").read_bytes() == (tmp_path / "whole.json").read_bytes()
    with pytest.raises(KeyboardInterrupt):
        run("v1", "again.json")
    run("v9", "again.json", made_by="another")
    assert set(asked) == {"v0", "v1", "v2"}
    with pytest.raises(KeyboardInterrupt):
        run("v1", "unnamed.json", made_by=None)
    assert not (tmp_path / "unnamed.json.partial").exists()
    run("v9", "unnamed.json", made_by=None)
    assert set(asked) == {"v0", "v1", "v2"}, "nobody said that it is the same system"


@pytest.mark.parametrize("workers", [1, 2])
def test_a_file_scores_as_its_system_did(stored, workers):
    path, clips, rows = stored
    found, absent = evaluate_source(Source(file=path), clips, workers=workers, progress=False)
    pd.testing.assert_frame_equal(found, rows)
    assert absent == [] and found["J"].nunique() > 2


def test_missing_is_listed_or_zero(stored):
    path, clips, rows = stored
    content = json.loads(path.read_text())
    del content["v1"], content["v2"]["3"]
    path.write_text(json.dumps(content))
    with pytest.raises(DataError, match=r"no prediction for 6 of 15 expressions: v1/0, v1/1, .*v2/3; --allow-missing"):
        evaluate_source(Source(file=path), clips, workers=1, progress=False)
    found, absent = evaluate_source(Source(file=path), clips, missing="zero", workers=1, progress=False)
    assert absent == [("v1", e.id) for e in EXPRESSIONS] + [("v2", "3")]
    assert len(found) == len(rows) and found["missing"].sum() == 12
    kept = ~found["missing"]
    assert (found.loc[kept, "J"] == rows.loc[kept, "J"]).all() and (found.loc[~kept, ["J", "F"]] == 0).all().all()


def test_pairs_from_a_file(stored):
    path, clips, _ = stored
    source = Source(file=path)
    named = evaluate_source(source, clips, pairs={"v0": [("1", "2")]}, workers=2, progress=False)[0]
    given = named[named["role"] == "actor"].set_index(["video", "expression"])["inverse"]
    assert given["v0", "1"] == "2" and given["v0", "2"] == "1" and given.drop(index=["1", "2"], level=1).isna().all()
    assert given["v1"].isna().all(), "no pair is guessed where pairs are named"
    for bad, message in [
        ({"v0": [("0", "2")]}, "'a pushes b' and 'the small a nudges b' do not have each other's actor"),
        ({"v0": [("0", "10")]}, "do not have each other's actor"),
        ({"v0": [("1", "3")]}, "do not have each other's actor"),  # b on a, and a with c on b: one way only
        ({"v0": [("0", "77")]}, "unknown, or paired twice"),
        ({"v0": [("0", "1"), ("1", "2")]}, "unknown, or paired twice"),
        ({"v9": []}, r"unknown videos \['v9'\]"),
    ]:
        with pytest.raises(DataError, match=message):
            evaluate_source(source, clips, pairs=bad, workers=1, progress=False)


def test_pairs_of_predictions_in_memory(stored):
    _, clips, _ = stored
    named = {"v0": [("1", "2")]}
    found = [p for clip in clips for p in Oracle().segment(clip, clip.expressions)]
    for given in (found, Oracle()):
        rows = score(given, clips, pairs=named, progress=False).rows
        paired = rows[(rows.video == "v0") & rows.inverse.notna()]
        assert set(zip(paired.expression, paired.inverse, strict=True)) == {("1", "2"), ("2", "1")}
        with pytest.raises(DataError, match="pairs: unknown videos"):
            score(given, clips, pairs={"nonsense": [["x", "y"]]}, progress=False)
        with pytest.raises(ValueError, match="targets"):
            score(given, clips, targets="tree", progress=False)


def test_what_the_data_does_not_have_is_left_out_on_request(stored):
    """As the release's refined files: fewer sentences than were predicted."""
    path, clips, _ = stored
    fewer = [replace(clips[0], expressions=clips[0].expressions[:2])]
    source = Source.at(path, extra="ignore")
    rows, absent = evaluate_source(source, fewer, workers=1, progress=False)
    assert not absent and set(rows.expression) == {"0", "1"} and set(rows.video) == {"v0"}
    assert {e for v, e in source.passed if v == "v0"} == {"2", "3", "10"} and {v for v, _ in source.passed} == {
        clip.id for clip in clips
    }
    with pytest.raises(ValueError, match="a file, not of a folder"):
        Source.at(path.parent, extra="ignore")


def test_the_three_states_are_kept_apart(tmp_path):
    """No target key: not supported. Target masks of zeros: an empty answer. No expression: missing."""
    clip, path = make_clip(), tmp_path / "p.json"

    def rows(change) -> pd.DataFrame:
        evaluate(Oracle(change=change), [clip], progress=False, save=path)
        return evaluate_source(Source(file=path), [clip], workers=1, progress=False)[0]

    unsupported = rows(lambda p: Prediction(p.clip_id, p.expression_id, {Role.ACTOR: p.masks[Role.ACTOR]}))
    assert metrics.summarise(unsupported, 0, 0)["InterRVOS-Target"] is None
    nothing = np.zeros((T, H, W), dtype=bool)
    empty = rows(lambda p: Prediction(p.clip_id, p.expression_id, {**p.masks, Role.TARGET: nothing}))
    target = metrics.summarise(empty, 0, 0)["InterRVOS-Target"]
    assert target is not None and target["n"] == 4 and 0 < target["J"] < 50  # b is absent from one frame: 1 there


def test_unknown_names_and_other_roles(stored):
    path, clips, _ = stored
    content = json.loads(path.read_text())
    with pytest.raises(DataError, match=r"unknown video 'v2'; the data has 2 others"):
        evaluate_source(Source(file=path), clips[:2], workers=1, progress=False)
    path.write_text(json.dumps(content | {"v1": {**content["v1"], "77": content["v1"]["0"]}}))
    with pytest.raises(DataError, match=r"video v1 has no expressions \['77'\]"):
        evaluate_source(Source(file=path), clips, workers=1, progress=False)
    del content["v1"]["0"]["prediction_masks_tar"]
    path.write_text(json.dumps(content))
    with pytest.raises(DataError, match=r"v1, expression 0: masks of \['actor'\], other predictions have"):
        evaluate_source(Source(file=path), clips, workers=2, progress=False)


def test_trees_of_pngs_score_as_the_file(stored, tmp_path):
    path, clips, rows = stored
    trees = {Role.ACTOR: tmp_path / "act", Role.TARGET: tmp_path / "tar"}
    for video, found in predictions.read(path):
        for p in found:
            for role, rles in p.masks.items():
                folder = trees[role] / video / p.expression_id
                folder.mkdir(parents=True)
                for t, rle in enumerate(rles):
                    Image.fromarray(masks.decode(rle, (H, W)).astype(np.uint8)).save(folder / f"{t:05d}.png")
    found, _ = evaluate_source(Source(trees=trees), clips, workers=1, progress=False)
    pd.testing.assert_frame_equal(found, rows)
    (trees[Role.TARGET] / "v1" / "0" / "00001.png").unlink()
    with pytest.raises(DataError, match=r"tar/v1/0: 2 PNGs for 3 frames: 1 missing \['00001'\]"):
        evaluate_source(Source(trees=trees), clips, workers=1, progress=False)
