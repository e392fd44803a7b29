"""Every figure is made, has the panels it should have, and is small on disk. What they look like, a person must see."""

from __future__ import annotations

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure
from PIL import Image

from reviosa_core import masks
from reviosa_core.data import statistics
from reviosa_core.report import drawing, plots, style
from reviosa_core.schema import CaptionType, Clip, Expression, Prediction, Role

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
    figure = drawing.overlay(FRAMES, rows, title="a pushes b", columns=2)
    assert isinstance(figure, Figure) and len(figure.axes) == 6  # 3 rows of 2 frames
    assert [axis.get_title(loc="center") for axis in figure.axes[:2]] == ["frame 0", "frame 2"]
    assert (before == FRAMES).all()
    path = style.save(figure, tmp_path / "new" / "overlay.png")
    with Image.open(path) as image:
        assert image.mode == "P" and image.size[0] > 300
    assert len(drawing.overlay(FRAMES, rows, columns=9).axes) == 9  # no frame twice


def test_paint_mixes_colours():
    frame = np.full((2, 3, 3), 100, np.uint8)
    here = np.zeros((2, 3), dtype=bool)
    here[0, 0] = True
    painted = drawing.paint(frame, {Role.ACTOR: here}, opacity=1.0)
    assert painted[0, 0].tolist() == [0x00, 0x72, 0xB2] and (painted[~here] == 100).all() and (frame == 100).all()
    assert drawing.paint(frame, {Role.ACTOR: here}, 0.5)[0, 0].tolist() == [50, 107, 139]


def test_a_rim_is_of_the_full_colour_and_as_wide_as_the_frame_asks():
    frame, here = np.full((400, 600, 3), 100, np.uint8), np.zeros((400, 600), bool)
    here[0:9, 20:31] = here[50, 60] = True  # at the frame's edge; and one pixel
    drawn = drawing.outlined(frame, {Role.ACTOR: here}, 0.5)
    blue = (drawn == [0x00, 0x72, 0xB2]).all(-1)
    assert blue[50, 60] and not blue[~here].any() and (drawn[~here] == 100).all()
    assert blue[:2, 20:31].all() and blue[7:9, 20:31].all() and blue[:9, 20:22].all() and blue[:9, 29:31].all()
    assert (drawn[2:7, 22:29] == [50, 107, 139]).all(), "two pixels of 400; inside, as painted"
    small = drawing.outlined(frame[:40, :60], {Role.TARGET: here[:40, :60]}, 0.5)
    assert (small[1:8, 21:30] == drawing.paint(frame, {Role.TARGET: here}, 0.5)[5, 25]).all()


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
    found = drawing.gallery(
        {"v": clip}, rows, [("v", [Prediction("v", "1", {Role.ACTOR: stored[Role.ACTOR]})])], count=2
    )
    titles = {name: figure.get_suptitle() for name, figure in found.items()}
    assert titles == {
        "worst 1": "v/1: text 1 (J&F 0.0)",
        "worst 2": "v/4: text 4 (J&F 20.0)",
        "best 1": "v/2: text 2 (J&F 100.0)",
        "best 2": "v/3: text 3 (J&F 70.0)",
    }


def test_of_a_long_clip_the_frames_that_are_shown_are_read():
    class Watched:
        shape, read = (200, H, W, 3), set()

        def __len__(self) -> int:
            return 200

        def __getitem__(self, i: int) -> np.ndarray:
            self.read.add(i)
            return np.full((H, W, 3), i, np.uint8)

    long = [masks.encode(boxes()[Role.ACTOR][0])] * 199 + [masks.encode(~boxes()[Role.ACTOR][0])]
    names = tuple(map(str, range(200)))
    clip = Clip("v", Watched(), names, (H, W), (Expression("0", "it", "single", ("a",)),), {"a": long})
    figure = drawing.truth_and(clip, clip.expressions[0], {"said": {Role.ACTOR: long}}, "it", 3)
    assert Watched.read == {0, 100, 199} and len(figure.axes) == 6
    pictures = [axis.images[0].get_array() for axis in figure.axes]
    assert (pictures[0] == pictures[3]).all() and (pictures[1] != pictures[2]).any()
    assert [axis.get_title() for axis in figure.axes[:3]] == ["frame 0", "frame 100", "frame 199"]


def test_save_keeps_under_the_limit(tmp_path):
    figure = drawing.overlay(FRAMES, {"truth": boxes()})
    full = style.save(figure, tmp_path / "full.png").stat().st_size
    limit = full - 1
    assert style.save(figure, tmp_path / "small.png", limit=limit).stat().st_size <= limit


def test_attention_maps():
    rng = np.random.default_rng(0)
    maps = {name: {role: rng.random((T, P, Q), dtype=np.float32) for role in Role} for name in ("without", "with")}
    maps["with"][Role.ACTOR] = np.zeros((T, P, Q), dtype=np.float32)
    maps["with"][Role.ACTOR][:, 0, 0] = 1  # wholly inside the actor's box
    every = boxes()[Role.ACTOR] | boxes()[Role.TARGET]
    figure = drawing.attention_maps(FRAMES, maps, boxes(), every, title="a pushes b", numbers=range(3, 3 + 2 * T, 2))
    assert isinstance(figure, Figure) and len(figure.axes) == 4 * T
    assert [axis.get_title() for axis in figure.axes[:T]] == [f"frame {3 + 2 * t}" for t in range(T)]
    labels = [axis.get_ylabel() for axis in figure.axes if axis.get_ylabel()]
    assert [label.split("\n")[0] for label in labels] == ["actor", "actor", "target", "target"]
    area = boxes()[Role.ACTOR].sum() / (boxes()[Role.ACTOR] | boxes()[Role.TARGET]).sum()
    assert labels[1] == f"actor\nwith\nobjects 100%\nown 100% (area {area:.0%})"


def test_layer_head_selection():
    figure = plots.layer_head_selection(np.arange(L) / L, np.arange(4) / 4, layer=9, heads=[3, 1])
    left, right = figure.axes
    blue = matplotlib.colors.to_rgba(style.COLOR[Role.ACTOR])
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
    figure = plots.training_curves(history, smooth=0.5)
    ce, aml = figure.axes
    assert len(ce.lines) == 4 and len(aml.lines) == 2  # all raw ones, then the smooth; "a" has no such term
    assert ce.lines[2].get_ydata().tolist() == [0, 0.5, 1.5, 2.5, 3.5]


def test_training_curves_of_runs_of_different_lengths_are_smoothed_alike():
    """Over as many steps, in each panel those of the shortest run in it: else a longer one looks slower than it is."""
    history = pd.DataFrame({"experiment": ["a"] * 4 + ["b"] * 12, "step": [*range(4), *range(12)]})
    falls = [float(step < 2) for step in history["step"]]
    figure = plots.training_curves(history.assign(ce=falls, aml=[np.nan] * 4 + falls[4:]), smooth=0.5)
    ce, aml = figure.axes
    short, long, alone = ce.lines[2].get_ydata(), ce.lines[3].get_ydata(), aml.lines[1].get_ydata()
    assert short.tolist() == long[:4].tolist() == [1, 1, 0.5, 0]
    assert alone[4] > 0, "over 6 of its 12"


def described(name: str, number: int, kind: CaptionType = "single") -> Clip:
    target = ("1",) if kind == "unidirectional" else None
    expressions = tuple(Expression(str(i), "a red dog", kind, ("0",), target) for i in range(number))
    rng = np.random.default_rng(number)
    rles = {key: [masks.encode(m) for m in rng.random((T, H, W)) < 0.4] for key in "01"}
    frames = rng.integers(0, 255, (T, H, W, 3), dtype=np.uint8)
    return Clip(name, frames, ("03", "04", "08"), (H, W), expressions, rles)


def test_dataset_statistics():
    clips = [described("a", 1), described("b", 1), described("c", 4, "unidirectional")]
    figure = plots.dataset_statistics(statistics.collect(clips))
    by_title = {axis.get_title(loc="left")[:3]: axis for axis in figure.axes}
    assert list(by_title) == [f"({letter})" for letter in "abcfdehgi"]

    def bars(letter: str) -> list[float]:
        heights = [bar.get_height() for bar in by_title[f"({letter})"].patches]
        return [height for height in heights if height]

    def lengths(letter: str) -> list[float]:
        return [bar.get_width() for bar in by_title[f"({letter})"].patches]

    assert lengths("a") == [6, 6] and lengths("f") == [1, 2] and lengths("h") == [4] and lengths("i") == [4, 2]
    assert bars("c") == [3] and bars("d") == [2, 1] and bars("e") == [3] and bars("g") == [2, 1]
    assert [text.get_text() for text in by_title["(b)"].texts] == ["frame rate\nnot known"]
    known = plots.dataset_statistics(statistics.collect(clips, fps=2.0))
    assert [b.get_height() for b in known.axes[1].patches if b.get_height()] == [3]


def test_bins_have_no_teeth():
    every = np.arange(3, 40)  # once each: equal bins of whole numbers are equally full
    counts, _ = np.histogram(every, plots._bins(every))
    assert set(counts[:-1]) == {4} and counts.sum() == len(every)
    few = np.array([2, 2, 5])
    assert np.histogram(few, plots._bins(few))[0].tolist() == [0, 2, 0, 0, 1, 0]


def test_contact_sheet():
    clip = described("meadow", 2, "unidirectional")
    figure = drawing.contact_sheet(clip, columns=2)
    assert len(figure.axes) == 2 * 2
    said = [text.get_text() for text in figure.texts]
    assert said == ["meadow: 3 frames", "03", "08", *(f"{i} (unidirectional)  a red dog" for i in range(2))]
    both = {Role.ACTOR: masks.decode(clip.masks["0"][2], (H, W)), Role.TARGET: masks.decode(clip.masks["1"][2], (H, W))}
    assert (figure.axes[3].images[0].get_array() == drawing.paint(clip.frames[2], both)).all(), "the last frame's masks"


def test_attention_vs_quality():
    quality = np.array([0.0, 0.3, 0.3, 1.0])
    mass = np.arange(4 * L, dtype=float).reshape(4, L)
    (axis,) = plots.attention_vs_quality(mass, quality).axes
    assert [line.get_label() for line in axis.lines] == [
        "J&F 0–30 (n = 1)",
        "J&F 30–50 (n = 2)",
        "J&F 70–100 (n = 1)",
    ]
    assert np.allclose(np.asarray(axis.lines[1].get_ydata()), mass[1:3].mean(0))


def test_a_study_shows_each_run_with_its_interval_and_which_are_stuck():
    runs = pd.DataFrame(
        [
            {"name": "one", "row": "(iii) + role tokens", "value": 25.0, "low": 24.0, "high": 27.0, "stuck": True},
            {"name": "one", "row": "(iv) ReVIOSa", "value": 70.0, "low": 68.0, "high": 71.0, "stuck": False},
            {"name": "one", "row": "(iv) ReVIOSa", "value": 72.0, "low": 69.0, "high": 73.0, "stuck": False},
            {"name": "tuned", "row": "(iv) ReVIOSa", "value": 75.0, "low": np.nan, "high": np.nan, "stuck": False},
        ]
    )
    figure = plots.study(runs)
    (axis,) = figure.axes
    bars, points = axis.collections[::2], axis.collections[1::2]
    assert [tick.get_text() for tick in axis.get_yticklabels()] == ["one", "tuned"]
    assert [segment[:, 0].tolist() for segment in bars[0].get_segments()] == [[24, 27], [68, 71], [69, 73]]
    assert points[0].get_offsets()[:, 0].tolist() == [25, 70, 72] and points[1].get_offsets()[:, 0].tolist() == [75]
    shades = [matplotlib.colors.to_hex(color) for color in points[0].get_facecolors()]
    assert shades[0] == "#ffffff" and shades[1] == shades[2] == style.PALETTE[3].lower(), "hollow: stuck"
    assert list(axis.get_yticks()) == [1, 3.7] and axis.yaxis_inverted()
    named = [text.get_text() for text in figure.legends[0].get_texts()]
    assert named == ["(iii) + role tokens", "(iv) ReVIOSa", "never left its plateau"]
    assert len(plots.study(runs[~runs.stuck]).legends[0].get_texts()) == 1, "a row that is not there, and no stuck run"


def test_gains_stand_under_their_study_and_say_where_nothing_can_be_told():
    found = pd.DataFrame(
        [
            {"study": study, "run": run, "value": value, "low": value - 2, "high": value + 2}
            for study, run, value in (("rates", "a", 3.0), ("rates", "b", 1.0), ("forms", "c", -3.0))
        ]
    )
    (axis,) = plots.gains(found).axes
    labels = axis.get_yticklabels()
    assert [text.get_text() for text in labels] == ["rates", "a", "b", "forms", "c"]
    assert [text.get_fontweight() for text in labels] == ["bold", "normal", "normal", "bold", "normal"]
    points = [line for line in axis.lines if line.get_marker() == "o"]
    assert [(line.get_xdata()[0], line.get_ydata()[0]) for line in points] == [(3, 1), (1, 2), (-3, 4)]
    assert [line.get_color() for line in points] == [style.PALETTE[2], style.GREY, style.PALETTE[5]]


def test_subsets():
    def part(score):
        return {"scores": {"RVOS": score}}

    found = {
        "cue": {
            "motion": part({"J&F": 70.0, "interval": [60.0, 75.0], "n": 9}),
            "both": part({"J&F": 50.0, "interval": None, "n": 1}),
            "neither": part(None),
        },
        "verb": {"push": part({"J&F": None, "interval": None, "n": 0})},
    }
    cue, verb = plots.subsets(found).axes
    assert [tick.get_text() for tick in cue.get_yticklabels()] == ["motion (9)", "both (1)", "neither (0)"]
    assert [tick.get_text() for tick in verb.get_yticklabels()] == ["push (0)"], "what nobody asked for is named, too"
    lines, points = cue.collections
    assert [segment[:, 0].tolist() for segment in lines.get_segments()[:1]] == [[60, 75]]
    assert points.get_offsets()[:2, 0].tolist() == [70, 50] and cue.yaxis_inverted()


def test_subsets_of_clips_that_nothing_is_known_of():
    for found in ({}, {"cue": {}, "verb": {}}):
        (said,) = plots.subsets(found).texts
        assert "no subsets" in said.get_text()
