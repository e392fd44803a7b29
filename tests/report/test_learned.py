"""The paragraph at the end of a notebook: it follows from the numbers, both ways, and where nobody can tell."""

from __future__ import annotations

from typing import Any

import pandas as pd
import pytest

from reviosa_core.report import learned
from reviosa_core.report.learned import ROW
from reviosa_core.scoring.selection import Selection


def score(value: float, width: float = 2.0, n: int = 100) -> dict[str, Any]:
    value = float(value)
    return {"J&F": value, "value": value, "interval": [value - width, value + width], "n": n}


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (5.0, "a is ahead of b by 5.0 [3.0, 7.0] points of RVOS J&F."),
        (-5.0, "a is behind b by 5.0 [3.0, 7.0] points of RVOS J&F."),
        (1.0, "a and b cannot be told apart in RVOS J&F (difference 1.0 [-1.0, 3.0])."),
    ],
)
def test_a_difference(value: float, said: str):
    assert learned.difference("a", "b", score(value), "RVOS J&F") == said
    assert "nothing to compare" in learned.difference("a", "b", None, "RVOS J&F")


def blind(accuracy: float) -> pd.DataFrame:
    row = {"predictor": "text only", "question": "who acts?", "interval": [accuracy - 4, accuracy + 4], "n": 50}
    return pd.DataFrame(
        [row | {"accuracy": a, "chance": 50.0, "against": b} for a, b in ((accuracy, True), (99, False))]
    )


def orders(shuffled: float) -> pd.DataFrame:
    found = (("in order", 98.0), ("shuffled", shuffled))
    return pd.DataFrame([{"frames": f, "accuracy": a, "interval": [a - 1, a + 1], "n": 9} for f, a in found])


@pytest.mark.parametrize(
    ("accuracy", "said"),
    [(50.0, "not told from chance; the benchmark holds"), (60.0, "above chance; it games"), (40.0, "below chance")],
)
def test_what_can_be_guessed(accuracy: float, said: str):
    counts = [{"clips": 1000, "expressions": 9000}, {"clips": 60, "expressions": 600}]
    text = learned.dataset(counts, blind(accuracy), orders(97.0))
    assert text.startswith("9,600 sentences about 1,060 clips in 2 splits.") and said in text
    assert "needs little of their order" in text
    assert "rests on their order" in learned.dataset(counts, blind(accuracy), orders(60.0))
    assert "your own" in learned.dataset(counts, None, None)


def test_where_aml_goes():
    here, there = Selection(5, (2, 3)), Selection(1, (0, 3))
    text = learned.selection({"to_vision": here, "own_object": here}, "to_vision", 310)
    assert text == "AML goes on layer L05, heads H02 and H03, by the rule to_vision; every rule names that layer."
    text = learned.selection({"to_vision": here, "own_object": there}, "to_vision", None)
    assert "own_object would name another" in text and "Row (iii) never left its plateau" in text


STILL = {name: {"role confusion": score(wrong, width=10)} for name, wrong in (("first", 40), ("last", 31))}


@pytest.mark.parametrize(
    ("confused", "said"),
    [
        (10, ", less often than one still frame and the text allow (31.0 [21.0, 41.0] %): it sees who acts."),
        (20, "not clearly less than one still frame and the text allow (31.0 [21.0, 41.0] %): that it watches is not"),
        (50, "is not shown"),
        (90, "something else"),
    ],
)  # fmt: skip
def test_one_row(confused: float, said: str):
    scores = {"InterRVOS-Actor": score(70), "InterRVOS-Target": score(60), "RVOS": score(65)}
    part = {"direction": {"role confusion": score(confused)}}
    values = {"motion": part | {"scores": {"RVOS": score(31)}}, "both": {"scores": {"RVOS": score(80)}}}
    few = {"several": {"scores": {"RVOS": score(2, n=3)}}}
    text = learned.evaluation("full", scores, {"role confusion": score(1)}, {"cue": values, "kind": few}, STILL)
    assert text.startswith("(iv) ReVIOSa has J&F InterRVOS-Actor 70.0 [68.0, 72.0], InterRVOS-Target 60.0")
    assert f"{confused}.0 [" in text and said in text and "where only motion tells" in text
    assert text.endswith("weakest on motion (cue), 31.0, and strongest on both (cue), 80.0."), "three are an anecdote"
    text = learned.evaluation("baseline", scores | {"InterRVOS-Target": None}, {"role confusion": None}, {}, {})
    assert "no target" in text and "wrong way" not in text
    unknown = learned.evaluation("full", scores, {"role confusion": score(confused)}, {"cue": values}, {})
    assert ("how often from one still frame is not known" in unknown) == (confused < 50)
    untold = learned.evaluation("full", scores, {"role confusion": score(confused)}, {}, STILL)
    assert f"{confused}.0 [" in untold and "in interactions" in untold and "frame" not in untold, "names may tell"


def test_a_confusion_is_beside_every_one_frame_predictor():
    """The least is named; but one that nobody can tell from the system is enough."""
    wide = STILL | {"first": {"role confusion": score(40, width=35)}}
    assert "less than one still frame and the text allow (31.0" in learned.beside_one_frame(score(10), wide)
    assert learned.beside_one_frame(score(1), wide).startswith("less often than one still frame")
    none = STILL | {"last": {"role confusion": score(31) | {"interval": None}}}
    assert "not clearly less" in learned.beside_one_frame(score(1), none)


def test_the_ablation_and_the_report():
    gains = {
        "aml": {"baseline": {"RVOS": score(44)}},
        "tokens": {"baseline": {"RVOS": score(-3)}},
        "full": {"baseline": {"RVOS": score(45)}, "tokens": {"RVOS": score(6)}, "aml": {"RVOS": score(0)}},
    }
    text = learned.ablation(gains)
    assert "(ii) + AML is ahead of (i) one token by 44.0" in text
    assert "(iii) + role tokens is behind (i) one token by 3.0" in text
    assert "(iv) ReVIOSa and (ii) + AML cannot be told apart" in text
    levels = {"InterRVOS-Actor": score(1), "InterRVOS-Target": None}
    text = learned.report({row: levels | {"RVOS": score(v)} for row, v in (("baseline", 24), ("best", 76))}, gains)
    assert text.startswith(f"{ROW['best']} is the best row: InterRVOS-Actor 1.0 [-1.0, 3.0], RVOS 76.0")
    assert "(iv) ReVIOSa is ahead of (i) one token by 45.0" in text
    text = learned.report({row: levels | {"RVOS": score(v)} for row, v in (("baseline", 80), ("best", 76))}, {})
    assert text.startswith("(i) one token is the best row") and "ahead" not in text


@pytest.mark.parametrize(
    ("before", "after", "said"), [(0.1, 0.2, "more than"), (0.2, 0.1, "less than"), (0.1, 0.1, "as much as")]
)
def test_attention_that_moves(before: float, after: float, said: str):
    def shares(own: float, part: float) -> dict[str, float]:
        return {
            "on the own object": own,
            "own object's share of that on any": part,
            "own object's share of their area": 0.3,
        }

    text = learned.moved({"without": shares(before, 0.1), "with": shares(after, 0.6)}, "without", "with")
    assert f"{100 * after:.1f} % (with) falls on its own object, {said} {100 * before:.1f} % (without)." in text
    assert text.endswith("it knows which object is meant.")
    for part, knows in (
        (0.2, "does not tell which"),
        (0.37, "does not tell which"),
        (0.4, "leans to the"),
        (0.6, "knows which"),
    ):
        assert f"it {knows} object" in learned.moved({"a": shares(0.1, 0.1), "b": shares(0.1, part)}, "a", "b")


def test_transfer():
    found = {"shift": {"baseline": {"RVOS": score(20)}, "best": {"RVOS": score(60)}}, "mine": {"best": {"RVOS": None}}}
    text = learned.transfer(found)
    assert text == (
        f"On shift {ROW['best']} gets furthest, RVOS 60.0 [58.0, 62.0]; (i) one token, 20.0 "
        "[18.0, 22.0], is clearly below."
    )
    found["shift"]["best"]["RVOS"] = score(23)
    assert "not clearly below" in learned.transfer(found)
    assert learned.transfer({}) == "Nothing was tested."


def test_how_training_went():
    curve = pd.DataFrame({"step": range(10, 410, 10), "loss": [4.0] * 20 + [1.5] * 20, "dice": [0.5] * 20 + [0.1] * 20})
    text = learned.training({"full": curve})
    assert text.startswith("(iv) ReVIOSa: the loss falls, from 4.00 at step 10 to 1.50 at step 400. ")
    assert text.endswith("Its masks begin to fit at step 220."), "the mean of 50 steps is down by a quarter"
    flat = curve.assign(loss=4.0, dice=0.5)
    assert learned.training({"to see": flat}).endswith("does not fall, from 4.00 at step 10 to 4.00 at step 400. "
                                                       "Its masks never begin to fit.")  # fmt: skip
    assert learned.training({"full": curve.tail(1)}) == "(iv) ReVIOSa: the loss is 1.50 at step 400."
    assert "masks" not in learned.training({"to see": curve[["step", "loss"]]})


def test_seeds():
    runs = {seed: {"RVOS": score(value)} for seed, value in ((1, 70.0), (2, 67.5))}
    assert learned.seeds("full", runs) == ("(iv) ReVIOSa has RVOS J&F 70.0 with seed 1, 67.5 with seed 2: 2.5 apart.")
    assert learned.seeds("SOC", {0: {"RVOS": score(31)}}) == "SOC has RVOS J&F 31.0 with seed 0."


@pytest.mark.parametrize(("verified", "said"), [(96, "clearly more"), (82, "not clearly more")])
def test_what_a_verifier_saves(verified: float, said: str):
    found = [(0.0, None, 99), (0.0, 0.1, 99), (0.2, None, 80), (0.2, 0.0, 99), (0.2, 0.1, verified)]
    text = learned.annotation([{"flips": f, "wrong": w, "with roles: precision": score(v)} for f, w, v in found])
    assert text.startswith("With the roles of 20 % of the events turned round, 80.0 [78.0, 82.0] % of the events")
    assert "; with one that is always right 99.0 [97.0, 101.0] %, clearly more; " in text
    assert text.endswith(f"wrong in 10 % of its claims {verified}.0 [{verified - 2}.0, {verified + 2}.0] %, {said}.")
