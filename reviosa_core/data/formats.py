"""Any of the data sets by its folder: which format it is, which splits it has, its clips."""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple, Protocol

from reviosa_core.data import a2d, interrvos, jhmdb, mevis, ref_davis, ref_sav, ref_youtube_vos, revos
from reviosa_core.data.report import Report
from reviosa_core.schema import Clip, DataError


class Reader(Protocol):
    """What each format's module has."""

    def splits(self, root: Path) -> tuple[str, ...]:
        """The splits in a folder; none when it is of another format."""
        ...

    def read(self, root: Path | str, split: str, report: Report | None = None) -> list[Clip]:
        """All clips of a split."""
        ...


READERS: dict[str, Reader] = {
    "interrvos": interrvos,
    "mevis": mevis,
    "ref-youtube-vos": ref_youtube_vos,
    "ref-davis": ref_davis,
    "revos": revos,
    "ref-sav": ref_sav,
    "a2d": a2d,
    "jhmdb": jhmdb,
}


NAMES = re.compile(r"meta_expressions|mask_dict|(annotations|metadata|^Ref-SAV|^roles|^intershapes|^manifest)\.json$")
BELOW = (".png", ".jpg", ".txt", ".h5", ".mat", ".mp4")  # pictures, videos, sentences, masks: in folders of theirs


class Found(NamedTuple):
    """A data set in a folder: the format's name, and its splits."""

    format: str
    splits: tuple[str, ...]


def detect(root: Path | str, format: str | None = None) -> Found:
    """What lies in a folder, told by its files; with `format`, just its splits. DataError when that is not clear."""
    root = Path(root)
    if not root.is_dir():
        raise DataError(f"{root}: no such folder")
    if format is not None and format not in READERS:
        raise DataError(f"no format {format!r}, only {', '.join(READERS)}")
    asked = READERS if format is None else {format: READERS[format]}
    found = [Found(name, splits) for name, reader in asked.items() if (splits := reader.splits(root))]
    if len(found) != 1:
        several = " and ".join(own.format for own in found)
        odd = sorted(p.name for p in root.iterdir() if not p.is_file() and (p.suffix or not p.is_dir()))
        more = f" ({odd[0]} there is no plain file)" if odd else ""
        raise DataError(f"{root}: {several or 'none'} of {', '.join(asked)} by its files{more}; see docs/datasets.md")
    return found[0]


def is_part(root: Path, path: Path) -> bool:
    """Whether a file is one of the data set's in `root`, by its name; not what somebody wrote beside them."""
    if not path.exists() or not path.resolve().is_relative_to(root.resolve()):
        return False
    return bool(NAMES.search(path.name)) or (path.suffix in BELOW and not path.parent.samefile(root))


def read(
    root: Path | str, split: str | None = None, format: str | None = None, report: Report | None = None
) -> list[Clip]:
    """The clips of one split; of the only one where none is named. DataError naming the splits there are."""
    found = resolve(root, split, format)
    return READERS[found.format].read(root, found.splits[0], report)


def resolve(root: Path | str, split: str | None = None, format: str | None = None) -> Found:
    """The format, and the one split that is meant: the only one where none is named. DataError as `read`."""
    found = detect(root, format)
    if split is None and len(found.splits) == 1:
        (split,) = found.splits
    if split not in found.splits:
        asked = "which split?" if split is None else f"no split {split!r}."
        there = ("'.', the folder itself" if name == "." else name for name in found.splits)
        raise DataError(f"{root}: {asked} This {found.format} folder has {', '.join(there)}")
    return Found(found.format, (split,))
