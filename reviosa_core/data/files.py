"""Files as people have them: a pipe, a pointer, an archive or another encoding is called by its name, not read."""

from __future__ import annotations

import stat
from collections.abc import Iterable
from pathlib import Path

from reviosa_core.schema import DataError

HEAD = 64  # bytes that tell what a file is
MARK = b"\xef\xbb\xbf"  # spreadsheets and PowerShell begin a UTF-8 file with it
ZIP = b"PK\x03\x04"
KINDS = {
    b"version https://git-lfs": "a Git LFS pointer; fetch the file itself (git lfs pull)",
    b"\x1f\x8b": "compressed (gzip); unpack it",
    ZIP: "a zip archive; unpack it",
    b"7z\xbc\xaf": "a 7z archive; unpack it",
    b"BZh": "compressed (bzip2); unpack it",
    b"\xfd7zXZ\0": "compressed (xz); unpack it",
    b"\x28\xb5\x2f\xfd": "compressed (Zstandard); unpack it",
    b"\xff\xd8\xff": "a JPEG image",
    b"\x89PNG": "a PNG image",
    b"GIF8": "a GIF image",
    b"II*\0": "a TIFF image",
    b"MM\0*": "a TIFF image",
    b"RIFF": "a WebP image, or AVI or WAV",
    b"\x89HDF": "an HDF5 file",
    b"%PDF": "a PDF file",
    b"%!PS": "a PostScript file",
}
CODES = {
    b"\xff\xfe": "UTF-16; save it as UTF-8",
    b"\xfe\xff": "UTF-16; save it as UTF-8",
    b"\0\0\xfe\xff": "UTF-32; save it as UTF-8",
}
NODES = {
    stat.S_IFIFO: "a named pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
    stat.S_IFDIR: "a folder",
}


def regular(path: Path) -> Path:
    """The path of a file, links followed. DataError for what is not there, and for what could keep a reader waiting."""
    try:
        mode = path.stat().st_mode
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: {getattr(error, 'strerror', None) or error}") from None
    if not stat.S_ISREG(mode):
        raise DataError(f"{path}: {NODES.get(stat.S_IFMT(mode), 'something else')}, not a file")
    return path


def known(head: bytes) -> str | None:
    """What a file is, by its first bytes; None of what is not in the table."""
    found = next((name for begin, name in KINDS.items() if head.startswith(begin)), None)
    return "a web page" if found is None and head.lstrip().lower().startswith((b"<!doctype", b"<html")) else found


def kind(head: bytes) -> str | None:
    """What a file is, if it is no text; None of text."""
    code = next((name for begin, name in CODES.items() if head.startswith(begin)), None)
    unknown = "UTF-16 or UTF-32, or no text at all; UTF-8 is needed" if b"\0" in head[:4] else None
    return known(head) or code or unknown


def head(path: Path) -> bytes:
    """The first bytes of a file. DataError as `regular`."""
    try:
        with regular(path).open("rb") as file:
            return file.read(HEAD)
    except OSError as error:
        raise DataError(f"{path}: {error.strerror or error}") from None


def check_text(path: Path) -> int:
    """Where the text of a file begins: 0, or behind a byte order mark. DataError when it begins like something else."""
    begin = head(path)
    if (found := kind(begin)) is not None:
        raise DataError(f"{path}: this is {found}")
    return len(MARK) * begin.startswith(MARK)


def text(path: Path, encoding: str = "utf-8") -> str:
    """A text, without a byte order mark. DataError that names the file."""
    start = check_text(path)
    try:
        return path.read_bytes()[start:].decode(encoding)
    except MemoryError:
        raise DataError(f"{path}: {path.stat().st_size:,} bytes do not fit in memory") from None
    except UnicodeDecodeError as error:
        line = path.read_bytes()[start:][: error.start].count(b"\n") + 1
        raise DataError(f"{path}: line {line}: byte {error.start} is no {encoding}; save it as {encoding}") from None
    except OSError as error:
        raise DataError(f"{path}: {error}") from None


def stamp(paths: Iterable[Path]) -> tuple[int, int, int]:
    """What tells some files from others that take their place: how many, their bytes, and the latest time of change in
    nanoseconds. OSError for one that is not there."""
    stats = [path.stat() for path in paths]
    return len(stats), sum(s.st_size for s in stats), max((s.st_mtime_ns for s in stats), default=0)
