"""Masks as run lengths and as arrays: conversion, union, resizing."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
from jaxtyping import Bool, Float, Int64
from pycocotools import mask as coco

from reviosa_core.schema import RLE, Clip, DataError, Expression, Role


def encode(mask: Bool[np.ndarray, "h w"]) -> RLE:
    """Boolean mask to compressed COCO RLE with `counts` as str (ready for JSON)."""
    rle = coco.encode(np.asfortranarray(mask, dtype=np.uint8))
    return {"size": [int(n) for n in rle["size"]], "counts": rle["counts"].decode("ascii")}


def runs(rle: RLE, size: tuple[int, int]) -> tuple[Int64[np.ndarray, " r"], Int64[np.ndarray, " r"]]:
    """Where the runs of an RLE start and stop, in pixels counted down the columns; none is empty.

    Raises DataError when the RLE's size is not `size`, its counts cannot be read, or they do not add up to the frame.
    """
    if tuple(rle["size"]) != tuple(size):
        raise DataError(f"mask size {tuple(rle['size'])} differs from frame size {tuple(size)}")
    counts = rle["counts"]
    try:
        lengths = np.array(counts, np.int64) if isinstance(counts, list) else _uncompress(counts)
    except (TypeError, ValueError, IndexError, OverflowError) as error:
        raise DataError(f"mask counts cannot be read: {error}") from None
    if lengths.sum() != size[0] * size[1] or (lengths < 0).any():
        raise DataError(f"mask counts cover {lengths.sum()} pixels, the frame has {size[0] * size[1]} {tuple(size)}")
    ends = np.cumsum(lengths)
    starts, stops = ends[:-1:2], ends[1::2]
    there = stops > starts
    return starts[there], stops[there]


def _uncompress(counts: str | bytes) -> Int64[np.ndarray, " r"]:
    """Run lengths from COCO's text: groups of five bits, lowest first, signed; from the fourth on, differences to the
    run before the last."""
    codes = np.frombuffer(counts.encode("ascii") if isinstance(counts, str) else counts, np.uint8).astype(np.int64) - 48
    if ((codes < 0) | (codes > 63)).any() or codes[-1] & 32:
        raise ValueError("not COCO's alphabet, or cut off")
    last = np.flatnonzero((codes & 32) == 0)
    first = np.concatenate([[0], last[:-1] + 1])
    length = last - first + 1
    place = np.arange(len(codes)) - np.repeat(first, length)
    values = np.add.reduceat((codes & 31) << (5 * place), first)
    values -= np.where(codes[last] & 16, np.int64(1) << (5 * length), 0)
    values[1::2] = np.cumsum(values[1::2])
    values[2::2] = np.cumsum(values[2::2])
    return values


def decode(rle: RLE | None, size: tuple[int, int]) -> Bool[np.ndarray, "h w"]:
    """RLE (compressed str/bytes, or uncompressed list counts) to a mask; None is an absent object: all False.

    Raises DataError when the RLE's size is not `size`, or its counts cannot be read.
    """
    if rle is None:
        return np.zeros(size, dtype=bool)
    if tuple(rle["size"]) != tuple(size):
        raise DataError(f"mask size {tuple(rle['size'])} differs from frame size {tuple(size)}")
    if isinstance(rle["counts"], list):
        rle = coco.frPyObjects(rle, *size)
    return coco.decode(rle).view(bool)


def decode_all(rles: Sequence[RLE | None], size: tuple[int, int]) -> Bool[np.ndarray, "t h w"]:
    """A mask for each frame. Raises DataError as `decode`."""
    return np.stack([decode(rle, size) for rle in rles])


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
    rows, cols = _cell_weights(mask.shape[-2], size[0]), _cell_weights(mask.shape[-1], size[1])
    return np.einsum("ph,...hw,qw->...pq", rows, mask.astype(np.float32), cols, optimize=True).astype(np.float32)


def _cell_weights(pixels: int, cells: int) -> np.ndarray:
    """(cells, pixels) matrix whose row i averages the pixels that cell i covers, fractions included."""
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
