"""Ref-DAVIS17, in two packagings.

As released: DAVIS/{JPEGImages,Annotations_unsupervised}/480p/<video>, DAVIS/ImageSets/2017/{train,val}.txt and
davis_text_annotations/Davis17_annot{1,2}[_full_video].txt, whose lines are `<video> <object> "<text>"`. As ReferFormer
converts it: the tree of Ref-YouTube-VOS, with valid/Annotations. In both, object k (in the order of their ids as text)
has the expressions 4k to 4k + 3, one a set: annotator 1 on the first frame and on the full video, then annotator 2.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from reviosa_core.data import files
from reviosa_core.data.images import check_name
from reviosa_core.data.ref_youtube_vos import MASKS, clip_of, object_id, read_tree, tree_splits
from reviosa_core.data.report import Report
from reviosa_core.schema import Clip, DataError, Expression

TEXTS = {  # one file a set, with its encoding
    "Davis17_annot1": "utf-8",
    "Davis17_annot1_full_video": "utf-8",
    "Davis17_annot2": "latin-1",
    "Davis17_annot2_full_video": "latin-1",
}
MISSPELT = {"clasic-car": "classic-car", "dog-scale": "dogs-scale", "motor-bike": "motorbike"}
LINE = re.compile(r'(\S+)\s+(\S+)\s+"(.*)"')
SPLITS = {"train": "train", "valid": "val"}  # and DAVIS's own name
NOBODY = "void"  # mask key of pixels that belong to nobody


def splits(root: Path) -> tuple[str, ...]:
    """The splits in a folder. None of another format."""
    if (root / "davis_text_annotations").is_dir():
        return tuple(split for split in SPLITS if _set(root, split).is_file())
    return tree_splits(root) if (root / "valid" / MASKS).is_dir() else ()


def read(root: Path | str, split: str, report: Report | None = None) -> list[Clip]:
    """All clips of a split, by video name. Frames and label maps stay on disk.

    Mask keys are object ids, of those without a sentence, too (the merged protocol scores them), and "void" for pixels
    that belong to nobody (`protocols.davis_match` leaves them out).
    """
    root, report = Path(root), report or Report()
    raw = (root / "davis_text_annotations").is_dir()
    clips = list(_read_raw(root, split, report)) if raw else read_tree(root, split, report, void=NOBODY)
    for clip in clips:
        _check_sets(clip, f"{root}: video {clip.id!r}", report)
    return clips


def _check_sets(clip: Clip, where: str, report: Report) -> None:
    """Four expressions an object, one of each set, numbered 4k to 4k + 3."""
    objects = sorted({e.actor[0] for e in clip.expressions})
    due = {str(4 * k + s): name for k, name in enumerate(objects) for s in range(4)}
    found = {e.id: e.actor[0] for e in clip.expressions}
    wrong = sorted(id for id in due.keys() | found.keys() if due.get(id) != found.get(id))
    if wrong:
        report.problem(
            DataError(
                f"{where}: {len(objects)} objects {objects} have {len(found)} expressions, 4 each are due; "
                f"missing or of another object: {wrong[:4]}"
            )
        )


def _set(root: Path, split: str) -> Path:
    return root / "DAVIS" / "ImageSets" / "2017" / f"{SPLITS[split]}.txt"


def _names(root: Path, split: str) -> list[str]:
    return files.text(_set(root, split)).split()


def _read_raw(root: Path, split: str, report: Report) -> Iterator[Clip]:
    folder = root / "davis_text_annotations"
    sets = {folder / f"{name}.txt": encoding for name, encoding in TEXTS.items()}
    texts = [_texts(file, encoding, report) for file, encoding in sets.items()]
    names = _names(root, split)
    known = {name for own in SPLITS for name in _names(root, own)}
    for file, own in zip(sets, texts, strict=True):
        for name in sorted({video for video, _ in own} - known):
            report.problem(DataError(f"{file}: video {name!r} is in no set of {len(known)} videos"))
    for name in sorted(names):
        where = f"{_set(root, split)}: video {name!r}"
        with report.each():
            check_name(name, where)
            frames = root / "DAVIS" / "JPEGImages" / "480p" / name
            maps = root / "DAVIS" / "Annotations_unsupervised" / "480p" / name
            if not frames.is_dir():
                raise DataError(f"{where}: no folder {frames}")
            listed = tuple(sorted(path.stem for path in frames.glob("*.jpg")))
            objects = sorted({object for own in texts for video, object in own if video == name})
            if not listed or not objects:
                raise DataError(f"{where}: {len(listed)} frames and {len(objects)} objects with texts")
            expressions = [
                Expression(str(4 * k + s), own[name, object], "undefined", (object,))
                for k, object in enumerate(objects)
                for s, own in enumerate(texts)
                if (name, object) in own
            ]
            clip = clip_of(frames, maps, listed, expressions, where, report, NOBODY)
            if clip:
                yield clip


def _texts(path: Path, encoding: str, report: Report) -> dict[tuple[str, str], str]:
    """{(video, object): text} of one set."""
    found: dict[tuple[str, str], str] = {}
    lines: list[str] = []
    with report.each():
        lines = files.text(path, encoding).splitlines()
    for number, line in enumerate(lines, 1):
        with report.each():
            where = f"{path}: line {number}"
            match = LINE.fullmatch(line.strip())
            if not match:
                raise DataError(f'{where}: not <video> <object> "<text>": {line[:60]!r}')
            video, object, text = match.groups()
            key = MISSPELT.get(video, video), object_id(object, where)
            if not text.strip():
                raise DataError(f"{where}: empty text")
            if key in found:
                raise DataError(f"{where}: video {key[0]!r} has two texts for object {key[1]}")
            found[key] = text
    return found
