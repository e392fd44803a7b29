"""A sequence whose items are made when asked for: frames of a video, masks of an object."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any


class Lazy(Sequence[Any]):
    """`length` items; `make(position)` gives one. A function of a module, or a partial of one, crosses to workers."""

    def __init__(self, length: int, make: Callable[[int], Any]) -> None:
        self.length, self.make = length, make

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: Any, /) -> Any:
        return self.make(range(self.length)[index])  # counts from the end, and raises IndexError
