"""Every figure is made, has the panels it should have, and is small on disk. What they look like, a person must see."""

from __future__ import annotations

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure
from PIL import Image

from reviosa_core import masks, plots
from reviosa_core.schema import Clip, Expression, Prediction, Role

T, H, W, P, Q, L = 3, 21, 33, 5, 7, 11
FRAMES = np.random.default_rng(0).integers(0, 256, (T, H, W, 3), dtype=np.uint8)


@pytest.fixture(autouse=True)
def no_figure_left_open():
    yield
    assert plt.get_fignums() == []


def boxes() -> dict[Role, np.ndarray]:
    """Actor at the frame's border; target absent from the last frame."""
    actor, target = np.zeros((2, T, H, W), dtype=bool)
    actor[:, :9, :8] = True
    target[:2, 10:18, 12:30] = True
    return {Role.ACTOR: actor, Role.TARGET: target}


def test_overlay(tmp_path):
    before = FRAMES.copy()
    rows = {"truth": boxes(), "one role": {Role.ACTOR: ~boxes()[Role.ACTOR]}, "nothing": {}}
    figure = plots.overlay(FRAMES, rows, title="a pushes b", columns=2)
    assert isinstance(figure, Figure) and len(figure.axes) == 6  # 3 rows of 2 frames
    assert [axis.get_title(loc="center") for axis in figure.axes[:2]] == ["frame 0", "frame 2"]
    assert (before == FRAMES).all()
    path = plots.save(figure, tmp_path / "new" / "overlay.png")
    with Image.open(path) as image:
        assert image.mode == "P" and image.size[0] > 300
    assert len(plots.overlay(FRAMES, rows, columns=9).axes) == 9  # no frame twice


def test_paint_mixes_colours():
    frame = np.full((2, 3, 3), 100, np.uint8)
    here = np.zeros((2, 3), dtype=bool)
    here[0, 0] = True
    painted = plots.paint(frame, {Role.ACTOR: here}, opacity=1.0)
    assert painted[0, 0].tolist() == [0x00, 0x72, 0xB2] and (painted[~here] == 100).all() and (frame == 100).all()
    assert plots.paint(frame, {Role.ACTOR: here}, 0.5)[0, 0].tolist() == [50, 107, 139]


def test_gallery_shows_worst_and_best():
    stored = {role: [masks.encode(m) for m in own] for role, own in boxes().items()}
    expressions = tuple(Expression(str(i), f"text {i}", "single", ("a",)) for i in range(5))
    clip = Clip("v", FRAMES, ("0", "1", "2"), (H, W), expressions, {"a": stored[Role.ACTOR]})
    scores = {("0", "actor"): 0.5, ("1", "actor"): 0, ("2", "actor"): 1, ("3", "actor"): 0.7, ("4", "actor"): 0.2}
    scores |= {(str(i), "target"): 1.0 for i in range(5)}  # not due: an empty answer to a single object
    rows = pd.DataFrame(
        [
            {"video": "v", "expression": e, "role": r, "is_interaction": False, "J": v, "F": v}
            for (e, r), v in scores.items()
        ]
    )
    found = plots.gallery({"v": clip}, rows, [("v", [Prediction("v", "1", {Role.ACTOR: stored[Role.ACTOR]})])], count=2)
    titles = {name: figure.get_suptitle() for name, figure in found.items()}
    assert titles == {
        "worst 1": "v/1: text 1 (J&F 0.0)",
        "worst 2": "v/4: text 4 (J&F 20.0)",
        "best 1": "v/2: text 2 (J&F 100.0)",
        "best 2": "v/3: text 3 (J&F 70.0)",
    }


def test_save_keeps_under_the_limit(tmp_path):
    figure = plots.overlay(FRAMES, {"truth": boxes()})
    full = plots.save(figure, tmp_path / "full.png").stat().st_size
    limit = full - 1
    assert plots.save(figure, tmp_path / "small.png", limit=limit).stat().st_size <= limit


def test_attention_maps():
    rng = np.random.default_rng(0)
    maps = {name: {role: rng.random((T, P, Q), dtype=np.float32) for role in Role} for name in ("without", "with")}
    maps["with"][Role.ACTOR] = np.zeros((T, P, Q), dtype=np.float32)
    maps["with"][Role.ACTOR][:, 0, 0] = 1  # wholly inside the actor's box
    figure = plots.attention_maps(FRAMES, maps, boxes(), title="a pushes b")
    assert isinstance(figure, Figure) and len(figure.axes) == 4 * T
    labels = [axis.get_ylabel() for axis in figure.axes if axis.get_ylabel()]
    assert [label.split("\n")[0] for label in labels] == ["actor", "actor", "target", "target"]
    assert labels[1] == "actor\nwith\n100% on it"


def test_layer_head_selection():
    figure = plots.layer_head_selection(np.arange(L) / L, np.arange(4) / 4, layer=9, heads=[3, 1])
    left, right = figure.axes
    blue = matplotlib.colors.to_rgba(plots.COLOR[Role.ACTOR])
    colored = [[i for i, bar in enumerate(axis.patches) if bar.get_facecolor() == blue] for axis in (left, right)]
    assert colored == [[9], [1, 3]]


def test_ablation_bars():
    def entry(value):
        return {"J&F": value, "n": 9, "interval": [value - 2, value + 3]}

    empty = {"J&F": None, "n": 0, "interval": None}
    summaries = {
        "baseline": {"InterRVOS-Actor": entry(40), "InterRVOS-Target": None, "RVOS": entry(50)},
        "full": {"InterRVOS-Actor": entry(60), "InterRVOS-Target": empty, "RVOS": entry(70)},
    }
    figure = plots.ablation_bars(summaries, {"baseline": 57.0, "full": 62.0, "elsewhere": 1.0})
    actor, target, rvos = figure.axes
    assert [bar.get_height() for bar in actor.patches] == [40, 60] and len(target.patches) == 0
    assert [tick.get_text() for tick in target.get_xticklabels()] == ["baseline\nno role", "full\nn = 0"]
    assert rvos.collections[0].get_offsets().tolist() == [[0, 57], [1, 62]]
    assert isinstance(plots.ablation_bars(summaries), Figure)


def test_training_curves():
    history = pd.DataFrame(
        {"experiment": ["a"] * 5 + ["b"] * 5, "step": [*range(5)] * 2, "ce": range(10), "aml": [np.nan] * 5 + [1.0] * 5}
    )
    figure = plots.training_curves(history, smooth=2)
    ce, aml = figure.axes
    assert len(ce.lines) == 4 and len(aml.lines) == 2  # raw and smooth; "a" has no such term
    assert ce.lines[1].get_ydata().tolist() == [0, 0.5, 1.5, 2.5, 3.5]


def test_dataset_statistics():
    def clip(number: int) -> Clip:
        expressions = tuple(Expression(str(i), "a", "single", ("0",)) for i in range(number))
        return Clip(
            str(number), np.zeros((T, H, W, 3), np.uint8), ("0", "1", "2"), (H, W), expressions, {"0": [None] * T}
        )

    figure = plots.dataset_statistics(clip(n) for n in (1, 1, 4))
    lengths, objects, expressions, types = figure.axes
    for axis, heights in ((lengths, [0, 3, 0]), (objects, [0, 3, 0]), (expressions, [0, 2, 0, 0, 1, 0])):
        assert [bar.get_height() for bar in axis.patches] == heights
    assert [bar.get_width() for bar in types.patches] == [6]
    assert isinstance(plots.dataset_statistics([clip(1)], fps=2.0), Figure)


def test_attention_vs_quality():
    quality = np.array([0.0, 0.3, 0.3, 1.0])
    mass = np.arange(4 * L, dtype=float).reshape(4, L)
    (axis,) = plots.attention_vs_quality(mass, quality).axes
    assert [line.get_label() for line in axis.lines] == [
        "J&F 0–0.3 (n = 1)",
        "J&F 0.3–0.5 (n = 2)",
        "J&F 0.7–1 (n = 1)",
    ]
    assert np.allclose(np.asarray(axis.lines[1].get_ydata()), mass[1:3].mean(0))
