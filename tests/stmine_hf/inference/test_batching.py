"""Batches and reading ahead: order, memory, and an early end."""

import threading
import time

import pytest

from stmine_hf.inference.batching import batched, read_ahead


def test_batches_are_full_but_for_the_last():
    assert list(batched(iter("abcde"), 2)) == [["a", "b"], ["c", "d"], ["e"]] and not list(batched([], 3))
    with pytest.raises(ValueError, match="batch_size=0"):
        next(batched("abc", 0))


def test_read_ahead_keeps_order_and_never_holds_more_than_told():
    held, most, lock = 0, 0, threading.Lock()

    def load(number):
        nonlocal held, most
        time.sleep(0.001 * (number % 3))
        with lock:
            held += 1
            most = max(most, held)
        return number

    results = []
    for number in read_ahead(load, range(60), workers=4, ahead=6):
        results.append(number)
        with lock:
            held -= 1
    assert results == list(range(60)) and most <= 7


def test_read_ahead_stops_reading_when_its_user_stops():
    started = []
    numbers = read_ahead(lambda n: (time.sleep(0.002), started.append(n)), range(1000), workers=1, ahead=50)
    next(numbers)
    numbers.close()
    assert len(started) < 60
