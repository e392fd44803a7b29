"""What the model says is there, and how often it is: curves, errors, and what `predict` makes of them."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import brier_score_loss
from standing import H, Standing, T, W, frames
from typer.testing import CliRunner

from reviosa_core import masks
from reviosa_core.cli import predict as cli_predict
from reviosa_core.cli.app import app
from reviosa_core.data.interrvos import write
from reviosa_core.predict import calibration
from reviosa_core.schema import UNKNOWN, Clip, DataError, Expression, Role


def rows(n: int, seed: int) -> pd.DataFrame:
    """Scores that say twice what is so."""
    rng = np.random.default_rng(seed)
    score = rng.random(n)
    return pd.DataFrame(
        {"video": "v", "expression": "0", "role": "actor", "score": score, "there": rng.random(n) < score / 2}
    )


def test_reliability_golden():
    said, there = np.array([0.05, 0.08, 0.55, 0.95, 1.0]), np.array([False, True, True, True, False])
    table = calibration.reliability(said, there)
    assert table.index.tolist() == [0, 5, 9] and table.frames.tolist() == [2, 1, 2]
    assert table.said.tolist() == pytest.approx([0.065, 0.55, 0.975]) and table.there.tolist() == [0.5, 1.0, 0.5]
    want = (2 * 0.435 + 0.45 + 2 * 0.475) / 5
    assert calibration.calibration_error(said, there) == pytest.approx(want)


def test_what_was_learnt_holds_of_others():
    curve = calibration.fit(rows(4000, 0), "m", "d").roles[Role.ACTOR]
    other = rows(4000, 1)
    said, there = other.score.to_numpy(), other.there.to_numpy()
    before, after = (calibration.calibration_error(s, there) for s in (said, curve.of(said)))
    assert before == pytest.approx(0.25, abs=0.02) and after < 0.02
    assert brier_score_loss(there, curve.of(said)) < brier_score_loss(there, said)
    assert (np.diff(curve.of(np.sort(said))) >= 0).all(), "the order stays"
    assert curve.of(np.array([-1.0, 2.0])).tolist() == [curve.shares[0], curve.shares[-1]]


def half() -> Clip:
    """The actor is always there, the target in every second frame."""
    mask = masks.encode(np.ones((H, W), bool))
    target = [mask if t % 2 == 0 else None for t in range(T)]
    said = (
        Expression("0", "a dog pulling a cat", "unidirectional", ("a",), ("b",)),
        Expression("1", "a dog", "single", ("a",)),
    )
    pixels, names = np.full((T, H, W, 3), 90, np.uint8), tuple(f"{t:05d}" for t in range(T))
    return Clip("clip", pixels, names, (H, W), said, {"a": [mask] * T, "b": target})


def test_a_row_a_frame_role_and_expression():
    found = calibration.measure(Standing(), [half()], progress=False)
    assert len(found) == 2 * 2 * T
    actor, target = (found[(found.expression == "0") & (found.role == str(role))] for role in Role)
    assert actor.there.all() and actor.score.tolist() == pytest.approx([0.45, 0.15, 0.45, 0.15, 0.45])
    assert target.there.tolist() == [True, False, True, False, True]
    assert target.score.tolist() == pytest.approx([0.9, 0.3, 0.9, 0.3, 0.9])
    assert not found[(found.expression == "1") & (found.role == "target")].there.any()


def test_a_role_that_is_not_annotated_is_not_learnt():
    clip = half()
    actors = dataclasses.replace(clip, expressions=clip.expressions[1:])
    found = calibration.fit(calibration.measure(Standing(), [actors], progress=False), "m", "d")
    assert set(found.roles) == {Role.ACTOR}
    hidden = Expression("2", "a dog", "undefined", (UNKNOWN,))
    secret = dataclasses.replace(clip, expressions=(hidden,), masks={UNKNOWN: [None] * T})
    with pytest.raises(DataError, match="clip clip, expression 2: its masks are not public"):
        calibration.measure(Standing(), [secret], progress=False)


@pytest.fixture
def weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(cli_predict, "load_system", lambda *_: Standing())
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "reviosa.json").write_text("{}")
    for name in ("val", "dev"):
        clip = half()
        write(tmp_path / name, [Clip(name, clip.frames, clip.frame_names, clip.size, clip.expressions, clip.masks)])
    frames(tmp_path / "yard")
    return tmp_path / "model"


def reviosa(*words: object):
    return CliRunner().invoke(app, [str(word) for word in words])


def test_from_a_split_to_predict(weights: Path, tmp_path: Path):
    words = ("calibrate", "--checkpoint", weights, "--data", tmp_path / "val")
    done = reviosa(*words, "--check", tmp_path / "dev", "--figure", tmp_path / "f.png")
    assert done.exit_code == 0, done.output
    # Of the target, 0.9 was right half the time and 0.3 never: |0.9 - 0.5| 3/5 + 0.3 2/5.
    assert "target: there in 30.0 % of 10 frames; calibration error (ECE) 36.00 % before, 0.00 % after" in done.output
    assert "actor: there in 100.0 % of 10 frames; calibration error (ECE) 67.00 % before, 0.00 % after" in done.output
    assert (tmp_path / "f.png").stat().st_size > 1000 and [p.name for p in weights.iterdir()] == ["reviosa.json"]

    predict = ("predict", "--video", tmp_path / "yard", "--checkpoint", weights, "--out", tmp_path / "out")
    predict += ("--text", "a dog", "--text", "a cat")
    assert reviosa(*predict).exit_code == 0
    about = json.loads((tmp_path / "out" / "yard--a-dog" / "prediction.json").read_text())
    assert about["confidence"]["target"]["present_calibrated"] == [0.5, 0.0, 0.5, 0.0, 0.5]
    assert about["confidence"]["actor"]["present_calibrated"] == [1.0] * T
    assert reviosa(*predict).output.count("there already") == 2
    calibration.beside(weights).unlink()
    again = reviosa(*predict)
    assert "there already" not in again.output, "it was said with another calibration"
    about = json.loads((tmp_path / "out" / "yard--a-dog" / "prediction.json").read_text())
    assert "present_calibrated" not in about["confidence"]["target"]


def test_a_calibration_of_other_weights_is_refused(weights: Path, tmp_path: Path):
    assert reviosa("calibrate", "--checkpoint", weights, "--data", tmp_path / "val").exit_code == 0
    (weights / "reviosa.json").write_text('{"other": 1}')
    done = reviosa("predict", "--video", tmp_path / "yard", "--text", "a dog", "--checkpoint", weights)
    assert done.exit_code == 2 and "model.calibration.json: is of weights" in done.stderr


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"roles": {"actor": {"scores": [0.5, 0.1], "shares": [0, 1]}}}, "roles.actor.scores: must rise"),
        ({"roles": {"actor": {"scores": [0.5], "shares": [0, 1]}}}, "shares: 1 are needed, got 2"),
        ({"roles": {"subject": {"scores": [0.5], "shares": [1]}}}, "roles.subject"),
        ({"roles": {"actor": {"scores": [0.5], "shares": [2]}}}, "less than or equal to 1, got 2"),
        ({"expressions": 0}, "expressions: should be greater than or equal to 1, got 0"),
        ({"more": 1}, "more: "),
    ],
)
def test_what_nobody_wrote_is_refused(tmp_path: Path, change: dict, message: str):
    right = {"model": "m", "data": "d", "expressions": 1, "roles": {}}
    calibration.beside(tmp_path / "m").write_text(json.dumps(right | change))
    with pytest.raises(DataError, match=f"m.calibration.json: .*{message}"):
        calibration.read(tmp_path / "m", "m")


def test_videos_of_both_splits_say_nothing(weights: Path, tmp_path: Path):
    done = reviosa("calibrate", "--checkpoint", weights, "--data", tmp_path / "val", "--check", tmp_path / "val")
    assert done.exit_code == 2 and "1 of 1 videos are in --data too, as val" in done.stderr
    assert not calibration.beside(weights).exists()
