"""Processes that share work: they end with the one that began them, however that ends; an error waits for nobody."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ProcessPoolExecutor
from multiprocessing.context import BaseContext
from typing import Any


def cores() -> int:
    """Those that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def mapped(
    count: int,
    work: Callable[..., Any],
    tasks: Iterable[tuple[Any, ...]],
    begin: Callable[..., Any] | None = None,
    given: tuple[Any, ...] = (),
    context: BaseContext | None = None,
) -> Generator[Any, None, None]:
    """`work(*task)` of each task, in order, by `count` processes, each of which does `begin(*given)` first. Tasks are
    taken a few ahead, no more.

    Raises what a task or `work` does, and BrokenProcessPool where a process died; the others are ended then, and when
    the iterator is closed.
    """
    others = multiprocessing.active_children()
    with ProcessPoolExecutor(count, context, _begin, (begin, given)) as pool:
        try:
            waiting: deque[Future] = deque()
            for task in tasks:
                waiting.append(pool.submit(work, *task))
                if len(waiting) > 2 * count:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            for process in multiprocessing.active_children():
                if process not in others:
                    process.terminate()
            raise


def with_parent() -> None:
    """From now on this process ends when the one that began it does, also when that is killed."""
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _begin(begin: Callable[..., Any] | None, given: tuple[Any, ...]) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches all processes of a terminal; the first one answers it
    with_parent()
    if begin is not None:
        begin(*given)


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)
