"""Results that earlier sessions did not store, or stored elsewhere, are stored by the next."""

from __future__ import annotations

from core_driver import drive, job

from runner.core import events as ev


def test_a_store_that_comes_later_gets_what_has_ended() -> None:
    """``--results`` given only at the second start would leave the first jobs' files behind."""
    q = drive(job("a"), job("b", "a"))
    q.ok("a")
    q.crash()
    q.session(collects=True)
    q.void("b")
    q.told()
    assert (q.collects, q.starts) == (["a"], ["b"])


def test_another_store_gets_everything_again() -> None:
    """Results would be split over two folders, and neither be complete."""
    q = drive(job("a"), collects=True)
    q.ok("a")
    q.stored("a")
    q.crash()
    q.send(ev.SessionOpened(q.now(), q.boot, True, new_store=True))
    q.told()
    assert (q.collects, q["a"].results_uploaded) == (["a"], False)
    q.stored("a")
    q.crash()
    q.open(collects=True)
    assert q.collects == []
