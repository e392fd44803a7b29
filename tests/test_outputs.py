"""What is written whole or not at all, and what is never replaced. Kills: tests/reliability/test_kills.py."""

from __future__ import annotations

import os
import resource
import signal
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from reviosa_core import outputs
from reviosa_core.schema import DataError

WHAT = "thing"


def make(path: Path, **files: str) -> Path:
    with outputs.folder(path, WHAT) as new:
        (new / "sub").mkdir()
        for name, text in files.items():
            (new / "sub" / name).write_text(text)
    return path


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_file_is_whole_or_as_it_was(tmp_path: Path):
    path = tmp_path / "new" / "a.json"
    outputs.text(path, "one")
    assert path.read_text() == "one" and contents(tmp_path) == {"new/a.json": b"one"}
    with pytest.raises(RuntimeError), outputs.file(path) as new:
        assert new.suffix == ".json"
        new.write_text("tw")
        raise RuntimeError
    assert contents(tmp_path) == {"new/a.json": b"one"}
    with pytest.raises(ZeroDivisionError), outputs.file(tmp_path / "other" / "b") as new:
        new.write_text(str(1 / 0))
    assert [p.name for p in tmp_path.iterdir()] == ["new"], "not even a folder is left"


def test_what_grows_stays_as_it_is_left(tmp_path: Path):
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt), outputs.growing(tmp_path / "lines") as lines:
            found = lines.read()
            lines.write(b"one\n")
            raise KeyboardInterrupt
    assert found == b"one\n" and contents(tmp_path) == {"lines": b"one\none\n"}
    with outputs.growing(tmp_path / "lines") as lines:
        lines.truncate(0)
    assert not contents(tmp_path)
    with pytest.raises(DataError, match="is a folder; a file is written here"), outputs.growing(tmp_path):
        pass


def test_a_link_stays_and_what_it_leads_to_is_written(tmp_path: Path):
    make(tmp_path / "far", a="1")
    (tmp_path / "far.txt").write_text("1")
    for name in ("far", "far.txt"):
        (tmp_path / f"link-{name}").symlink_to(tmp_path / name)
    outputs.text(tmp_path / "link-far.txt", "2")
    make(tmp_path / "link-far", a="2")
    assert (tmp_path / "link-far").is_symlink() and (tmp_path / "link-far.txt").is_symlink()
    assert (tmp_path / "far.txt").read_text() == (tmp_path / "far" / "sub" / "a").read_text() == "2"


def test_ordinary_permissions(tmp_path: Path):
    before = os.umask(0o027)
    try:
        with outputs.folder(tmp_path / "f", WHAT) as new:
            (new / "private").touch(0o600)
        outputs.text(tmp_path / "t", "")
    finally:
        os.umask(before)
    modes = {p.name: stat.S_IMODE(p.stat().st_mode) for p in tmp_path.rglob("*")}
    assert modes == {"f": 0o750, "private": 0o640, "manifest.json": 0o640, "t": 0o640}


def test_a_folder_is_replaced_when_it_is_what_was_written(tmp_path: Path):
    out = make(tmp_path / "out", a="1", b="2")
    make(out, b="3")
    assert sorted(contents(tmp_path)) == ["out/manifest.json", "out/sub/b"]
    with outputs.added(out, "c.txt", WHAT) as new:
        new.write_text("4")
    assert (out / "c.txt").read_text() == "4"
    (out / "sub" / "b").unlink()
    make(out, a="5")
    assert sorted(contents(tmp_path)) == ["out/manifest.json", "out/sub/a"], "what is missing is no loss"
    (tmp_path / "empty").mkdir()
    make(tmp_path / "empty", a="6")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda out: (out / "mine").write_text("x"), "out/mine: does not come with"),
        (lambda out: (out / "sub" / "mine").mkdir(), "out/sub/mine: does not come with"),
        (lambda out: (out / "sub" / "link").symlink_to("/"), "out/sub/link: does not come with"),
        (lambda out: os.mkfifo(out / "mine"), "out/mine: does not come with"),
        (lambda out: (out / "sub" / "a").write_text("2"), "sub/a: has sha256 d4735e3a265e, and had 6b86b273ff34"),
        (lambda out: (out / "sub" / "a").write_text("10"), "sub/a: has 2 bytes, and had 1"),
        (lambda out: (out / "manifest.json").unlink(), "is not an earlier thing: no manifest.json"),
        (lambda out: (out / "manifest.json").write_text("[" * 9999), "is not an earlier thing"),
        (lambda out: (out / "manifest.json").write_text('{"holds": "thing"}'), "is not an earlier thing"),
    ],
)
def test_what_is_somebodys_own_is_named_and_nothing_is_touched(tmp_path: Path, change, message: str):
    out = make(tmp_path / "out", a="1")
    change(out)
    before = sorted(tmp_path.rglob("*"))
    for work in (lambda: outputs.try_out(out, WHAT), lambda: make(out, a="2")):
        with pytest.raises(DataError, match=message):
            work()
        assert sorted(tmp_path.rglob("*")) == before


def test_what_comes_while_it_is_made_is_seen(tmp_path: Path):
    out = make(tmp_path / "out", a="1")
    with pytest.raises(DataError, match="out/mine: does not"), outputs.folder(out, WHAT) as new:
        (new / "b").write_text("2")
        (out / "mine").write_text("x")
    assert sorted(contents(out)) == ["manifest.json", "mine", "sub/a"]


def test_other_things_in_the_way(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    make(tmp_path / "other", a="1")
    (tmp_path / "file").write_text("x")
    (tmp_path / ".y.reviosa-partial").mkdir()
    (tmp_path / ".y.reviosa-partial" / "mine").write_text("x")
    before = contents(tmp_path)
    for path, what, message in [
        ("other", "prediction", "is not an earlier prediction"),
        ("other", None, "is a folder; a file is written"),
        ("file", WHAT, "exists, and is no folder"),
        ("y", None, ".y.reviosa-partial: is in the way"),
        ("/dev/null", None, "is no plain file"),
        ("/", WHAT, "a disk is mounted"),
    ]:
        with pytest.raises(DataError, match=message):
            outputs.try_out(tmp_path / path, what)
    with pytest.raises(DataError, match="is in the way"):
        outputs.text(tmp_path / "y", "")
    with pytest.raises(DataError, match="exists; name another"), outputs.folder(tmp_path / "other"):
        pass
    monkeypatch.chdir(tmp_path / "other")
    with pytest.raises(DataError, match="this command runs"):
        outputs.try_out(tmp_path, WHAT)
    with pytest.raises(DataError, match="this command runs"):
        outputs.try_out(Path("../other"), WHAT)
    assert contents(tmp_path) == before


def test_places_where_nothing_can_be_written(tmp_path: Path):
    (tmp_path / "file").write_text("x")
    for path, error in [
        ("/proc/none/out.json", FileNotFoundError),
        (tmp_path / "file" / "a", NotADirectoryError),
        (tmp_path / ("x" * 255), OSError),
    ]:
        with pytest.raises(error) as caught:
            outputs.try_out(path)
        assert caught.value.filename in (str(path), str(tmp_path / "file"))
    assert list(tmp_path.iterdir()) == [tmp_path / "file"]


def test_a_second_writer_is_refused_and_the_first_goes_on(tmp_path: Path):
    work = "import sys; from reviosa_core import outputs\nwith outputs.{}(sys.argv[1]) as new: pass"
    for kind in ("file", "folder"):
        with getattr(outputs, kind)(tmp_path / kind) as new:
            done = subprocess.run(
                [sys.executable, "-c", work.format(kind), tmp_path / kind], capture_output=True, text=True
            )
            assert f"{tmp_path / kind}: another process is writing it" in done.stderr
            (new / "a" if kind == "folder" else new).write_text("1")
    assert contents(tmp_path) == {"file": b"1", "folder/a": b"1"}


def test_without_an_exchange_one_goes_after_the_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(outputs, "EXCHANGE", 1 << 9)  # no file system knows it
    out = make(tmp_path / "out", a="1")
    make(out, b="2")
    assert sorted(contents(tmp_path)) == ["out/manifest.json", "out/sub/b"]


def test_a_full_disk_names_the_file(tmp_path: Path):
    """A limit on the size of files stands for it: the same error, from whichever library writes."""
    outputs.text(tmp_path / "out.bin", "earlier")
    before = resource.getrlimit(resource.RLIMIT_FSIZE), signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, before[0][1]))
    try:
        with pytest.raises(OSError) as plain, outputs.file(tmp_path / "out.bin") as new:
            new.write_bytes(bytes(20_000))
        with pytest.raises(OSError) as rust, outputs.file(tmp_path / "out.bin") as new:
            raise RuntimeError("Error while serializing: I/O error: No space left on device (os error 28)")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before[0])
        signal.signal(signal.SIGXFSZ, before[1])
    assert plain.value.filename == rust.value.filename == str(tmp_path / "out.bin")
    assert rust.value.strerror == "No space left on device"
    assert contents(tmp_path) == {"out.bin": b"earlier"}


def test_what_appears_has_been_brought_to_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A name that a crash of the machine leaves behind has its content: a file is synced itself, a folder's whole file
    system."""
    synced = []
    real = os.fsync

    def fsync(there: int) -> None:
        synced.append(os.fstat(there).st_ino)
        real(there)

    monkeypatch.setattr(os, "fsync", fsync)
    outputs.text(tmp_path / "a.txt", "whole")
    assert (tmp_path / "a.txt").stat().st_ino in synced
