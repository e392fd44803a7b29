"""Work shared by processes: in order, a few tasks ahead, and nobody left behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from multiprocessing import get_context
from pathlib import Path

import pytest

from reviosa_core import workers

HERE = "import sys; sys.path.insert(0, {!r}); import test_workers as t; t.begin({!r}, sys.argv[1])"


def squared(n: int) -> int:
    return n * n


def slowly(n: int, folder: Path) -> None:
    """The first fails once the second has begun, which says when it is through."""
    if n:
        (folder / "begun").touch()
        time.sleep(20)
        (folder / "through").touch()
    until(lambda: (folder / "begun").exists())
    raise ValueError("no such task")


def begin(folder: str, kind: str) -> None:
    """Two processes that each say who they are, and sleep; of a training, one beside this one."""
    if kind == "training":
        from reviosa_core.training import processes

        with processes.group(2, sleep, Path(folder), 0):
            time.sleep(600)
    list(workers.mapped(2, sleep, [(Path(folder), n) for n in range(2)], context=get_context(kind)))


def sleep(folder: Path, n: int) -> None:
    (folder / f"pid{n}").write_text(f"{os.getpid()}\n")
    time.sleep(600)


def until(there) -> None:
    end = time.monotonic() + 120
    while not there():
        assert time.monotonic() < end, "did not happen in two minutes"
        time.sleep(0.05)


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def test_in_order_and_a_few_ahead():
    taken: list[int] = []

    def tasks() -> Iterator[tuple[int]]:
        for n in range(20):
            taken.append(n)
            yield (n,)

    found = workers.mapped(2, squared, tasks())
    assert not taken and next(found) == 0 and len(taken) == 5
    assert list(found) == [n * n for n in range(1, 20)]


@pytest.mark.parametrize("kind", ["fork", "spawn"])
def test_an_error_ends_the_others(kind: str, tmp_path: Path):
    with pytest.raises(ValueError, match="no such task"):
        list(workers.mapped(2, slowly, [(n, tmp_path) for n in range(2)], context=get_context(kind)))
    assert (tmp_path / "begun").exists() and not (tmp_path / "through").exists()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
@pytest.mark.parametrize("kind", ["fork", "spawn", "training"])
def test_they_end_with_the_one_that_began_them(kind: str, number: signal.Signals, tmp_path: Path):
    """As a scheduler ends a job."""
    files = [tmp_path / f"pid{n}" for n in range(1 if kind == "training" else 2)]
    command = [sys.executable, "-c", HERE.format(str(Path(__file__).parent), str(tmp_path)), kind]
    with subprocess.Popen(command) as process:
        try:
            until(lambda: all(file.exists() and file.read_text().endswith("\n") for file in files))
            pids = [int(file.read_text()) for file in files]
            assert all(map(alive, pids))
        finally:
            process.send_signal(number)
    until(lambda: not any(map(alive, pids)))


def test_cores_are_those_that_may_be_used():
    code = "from reviosa_core import workers; print(workers.cores())"
    one = min(os.sched_getaffinity(0))
    done = subprocess.run(
        [sys.executable, "-c", f"import os; os.sched_setaffinity(0, {{{one}}}); {code}"], capture_output=True, text=True
    )
    assert done.stdout == "1\n", done.stderr
