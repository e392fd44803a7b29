"""Scenes drawn: frames, labels, and how much of each object others hide."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Float32, UInt8

from reviosa_core.config import Data
from reviosa_core.intershapes.world import (
    COLORS,
    Shape,
)


def _distance(kind: str, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Signed distance (negative inside) to a shape of about unit radius; points and result in radii."""
    if kind == "circle":
        return np.hypot(x, y) - 0.95
    if kind == "ring":
        return np.abs(np.hypot(x, y) - 0.75) - 0.25
    ax, ay = np.abs(x), np.abs(y)
    if kind == "square":
        return np.maximum(ax, ay) - 0.82
    if kind == "diamond":
        return (ax / 0.72 + ay / 1.1 - 1) * 0.6
    if kind == "cross":
        return np.minimum(np.maximum(ax - 0.34, ay - 1), np.maximum(ax - 1, ay - 0.34))
    if kind == "triangle":
        return np.maximum(0.866 * ax - 0.5 * y, y) - 0.55
    # star: fold the plane into one of ten sectors, then the distance to that sector's edge
    rho, sector = np.hypot(x, y), np.pi / 5
    angle = np.abs((np.arctan2(x, -y) + sector) % (2 * sector) - sector)
    tip, notch = 1.1, 0.5 * np.array([np.cos(sector), np.sin(sector)])
    normal = np.array([notch[1], tip - notch[0]]) / np.hypot(notch[1], tip - notch[0])
    return (rho * np.cos(angle) - tip) * normal[0] + rho * np.sin(angle) * normal[1]


def _background(rng: np.random.Generator, size: int, shift: bool) -> Float[np.ndarray, "h w 3"]:
    """Dull, low-frequency coloured noise with a little grain."""
    cells = 10 if shift else 5
    grid = rng.uniform(60, 150, (cells, cells, 1)) + rng.uniform(-30, 30, (cells, cells, 3))
    at = np.linspace(0, cells - 1, size)
    weights = np.clip(1 - np.abs(at[:, None] - np.arange(cells)), 0, 1)
    smooth = np.tensordot(weights, np.tensordot(weights, grid, axes=(1, 0)), axes=(1, 1))
    return smooth + rng.uniform(-5, 5, (size, size, 3))


def render(
    rng: np.random.Generator, config: Data, shapes: Sequence[Shape], centres: Float[np.ndarray, "n t 2"], shift: bool
) -> tuple[UInt8[np.ndarray, "t h w 3"], UInt8[np.ndarray, "t h w"], Float32[np.ndarray, "n t"]]:
    """Frames, labels, and each object's hidden share; later objects are drawn over earlier ones."""
    size = config.size
    frames = np.repeat(_background(rng, size, shift).astype(np.uint8)[None], config.frames, axis=0)
    labels = np.zeros(frames.shape[:3], np.uint8)
    area = np.zeros((len(shapes), config.frames))
    for k, shape in enumerate(shapes):
        color = np.array(COLORS[shape.color]) + rng.uniform(-12, 12, 3)
        frequency, direction, phase = rng.uniform(3, 7), rng.uniform(0, np.pi), rng.uniform(0, 2 * np.pi)
        radius = shape.radius * size
        half = int(1.15 * radius) + 2
        centre = centres[k] * size
        corner = np.floor(centre).astype(int) - half
        # Crops [t y x] of every frame at once, in the object's own coordinates.
        offset = (corner[:, None] + np.arange(2 * half + 1)[:, None] + 0.5 - centre[:, None]) / radius
        dx, dy = offset[:, None, :, 0], offset[:, :, None, 1]
        cos, sin = np.cos(shape.angle), np.sin(shape.angle)
        x, y = cos * dx + sin * dy, cos * dy - sin * dx
        distance = _distance(shape.kind, x, y)
        wave = np.sin(frequency * (np.cos(direction) * x + np.sin(direction) * y) + phase)
        if shift:
            wave = 1.5 * wave * np.sin(frequency * (np.cos(direction) * y - np.sin(direction) * x))
        fill = np.clip((1 + 0.1 * wave - 0.08 * y)[..., None] * color, 0, 255)
        alpha = np.clip(0.5 - distance * radius, 0, 1)[..., None]
        for i, (left, top) in enumerate(corner):
            rows = slice(max(top, 0), max(top + 2 * half + 1, 0))
            cols = slice(max(left, 0), max(left + 2 * half + 1, 0))
            patch, label = frames[i, rows, cols], labels[i, rows, cols]
            here = (i, slice(rows.start - top, rows.start - top + patch.shape[0]))
            here = (*here, slice(cols.start - left, cols.start - left + patch.shape[1]))
            patch[:] = patch + alpha[here] * (fill[here] - patch) + 0.5
            inside = distance[here] < 0
            label[inside] = k + 1
            area[k, i] = inside.sum()
    visible = np.stack([(labels == k + 1).sum((1, 2)) for k in range(len(shapes))])
    return frames, labels, (1 - visible / np.maximum(area, 1)).astype(np.float32)
