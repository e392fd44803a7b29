"""Masks as run lengths and as arrays: conversion, union, resizing."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int64
from pycocotools import mask as coco

from reviosa_core.schema import RLE, Clip, Compact, DataError, Each, Expression, Prediction, Role, Segments

AT_ONCE = 16  # expressions that a model segments together; InterShapes has at most 13 of a clip
GROUPS = 7  # of five bits: COCO's run lengths are 32-bit numbers


def encode(mask: Bool[np.ndarray, "h w"]) -> RLE:
    """Boolean mask to compressed COCO RLE with `counts` as str (ready for JSON)."""
    rle = coco.encode(np.asfortranarray(mask, dtype=np.uint8))
    return {"size": [int(n) for n in rle["size"]], "counts": rle["counts"].decode("ascii")}


def stated_size(rle: Any) -> tuple[int, int]:
    """Height and width that an RLE states. DataError when it is none, or they are not two whole numbers."""
    if not isinstance(rle, Mapping) or not {"size", "counts"} <= rle.keys():
        raise DataError("not an RLE with size and counts")
    size = rle["size"]
    if not isinstance(size, list | tuple) or len(size) != 2 or not _whole(size) or min(size) < 1:
        raise DataError(f"mask size {str(size)[:40]} is not two whole numbers, height and width")
    return int(size[0]), int(size[1])


def run_lengths(rle: Any, size: tuple[int, int] | None = None) -> Int64[np.ndarray, " n"]:
    """How many pixels of an RLE are False, then True, then False and so on, counted down the columns.

    The only reader of run lengths. Raises DataError when it is no RLE, when its size is not `size` (None: whatever it
    states), when its counts cannot be read (a list of whole numbers, or COCO's text), or when they do not fill the
    frame exactly.
    """
    stated = stated_size(rle)
    if size is not None and stated != tuple(size):
        raise DataError(f"mask size {stated} differs from frame size {tuple(size)}")
    area, counts = stated[0] * stated[1], rle["counts"]
    try:
        lengths = _listed(counts) if isinstance(counts, list) else _uncompress(counts)
    except (TypeError, ValueError) as error:
        raise DataError(f"mask counts cannot be read: {error}") from None
    if len(lengths) and (lowest := lengths.min()) < 0:
        raise DataError(f"mask counts have a run of {lowest} pixels, the frame has {area} {stated}")
    if (covered := lengths.sum()) != area:
        raise DataError(f"mask counts cover {covered} pixels, the frame has {area} {stated}")
    return lengths.astype(np.int64, copy=False)  # none is above the area: none wraps


def runs(rle: Any, size: tuple[int, int]) -> tuple[Int64[np.ndarray, " r"], Int64[np.ndarray, " r"]]:
    """Where the runs of an RLE start and stop, in pixels counted down the columns; none is empty. DataError as
    `run_lengths`."""
    ends = np.cumsum(run_lengths(rle, size))
    starts, stops = ends[:-1:2], ends[1::2]
    there = stops > starts
    return starts[there], stops[there]


def _whole(numbers: Iterable[Any]) -> bool:
    return all(kind is int or issubclass(kind, np.integer) for kind in set(map(type, numbers)))


def _listed(counts: list[Any]) -> np.ndarray:
    if not _whole(counts):
        raise ValueError(f"not all are whole numbers: {str(counts)[:40]}")
    return np.array([int(n) for n in counts], dtype=object)  # numbers without a limit, until they are checked


def _uncompress(counts: Any) -> Int64[np.ndarray, " r"]:
    """Run lengths from COCO's text: groups of five bits, lowest first, signed; from the fourth on, differences to the
    run before the last."""
    if not isinstance(counts, str | bytes):
        raise TypeError(f"a list or a text is needed, got {type(counts).__name__}")
    codes = np.frombuffer(counts.encode("ascii") if isinstance(counts, str) else counts, np.uint8).astype(np.int64) - 48
    if not codes.size or ((codes < 0) | (codes > 63)).any() or codes[-1] & 32:
        raise ValueError("not COCO's alphabet, or cut off")
    last = np.flatnonzero((codes & 32) == 0)
    first = np.concatenate([[0], last[:-1] + 1])
    length = last - first + 1
    if length.max() > GROUPS:
        raise ValueError(f"a number of {length.max()} groups, COCO's have at most {GROUPS}")
    place = np.arange(len(codes)) - np.repeat(first, length)
    values = np.add.reduceat((codes & 31) << (5 * place), first)
    values -= np.where(codes[last] & 16, np.int64(1) << (5 * length), 0)
    values[1::2] = np.cumsum(values[1::2])
    values[2::2] = np.cumsum(values[2::2])
    return values


def decode(rle: Any, size: tuple[int, int]) -> Bool[np.ndarray, "h w"]:
    """RLE (compressed str/bytes, or uncompressed list counts) to a mask; None is an absent object: all False.

    Raises DataError as `run_lengths`.
    """
    if rle is None:
        return np.zeros(size, dtype=bool)
    lengths = run_lengths(rle, size)
    return np.repeat(np.arange(len(lengths)) % 2 == 1, lengths).reshape(size[1], size[0]).T


def decode_all(rles: Sequence[Any], size: tuple[int, int]) -> Bool[np.ndarray, "t h w"]:
    """A mask for each frame. Raises DataError as `decode`."""
    return np.stack([decode(rle, size) for rle in rles])


def arrays(
    found: Bool[np.ndarray, "t h w"] | Sequence[Any], size: tuple[int, int], frames: Sequence[int] | None = None
) -> Bool[np.ndarray, "n h w"]:
    """Masks that are an array or run lengths, as an array: of some `frames` (default: all). DataError as `decode`."""
    if isinstance(found, np.ndarray):
        return found if frames is None else found[list(frames)]
    return decode_all(found if frames is None else [found[i] for i in frames], size)


def segmented(system: Segments, clip: Clip, expressions: Sequence[Expression]) -> list[Prediction]:
    """What a system segments, with masks as run lengths where it can give these without holding arrays.

    At most `AT_ONCE` expressions together, since a model's memory grows with them (ReVOS has 34 of a video on average).
    Those of a clip with no more stay together: what goes through a model in another company differs in the last bits.
    """
    ask = system.run_lengths if isinstance(system, Compact) else system.segment
    parts = (expressions[start : start + AT_ONCE] for start in range(0, len(expressions), AT_ONCE))
    return [found for part in parts for found in ask(clip, part)]


def each(system: Segments | Each, clips: Sequence[Clip]) -> Iterator[list[Prediction]]:
    """What a system segments in clips, in order, with all of their expressions: `segmented`."""
    if isinstance(system, Each):
        return system.each(clips)
    return (segmented(system, clip, clip.expressions) for clip in clips)


def union(clip: Clip, keys: Iterable[str] | None, indices: Sequence[int] | None = None) -> Bool[np.ndarray, "t h w"]:
    """Union of the masks `keys` of a clip over frame positions `indices` (default: all). No keys: all False."""
    indices = range(len(clip)) if indices is None else indices
    out = np.zeros((len(indices), *clip.size), dtype=bool)
    for key in keys or ():
        for row, index in enumerate(indices):
            rle = clip.masks[key][index]
            if rle is not None:
                try:
                    out[row] |= decode(rle, clip.size)
                except DataError as error:
                    raise DataError(f"clip {clip.id}, mask {key}, frame {clip.frame_names[index]}: {error}") from None
    return out


def area_resize(mask: Bool[np.ndarray, "*n h w"], size: tuple[int, int]) -> Float[np.ndarray, "*n p q"]:
    """Share of each cell of a (p, q) grid that the mask covers, in [0, 1]. Exact: cells may cut pixels."""
    rows, cols = cell_weights(mask.shape[-2], size[0]), cell_weights(mask.shape[-1], size[1])
    shares = np.einsum("ph,...hw,qw->...pq", rows, mask.astype(np.float32), cols, optimize=True).astype(np.float32)
    return shares.clip(0, 1)  # rounding takes a full cell past 1, which no cross-entropy accepts


@lru_cache(16)
def cell_weights(pixels: int, cells: int) -> Float[np.ndarray, "cells pixels"]:
    """A matrix whose row i averages the pixels that cell i covers, fractions included; not to be written to."""
    edges = np.linspace(0, pixels, cells + 1)
    starts, ends = edges[:-1, None], edges[1:, None]
    left, right = np.arange(pixels)[None], np.arange(1, pixels + 1)[None]
    overlap = np.clip(np.minimum(ends, right) - np.maximum(starts, left), 0, None)
    return (overlap / (pixels / cells)).astype(np.float32)


def by_role(
    clip: Clip, expression: Expression, indices: Sequence[int] | None = None
) -> dict[Role, Bool[np.ndarray, "t h w"]]:
    """The true masks of both roles on some frames of a clip (default: all), False where there is no target."""
    return {
        Role.ACTOR: union(clip, expression.actor, indices),
        Role.TARGET: union(clip, expression.target, indices),
    }
