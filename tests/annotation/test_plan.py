"""What a run would take, said beforehand, against what one took."""

from __future__ import annotations

from pathlib import Path

import pytest
from running import SETTINGS

from reviosa_core.annotation import plan, sources, truth
from reviosa_core.annotation.questions import Prompts


def test_calls_and_pictures_are_those_of_a_run_and_tokens_nearly(annotate, world: Path):
    ran = annotate()
    shapes = [plan.Shape(len(s.clip), s.clip.size, len(s.clip.masks)) for s in sources.read(world)]
    events = sum(len(t.events) for t in truth.of_intershapes(world).values()) / len(shapes)
    steps = {step.stage: step for step in plan.estimate(shapes, SETTINGS, Prompts(), events)}
    used = ran.summary["asked in this run"]
    assert steps.keys() == used.keys()
    for stage, step in steps.items():
        took = used[stage]
        if stage == "verify":  # batches of a dozen, of as many texts as a clip happens to have
            assert 0.6 < step.calls / took["calls"] < 1.7 and 0.6 < step.images / took["images"] < 1.7
        else:
            assert (step.calls, step.images) == (took["calls"], took["images"])
        assert 0.5 < step.tokens_in / took["tokens_in"] < 2, stage
        assert 0.5 < step.tokens_out / took["tokens_out"] < 4, "the embedded endpoint is short of words"


def test_a_plan_by_hand():
    """Two clips of 3 frames shown, 100 x 50 at side 128: 128 * 64 / 750 tokens a picture. Two objects, and one."""
    shapes = [plan.Shape(9, (50, 100), 2), plan.Shape(9, (50, 100), 1)]
    prompts = Prompts()
    steps = {s.stage: s for s in plan.estimate(shapes, SETTINGS, prompts, 1.0)}
    assert {name: (s.calls, s.images) for name, s in steps.items()} == {
        "objects": (3, 9),
        "expressions": (2, 0),
        "events": (1, 3),  # a single object has nobody to do anything with
        "interactions": (1, 0),
        "verify": (3, 9),  # two looks, and one: the same question twice is none
    }
    words = 3 * (len(prompts["objects"]) / 4 + 150 + 20)
    assert steps["objects"].tokens_in == round(words + 9 * 128 * 64 / 750) and steps["objects"].tokens_out == 3 * 40
    assert "verify" in steps and not plan.estimate(shapes, SETTINGS, prompts, 1.0, verify=False)[-1].calls
    assert plan.cost(list(steps.values()), 2.0, 0.0) == pytest.approx(2e-6 * sum(s.tokens_in for s in steps.values()))
    assert [s.calls for s in plan.estimate([], SETTINGS, prompts, 1.0)] == [0] * 5
