"""How often what was said is so: reliability diagrams."""

from __future__ import annotations

from collections.abc import Mapping

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.figure import Figure

from reviosa_core.report import style


def diagrams(tables: Mapping[str, Mapping[str, pd.DataFrame]]) -> Figure:
    """By title, then by name ("before", "after"): share that was so (`there`) by what was said (`said`), each point as
    large as the root of its share of `frames`. On the diagonal what was said is so."""
    with plt.rc_context(style.STYLE):
        figure, axes = plt.subplots(1, len(tables), figsize=(style.WIDTH, 3), sharey=True, squeeze=False)
        for axis, (title, lines) in zip(axes[0], tables.items(), strict=True):
            axis.plot([0, 1], [0, 1], color=style.GREY, linewidth=1)
            for colour, (name, table) in zip(style.cycle(len(lines)), lines.items(), strict=True):
                axis.plot(table.said, table.there, color=colour, linewidth=1, label=name)
                axis.scatter(table.said, table.there, 120 * (table.frames / table.frames.sum()) ** 0.5, color=colour)
            axis.set(title=title, xlabel="said to be there", xlim=(-0.05, 1.05), ylim=(-0.05, 1.05))
        axes[0][0].set_ylabel("there")
        axes[0][0].legend(loc="upper left")
    return style.done(figure)
