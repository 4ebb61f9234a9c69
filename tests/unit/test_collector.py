"""The garbage collector beside many queues: what stays is not walked again and again."""

from __future__ import annotations

import gc
import threading
import weakref
from collections.abc import Iterator

import pytest

from runner.service.garbage_collection import keep_from_collection, lastingly, sweep


class Thing:
    """Something that refers to itself."""

    def __init__(self) -> None:
        self.me = self


@pytest.fixture(autouse=True)
def as_before() -> Iterator[None]:
    yield
    gc.unfreeze()
    gc.enable()


def walked(thing: Thing) -> bool:
    return any(each is thing for each in gc.get_objects())


def test_what_is_made_to_last_is_walked_by_no_pass() -> None:
    """Each pass over an open queue of 100,000 jobs would stop all other queues for 0.3 s."""
    with keep_from_collection():
        thing = Thing()
        assert not gc.isenabled()
    assert gc.isenabled() and not walked(thing)
    assert walked(Thing())


def test_passes_begin_again_when_the_last_has_left() -> None:
    """One queue that was opened beside another would end the other's protection, or leave the
    collector off for ever."""
    inside, leave = threading.Event(), threading.Event()

    def make() -> None:
        inside.set()
        leave.wait()

    other = threading.Thread(target=lastingly, args=(make,))
    other.start()
    inside.wait()
    with keep_from_collection():
        pass
    assert not gc.isenabled()
    leave.set()
    other.join()
    assert gc.isenabled()


def test_an_error_leaves_the_collector_on() -> None:
    """A queue that can't be opened would stop the collector for good."""

    def fail() -> None:
        raise ValueError

    with pytest.raises(ValueError):
        lastingly(fail)
    assert gc.isenabled()


def test_a_sweep_frees_what_refers_to_itself() -> None:
    """Each queue that was ever open would stay in memory."""
    with keep_from_collection():
        thing = weakref.ref(Thing())
    gc.collect()
    assert thing() is not None
    sweep()
    assert thing() is None
