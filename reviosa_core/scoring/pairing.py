"""Which expressions of a clip are each other's inverse: who acts on whom, and the same objects the other way round."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from reviosa_core.schema import Clip, DataError, Expression


def by_objects(expressions: Sequence[Expression]) -> dict[str, str]:
    """Expression id -> id of its inverse: the same objects in swapped roles.

    By id (as numbers, where they are), the i-th expression for "A on B" is paired with the i-th for "B on A": each is
    in one pair at most, paraphrases of one interaction, numbered in the same order, meet each other, and the order in
    the file does not matter.
    """
    by_roles: dict[tuple[frozenset[str], frozenset[str]], list[str]] = {}
    for expression in sorted(expressions, key=_counted):
        if expression.target is not None and set(expression.actor) != set(expression.target):
            key = (frozenset(expression.actor), frozenset(expression.target))
            by_roles.setdefault(key, []).append(expression.id)
    return {
        forward: backward
        for (actor, target), ids in by_roles.items()
        for forward, backward in zip(ids, by_roles.get((target, actor), ()), strict=False)
    }


def _counted(expression: Expression) -> tuple[bool, int, str]:
    """2 before 10, and numbers before other ids."""
    id = expression.id
    number = id.isascii() and id.isdigit()
    return not number, int(id) if number else 0, id


def _answers(one: Expression, other: Expression) -> bool:
    """Whether the actor of one is the target of the other."""
    return other.target is not None and {*one.actor} == {*other.target}


def by_name(clips: Sequence[Clip], pairs: Mapping[str, Any]) -> dict[str, dict[str, str]]:
    """`named` of every clip. DataError for a video that no clip is, too."""
    if unknown := sorted(set(pairs) - {clip.id for clip in clips}):
        raise DataError(f"pairs: unknown videos {unknown[:5]}; the data has {len(clips)} others")
    return {clip.id: named(clip, pairs.get(clip.id, ())) for clip in clips}


def named(clip: Clip, pairs: Any) -> dict[str, str]:
    """Both ways of the pairs that a file names. DataError when one is no pair of interactions with swapped roles."""
    by_id, inverse = {e.id: e for e in clip.expressions}, {}
    if not isinstance(pairs, list | tuple) or not all(isinstance(p, list | tuple) and len(p) == 2 for p in pairs):
        raise DataError(f"pairs: clip {clip.id}: a list of [expression, its inverse] is needed, got {str(pairs)[:40]}")
    for a, b in pairs:
        where = f"pairs: clip {clip.id}, {a} and {b}"
        if not isinstance(a, str) or not isinstance(b, str) or {a, b} - by_id.keys() or {a, b} & inverse.keys():
            raise DataError(f"{where}: unknown, or paired twice; the clip has expressions {sorted(by_id)}")
        first, second = by_id[a], by_id[b]
        if not (_answers(first, second) and _answers(second, first)):
            raise DataError(f"{where}: {first.text!r} and {second.text!r} do not have each other's actor as target")
        inverse |= {a: b, b: a}
    return inverse
