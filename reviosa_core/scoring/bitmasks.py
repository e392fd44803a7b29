"""Masks at one bit a pixel, and J and F on them: the DAVIS toolkit's numbers, bit for bit, from a fraction of the work.

A mask is kept as its bounding columns, 64 pixels of a column to a word, made from run lengths without a byte a pixel in
between. Each column ends in at least as many spare rows as contours may be apart: what is shifted over a column's end
falls there, so that shifts need not look at columns. Boundary and its dilation are made once a mask, however often it
is compared.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import cache, cached_property
from typing import Any

import numpy as np
from jaxtyping import Bool, Int64, UInt64

from reviosa_core.masks import runs, stated_size
from reviosa_core.schema import RLE, DataError

TOLERANCE = 0.008  # of the image diagonal: how far apart two contours may be and still match (DAVIS)

Words = UInt64[np.ndarray, "_ k"]  # columns from `BitMask.first` on; bit i of word k is row 64 k + i


class BitMask:
    """One mask of (h, w) pixels. Raises ValueError when it is not two-dimensional."""

    def __init__(self, mask: Bool[np.ndarray, "h w"]) -> None:
        if mask.ndim != 2:
            raise ValueError(f"a mask [h w] is packed, got shape {mask.shape}")
        self.size = mask.shape
        columns = np.flatnonzero(mask.any(axis=0))
        self.first = int(columns[0]) if len(columns) else 0
        last = int(columns[-1]) if len(columns) else -1
        self._pack(mask[:, self.first : last + 1])

    @classmethod
    def of(cls, mask: np.ndarray | RLE | None, size: tuple[int, int]) -> BitMask:
        """From an array, a run length (see `masks.runs`, whose errors it raises), or None: absent."""
        if isinstance(mask, np.ndarray):
            return cls(mask)
        self = cls.__new__(cls)
        self.size = tuple(size)
        starts, stops = (np.empty(0, np.int64),) * 2 if mask is None else runs(mask, size)
        self._fill(starts, stops)
        return self

    def _pack(self, box: Bool[np.ndarray, "h c"]) -> None:
        bits = np.packbits(box.T, axis=1, bitorder="little")
        padded = np.zeros((len(bits), 8 * _words(self.size)), np.uint8)
        padded[:, : bits.shape[1]] = bits
        self.words: Words = padded.view("<u8")

    def _fill(self, starts: Int64[np.ndarray, " r"], stops: Int64[np.ndarray, " r"]) -> None:
        """Set runs of pixels, counted down the columns: mark where they begin and end, then fill in between."""
        height, words = self.size[0], _words(self.size)
        if not len(starts):
            self.first, self.words = 0, np.zeros((0, words), np.uint64)
            return
        column, top = np.divmod(starts, height)
        last, bottom = np.divmod(stops - 1, height)
        if (column != last).any():  # runs over the end of a column become one a column
            pieces = last - column + 1
            own = np.repeat(np.arange(len(starts)), pieces)
            place = np.arange(len(own)) - np.repeat(np.cumsum(pieces) - pieces, pieces)
            top = np.where(place == 0, top[own], 0)
            bottom = np.where(place == pieces[own] - 1, bottom[own], height - 1)
            column = column[own] + place
        self.first = int(column[0])
        base = (column - self.first) * (64 * words)
        marks = np.stack([base + top, base + bottom + 1], axis=1).ravel()
        word, bit = marks >> 6, np.uint64(1) << (marks & 63).astype(np.uint64)
        begin = np.flatnonzero(np.concatenate([[True], word[1:] != word[:-1]]))
        flat = np.zeros((int(column[-1]) - self.first + 1) * words, np.uint64)
        flat[word[begin]] = np.bitwise_xor.reduceat(bit, begin)
        for shift in (1, 2, 4, 8, 16, 32):  # each bit becomes the parity of those up to it
            flat ^= flat << np.uint64(shift)
        odd = np.bitwise_xor.accumulate(flat >> np.uint64(63))
        flat[1:] ^= np.uint64(0) - odd[:-1]  # a run goes on in the next word
        self.words = flat.reshape(-1, words)

    @cached_property
    def area(self) -> int:
        return int(np.bitwise_count(self.words).sum())

    @property
    def any(self) -> bool:
        return len(self.words) > 0

    @cached_property
    def _edge(self) -> tuple[int, Words, int]:
        """One-pixel boundary (`seg2bmap`): first column, words, number of pixels.

        A pixel is boundary when it differs from its east, south or south-east neighbour. The last row looks east only,
        the last column south only, and the last pixel is never boundary.
        """
        if not self.any:
            return 0, self.words, 0
        height, width = self.size
        start = max(self.first - 1, 0)
        stop = min(self.first + len(self.words) + 1, width)
        here = np.zeros((stop - start + 1, self.words.shape[1]), np.uint64)  # one more: what lies east of the last
        here[self.first - start :][: len(self.words)] = self.words
        south = _up(here.ravel(), 1).reshape(here.shape)
        below = (here[:-1] ^ south[:-1]) | (here[:-1] ^ south[1:])
        edge = (here[:-1] ^ here[1:]) | (below & _rows(height - 1, here.shape[1]))
        if stop == width:
            edge[-1] = (here[-2] ^ south[-2]) & _rows(height - 1, here.shape[1])
        return start, edge, int(np.bitwise_count(edge).sum())

    @cached_property
    def _near(self) -> tuple[int, Words]:
        """Everything within the tolerance of the boundary: dilation with the disk x^2 + y^2 <= r^2
        (`skimage.morphology.disk`). Columns may begin before the frame; spare rows mean nothing."""
        first, edge, _ = self._edge
        radius, words = tolerance(self.size), edge.shape[1]
        out = np.zeros((len(edge) + 2 * radius) * words, np.uint64)
        bar, reach = edge.ravel(), 0
        for x in range(radius, -1, -1):
            half = math.isqrt(radius**2 - x**2)
            while reach < half:  # at most double it: what left the first or last column is not missed then
                step = min(half - reach, reach + 1, 63)
                wider = _up(bar, step)
                wider |= _down(bar, step)
                wider |= bar
                bar, reach = wider, reach + step
            out[(radius - x) * words :][: len(bar)] |= bar
            if x:
                out[(radius + x) * words :][: len(bar)] |= bar
        return first - radius, out.reshape(-1, words)


@cache
def tolerance(size: tuple[int, int]) -> int:
    """Radius in pixels within which contours match."""
    return math.ceil(TOLERANCE * float(np.linalg.norm(size)))


Masks = Bool[np.ndarray, "t h w"] | Sequence[RLE | None] | Sequence[BitMask]


def pack(masks: Masks, size: tuple[int, int] | None = None) -> Sequence[BitMask]:
    """A packed mask for each frame, from an array or run lengths (packed ones are left as they are).

    `size` (h, w) is needed where all are None. Raises DataError when an RLE has another size or cannot be read.
    """
    if len(masks) and all(isinstance(mask, BitMask) for mask in masks):
        return masks  # type: ignore[return-value]
    if size is None and not isinstance(masks, np.ndarray):
        size = next((stated_size(mask) for mask in masks if isinstance(mask, Mapping)), None)
        if size is None and len(masks):
            raise ValueError(f"{len(masks)} absent masks, and no size given")
    return [_packed(mask, size or (0, 0), frame) for frame, mask in enumerate(masks)]


def _packed(mask: Any, size: tuple[int, int], frame: int) -> BitMask:
    try:
        return BitMask.of(mask, size)
    except DataError as error:
        raise DataError(f"frame {frame}: {error}") from None


def union(masks: Sequence[BitMask]) -> BitMask:
    """All of them in one. Raises ValueError without any, or when sizes differ."""
    if len(masks) == 1:
        return masks[0]
    (size,) = {mask.size for mask in masks}
    there = [mask for mask in masks if mask.any] or [masks[0]]
    out = BitMask.__new__(BitMask)
    out.size, out.first = size, min(mask.first for mask in there)
    stop = max(mask.first + len(mask.words) for mask in there)
    out.words = np.zeros((stop - out.first, masks[0].words.shape[1]), np.uint64)
    for mask in there:
        out.words[mask.first - out.first :][: len(mask.words)] |= mask.words
    return out


def iou(a: BitMask, b: BitMask, both_empty: float) -> float:
    """Intersection over union. Raises ValueError when sizes differ."""
    _same_size(a, b)
    both = _common(a.first, a.words, b.first, b.words)
    whole = a.area + b.area - both
    return both / whole if whole else both_empty


def f_measure(pred: BitMask, true: BitMask) -> float:
    """Boundary F-measure (DAVIS `db_eval_boundary`). Raises ValueError when sizes differ."""
    _same_size(pred, true)
    n_pred, n_true = pred._edge[2], true._edge[2]
    if n_pred == 0 and n_true == 0:
        return 1.0
    if n_pred == 0 or n_true == 0:
        return 0.0  # precision and recall are 1 and 0, or 0 and 1
    precision = _common(*pred._edge[:2], *true._near) / n_pred
    recall = _common(*true._edge[:2], *pred._near) / n_true
    return 2 * precision * recall / (precision + recall) if precision + recall else 0.0


def _same_size(a: BitMask, b: BitMask) -> None:
    if a.size != b.size:
        raise ValueError(f"masks of shape {a.size} and {b.size}")


def _common(first_a: int, a: Words, first_b: int, b: Words) -> int:
    """Bits that both have."""
    start, stop = max(first_a, first_b), min(first_a + len(a), first_b + len(b))
    if start >= stop:
        return 0
    return int(np.bitwise_count(a[start - first_a : stop - first_a] & b[start - first_b : stop - first_b]).sum())


def _words(size: tuple[int, int]) -> int:
    """Words a column, spare rows included."""
    return -(-(size[0] + tolerance(size)) // 64)


@cache
def _rows(count: int, words: int) -> UInt64[np.ndarray, " k"]:
    """A column with its first `count` rows set."""
    bits = np.clip(count - 64 * np.arange(words), 0, 64)
    return np.array([(1 << int(n)) - 1 for n in bits], np.uint64)


def _up(words: UInt64[np.ndarray, " n"], rows: int) -> UInt64[np.ndarray, " n"]:
    """Row y gets row y + rows, fewer than 64; the first rows of a column go to the spare ones of the column before."""
    out = words >> np.uint64(rows)
    out[:-1] |= words[1:] << np.uint64(64 - rows)
    return out


def _down(words: UInt64[np.ndarray, " n"], rows: int) -> UInt64[np.ndarray, " n"]:
    """Row y gets row y - rows, fewer than 64."""
    out = words << np.uint64(rows)
    out[1:] |= words[:-1] >> np.uint64(64 - rows)
    return out
