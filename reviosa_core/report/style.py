"""How every figure looks, and how it is saved: small, since figures live in git."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from PIL import Image

from reviosa_core import outputs
from reviosa_core.schema import Role

# Okabe and Ito's palette, told apart under the common colour blindnesses.
PALETTE = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00")
COLOR = {Role.ACTOR: PALETTE[0], Role.TARGET: PALETTE[1]}
GREY, INK = "#B8BCC2", "#333333"
STYLE: dict[Any, Any] = {
    "font.size": 8,
    "axes.titlesize": 9,
    "axes.titlelocation": "left",
    "axes.labelcolor": INK,
    "axes.edgecolor": GREY,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.grid.axis": "y",
    "axes.axisbelow": True,
    "grid.color": "#E8EAED",
    "xtick.color": INK,
    "ytick.color": INK,
    "xtick.major.size": 0,
    "ytick.major.size": 0,
    "legend.frameon": False,
    "figure.constrained_layout.use": True,
    "text.parse_math": False,  # text comes from data, where a dollar is a dollar
}
WIDTH = 7.5  # inches: the report's column


def save(figure: Figure, path: str | Path, dpi: int = 110, limit: int = 200_000) -> Path:
    """Write a PNG with a palette of 256 colours; where that is still over `limit` bytes, at a lower resolution.

    Figures live in git, and photographs make large PNGs.
    """
    with outputs.file(path) as new:
        new.write_bytes(png(figure, dpi, limit))
    return Path(path)


def png(figure: Figure, dpi: int = 110, limit: int = 200_000) -> bytes:
    """What `save` writes."""
    while True:
        buffer = io.BytesIO()
        figure.savefig(buffer, format="png", dpi=dpi)
        with Image.open(buffer) as picture:
            # Maximum coverage keeps the few pixels of a contour; the default merges rare colours into frequent ones.
            small = picture.convert("RGB").quantize(256, Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE)
        buffer = io.BytesIO()
        small.save(buffer, "png", optimize=True)
        if buffer.tell() <= limit or dpi < 60:
            return buffer.getvalue()
        dpi = int(0.85 * dpi)


def done(figure: Figure) -> Figure:
    plt.close(figure)  # pyplot forgets it: no double display in a notebook, no memory held
    return figure


def cycle(n: int) -> list[str]:
    return [PALETTE[i % len(PALETTE)] for i in range(n)]


def role_legend(figure: Figure, roles: Sequence[Role]) -> None:
    handles = [Patch(color=COLOR[role], label=str(role)) for role in roles]
    figure.legend(handles=handles, loc="outside lower right", ncols=len(handles), fontsize=7)
