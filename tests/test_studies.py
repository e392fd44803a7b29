"""What a study is made of."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import tiny

from reviosa_core import config, studies
from reviosa_core.intershapes import scenes, splits
from reviosa_core.report import findings
from reviosa_core.schema import Role
from reviosa_core.scoring import selection

ROWS = {
    "tokens": config.Experiment(roles=(Role.ACTOR, Role.TARGET), aml=False),
    "full": config.Experiment(roles=(Role.ACTOR, Role.TARGET), aml=True),
}


def test_a_row_without_aml_has_no_layer_to_vary():
    study = config.Study(rows=("tokens", "full"), rules=("one", "slow"), layers=(0, 2, 5), seeds=(3, 4))
    found = studies.variants(study, ROWS, layers=6)
    assert len(found) == 2 * 2 * (1 + 3) and len({v.name for v in found}) == len(found)
    assert {v.layer for v in found if v.row == "tokens"} == {None}
    assert studies.Variant("full", "slow", 5, None, 4) in found
    assert studies.variants(study.model_copy(update={"layers": "every"}), ROWS, layers=3)[-1].layer == 2
    halves = [studies.share(found * 2, part, 2) for part in (1, 2)]
    assert sorted(v.name for half in halves for v in half) == sorted(v.name for v in found)


def test_the_heads_of_a_layer_are_those_that_look_most():
    to_vision = np.array([[0.1, 0.2, 0.3], [0.9, 0.1, 0.8]])
    rows = pd.DataFrame(
        [
            {"layer": layer, "head": head, "vision": to_vision[layer, head], "role": "actor"}
            for layer in range(2)
            for head in range(3)
        ]
    )
    chosen = selection.Selection(0, (1,))
    assert studies.place(studies.Variant("full", "one", 1, None, 0), chosen, rows, 2) == selection.Selection(1, (0, 2))
    assert studies.place(studies.Variant("full", "one", None, None, 0), chosen, rows) == chosen
    assert studies.place(studies.Variant("full", "one", 1, None, 0), chosen, rows) == selection.Selection(1, (0,))
    assert studies.place(studies.Variant("full", "two", None, None, 0), chosen, rows, 2) == selection.Selection(
        0, (2, 1)
    )
    with pytest.raises(ValueError, match="4 heads asked of layers with 3"):
        studies.place(studies.Variant("full", "four", None, None, 0), chosen, rows, 4)
    with pytest.raises(ValueError, match="full-one-layer2-seed0: layer 2 of 2, counted from 0"):
        studies.place(studies.Variant("full", "one", 2, None, 0), chosen, rows, 2)


def test_aml_where_it_is_anyway_is_no_other_run(root: Path, monkeypatch: pytest.MonkeyPatch):
    """Of all studies: on the layer that was chosen, with the heads that were, but for rules with other heads."""
    monkeypatch.chdir(root)
    project = config.project("smoke")
    count = project.settings.model.mllm.language.layers
    rows = pd.DataFrame(
        [
            {"layer": layer, "head": head, "vision": 0.1 * layer + 0.01 * head, "role": "actor"}
            for layer in range(count)
            for head in range(4)
        ]
    )
    for chosen, same in ((selection.Selection(1, (3, 2)), True), (selection.Selection(1, (0, 2)), False)):
        found = studies.every(project, chosen, rows)
        assert found.keys() == project.params.studies.runs.keys()
        for variant, trained in (pair for own in found.values() for pair in own.items()):
            assert trained == (replace(variant, layer=None) if same and variant.layer == 1 else variant)
        assert any(variant.layer == 1 for own in found.values() for variant in own)


def test_another_backbone_has_its_own_place_for_aml():
    study = config.Study(rows=("tokens", "full"), rules=("one",), backbones=("half", "told"), seeds=(0,))
    found = studies.variants(study, ROWS, layers=6)
    assert [v.name for v in found] == [f"{row}-one-{b}-seed0" for row in ("tokens", "full") for b in ("half", "told")]
    rows = pd.DataFrame(
        [
            {"layer": layer, "head": head, "vision": vision, "role": "actor"}
            for layer, heads in enumerate([(0.1, 0.2), (0.7, 0.9)])
            for head, vision in enumerate(heads)
        ]
    )
    chosen = selection.Selection(0, (0,))
    assert studies.place(found[-1], chosen, rows) == selection.Selection(1, (1,))
    assert studies.place(studies.Variant("full", "one", None, None, 0), chosen, rows) == chosen


def test_sentences_of_a_kind_and_so_many():
    clips = [splits.to_clip(scenes.make_scene(tiny.data(32, 4), (0, 0, i)), str(i)) for i in range(9)]
    kinds = {
        (c.id, e.id): "active" if e.is_interaction else "one, motion" if len(e.actor) == 1 else "several"
        for c in clips
        for e in c.expressions
    }
    assert studies.kept(clips, config.Otherwise(), {}, 3) == clips

    def left(seed: int, **rule) -> list[tuple[str, str]]:
        return [(c.id, e.id) for c in studies.kept(clips, config.Otherwise(**rule), kinds, seed) for e in c.expressions]

    for only in (("active",), ("one", "several")):
        assert left(3, only=only) == [name for name, kind in kinds.items() if kind.startswith(only)]
    some = left(3, only=("active",), sentences=5)
    assert len(some) == len({*some}) == 5 and {kinds[name] for name in some} == {"active"}
    assert some == left(3, only=("active",), sentences=5) != left(4, only=("active",), sentences=5)
    with pytest.raises(ValueError, match=f"{len(kinds) + 1} sentences are asked for, {len(kinds)} are there"):
        left(3, sentences=len(kinds) + 1)
    with pytest.raises(ValueError, match="no sentence is of the kinds"):
        studies.kept(clips, config.Otherwise(only=("active",)), {}, 3)


def test_a_study_may_change_rates_loss_and_model(root: Path):
    settings = config.load(root / "params.yaml").profiles["smoke"]
    rule = config.Otherwise(
        steps=7, lr=0.5, aml_heads="mean", aml_form="kl", aml=0.3, visual_projector="trained", role_tokens="random",
        shown=2, prompted="all", heads=1,
    )  # fmt: skip
    train, model = rule.train(settings.train), rule.model(settings.model)
    assert (train.steps, train.lr, train.decoder_lr) == (7, 0.5, settings.train.decoder_lr)
    assert (train.loss.aml_heads, train.loss.aml_over) == ("mean", settings.train.loss.aml_over)
    assert (train.loss.aml_form, train.loss.aml, train.loss.ce) == ("kl", 0.3, settings.train.loss.ce)
    assert (train.visual_projector, train.role_tokens) == ("trained", "random")
    assert (model.mllm.frames, model.segmenter.prompted) == (2, "all")
    assert model.mllm.language == settings.model.mllm.language
    nothing = config.Otherwise()
    assert (nothing.train(settings.train), nothing.model(settings.model)) == (settings.train, settings.model)


def test_labels_the_wrong_way_round_and_what_a_verifier_leaves():
    clips = [splits.to_clip(scenes.make_scene(tiny.data(32, 4), (0, 0, i)), str(i)) for i in range(60)]
    assert studies.labelled(clips, config.Otherwise(), 3) == clips
    assert [c.expressions for c in studies.labelled(clips, config.Otherwise(verifier=0.0), 3)] == [
        c.expressions for c in clips
    ]
    two = [(c.id, e.id) for c in clips for e in c.expressions if e.is_interaction]
    right = {(c.id, e.id): e for c in clips for e in c.expressions}

    def shares(**rule: float) -> tuple[float, float]:
        """Of the sentences with two roles, those left, and of these those the wrong way round."""
        found = {(c.id, e.id): e for c in studies.labelled(clips, config.Otherwise(**rule), 3) for e in c.expressions}
        assert all(found[k] == right[k] for k in right.keys() - two), "sentences with one role stay as they are"
        left = [k for k in two if k in found]
        turned = [k for k in left if found[k] != right[k]]
        assert all((found[k].actor, found[k].target) == (right[k].target, right[k].actor) for k in turned)
        return len(left) / len(two), len(turned) / len(left)

    assert shares(flips=1.0) == (1.0, 1.0) and shares(flips=1.0, verifier=1.0) == (1.0, 1.0)
    kept, wrong = shares(flips=0.3)
    assert kept == 1 and 0.15 < wrong < 0.45
    kept, wrong = shares(flips=0.3, verifier=0.1)
    assert 0.5 < kept < 0.85 and wrong < 0.1
    for clip in studies.labelled(clips, config.Otherwise(flips=0.3), 3):
        pairs = {}
        for e in (e for e in clip.expressions if e.is_interaction and set(e.actor) != set(e.target)):
            pairs.setdefault(frozenset((e.actor, e.target)), set()).add(e == right[clip.id, e.id])
        assert all(len(same) == 1 for same in pairs.values()), "an event is wrong in all its sentences or in none"


def test_what_a_run_is_compared_with(root: Path):
    params = config.load(root / "params.yaml")
    of = {
        v.name: studies.without_aml(v, params)
        for name in ("loss", "frames", "layers", "rates", "forms", "projector", "grounding")
        for v in every(params, name)
    }
    assert of["full-mean-seed0"] == of["full-one-layer2-seed0"] == studies.Variant("tokens", "one", None, None, 0)
    assert of["full-two_shown-seed0"] == studies.Variant("tokens", "two_shown", None, None, 0)
    assert of["full-kl_tenth-seed0"] == studies.Variant("tokens", "one", None, None, 0)
    assert of["full-projector-seed0"] == studies.Variant("tokens", "projector", None, None, 0)
    assert of["full-one-read12-seed0"] == studies.Variant("tokens", "one", None, None, 0, "read12")
    assert of["aml-tuned-seed0"] == studies.Variant("baseline", "tuned", None, None, 0)
    assert of["tokens-one-seed0"] is None and of["baseline-slow-seed0"] is None


def every(params: config.Params, name: str) -> list[studies.Variant]:
    return studies.variants(params.studies.runs[name], params.experiments, 6)


def test_the_map_names_both_ends():
    one, two = (studies.Variant("full", rule, None, None, 0) for rule in ("one", "slow"))
    gain = {"one": {"value": 5.0, "interval": (3.0, 7.0)}, "slow": {"value": -2.0, "interval": (-3.0, -1.0)}}
    points = studies.points(
        {"rates": {v: {"RVOS": gain[v.rule]} for v in (one, two)}, "loss": {one: {"RVOS": gain["one"]}}}
    )
    assert list(points.run) == ["full, one", "full, slow", "full, one"] and list(points.low) == [3, -3, 3]
    said = findings.where_aml_helps(points)
    assert said.startswith("Of 2 comparisons AML helps in 1, costs in 1,") and "most to full, one: +5.0" in said
    assert "least to full, slow: -2.0 [-3.0, -1.0]" in said
