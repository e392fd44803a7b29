"""ReVIOSa workbook: interaction-aware referring video object segmentation.

    import reviosa_core as rv

    model = rv.load("runs/tiny/best")                                # any ReVIOSa or Sa2VA, released ones too
    clip = rv.open_clip("clip.mp4", ["the dog pulling the man"])     # frames are decoded when they are needed
    (found,) = model.segment(clip)
    found.masks["target"]                                            # bool [t h w], at the video's own size
    rv.draw(clip, found).savefig("sheet.png")

    clips = rv.read("data/tiny/test")                                # any of docs/datasets.md
    print(rv.score("predictions.json", clips))                       # actor, target, RVOS, who is whom

The rooms below say in one line each what enters and what leaves them.
"""

from __future__ import annotations

import importlib
import warnings
from typing import TYPE_CHECKING, Any

__version__ = "0.2.0"

warnings.filterwarnings("ignore", message="IProgress not found")  # without widgets, progress bars are text: fine

# The front door: a dozen names, each imported when it is first used, so that `import reviosa_core` takes no time.
_FROM = {
    "load": "weights.checkpoint",
    "open_clip": "data.video",
    "read": "data.formats",
    "write": "data.interrvos",
    "verify": "data.verify",
    "score": "scoring.evaluate",
    "draw": "report.drawing",
    "Clip": "schema",
    "Expression": "schema",
    "Prediction": "schema",
    "Role": "schema",
    "DataError": "schema",
}
__all__ = list(_FROM)  # pyright: ignore[reportUnsupportedDunderAll]

if TYPE_CHECKING:
    from reviosa_core.data.formats import read as read
    from reviosa_core.data.interrvos import write as write
    from reviosa_core.data.verify import verify as verify
    from reviosa_core.data.video import open_clip as open_clip
    from reviosa_core.report.drawing import draw as draw
    from reviosa_core.schema import Clip as Clip
    from reviosa_core.schema import DataError as DataError
    from reviosa_core.schema import Expression as Expression
    from reviosa_core.schema import Prediction as Prediction
    from reviosa_core.schema import Role as Role
    from reviosa_core.scoring.evaluate import score as score
    from reviosa_core.weights.checkpoint import load as load


def __getattr__(name: str) -> Any:
    if name not in _FROM:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}; it has {', '.join(__all__)}")
    return getattr(importlib.import_module(f"{__name__}.{_FROM[name]}"), name)


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
