"""Files and folders, written whole or not at all: made beside their place, brought to disk, swapped in.

Everything the package writes goes through here; only what is `growing` is not whole. `.<name>.reviosa-partial` beside
the place is where it is made. One process holds that folder at a time; one that was killed leaves it, and the next that
writes there clears it. A folder that may be replaced carries a manifest of what was written into it: what is not listed
there, or was changed since, is somebody's own, and nothing is touched.

Each step is an audit event, "reviosa.outputs" (step, path): where tests/reliability/test_kills.py kills.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import hashlib
import json
import os
import re
import shutil
import stat
import sys
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO

from reviosa_core.schema import DataError

MANIFEST = "manifest.json"  # {"holds": what, "about": {...}, "files": {name: [bytes, sha256]}}
PARTIAL = ".reviosa-partial"
MARK, OLD, NEW = "owner", "old", "new"  # in a .reviosa-partial
SAYS = "reviosa is writing here, or was stopped while it did; the next time it writes there it clears this folder.\n"
EXCHANGE, HERE = 2, -100  # linux/fs.h RENAME_EXCHANGE, fcntl.h AT_FDCWD


@contextmanager
def file(path: str | Path) -> Iterator[Path]:
    """Yields where to write, with the suffix of `path`; at the end that takes the place of `path`.

    When the block raises, `path` is as it was. Raises DataError as `try_out`, and when another process writes there.
    """
    path = _real(path)
    _check_file(path)
    with _workshop(path) as work:
        new = work / f"{NEW}{path.suffix}"
        yield new
        _to_disk(new, work)
        _step("made", path)
        os.replace(new, path)
        _sync(path.parent)
        _step("placed", path)


def text(path: str | Path, content: str) -> None:
    """`file` with this content, in UTF-8."""
    with file(path) as new:
        new.write_text(content, encoding="utf-8")


@contextmanager
def growing(path: str | Path) -> Iterator[BinaryIO]:
    """Yields `path` itself, at its start, to read and to add to at its end: what is added stays there, whatever comes,
    perhaps cut off. One that is left empty goes. Who asks holds the `file` that is made of it: nothing else keeps a
    second process out."""
    _check_file(path := _real(path))
    with path.open("a+b") as lines:
        try:
            lines.seek(0)
            yield lines
        finally:
            if not lines.seek(0, os.SEEK_END):
                path.unlink()


@contextmanager
def folder(path: str | Path, what: str | None = None, about: Mapping[str, Any] | None = None) -> Iterator[Path]:
    """Yields an empty folder to fill; at the end it takes the place of `path`, and what was there is removed.

    `what` says what such folders hold ("prediction"): only one that holds just that, unchanged, is replaced. Without
    `what` nothing is ever replaced, and there is no manifest. `about` is kept in the manifest. When the block raises,
    `path` is as it was. Raises DataError as `try_out`, and when another process writes there.
    """
    path = _real(path)
    with _workshop(path) as work:
        seen = _check_folder(path, what)
        new = work / NEW
        new.mkdir()
        yield new
        for found in sorted(_listing(new)):
            _ordinary(new / found, work)
        if what is not None:
            _write_manifest(new / MANIFEST, what, about or {}, _digests(new))
        _sync_all(new)
        _step("made", path)
        if _listing(path) != seen:  # somebody put something there meanwhile
            seen = _check_folder(path, what)
        if seen:
            _exchange(new, path, work / OLD)
        else:
            os.rename(new, path)
        _sync(path.parent)
        _step("placed", path)


@contextmanager
def added(path: str | Path, name: str, what: str) -> Iterator[Path]:
    """`file` for one more file in a folder that `folder` wrote: it is listed in the manifest before it appears."""
    path = _real(path)
    with _workshop(path) as work:
        if (manifest := _manifest(path, what)) is None:
            raise DataError(f"{path}: has no {MANIFEST} of a {what}: {name} is not added to it")
        if (path / name).exists():
            _check_listed(path, name, what, manifest["files"])
        new = work / f"{NEW}{Path(name).suffix}"
        yield new
        _to_disk(new, work)
        files = {**manifest["files"], name: _digest(new)}
        _write_manifest(work / MANIFEST, what, manifest["about"], files)
        _to_disk(work / MANIFEST, work)
        _step("made", path)
        os.replace(work / MANIFEST, path / MANIFEST)
        _step("listed", path)
        os.replace(new, path / name)
        _sync(path)
        _step("placed", path)


def tidy(path: str | Path) -> None:
    """Clear what a killed process left of writing `path`, where that turns out to be whole and is not written again."""
    with _workshop(_real(path)):
        pass


def try_out(path: str | Path, what: str | None = None, read: Iterable[Path | None] = ()) -> None:
    """Asked before the work: can this file be written, or with `what` this folder? Leaves nothing behind.

    Raises DataError when something else is in the way, or the file is one of those `read`; OSError where it can't.
    """
    path = _real(path)
    if what is None:
        _check_file(path)
        if any(given and path.exists() and given.exists() and path.samefile(given) for given in read):
            raise DataError(f"{path}: is what is read here; name another file")
    else:
        _check_folder(path, what)
    work = _work(path)
    with _named(path):
        work.exists()  # a name too long for the file system
        there = next(parent for parent in path.parents if parent.exists())
        if not there.is_dir():
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(there))
        try:
            tempfile.TemporaryFile(dir=there).close()
        except OSError as error:
            raise OSError(error.errno, error.strerror, str(path)) from None
    if work.exists() and not _ours(work):
        raise _in_the_way(work)


def _real(path: str | Path) -> Path:
    """What a link leads to: the link stays."""
    path = Path(path)
    return Path(os.path.realpath(path)) if path.is_symlink() or path.name in ("", "..") else path


def _check_file(path: Path) -> None:
    if path.is_dir():
        raise DataError(f"{path}: is a folder; a file is written here")
    if path.exists() and not path.is_file():
        raise DataError(f"{path}: is no plain file, and is not replaced by one")
    if path.exists() and not os.access(path, os.W_OK):
        raise PermissionError(errno.EACCES, "is write-protected", str(path))


def _check_folder(path: Path, what: str | None) -> dict[str, tuple[int, ...]]:
    """Its `_listing`, when nothing would be lost with it; DataError naming what would."""
    if path.exists() and not path.is_dir():
        raise DataError(f"{path}: exists, and is no folder; name another")
    if path.is_mount() or Path.cwd().is_relative_to(path.resolve()):
        raise DataError(f"{path}: is where a disk is mounted, or this command runs; name a folder in it")
    if not path.exists() or not any(path.iterdir()):
        return {}
    if what is None:
        raise DataError(f"{path}: exists; name another folder")
    if (manifest := _manifest(path, what)) is None:
        raise DataError(
            f"{path}: exists, and is not an earlier {what}: no {MANIFEST} says so; "
            "remove it yourself if it may go, or name another folder"
        )
    found = _listing(path)
    for name in found:
        if name != MANIFEST:
            _check_listed(path, name, what, manifest["files"])
    return found


def _check_listed(path: Path, name: str, what: str, files: Mapping[str, Any]) -> None:
    file, rest = path / name, f"the {what} in {path} is left alone; move that file away, or name another folder"
    if name not in files:
        if name.endswith("/") and any(other.startswith(name) for other in files):
            return  # emptied of what is listed
        raise DataError(f"{file}: does not come with the {what} there, by its {MANIFEST}; {rest}")
    size, digest = files[name]
    if not file.is_file():
        raise DataError(f"{file}: is no file any more; {rest}")
    if (new := file.stat().st_size) != size:
        raise DataError(f"{file}: has {new} bytes, and had {size} when it was written; {rest}")
    if (now := _digest(file)[1]) != digest:
        raise DataError(f"{file}: has sha256 {now[:12]}, and had {digest[:12]} when it was written; {rest}")


def _listing(path: Path) -> dict[str, tuple[int, ...]]:
    """What is in a folder, at any depth: files, empty folders ("name/"), links; with what changes when they do."""
    found: dict[str, tuple[int, ...]] = {}
    for top, folders, names in os.walk(path):
        inside = PurePosixPath(Path(top).relative_to(path))
        links = [name for name in folders if (Path(top) / name).is_symlink()]
        for name in (*names, *links):
            about = os.lstat(Path(top) / name)
            found[str(inside / name)] = (about.st_size, about.st_mtime_ns, about.st_ino)
        if not folders and not names and Path(top) != path:
            found[f"{inside}/"] = ()
    return found


def _manifest(path: Path, what: str) -> dict[str, Any] | None:
    """That of a folder that holds such; None where there is none, or another program's."""
    try:
        raw = json.loads((path / MANIFEST).read_text(encoding="utf-8"))
        files = {str(name): (int(size), str(digest)) for name, (size, digest) in raw["files"].items()}
        return {"about": dict(raw["about"]), "files": files} if raw["holds"] == what else None
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return None


def _write_manifest(file: Path, what: str, about: Mapping[str, Any], files: Mapping[str, Any]) -> None:
    lines = ",\n".join(f"  {json.dumps(name)}: {json.dumps(files[name])}" for name in sorted(files))
    head = f'"holds": {json.dumps(what)},\n "about": {json.dumps(dict(about))}'
    file.write_text(f'{{{head},\n "files": {{\n{lines}\n }}}}\n', encoding="utf-8")


def _digests(path: Path) -> dict[str, tuple[int, str]]:
    return {name: _digest(path / name) for name in _listing(path) if not name.endswith("/")}


def _digest(file: Path) -> tuple[int, str]:
    with file.open("rb") as stream:
        return os.fstat(stream.fileno()).st_size, hashlib.file_digest(stream, "sha256").hexdigest()


def _work(path: Path) -> Path:
    return path.with_name(f".{path.name}{PARTIAL}")


@contextmanager
def _workshop(path: Path) -> Iterator[Path]:
    """The folder in which what goes to `path` is made, this process's alone; what a killed one left is cleared."""
    missing = [parent for parent in path.parents if not parent.exists()]
    with _named(path):
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            work = _work(path)
            lock = _lock(work, path)
            try:
                _clear(work, path)
                _step("begun", path)
                yield work
            finally:
                _clear(work, path)
                (work / MARK).unlink(missing_ok=True)
                with suppress(OSError):  # another process has begun here
                    work.rmdir()
                os.close(lock)
        except BaseException:
            for parent in missing:
                with suppress(OSError):
                    parent.rmdir()
            raise


def _lock(work: Path, path: Path) -> int:
    """Of the mark in `work`, which is made where it is missing. The system lifts it when the process dies."""
    while True:
        with suppress(FileExistsError):
            work.mkdir()
        if not _ours(work):
            raise _in_the_way(work)
        try:
            lock = os.open(work / MARK, os.O_RDWR | os.O_CREAT, 0o666)
        except FileNotFoundError:
            continue  # another process was just done
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.path.exists(work / MARK) and os.path.samestat(os.fstat(lock), os.stat(work / MARK)):
                os.pwrite(lock, SAYS.encode(), 0)
                return lock
        except BlockingIOError:
            os.close(lock)
            raise DataError(f"{path}: another process is writing it") from None
        except BaseException:
            os.close(lock)
            raise
        os.close(lock)


def _ours(work: Path) -> bool:
    """A .reviosa-partial that this module made, at whatever step it was killed; or nothing that could be lost."""
    if work.is_symlink() or not work.is_dir():
        return not os.path.lexists(work)
    mark = work / MARK
    if not mark.is_file():
        return not any(work.iterdir())
    found = mark.read_bytes()[: len(SAYS)]
    return found == SAYS.encode() or (not found and [file.name for file in work.iterdir()] == [MARK])


def _in_the_way(work: Path) -> DataError:
    return DataError(f"{work}: is in the way, and was not left by an interrupted run; move it away")


def _clear(work: Path, path: Path) -> None:
    """All in `work` but the mark; an earlier result that was moved out of the way, and not replaced, goes back."""
    if (work / OLD).exists() and not path.exists():
        os.rename(work / OLD, path)
    for found in work.iterdir():
        if found.is_dir() and not found.is_symlink():
            shutil.rmtree(found)
        elif found.name != MARK:
            found.unlink()


def _exchange(new: Path, path: Path, old: Path) -> None:
    """`new` and `path` change places at once, where system and file system can; else one after the other."""
    with suppress(AttributeError):
        rename = ctypes.CDLL(None, use_errno=True).renameat2
        if rename(HERE, os.fsencode(new), HERE, os.fsencode(path), EXCHANGE) == 0:
            _step("exchanged", path)
            return
    os.rename(path, old)
    _step("moved away", path)
    os.rename(new, path)


def _to_disk(file: Path, work: Path) -> None:
    _ordinary(file, work)
    _sync(file)


def _ordinary(file: Path, work: Path) -> None:
    """Permissions as the user's umask has them; some libraries write files that nobody else may read."""
    if file.is_file() and not file.is_symlink():
        file.chmod(stat.S_IMODE((work / MARK).stat().st_mode))


def _sync(path: Path) -> None:
    there = os.open(path, os.O_RDONLY)
    try:
        os.fsync(there)
    finally:
        os.close(there)


def _sync_all(path: Path) -> None:
    """Everything in a folder, by asking its file system once: a thousand small files one by one would take seconds."""
    there = os.open(path, os.O_RDONLY)
    try:
        sync = getattr(ctypes.CDLL(None), "syncfs", None)
        if sync is None or sync(there):
            os.sync()
    finally:
        os.close(there)


@contextmanager
def _named(path: Path) -> Iterator[None]:
    """What the system says in here (a full disk, no permission) names `path`, whichever library passes it on."""
    try:
        yield
    except DataError:
        raise
    except Exception as error:
        if (code := _code(error)) is None:
            raise
        raise OSError(code, os.strerror(code), str(path)) from error


def _code(error: Exception) -> int | None:
    """errno of an error about what is made here: one that names no file, or one in a .reviosa-partial."""
    found = re.search(r"\(os error (\d+)\)", str(error))  # safetensors
    if found and not isinstance(error, OSError):
        return int(found[1])
    if isinstance(error, OSError) and error.errno:
        return error.errno if error.filename is None or PARTIAL in str(error.filename) else None
    return errno.ENOSPC if "No space left on device" in f"{error} {error.__context__}" else None


def _step(name: str, path: Path) -> None:
    sys.audit("reviosa.outputs", name, str(path))
