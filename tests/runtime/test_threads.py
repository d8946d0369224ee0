import threading

import pytest
import torch

from mit_semseg.runtime.threads import BackgroundWriter, map_single_threaded, prefetch


def test_items_come_in_their_order_from_another_thread():
    threads = []

    def items():
        for number in range(20):
            threads.append(threading.get_ident())
            yield number

    assert list(prefetch(items(), 3)) == list(range(20))
    assert len(set(threads)) == 1
    assert threading.get_ident() not in threads


def test_no_more_items_are_prefetched_than_asked_for():
    made = []
    loop = prefetch((made.append(number) or number for number in range(100)), 3)
    next(loop)
    loop.close()
    assert len(made) <= 4


def test_an_error_of_an_item_arrives_in_its_place():
    def items():
        yield 1
        raise ValueError("broken")

    loop = prefetch(items(), 3)
    assert next(loop) == 1
    with pytest.raises(ValueError, match="broken"):
        next(loop)


def test_calls_run_in_order_and_are_waited_for():
    done = []
    with BackgroundWriter(2) as writer:
        for number in range(20):
            writer.submit(done.append, number)
    assert done == list(range(20))


def test_an_error_of_a_call_is_raised_at_the_end_at_the_latest():
    with pytest.raises(ZeroDivisionError), BackgroundWriter(2) as writer:
        writer.submit(lambda: 1 / 0)


def test_after_an_error_in_the_block_waiting_calls_are_dropped():
    gate, done = threading.Event(), []

    def fail():
        with BackgroundWriter(5) as writer:
            writer.submit(gate.wait)
            writer.submit(done.append, 1)
            threading.Timer(0.05, gate.set).start()
            raise RuntimeError("mine")

    with pytest.raises(RuntimeError, match="mine"):
        fail()
    assert done == []


@pytest.mark.parametrize("threads", [1, 3])
def test_pieces_are_computed_in_order_with_one_thread_each(threads):
    torch.set_num_threads(threads)
    try:
        pieces = ((k, k + 1) for k in range(20))
        found = list(
            map_single_threaded(
                lambda a, b: (a * b, torch.get_num_threads()), pieces, threads=threads, depth=1
            )
        )
        assert found == [(k * (k + 1), 1) for k in range(20)]
        assert torch.get_num_threads() == threads
    finally:
        torch.set_num_threads(1)


def test_no_more_pieces_are_made_than_threads_and_depth_allow():
    made = []
    loop = map_single_threaded(
        lambda piece: piece, ((made.append(k) or k,) for k in range(50)), threads=2, depth=3
    )
    try:
        assert next(loop) == 0
        assert len(made) == 2 * (1 + 3) + 1
    finally:
        loop.close()
        torch.set_num_threads(1)


def test_the_error_of_a_piece_is_raised():
    try:
        with pytest.raises(ZeroDivisionError):
            list(map_single_threaded(lambda a: 1 / a, [(2,), (0,)], threads=2, depth=1))
    finally:
        torch.set_num_threads(1)
