"""The next batch is made while one is used: the same batches, in the same order, none too many."""

from __future__ import annotations

import threading
import time

import pytest

from reviosa_core.training import finetune


def test_the_next_is_made_in_a_thread_while_one_is_used():
    made, begun = [], threading.Event()

    def make(number: int) -> str:
        made.append((number, threading.current_thread() is threading.main_thread()))
        if number == 2:
            begun.set()
        return f"batch {number}"

    with finetune.ahead(make, apart=1, end=4) as batches:
        assert batches(1) == "batch 1"
        assert begun.wait(10)  # nobody has asked for it
        assert [batches(2), batches(3)] == ["batch 2", "batch 3"]
        time.sleep(0.05)
    assert made == [(1, False), (2, False), (3, False)]  # once each, and nothing beyond the end


def test_processes_skip_each_others_and_a_jump_is_no_error():
    made: list[int] = []
    with finetune.ahead(lambda n: made.append(n) or n, apart=3, end=20) as batches:
        assert [batches(1), batches(4), batches(11), batches(14)] == [1, 4, 11, 14]
    assert made in ([1, 4, 7, 11, 14], [1, 4, 7, 11, 14, 17])  # nobody waits for the last


def test_an_interruption_does_not_wait_for_a_batch():
    waiting = threading.Event()
    with pytest.raises(KeyboardInterrupt), finetune.ahead(lambda n: n == 1 or waiting.wait(60), 1, 9) as batches:
        batches(1)
        raise KeyboardInterrupt
    begun = time.monotonic()
    waiting.set()
    assert time.monotonic() - begun < 30


def test_an_error_comes_with_the_batch_it_belongs_to():
    def make(number: int) -> int:
        if number == 2:
            raise OSError("video 2 is broken")
        return number

    with pytest.raises(OSError, match="video 2 is broken"), finetune.ahead(make, apart=1, end=9) as batches:
        assert batches(1) == 1
        with pytest.raises(OSError, match="video 2"):
            batches(2)
        assert batches(3) == 3
        batches(2)
