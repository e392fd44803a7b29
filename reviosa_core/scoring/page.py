"""docs/metrics.md, from the docstrings of the metrics themselves: python -m reviosa_core.scoring.page > docs/metrics.md

A metric's docstring begins with what it asks, then has the FIELDS, each beginning a line; what follows a blank line
after them is for who calls the function, and stays out of the page.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from reviosa_core.scoring import existence, intervals, metrics, protocols, roles


def _below(owner: Any) -> str:
    """A docstring without its first paragraph."""
    return (inspect.getdoc(owner) or "").partition("\n\n")[2]


FIELDS = ("Formula", "Range", "Empty", "Elsewhere")
COMMAND = "python -m reviosa_core.scoring.page > docs/metrics.md"
GROUPS: dict[str, tuple[str, Mapping[str, Callable[..., Any]]]] = {
    "Frame by frame": ("Each compares two masks of one frame.", metrics.FRAMES),
    "The settings": (
        "InterRVOS has three settings, which differ in the expressions and in the role they score. Each gives J, F and "
        "the two scores below, over its expressions.",
        metrics.SETTINGS | metrics.SCORES,
    ),
    "Who acts on whom": (
        "J&F does not say whether a mask is wrong or in the wrong role. These do, for interaction expressions.\n\n"
        + _below(roles),
        roles.PER_EXPRESSION | roles.PER_PAIR,
    ),
    "Is there a target?": (
        _below(roles.detected) + "\n\n`reviosa evaluate --out` has these by caption type too.",
        roles.DETECTION,
    ),
    "Is anything there?": (_below(existence), existence.METRICS),
    "Other benchmarks": (
        "How others count, in `reviosa_core/scoring/protocols.py`: functions over the same rows, or over those that "
        "their docstrings name.",
        protocols.METRICS,
    ),
}


def page() -> str:
    """The page, as Markdown. Raises ValueError for a metric that does not say all that is due."""
    lines = [
        "# Metrics",
        f"Written from the docstrings of `reviosa_core/scoring` by `{COMMAND}`: to change a text, change it there.",
        "\n".join(_contents()),
        "## What a row is",
        _below(metrics),
        "## How means and intervals are taken",
        _below(intervals),
    ]
    for title, (intro, group) in GROUPS.items():
        lines += [f"## {title}", intro]
        for name, metric in group.items():
            lines += [f"### {name}", *_section(name, inspect.getdoc(metric) or "")]
    return "\n\n".join(lines) + "\n"


def anchor(title: str) -> str:
    """Where a heading is linked to: lower case, hyphens for blanks, other signs left out."""
    return re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-")


def _contents() -> Iterator[str]:
    for title in ("What a row is", "How means and intervals are taken"):
        yield f"- [{title}](#{anchor(title)})"
    for title, (_, group) in GROUPS.items():
        yield f"- [{title}](#{anchor(title)}): " + ", ".join(f"[{name}](#{anchor(name)})" for name in group)


def _section(name: str, text: str) -> Iterator[str]:
    """What a metric asks, then its fields as a list."""
    about, *fields = re.split(rf"^({'|'.join(FIELDS)}): ", text, flags=re.MULTILINE)
    if tuple(fields[::2]) != FIELDS:
        raise ValueError(f"{name}: its docstring has the fields {tuple(fields[::2])}, not {FIELDS}")
    yield about.strip()
    said = (text.partition("\n\n")[0].replace("\n", " ").strip() for text in fields[1::2])
    yield "\n".join(f"- **{field}.** {text[0].upper()}{text[1:]}" for field, text in zip(FIELDS, said, strict=True))


if __name__ == "__main__":
    print(page(), end="")
