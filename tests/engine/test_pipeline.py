import threading

import pytest

from mit_semseg.engine.pipeline import Behind, ahead


def test_items_come_in_their_order_from_another_thread():
    threads = []

    def items():
        for number in range(20):
            threads.append(threading.get_ident())
            yield number

    assert list(ahead(items(), 3)) == list(range(20))
    assert len(set(threads)) == 1
    assert threading.get_ident() not in threads


def test_no_more_is_made_ahead_than_asked_for():
    made = []
    loop = ahead((made.append(number) or number for number in range(100)), 3)
    next(loop)
    loop.close()
    assert len(made) <= 4


def test_an_error_ahead_arrives_in_its_place():
    def items():
        yield 1
        raise ValueError("broken")

    loop = ahead(items(), 3)
    assert next(loop) == 1
    with pytest.raises(ValueError, match="broken"):
        next(loop)


def test_work_behind_is_done_in_order_and_waited_for():
    done = []
    with Behind(2) as behind:
        for number in range(20):
            behind.do(done.append, number)
    assert done == list(range(20))


def test_an_error_behind_is_raised_at_the_end_at_the_latest():
    with pytest.raises(ZeroDivisionError), Behind(2) as behind:
        behind.do(lambda: 1 / 0)


def test_after_an_error_in_the_block_what_waits_is_dropped():
    gate, done = threading.Event(), []

    def fail():
        with Behind(5) as behind:
            behind.do(gate.wait)
            behind.do(done.append, 1)
            threading.Timer(0.05, gate.set).start()
            raise RuntimeError("mine")

    with pytest.raises(RuntimeError, match="mine"):
        fail()
    assert done == []
