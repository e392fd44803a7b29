"""Each data set's own numbers, from small folders in the real layouts, through the command: worked by hand."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest
from layouts import BOX, H, T, W, made, write_json
from typer.testing import CliRunner

from reviosa_core import masks
from reviosa_core.cli.app import app
from reviosa_core.data import formats
from reviosa_core.data.jsonfile import read_json
from reviosa_core.schema import Clip, Expression, Prediction, Role
from reviosa_core.scoring import evaluate, predictions

Draw = Callable[[Clip, Expression], np.ndarray | None]


def truth(clip: Clip, expression: Expression) -> np.ndarray:
    return masks.union(clip, expression.actor)


def evaluated(
    root: Path,
    split: str | None,
    draw: Draw,
    *options: str,
    score: Callable[[Clip, Expression], float | None] | None = None,
) -> tuple[dict[str, tuple[float, int]], str]:
    """{name: (percent, expressions)} of the benchmark, and what was printed. `draw` gives None for a missing one."""
    file, out = root / "answers.json", root / "scores.json"
    with predictions.writer(file) as write:
        for clip in formats.read(root, split):
            drawn = {e.id: draw(clip, e) for e in clip.expressions}
            sure = {e.id: score(clip, e) if score else None for e in clip.expressions}
            write([Prediction(clip.id, i, {Role.ACTOR: m}, score=sure[i]) for i, m in drawn.items() if m is not None])
    named = ["--split", split] if split else []
    words = ["evaluate", "--data", root, *named, "--predictions", file, "--out", out, "--workers", 1, "--bootstrap", 0]
    result = CliRunner().invoke(app, [str(word) for word in (*words, *options)])
    assert result.exit_code == 0, result.output
    own = read_json(out)["benchmark"]
    return {name: (line and line["value"], line["n"] if line else 0) for name, line in own.items()}, result.stdout


def test_mevis_ranks_by_the_mean_of_three(tmp_path):
    """Video a: one expression; b: four, one of which refers to nothing."""

    def draw(clip: Clip, e: Expression) -> np.ndarray:
        own = truth(clip, e)
        if clip.id == "b" and e.id == "0":
            return np.zeros_like(own)  # silent, where two boxes are
        if e.actor == ("nothing",):
            own[0, 0, 0] = True  # draws, where nothing is
        return own

    found, printed = evaluated(made(tmp_path, "mevis"), "valid_u", draw)
    silent = 0.0  # of J; F too: the truth has outlines
    assert found["J"] == (pytest.approx(100 * (silent + 1 + 1 + 1 + 2 / 3) / 5), 5), "nothing: 2 of 3 frames agree"
    assert found["J&F"] == (pytest.approx(100 * (silent + 1 + 1 + 1 + 2 / 3) / 5), 5)
    assert found["N-acc"] == (0, 1) and found["T-acc"] == (75, 4)
    assert found["Final"][0] == pytest.approx((found["J&F"][0] + 0 + 75) / 3)
    assert "mevis\n" in printed and "| T-acc | 75.0 | 4 |" in printed.replace("  ", " ").replace("  ", " ")


@pytest.mark.parametrize("layout", ["ref-davis, ReferFormer's", "ref-davis, as released"])
def test_ref_davis_by_both_protocols(tmp_path, layout):
    """In set 1 the two objects are swapped: nothing is right for one protocol, everything for the other."""

    def draw(clip: Clip, e: Expression) -> np.ndarray:
        other = {"1": "2", "2": "1"}[e.actor[0]] if int(e.id) % 4 == 1 else e.actor[0]
        return masks.union(clip, [other])

    found, _ = evaluated(made(tmp_path, layout), "valid", draw)
    (clip,) = formats.read(tmp_path, "valid")
    assert not (masks.union(clip, ["1"]) & masks.union(clip, ["2"])).any()
    assert found["J, each expression"] == (75, 8) and found["J, each expression, set 1"] == (0, 2)
    assert found["J&F, each expression, set 3"] == (100, 2)
    third = 2 / 3  # is in the first frame only, and no sentence is about it: the DAVIS toolkit scores it
    assert found["J, merged"] == (pytest.approx(100 * (2 + third) / 3), 3) == found["J&F, merged"]


@pytest.mark.parametrize("layout", ["ref-davis, ReferFormer's", "ref-davis, as released"])
def test_ref_davis_merged_scores_objects_that_no_sentence_is_about(tmp_path, layout):
    """Labels 2 and 3 of the first frame have none: the DAVIS toolkit counts up to its highest label."""
    root = made(tmp_path, layout)
    for file in root.rglob("meta_expressions.json"):
        content = json.loads(file.read_text())
        for video in content["videos"].values():
            video["expressions"] = {k: e for k, e in video["expressions"].items() if e["obj_id"] == "1"}
        file.write_text(json.dumps(content))
    for file in root.glob("davis_text_annotations/*.txt"):
        raw = file.read_bytes().splitlines(keepends=True)
        file.write_bytes(b"".join(line for line in raw if line.split()[1] == b"1"))
    found, _ = evaluated(root, "valid", truth)
    assert found["J, each expression"] == (100, 4)
    assert found["J, merged"] == (pytest.approx(100 * (1 + 0 + 2 / 3) / 3), 3) == found["F, merged"]


def test_ref_davis_merged_leaves_void_out_and_gives_overlaps_to_the_first(tmp_path):
    root = made(tmp_path, "ref-davis, ReferFormer's")

    def draw(clip: Clip, e: Expression) -> np.ndarray:
        own = masks.union(clip, e.actor)
        own[:, 0, -1] = True  # void, there
        return own | masks.union(clip, ["1"])  # object 2's answer covers both

    found, _ = evaluated(root, "valid", draw)
    assert found["J, merged"] == (pytest.approx(100 * (2 + 2 / 3) / 3), 3) and found["J, each expression"][0] < 90


def test_sentences_of_a2d(tmp_path, rng):
    """Three sentences of one video: IoU 1, 1/2 exactly, 0. Sure of the right ones first."""
    folder = made(tmp_path, "a2d") / "text_annotations" / "a2d_annotation_with_instances" / "v1"
    stack = np.zeros((3, W, H), np.uint8)
    stack[0, 2:6, 1:5] = stack[1, 6:12, 3:8] = stack[2, 0:4, 6:8] = 1
    for frame in (3, 7):
        with h5py.File(folder / f"{frame:05d}.h5", "w") as file:
            file["instance"], file["reMask"] = [0, 1, 2], stack

    def draw(clip: Clip, e: Expression) -> np.ndarray:
        own = truth(clip, e)
        if e.id == "0":
            own[:, :, 2:4] = False  # 8 of 16 pixels
        return np.zeros_like(own) if e.id == "1" else own

    found, printed = evaluated(tmp_path, None, draw)
    assert [found[f"P@{k}"] for k in (0.5, 0.6, 0.7, 0.8, 0.9)] == [(pytest.approx(100 / 3), 3)] * 5, "0.5 is not above"
    assert found["mean IoU"] == (pytest.approx(50), 3)
    assert found["overall IoU"] == (pytest.approx(100 * (8 + 0 + 8) / (16 + 30 + 8)), 3)
    assert found["mAP"] == (None, 0) and "mAP" in printed
    sure, _ = evaluated(tmp_path, None, draw, score=lambda clip, e: {"0": 0.4, "1": 0.2, "2": 0.9}[e.id])
    # At 0.5 the two surest are right (COCO: at least), at 0.55 to 0.95 the surest one; at 101 recalls.
    assert sure["mAP"] == (pytest.approx(100 * (67 + 9 * 34) / 1010), 3)
    # A missing one comes after the least sure answer, as in COCO, not beside it.
    without = lambda clip, e: None if e.id == "2" else truth(clip, e)  # noqa: E731
    zero = ("--allow-missing", "zero")
    sure, _ = evaluated(tmp_path, None, without, *zero, score=lambda clip, e: 1.0 + int(e.id))
    assert sure["mAP"] == (pytest.approx(100 * 67 / 101), 3)


def test_a_missing_sentence_has_no_pixel_and_is_the_least_sure(tmp_path):
    root = made(tmp_path, "jhmdb")

    def draw(clip: Clip, e: Expression) -> np.ndarray | None:
        return None if clip.id.endswith("_3") else truth(clip, e)

    found, _ = evaluated(root, None, draw, "--allow-missing", "zero", score=lambda clip, e: 0.3)
    assert found["P@0.5"] == (50, 2) and found["overall IoU"] == (50, 2) and found["mean IoU"] == (50, 2)
    assert found["mAP"] == (None, 0), "one score for all: sure of none"


def test_revos_with_robustness(tmp_path):
    """The second sentence's answer covers its own box and, falsely, all of the first one's that is beside it; the
    third's, which is about nothing, the first one's."""

    def draw(clip: Clip, e: Expression) -> np.ndarray:
        return BOX[:2].any(axis=0) if e.id == "1" else BOX[0]

    found, _ = evaluated(made(tmp_path, "revos"), "valid", draw)
    iou = BOX[1].sum() / BOX[:2].any(axis=0).sum()
    assert found["J, referring"] == (100, 1) and found["J, reasoning"] == (pytest.approx(100 * iou), 1)
    assert found["J, overall"] == (pytest.approx(50 * (1 + iou)), 2)
    pixels = BOX[:2].any(axis=0).sum((1, 2))
    false = np.mean((BOX[0] & ~BOX[1]).sum((1, 2)) / pixels)
    assert found["R, referring"] == (100, 1) and found["R, reasoning"] == (pytest.approx(100 * (1 - false)), 1)
    assert found["R, overall"] == (pytest.approx(100 * (1 + 1 - false) / 2), 2)
    accuracy = 1 - (BOX[0] & ~BOX[1]).sum() / BOX[0].size
    assert found["A, referring"] == (100, 1) and found["A, overall"] == (pytest.approx(50 * (1 + accuracy)), 2)
    assert found["R, about nothing"] == (pytest.approx(100 * np.mean(1 - BOX[0].sum((1, 2)) / pixels)), 1)
    (tmp_path / "mask_dict_foreground.json").unlink()
    assert evaluated(tmp_path, "valid", draw)[0]["R, overall"] == (None, 0)


@pytest.mark.parametrize(
    ("stored", "message"),
    [
        ([None], f"video y: 1 masks for {T} frames"),
        ([{"size": [H, H], "counts": [H * H]}] * T, "video y: "),
    ],
)
def test_revos_foreground_that_does_not_fit(tmp_path, stored, message):
    root = made(tmp_path, "revos")
    write_json(root / "mask_dict_foreground.json", {"y": {"masks_rle": stored, "foreground_ratio": []}})
    with predictions.writer(root / "answers.json") as write:
        for clip in formats.read(root, "valid"):
            write([Prediction(clip.id, e.id, {Role.ACTOR: truth(clip, e)}) for e in clip.expressions])
    words = ["evaluate", "--data", root, "--split", "valid", "--predictions", root / "answers.json", "--workers", 1]
    result = CliRunner().invoke(app, [str(word) for word in words])
    assert result.exit_code == 2 and "mask_dict_foreground.json" in result.stderr and message in result.stderr


def test_ref_sav_by_length(tmp_path):
    root = made(tmp_path, "ref-sav")
    file = root / "ref_sav_eval" / "meta_expressions_valid.json"
    content = json.loads(file.read_text())
    one = content["videos"]["v"]["expressions"]["0"]
    content["videos"]["v"]["expressions"] |= {"1": one | {"type_id": 0}, "2": one | {"type_id": 0}}
    file.write_text(json.dumps(content))

    def draw(clip: Clip, e: Expression) -> np.ndarray:
        return np.zeros_like(truth(clip, e)) if e.id == "2" else truth(clip, e)

    found, _ = evaluated(root, "valid", draw)
    assert found["J, long"] == (50, 2) and found["J, short"] == (100, 1) and found["J, overall"] == (75, 3)
    wrong = BOX[0].sum() / (T * H * W)
    assert found["A, long"] == (pytest.approx(100 * (2 - wrong) / 2), 2) and found["A, short"] == (100, 1)
    assert found["A, overall"] == (pytest.approx(100 * (2 - wrong / 2) / 2), 3), "the mean of the groups, as J"


def test_targets_that_the_data_do_not_annotate_are_not_scored(tmp_path):
    root, file = made(tmp_path, "mevis"), tmp_path / "answers.json"
    with predictions.writer(file) as write:
        for clip in formats.read(root, "valid_u"):
            drawn = {e.id: truth(clip, e) for e in clip.expressions}
            write([Prediction(clip.id, i, {Role.ACTOR: m, Role.TARGET: m}) for i, m in drawn.items()])
    words = ["evaluate", "--data", root, "--split", "valid_u", "--predictions", file, "--out", root / "s.json"]
    result = CliRunner().invoke(app, [str(word) for word in (*words, "--workers", 1, "--bootstrap", 0)])
    assert result.exit_code == 0 and "these mevis data annotate no targets" in result.stdout
    assert "not annotated" in result.stdout and "not supported" not in result.stdout
    scores = read_json(root / "s.json")
    assert scores["RVOS"]["J&F"] == 100 and scores["direction"]["detection F1"] is None
    assert scores["existence"]["N-acc target"] is None and scores["benchmark"]["N-acc"]["value"] == 100
    same = evaluate.score(file, formats.read(root, "valid_u"), workers=1, bootstrap=0, progress=False)
    assert same.direction["detection F1"] is None and same.summary["InterRVOS-Target"] is None


def test_what_fails_of_a_benchmark_keeps_the_rest(tmp_path):
    root = made(tmp_path, "revos")
    write_json(root / "mask_dict_foreground.json", {"y": {"masks_rle": [None], "foreground_ratio": []}})
    with predictions.writer(root / "answers.json") as write:
        for clip in formats.read(root, "valid"):
            write([Prediction(clip.id, e.id, {Role.ACTOR: truth(clip, e)}) for e in clip.expressions])
    words = ["evaluate", "--data", root, "--split", "valid", "--predictions", root / "answers.json", "--workers", 1]
    result = CliRunner().invoke(app, [str(word) for word in (*words, "--out", root / "scores.json")])
    assert result.exit_code == 2 and "revos's own numbers: " in result.stderr
    assert read_json(root / "scores.json")["RVOS"]["J&F"] == 100


def test_spans_on_request(tmp_path):
    """The box is drawn in the last two of three frames, half of it; another, which leaves after one, in all three."""

    def draw(clip: Clip, e: Expression) -> np.ndarray:
        own = truth(clip, e)
        if e.actor == ("9",):
            own[:] = own[0]
        elif e.actor != ("nothing",):
            own[0] = False
        return own

    root = made(tmp_path, "mevis")
    assert "tIoU" not in evaluated(root, "valid_u", draw)[0]
    found, _ = evaluated(root, "valid_u", draw, "--long")
    # b: 0 and 10 the two boxes, 1 the one that leaves, 2 nothing; a: the one that leaves.
    assert found["tIoU"] == (pytest.approx(100 * (2 / 3 + 2 / 3 + 1 / 3 + 1 + 1 / 3) / 5), 5)
    assert found["vIoU"] == (pytest.approx(100 * (2 / 3 + 2 / 3 + 1 / 3 + 1 + 1 / 3) / 5), 5)
    halved, _ = evaluated(root, "valid_u", lambda clip, e: truth(clip, e) & (np.arange(W) < 7), "--long")
    assert halved["tIoU"][0] == 100 and halved["vIoU"][0] < 80


def test_interrvos_has_no_other_numbers(tmp_path):
    found, printed = evaluated(made(tmp_path, "interrvos"), "val", truth)
    assert not found and "as InterRVOS" not in printed
