"""Who answers a verb: the daemon, the foreground run that has the queue, the disk itself, or a
machine on EC2."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Protocol

from runner.cli import options
from runner.cli.text import clean
from runner.control.client import Client, SilentError
from runner.errors import NotFoundError, RunnerError, UnreachableError, UsageError
from runner.model.settings import Settings
from runner.model.wording import quoted
from runner.service.looks import LOOKS
from runner.service.looks import Place as LookPlace
from runner.service.shelf import Shelf
from runner.service.views import Stored

if TYPE_CHECKING:
    from runner.targets.ec2.remote import Remote

LOOK_TIMEOUT = 10.0
"""Seconds that somebody has for an answer before the disk is asked instead."""

ABOUT_NO_QUEUE = ("queues", "ping", "stop")

HELD = 20.0
"""Seconds that a ``wait``, or a log that is followed, is held by who answers."""


class _Disk(LookPlace):
    """Looking at the state folder itself."""

    def __init__(self, shelf: Shelf) -> None:
        self.shelf = shelf
        self.who = "nobody"
        self.stored = Stored(shelf.paths)

    def session_of(self, name: str) -> None:
        """See Place: nothing runs in a command that only looks."""

    def outlook(self, name: str, owner: str | None) -> Mapping[str, str]:
        """See Place."""
        return {}


class Connection(Protocol):
    """Who answers a verb: something on this machine, or a machine on EC2."""

    @property
    def live(self) -> bool:
        """Whether that is a process that works on queues."""

    @property
    def patient(self) -> bool:
        """Whether a ``wait``, or a log that is followed, is held until there is something to say.
        If not, who asks has to let some time pass."""

    @property
    def why_not(self) -> list[str]:
        """Why nobody answers there, and what to do; nothing where there is nothing to say."""

    def wait_through_boot(self, say: Callable[[str], None]) -> None:
        """From now on wait for a machine that boots, and tell ``say`` how that goes."""

    def look(self, request: str, /, **fields: Any) -> dict[str, Any]:
        """The answer to a look; from what is stored if nobody answers."""

    def act(self, request: str, /, **fields: Any) -> dict[str, Any]:
        """The answer to a request that acts. Raises UnreachableError if that is lost."""

    def submit(self, text: str, again: str) -> dict[str, Any]:
        """Hand a document to the daemon there. Raises UnreachableError."""

    def keep(self, seconds: float | None, *, release: bool) -> dict[str, Any]:
        """Hold the machine, for good where no time is given, or no longer; what comes of it."""

    def renew(self) -> None:
        """Look again for somebody who answers."""

    def close(self) -> None:
        """Hang up."""


class Local:
    """Asks whoever is there, on this machine. Nobody is sought before something is asked."""

    def __init__(self, settings: Settings, queue: str | None) -> None:
        self.settings = settings
        self.queue = queue
        self._shelf = Shelf(settings.state_dir, settings.log_dir)
        self._disk = _Disk(self._shelf)
        self._silent: SilentError | None = None
        self._found: Client | None = None
        self._sought = False

    @property
    def live(self) -> bool:
        """See Connection."""
        return self.client is not None

    @property
    def patient(self) -> bool:
        """See Connection: the disk tells nobody."""
        return self.live

    @property
    def why_not(self) -> list[str]:
        """See Connection: here everybody knows where to look."""
        return []

    def wait_through_boot(self, say: Callable[[str], None]) -> None:
        """See Connection: this machine has booted."""

    @property
    def client(self) -> Client | None:
        """Whoever answers, for requests that are not about one queue."""
        if not self._sought:
            self._sought = True
            self._found = self._find()
        return self._found

    def look(self, request: str, /, **fields: Any) -> dict[str, Any]:
        """The answer to a look; from the disk if nobody answers, also when they just went."""
        for _ in range(2):
            if (client := self.client) is None:
                break
            try:
                # What is held is held that much longer.
                held = HELD if fields.get("timeout") or fields.get("follow") else 0.0
                client.timeout = LOOK_TIMEOUT + held
                return client.ask(request, **self._given(request, fields))
            except UnreachableError as error:
                self._lost(error)
        if request == "wait":
            request, fields = "status", {"limit": 0}
        fields.pop("follow", None)
        found = LOOKS[request](self._disk, self._given(request, fields))
        return found() if callable(found) else found

    def act(self, request: str, /, **fields: Any) -> dict[str, Any]:
        """See Connection."""
        client = self.client
        if self._silent is not None:
            raise self._silent
        if client is not None:
            # To end jobs takes their grace, and nobody gives up half-way.
            client.timeout = None
            return client.ask(request, **self._given(request, fields))
        from runner.service.resting import act

        return act(self._shelf, self.settings, request, self._given(request, fields))

    def submit(self, text: str, again: str) -> dict[str, Any]:
        """See Connection."""
        settings = self.settings
        client = find_daemon(settings)
        if client is None:
            raise UnreachableError(
                f"no daemon of {settings.state_dir} answers at {settings.run_dir / 'runner.sock'}: "
                "start one with `runner daemon`, or run the document here with `runner run`"
            )
        with client:
            # A large document takes its time, and so do jobs that --fresh ends.
            client.timeout = None
            return client.ask("submit", document=text, again=again)

    def keep(self, seconds: float | None, *, release: bool) -> dict[str, Any]:
        """See Connection. Raises UsageError where no runner is, RunnerError without rights."""
        from runner.host.machine_file import this_moment
        from runner.service.machine_view import keep, told
        from runner.service.machine_view import release as let_go
        from runner.store.paths import StatePaths

        paths = StatePaths(self.settings.state_dir)
        if not paths.root.is_dir():
            raise UsageError(f"there is no runner in {paths.root}")
        if not os.access(paths.root, os.W_OK):
            raise RunnerError(f"{paths.root} can't be written to: this takes root's rights")
        machine = let_go(paths) if release else keep(paths, seconds)
        return {"machine": told(machine, this_moment())}

    def renew(self) -> None:
        """See Connection."""
        self.close()
        self._sought = False

    def _lost(self, error: UnreachableError) -> None:
        """If he is silent only the disk is left; if he has gone, somebody else may be there."""
        self.renew()
        if isinstance(error, SilentError):
            self._sought = True
            self._give_up(error)

    def _give_up(self, error: SilentError) -> None:
        self._silent = error
        print(f"runner: {clean(str(error))}; this is from the disk", file=sys.stderr)

    def _given(self, request: str, fields: dict[str, Any]) -> dict[str, Any]:
        queue = {} if request in ABOUT_NO_QUEUE else {"queue": self.queue}
        return {name: v for name, v in {**queue, **fields}.items() if v is not None}

    def close(self) -> None:
        """See Connection."""
        if self._found is not None:
            self._found.close()
            self._found = None

    def _find(self) -> Client | None:
        name = self.queue or self._current()
        client = _open(self._shelf.queue_paths(name).socket) if name else None
        try:
            client = client or find_own_daemon(self.settings)
            if client is None and not self._has_queue():
                client = find_machines_daemon(self.settings)
            return client
        except SilentError as error:
            self._give_up(error)
            return None

    def _has_queue(self) -> bool:
        """Whether what is asked for is in our own state folder."""
        try:
            return self.queue in self._shelf.names() if self.queue else bool(self._shelf.names())
        except RunnerError:
            return True

    def _current(self) -> str | None:
        try:
            return self._shelf.current() or self._shelf.find(None).name
        except (NotFoundError, RunnerError):
            return None


@contextmanager
def connection(arguments: argparse.Namespace) -> Iterator[Connection]:
    """Connect as the flags and settings say, without starting anything."""
    there = connect(arguments)
    try:
        yield there
    finally:
        there.close()


@contextmanager
def connection_to(arguments: argparse.Namespace, word: str | None) -> Iterator[Connection]:
    """The same, where the verb's first word may be a queue or an instance.

    A queue that is here is looked at here; what is not is looked for on EC2.
    """
    if word is None:
        there = connect(arguments)
    else:
        there = _meant(arguments, word)
    try:
        yield there
    finally:
        there.close()


def _meant(arguments: argparse.Namespace, word: str) -> Connection:
    from runner.targets.ec2.finding import is_instance

    if arguments.on is not None:
        raise UsageError(f"give {quoted(word)}, or --on: not both")
    if is_instance(word) or arguments.region is not None or arguments.bucket is not None:
        return remote(arguments, word, options.queue(arguments))
    if arguments.queue is not None:
        raise UsageError(f"give {quoted(word)}, or --queue: not both")
    here = Local(options.settings(arguments), options.checked_queue(word, "QUEUE"))
    try:
        here.look("status", limit=0)
    except NotFoundError as error:
        here.close()
        if getattr(arguments, "state_dir", None) is not None:
            raise
        return _elsewhere(arguments, word, error)
    return here


def _elsewhere(arguments: argparse.Namespace, word: str, error: NotFoundError) -> Connection:
    """It is not here; if it is nowhere, both is told."""
    from runner.aws.faults import AwsError
    from runner.targets.ec2.queue_traces import AmbiguousError

    there = remote(arguments, word, None)
    try:
        there.found()
    except AmbiguousError:
        raise
    except (RunnerError, AwsError) as failed:
        lines = [str(error), f"and on EC2: {failed}"]
        raise NotFoundError("\n".join(lines)) from None
    return there


def connect(arguments: argparse.Namespace) -> Connection:
    """Whoever the flags speak of: with ``--on`` a machine on EC2. Raises UsageError."""
    queue = options.queue(arguments)
    on = getattr(arguments, "on", None)
    if on is not None:
        return remote(arguments, on, queue)
    for flag in ("region", "bucket"):
        if getattr(arguments, flag, None) is not None:
            raise UsageError(f"--{flag} is about a machine on EC2: say which, with --on")
    return Local(options.settings(arguments), queue)


def remote(arguments: argparse.Namespace, target: str, queue: str | None) -> Remote:
    """The machine on EC2 with this id, or of the queue with this id. Nothing is asked of it yet."""
    from runner.targets.ec2.finding import Target
    from runner.targets.ec2.remote import Remote

    for name in ("state_dir", "log_dir"):
        if getattr(arguments, name, None) is not None:
            flag = f"--{name.replace('_', '-')}"
            raise UsageError(f"{flag} is about this machine: not with one on EC2")
    made = Target(target, region=arguments.region, bucket=arguments.bucket)
    return Remote(made, queue, lambda line: print(f"runner: {clean(line)}", file=sys.stderr))


def find_daemon(settings: Settings) -> Client | None:
    """A client of our own daemon, else of the machine's. Raises SilentError."""
    return find_own_daemon(settings) or find_machines_daemon(settings)


def find_machines_daemon(settings: Settings) -> Client | None:
    """A client of the daemon that root runs for all users, if there is one."""
    folder = settings.machine_run_dir
    if folder is None:
        return None
    return _open(folder / "runner.sock") or _open(folder / "runner-ro.sock")


def find_own_daemon(settings: Settings) -> Client | None:
    """A client of the daemon of this state folder, if there is one. Raises SilentError."""
    ours = os.path.realpath(settings.state_dir)
    for name in ("runner.sock", "runner-ro.sock"):
        client = _open(settings.run_dir / name)
        if client is None:
            continue
        try:
            if client.ask("ping").get("state_dir") == ours:
                return client
        except SilentError:
            client.close()
            raise
        except UnreachableError:
            # It has just gone, or is something else.
            pass
        # A daemon of another state folder: what is asked about lies elsewhere.
        client.close()
    return None


def _open(path: Any) -> Client | None:
    try:
        return Client(path, LOOK_TIMEOUT)
    except UnreachableError:
        return None
