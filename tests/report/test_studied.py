"""What the page of the studies adds to their tables."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from reviosa_core import config
from reviosa_core.report import studied, tables
from reviosa_core.scoring import metrics, selection
from reviosa_core.studies import Variant

LOOKS, MOTIONS = (Variant("full", rule, None, None, 0) for rule in ("looks", "motions"))


def scored(values: Sequence[float]) -> pd.DataFrame:
    """Four sentences of two kinds, each about objects of two sizes."""
    return pd.DataFrame(
        {
            "video": ["a", "b", "c", "d"],
            "expression": "0",
            "role": "actor",
            "kind": ["one, appearance", "one, appearance", "one, motion", "several, both"],
            "object size": ["small", "large", "small", "large"],
            "caption_type": "single",
            "is_interaction": False,
            "missing": False,
            "J": np.array(values) / 100,
            "F": np.array(values) / 100,
            "present": 8,
            "frames": 8,
            "J_present": np.array(values) / 100,
            "F_present": np.array(values) / 100,
        }
    )


def cells(table: str) -> dict[str, list[str]]:
    lines = [line for line in table.splitlines() if line.startswith("|")]
    return {(own := [c.strip() for c in line.strip("|").split("|")])[0]: own[1:] for line in lines}


def test_every_study_of_the_project_says_what_it_asks(root: Path):
    assert studied.ASKS.keys() == config.load(root / "params.yaml").studies.runs.keys()


def test_training_sets_by_kinds_of_sentences():
    tables = {LOOKS: scored([80, 60, 20, 10]), MOTIONS: scored([40, 20, 70, 50])}
    kinds = {"looks": ("one, appearance",), "motions": ("one, motion", "several"), "none": ("active",)}
    found = cells(studied.crossed(tables, kinds, 0, 0))
    assert found["trained on"] == ["row", "on looks", "on motions", "on none"]
    assert found["looks"][1:] == ["70.0", "15.0", "–"] and found["motions"][1:] == ["30.0", "60.0", "–"]


def test_a_study_of_several_seeds_is_shown_in_their_mean():
    plain, other = ([Variant("full", rule, None, None, seed) for seed in (0, 1)] for rule in ("one", "mass"))
    values = [[80, 60, 20, 40], [60, 40, 20, 40], [90, 70, 30, 50], [80, 60, 40, 60]]
    tables = {variant: scored(own) for variant, own in zip([*plain, *other], values, strict=True)}
    found = {
        variant: {**metrics.summarise(rows, 0, 0), "confused by motion": None, "left the plateau at": left}
        for (variant, rows), left in zip(tables.items(), (190, None, 170, 180), strict=True)
    }
    table = studied.over_seeds(found, tables, 0, 0)
    first, second = (cells(part) for part in table.split("Paired differences"))
    assert first["(iv) ReVIOSa, one"] == ["–", "–", "45.0 (40.0–50.0)", "–", "190, never"]
    assert first["(iv) ReVIOSa, mass"] == ["–", "–", "60.0 (60.0–60.0)", "–", "170, 180"]
    assert second["(iv) ReVIOSa, mass"][:4] == ["(iv) ReVIOSa, one", "–", "–", "15.0"]


def test_what_aml_adds_by_size():
    with_it, without = scored([80, 60, 20, 10]), scored([40, 70, 10, 10])
    found = cells(studied.by_size({LOOKS: with_it, MOTIONS: with_it}, {LOOKS: without}, 0, 0))
    assert found[""] == ["row", "large objects", "small objects"]
    assert found["looks"][1:] == ["-5.0", "25.0"] and "motions" not in found, "which has no counterpart"


def test_the_dial_says_what_a_backbone_knew_and_what_aml_was_worth():
    def attention(vision: Sequence[float], own: float) -> pd.DataFrame:
        shares = {"any": 0.5, "own_area": 0.1, "any_area": 0.4, "own": own, "head": 0, "role": "actor"}
        return pd.DataFrame([{"layer": layer, "vision": v, **shares} for layer, v in enumerate(vision)])

    named = {"own": attention([0.1, 0.2, 0.9], 0.25), "half": attention([0.9, 0.2, 0.1], 0.125)}
    score = {"J&F": 50.0}
    gain = {"value": 3.25}
    table = studied.grounding(
        named,
        {"half": {"actor found": 0.5, "target found": None}},  # none was asked for
        {"own": {"tokens": {"RVOS": score}}, "half": {"tokens": {"RVOS": score}}},
        {name: {"RVOS": gain, "InterRVOS-Actor": gain, "InterRVOS-Target": None} for name in named},
    )
    found = cells(table)
    assert found["own"][:5] == ["–", "–", "2", "+1.00", "2.0"]
    assert found["half"][:5] == ["50.0", "–", "0", "-1.00", "1.0"]
    assert found["half"][5:] == ["50.0", "3.2", "–", "3.2"]


def test_flipped_labels_are_drawn_where_they_belong():
    rules = {"one": {}, "flip": {"flips": 0.1}, "verified": {"flips": 0.1, "verifier": 0.25}}
    rules = {name: config.Otherwise(**changes) for name, changes in rules.items()}
    score = {"J&F": 70.0, "interval": [60.0, 80.0]}
    numbers = {**dict.fromkeys(metrics.SETTINGS, score), "confused by motion": {"value": None, "interval": None}}
    runs = {Variant("full", rule, None, None, 0): numbers for rule in rules}
    runs[Variant("full", "flip", None, None, 0)] = numbers | {"RVOS": {"J&F": 50.0, "interval": None}}
    figure = studied.labels(runs, rules)
    assert [axis.get_title("left") for axis in figure.axes] == [
        *(f"{s}, J&F" for s in metrics.SETTINGS),
        "confused by motion",
    ]
    axis = figure.axes[[*metrics.SETTINGS].index("RVOS")]
    lines = {line.get_label(): line for line in axis.lines if not str(line.get_label()).startswith("_")}
    assert lines["none"].get_ydata().tolist() == [70.0, 50.0] and lines["wrong in 25 %"].get_ydata().tolist() == [70.0]
    assert np.allclose(lines["none"].get_xdata(), [0, 10], atol=1)
    assert len(axis.lines) == 2 + 2, "lines, and an interval for each run that has one"
    assert not any(len(line.get_xdata()) for line in figure.axes[-1].lines), "none could be confused"


def test_claims_that_take_other_trainings():
    """The layers that look more are better here, all heads as good as two, and AML costs where all is about one."""

    def rows(*values: float) -> pd.DataFrame:
        return scored(values)

    def run(row: str, rule: str, layer: int | None = None) -> Variant:
        return Variant(row, rule, layer, None, 0)

    layers = {run("full", "one", i): rows(*(10 * i + j for j in range(4))) for i in range(3)}
    layers |= {run("tokens", "one"): rows(1, 1, 1, 1), run("full", "tuned", 0): rows(99, 99, 99, 99)}
    heads = {run("full", "one"): rows(50, 50, 40, 60), run("full", "head4"): rows(50, 50, 60, 40)}
    alone = {run("aml", "one_object"): rows(50, 50, 40, 60), run("baseline", "one_object"): rows(60, 60, 50, 70)}
    given = {"layers": layers, "heads": heads, "one_object": alone}
    found = studied.claims(given, [0.2, 0.1, 0.9], 200, 0)
    assert [one.verdict for one in found] == ["holds", "can't tell", "doesn't"]
    assert [one.ours.split()[0] for one in found] == ["10.0", "0.0", "-10.0"], "layer 2 against layer 1, by attention"
    assert "layers 2 against that of layers 1" in found[0].why
    assert studied.claims(given, [0.9, 0.2, 0.1], 200, 0)[0].verdict == "doesn't"
    assert studied.claims({"layers": {run("tokens", "one"): rows(1, 1, 1, 1)}}, [], 200, 0) == []


def test_claims_are_of_all_seeds():
    def rows(value: float) -> pd.DataFrame:
        return scored([value] * 4)

    heads = {Variant("full", rule, None, None, seed): rows(value) for rule, seed, value in (
        ("one", 0, 40), ("one", 1, 70), ("head4", 0, 60), ("head4", 1, 30))}  # fmt: skip
    (claim,) = studied.claims({"heads": heads}, [], 200, 0)
    assert claim.ours.startswith("10.0 "), "55 against 45, and not the last seed's 40"


def test_the_rows_own_training_stands_beside_a_study_that_lacks_it():
    one, fewer = (Variant("full", "one", None, clips, 0) for clips in (None, 75))
    tokens, layer = Variant("tokens", "one", None, None, 0), Variant("full", "one", 5, None, 0)
    known = (one, fewer, tokens, layer)
    assert studied.beside({fewer: fewer}, known, 0) == [one]
    assert studied.beside({fewer: fewer}, (fewer,), 0) == [], "it was not trained"
    assert studied.beside({one: one, fewer: fewer}, known, 0) == []
    assert studied.beside({tokens: tokens, layer: one}, known, 0) == [], "AML on the rule's layer is that run"


def test_a_run_is_drawn_with_its_interval():
    run, stuck = Variant("full", "one", 2, None, 0), Variant("other", "one", None, 75, 0)
    numbers = {"RVOS": {"J&F": 50.0, "interval": (40.0, 60.0)}, "left the plateau at": 190}
    alone = {"RVOS": {"J&F": 25.0, "interval": None}, "left the plateau at": None}
    first, second = studied.drawn({run: numbers, stuck: alone}).to_dict("records")
    assert first == {"name": "one layer2", "row": "(iv) ReVIOSa", "value": 50, "low": 40, "high": 60, "stuck": False}
    assert second["row"] == "other" and np.isnan(second["low"]) and second["stuck"]


def test_where_a_studys_aml_is(root: Path):
    params = config.load(root / "params.yaml")

    def measured(vision: Sequence[Sequence[float]]) -> pd.DataFrame:
        layers = [dict(enumerate(heads)) for heads in vision]
        return pd.DataFrame(
            [
                {"layer": layer, "head": head, "role": role, "vision": share}
                for layer, heads in enumerate(layers)
                for head, share in heads.items()
                for role in ("actor", "target")
            ]
        )

    own, half = measured([[0.1, 0.2, 0.3], [0.9, 0.8, 0.7]]), measured([[0.5, 0.6, 0.9], [0.1, 0.1, 0.1]])
    chosen = selection.Selection(1, (0, 1))
    runs = {
        "plain": Variant("full", "one", None, None, 0),
        "below": Variant("full", "one", 0, None, 0),
        "one head": Variant("full", "head1", None, None, 0),
        "another": Variant("full", "one", None, None, 0, "half"),
        "none": Variant("tokens", "one", None, None, 0),
    }
    places = studied.places(runs.values(), params, chosen, own, {"half": half})
    found = {name: places[variant] and (places[variant].layer, places[variant].heads) for name, variant in runs.items()}
    assert found == {
        "plain": (1, (0, 1)),
        "below": (0, (2, 1)),
        "one head": (1, (0,)),
        "another": (0, (2, 1)),
        "none": None,
    }
    numbers = {"J&F": 50.0, "value": 1.0, "interval": None}
    found = {
        v: {**dict.fromkeys(metrics.SETTINGS, numbers), "confused by motion": None, "left the plateau at": 9}
        for v in places
    }
    table = [[cell.strip() for cell in line.split("|")[1:-1]] for line in tables.study(found, places).splitlines()]
    assert [row[table[0].index("AML on")] for row in table[2:]] == [
        "layer 1, heads 0, 1", "layer 0, heads 2, 1", "layer 1, heads 0", "layer 0, heads 2, 1", "–"
    ]  # fmt: skip
