"""What follows from which announcement: the file, the event, and whether work is taken up."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import pytest

from runner.core.events import Now, SpotNotice
from runner.host.ec2_notices import Notice, NoticeKind
from runner.model.settings import Settings
from runner.service.session import Session
from runner.service.spot_watch import SpotWatch

NOW = float(int(time.time()))
SOON = NOW + 120
STOP = Notice(NoticeKind.SPOT, "stop", SOON)
REBALANCE = Notice(NoticeKind.REBALANCE, "rebalance-recommendation", SOON)


@pytest.fixture(autouse=True)
def as_collected(monkeypatch: pytest.MonkeyPatch) -> None:
    """Among thousands of tests it may be minutes since these moments were near."""
    monkeypatch.setattr(time, "time", lambda: NOW)


class Open:
    """An open session, as far as a watch needs one."""

    elsewhere = False

    def __init__(self, folder: Path) -> None:
        self.spot_notice = folder / "spot-notice"
        self.posted: list[SpotNotice] = []

    def tell(self, make: Callable[[Now], SpotNotice]) -> None:
        self.posted.append(make(Now(0.0, 0.0)))

    @property
    def shown(self) -> str | None:
        """The action that jobs find in their file."""
        if not self.spot_notice.exists():
            return None
        return str(json.loads(self.spot_notice.read_text())["action"])


def watch_of(folder: Path, session: Open | None, **more: Any) -> SpotWatch:
    settings = Settings(folder, folder, folder, folder / "none", **more)
    sessions = [] if session is None else [cast(Session, session)]
    return SpotWatch(settings, lambda: sessions)


@pytest.mark.parametrize(
    ("notice", "rebalance", "shown", "leaves"),
    [
        (STOP, "note", "stop", True),
        (Notice(NoticeKind.SPOT, "terminate", SOON), "note", "terminate", True),
        (Notice(NoticeKind.SPOT, "hibernate", SOON), "drain", "hibernate", False),
        (Notice(NoticeKind.SPOT, "stop", 1000.0), "note", None, False),
        (REBALANCE, "note", "rebalance-recommendation", False),
        (REBALANCE, "drain", "rebalance-recommendation", True),
        (Notice(NoticeKind.MAINTENANCE, "instance-stop", SOON), "drain", None, False),
    ],
)
def test_what_follows(
    tmp_path: Path, notice: Notice, rebalance: str, shown: str | None, leaves: bool
) -> None:
    """Jobs would be ended for something that leaves them alone, or not be told of their end."""
    session = Open(tmp_path)
    watch = watch_of(tmp_path, session, rebalance=rebalance, spot_lead=30.0)
    watch.hear(notice)
    assert session.shown == shown
    assert (watch.leaving is not None) is leaves is bool(session.posted)
    for event in session.posted:
        assert event.reason == str(notice) == watch.leaving
        # The session's clock is at 0: what is left until then.
        left = pytest.approx(120)
        assert event.deadline == (left if notice.kind is NoticeKind.SPOT else None)


@pytest.mark.parametrize(("left", "leaves"), [(100.0, True), (-5.0, True), (-1e9, False)])
@pytest.mark.parametrize("wall", [1000.0, SOON, 2 * SOON], ids=["behind", "right", "ahead"])
def test_a_notice_is_not_judged_by_a_wall_clock_that_is_wrong(
    tmp_path: Path, wall: float, left: float, leaves: bool
) -> None:
    """A machine whose clock is ahead would take each notice for one before its boot, and lose what
    its jobs could have saved."""
    session = Open(tmp_path)
    watch = watch_of(tmp_path, session)
    watch.hear(Notice(NoticeKind.SPOT, "stop", wall, left=left))
    assert [event.deadline for event in session.posted] == ([left] if leaves else [])


def test_a_notice_outranks_a_recommendation(tmp_path: Path) -> None:
    """Both come together: a job would read that it has time."""
    session = Open(tmp_path)
    watch = watch_of(tmp_path, session, rebalance="drain")
    watch.hear(REBALANCE)
    watch.hear(STOP)
    watch.hear(Notice(NoticeKind.REBALANCE, "rebalance-recommendation", SOON + 1))
    assert session.shown == "stop" and watch.leaving == str(STOP)


def test_a_queue_taken_up_later_is_told(tmp_path: Path) -> None:
    """The jobs of the next queue would not know what those of the last did."""
    session = Open(tmp_path)
    watch = watch_of(tmp_path, None)
    watch.opened(cast(Session, session))
    assert session.shown is None
    watch.hear(REBALANCE)
    watch.opened(cast(Session, session))
    assert session.shown == "rebalance-recommendation"


def test_other_users_may_read_it_and_a_file_that_cant_be_written_stops_nothing(
    tmp_path: Path,
) -> None:
    """A strict umask would hide it from jobs; a full disk would keep them from their SIGTERM."""
    session = Open(tmp_path)
    before = os.umask(0o077)
    try:
        watch_of(tmp_path, session).hear(STOP)
    finally:
        os.umask(before)
    assert session.spot_notice.stat().st_mode & 0o777 == 0o644
    nowhere = Open(tmp_path / "nowhere")
    watch_of(tmp_path, nowhere).hear(STOP)
    assert nowhere.posted
