"""Who is whose inverse does not depend on the order in a file."""

from __future__ import annotations

import itertools

from reviosa_core.schema import Expression
from reviosa_core.scoring import pairing


def interaction(id: str, actor: str, target: str) -> Expression:
    return Expression(id, f"{actor} on {target}", "unidirectional", (actor,), (target,))


def test_by_id_whatever_the_order():
    several = [
        interaction(id, *roles)
        for id, roles in {"2": "ab", "10": "ab", "b": "ab", "3": "ba", "9": "ba", "a": "ba"}.items()
    ]
    due = {"2": "3", "3": "2", "10": "9", "9": "10", "a": "b", "b": "a"}  # as numbers, then as text
    for order in itertools.permutations(several):
        assert pairing.by_objects(order) == due
