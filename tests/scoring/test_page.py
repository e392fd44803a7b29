"""docs/metrics.md is what the docstrings say, whole, and its links lead somewhere."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from reviosa_core.scoring import metrics, page, protocols


def headings(text: str) -> list[str]:
    return re.findall(r"^###? (.+)$", text, re.MULTILINE)


def test_the_page_is_what_the_docstrings_say(root: Path):
    assert (root / "docs" / "metrics.md").read_text() == page.page(), f"write it again: {page.COMMAND}"


def test_every_link_of_the_contents_leads_to_one_heading():
    text = page.page()
    places = [page.anchor(title) for title in headings(text)]
    assert re.findall(r"\]\(#([^)]*)\)", text) == places and len(set(places)) == len(places)


def test_every_number_has_a_section():
    named = set(headings(page.page()))
    direction = {name.removesuffix(" by token") for name in metrics.DIRECTION}
    assert not {*metrics.SETTINGS, *direction, "J", "F", "J&F", "J&F present"} - named
    assert "`detection ... by token`" in page.page()
    assert "\n## Is anything there?\n" in page.page()
    assert not {"N-acc", "T-acc", "mAP", "mean IoU", "overall IoU", "R"} - named
    everything = [metric for _, group in page.GROUPS.values() for metric in group.values()]
    assert len(set(everything)) == len(everything), "two names for one docstring"


def test_a_metric_says_all_that_is_due(monkeypatch: pytest.MonkeyPatch):
    def silent(rows):
        """What?

        Formula: none.
        Range: none.
        """

    monkeypatch.setitem(protocols.METRICS, "mAP", silent)
    with pytest.raises(ValueError, match=r"mAP: its docstring has the fields \('Formula', 'Range'\), not"):
        page.page()


def test_what_follows_the_fields_is_left_out():
    text = page.page()
    assert "Raises ValueError" not in text and "Input as for J" not in text
