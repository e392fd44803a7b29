"""Several processes on one training run, started from wherever it is called, a notebook's kernel too.

The caller is process 0 and keeps its progress bar, its log and the trained model: one process a GPU, or a few on a CPU.
"""

from __future__ import annotations

import os
import pickle
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing import get_context
from multiprocessing.connection import Connection
from typing import Any

import torch
from accelerate.state import AcceleratorState, PartialState

from reviosa_core.workers import with_parent

PATIENCE = 5  # seconds for another process to end, once something is wrong


def processes(wanted: int, parts: int) -> int:
    """How many processes share a step of `parts` equal parts: at most `wanted`, and at most a GPU each."""
    limit = min(wanted, torch.cuda.device_count()) if torch.cuda.is_available() else wanted
    return next(n for n in range(max(1, limit), 0, -1) if parts % n == 0)


@contextmanager
def group(size: int, work: Callable[..., Any], *args: Any) -> Iterator[None]:
    """Inside, this process is number 0 of `size`, as Accelerate sees it; the others run `work(*args)` on copies.

    Do the same work inside. `work` is a function that can be imported. An error carries a note on who else died, and
    nobody is left behind. Raises RuntimeError when another one ends too early.
    """
    if size == 1:
        yield
        return
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free.getsockname()[1])}
    environment, threads = dict(os.environ), torch.get_num_threads()
    os.environ.update(address, WORLD_SIZE=str(size), LOCAL_WORLD_SIZE=str(size))
    if not torch.cuda.is_available():
        os.environ.update(ACCELERATE_USE_CPU="true", OMP_NUM_THREADS="1")  # a core each: fastest at these sizes
        torch.set_num_threads(1)
    spawn, others = get_context("spawn"), []
    try:
        for rank in range(1, size):
            os.environ.update(RANK=str(rank), LOCAL_RANK=str(rank))  # the new process inherits them
            here, there = spawn.Pipe()
            process = spawn.Process(target=_member, args=(there,), name=f"process {rank} of {size}", daemon=True)
            process.start()
            there.close()
            others.append((process, here))
        os.environ.update(RANK="0", LOCAL_RANK="0")
        copy = pickle.dumps((work, args))  # not multiprocessing's own, which would share the tensors
        for process, pipe in others:  # one after the other: each holds the bytes and what comes of them for a moment
            pipe.send_bytes(copy)
            _ready(process.name, pipe)
        del copy
        _join()
        yield
        for process, pipe in others:
            _ready(process.name, pipe)
    except Exception as error:
        for process, _ in others:
            process.join(timeout=PATIENCE)
            if process.exitcode:
                error.add_note(f"{process.name} ended with exit code {process.exitcode}; what it said is above")
        raise
    finally:
        for process, _ in others:
            process.terminate()
            process.join()
        if torch.distributed.is_initialized():
            torch.distributed.destroy_process_group()
        AcceleratorState._reset_state(reset_partial_state=True)
        for name in os.environ.keys() - environment.keys():
            del os.environ[name]
        os.environ.update(environment)
        torch.set_num_threads(threads)


def _ready(name: str, pipe: Connection) -> None:
    try:
        pipe.recv_bytes()
    except EOFError:
        raise RuntimeError(f"{name} ended too early") from None


def _join() -> None:
    AcceleratorState._reset_state(reset_partial_state=True)
    PartialState(cpu=not torch.cuda.is_available())


def _member(pipe: Connection) -> None:
    """One of the others: says when it has everything, and when it has done everything."""
    with_parent()
    work, args = pickle.loads(pipe.recv_bytes())  # from the process that started this one
    pipe.send_bytes(b"began")
    _join()
    work(*args)
    pipe.send_bytes(b"ended")
    torch.distributed.destroy_process_group()
