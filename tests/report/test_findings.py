"""Claims and verdicts: a verdict is what the interval says."""

from __future__ import annotations

from pathlib import Path

import pytest

from reviosa_core.data.jsonfile import read_json
from reviosa_core.report import findings


def entry(value: float, low: float, high: float) -> dict:
    return {"value": value, "n": 9, "interval": [low, high]}


@pytest.mark.parametrize(
    ("difference", "due"),
    [
        (entry(2, 1, 3), "holds"),
        (entry(-2, -3, -1), "doesn't"),
        (entry(1, -1, 3), "can't tell"),
        ({"value": 5, "n": 9, "interval": None}, "can't tell"),
        (None, "can't tell"),
    ],
)
def test_verdict(difference, due):
    assert findings.verdict(difference) == due


def test_steps_are_the_papers_differences():
    gains = {
        row: {other: {"RVOS": entry(3.0, 2.0, 4.0)} for other in ("baseline", "aml", "tokens")}
        for row in ("aml", "tokens", "full")
    }
    paper = {
        "baseline": [0.0, 0.0, 57.0],
        "aml": [0.0, 0.0, 58.5],
        "tokens": [0.0, 0.0, 59.6],
        "full": [0.0, 0.0, 62.0],
    }
    left = {"baseline": [None], "aml": [190], "tokens": [300, None], "full": [200, 210]}
    found = findings.steps(gains, paper, left, "there")
    assert [one.paper for one in found] == ["+1.5", "+2.6", "+5.0", "+2.4", "+3.5"]
    assert {one.verdict for one in found} == {"holds"} and found[0].ours == "3.0 [2.0, 4.0]"
    assert [one.claim[:5] for one in found if "never left the plateau" in one.why] == ["(ii) ", "(iii)", "(iv) "]
    assert found[3].why == (
        "(iv) ReVIOSa left the plateau at step 200, 210; (iii) + role tokens left the plateau at step 300, never"
    )
    assert {one.where for one in found} == {"there"}


def shares(on_any: float, own: float) -> dict[str, float]:
    return {
        "on the own object": on_any * own,
        "on any object": on_any,
        "own object's share of that on any": own,
        "own object's share of their area": 0.25,
    }


@pytest.mark.parametrize(
    ("own", "due"), [(0.6, "holds"), (0.4, "partly"), (0.26, "onto objects only"), (0.05, "doesn't")]
)
def test_attention_holds_when_the_own_object_gets_twice_its_share(own, due):
    correlation = {"0": entry(-0.1, -0.2, 0), "3": entry(0.3, 0.1, 0.4)}
    moved, quality = findings.attention({"without AML": shares(0.1, 0.25), "with AML": shares(0.4, own)}, correlation)
    assert moved.verdict == due and quality.verdict == "holds"
    assert "layer 3 +0.30" in quality.ours
    nothing = {"0": {"value": None, "n": 9, "interval": None}}
    assert (
        findings.attention({"without AML": shares(0.1, 0.25), "with AML": shares(0.4, own)}, nothing)[1].verdict
        == "can't tell"
    )


def test_the_tokens_layers():
    (same,) = findings.layers({"actor": [0.1, 0.7], "target": [0.2, 0.3]})
    (other,) = findings.layers({"actor": [0.1, 0.7], "target": [0.4, 0.3]})
    assert same.verdict == "holds" and other.verdict == "doesn't" and "target: layer 0 of 2 (40 %)" in other.ours


def test_page_counts_verdicts():
    one = findings.Finding("a", "1", "2", "holds", "", "x")
    text = findings.page(
        [one, one, findings.Finding("b", "1", "2", "doesn't", "why", "x")], "tiny", "a model", "Beware."
    )
    assert "`tiny`: a model. Beware. A gain" in text
    assert "Of 3 claims: `holds` 2, `doesn't` 1." in text and "| b" in text


def test_a_correlation_of_the_best_of_many_layers_needs_more():
    """Of 24 layers without any relation, one has an interval above 0 as often as not."""
    correlated = entry(0.2, 0.02, 0.38)
    attended = {"without AML": shares(0.1, 0.25), "with AML": shares(0.4, 0.6)}
    others = {str(layer): entry(0.0, -0.18, 0.18) for layer in range(23)}
    (_, alone), (_, among) = (findings.attention(attended, {"23": correlated} | more) for more in ({}, others))
    assert (alone.verdict, among.verdict) == ("holds", "can't tell") and "highest of 24" in among.why
    by_hand = [0.2 - 0.18 * 3.078 / 1.960, 0.2 + 0.18 * 3.078 / 1.960]  # 1 - 0.025 / 24 and 1 - 0.025 of a normal one
    assert findings.widened(correlated, 24)["interval"] == pytest.approx(by_hand, abs=1e-3)
    assert findings.widened(correlated, 1)["interval"] == pytest.approx(correlated["interval"])
    least = {str(layer): entry(-0.3 - layer / 100, -0.4, -0.2) for layer in range(3)}
    assert findings.attention(attended, least)[1].verdict == "doesn't"


def test_what_the_layer_knew_is_said_where_it_did():
    correlation = {"0": entry(0.3, 0.1, 0.4)}
    for own, knew in ((0.6, True), (0.3, False)):
        found = findings.attention({"without AML": shares(0.1, own), "with AML": shares(0.4, 0.6)}, correlation)[0]
        assert ("knew before" in found.why) is knew


@pytest.mark.parametrize(("target", "due"), [(61, "holds"), (52, "can't tell"), (20, "doesn't"), (None, "can't tell")])
def test_a_target_is_found_more_often_than_not(target, due):
    nothing = {"J&F": None, "n": 0, "interval": None}
    own = {"InterRVOS-Actor": scored(60), "InterRVOS-Target": nothing if target is None else scored(target)}
    assert findings.level({name: own for name in ("baseline", "full", "best", "aml")})[0].verdict == due


@pytest.mark.parametrize(
    ("asked", "due"),
    [
        (entry(20, 15, 25), "holds"),
        (entry(58, 53, 63), "can't tell"),  # the token's own is 61 [56, 66]
        (entry(72, 67, 77), "doesn't"),
        (None, "not measured"),
    ],
)
def test_targets_asked_for(asked, due):
    own = {
        name: {"InterRVOS-Actor": scored(60), "InterRVOS-Target": scored(61)} for name in ("baseline", "full", "best")
    }
    by_row = {**own, "aml": {"targets asked for": asked and scored(asked["value"])}}
    found = findings.level(by_row)[1]
    assert found.verdict == due and ("(ii)" in found.ours) is (asked is not None)


def test_the_committed_findings_say_of_table_2_what_their_numbers_give(root: Path):
    """And the range of targets that are asked for is no number of the paper that we read."""
    report = root / "reports"
    scores = {row: read_json(report / "metrics" / f"{row}.json") for row in ("baseline", "aml", "full", "best")}
    page, (own, asked) = (report / "findings.md").read_text(), findings.level(scores)
    assert all(cell in page for one in (own, asked) for cell in (one.claim, one.paper, one.ours, one.why))
    assert "by a summary of the paper" in asked.paper and "Table" not in asked.claim


def scored(value: int) -> dict:
    return {"J&F": float(value), "n": 9, "interval": [value - 5.0, value + 5.0]}


def test_over_few_runs_both_intervals_are_asked():
    """Three runs with differences of 1, 9 and 6: a bootstrap of them is all above 0, Student's t is not."""
    assert findings.verdict({"interval": [1.3, 9.7], "t interval": [-4.9, 15.8]}) == "can't tell"
    assert findings.verdict({"interval": [1.3, 9.7], "t interval": [0.2, 15.8]}) == "holds"
    assert findings.verdict({"interval": [-9.7, -1.3], "t interval": None}) == "doesn't"
    assert findings.layers({"actor": [0.1, 0.3]})[0].verdict == "can't tell", "of one role"
