"""Masks as run lengths and as arrays: conversion, union, resizing."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
from jaxtyping import Bool, Float
from pycocotools import mask as coco

from reviosa_core.schema import RLE, Clip, DataError


def encode(mask: Bool[np.ndarray, "h w"]) -> RLE:
    """Boolean mask to compressed COCO RLE with `counts` as str (ready for JSON)."""
    rle = coco.encode(np.asfortranarray(mask, dtype=np.uint8))
    return {"size": [int(n) for n in rle["size"]], "counts": rle["counts"].decode("ascii")}


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
    return coco.decode(rle).astype(bool)


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
