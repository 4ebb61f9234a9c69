"""Which target a request means; a third one needs a line in the registry, and no more."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, cast

import pytest

from runner.errors import NotFoundError, RunnerError, UnreachableError, UsageError
from runner.model.settings import Settings
from runner.targets import registry
from runner.targets.ec2.connection import Ec2Connection
from runner.targets.here.target import HereTarget
from runner.targets.port import AmbiguousError, QueueConnection
from runner.targets.request import TargetRequest

INSTANCE = "i-0123456789abcdef0"


def no_settings() -> Settings:
    raise AssertionError("the settings of this machine were read")


def request(**given: Any) -> TargetRequest:
    return TargetRequest(no_settings, lambda line: None, **given)


@dataclass
class Place:
    """A target, and its connection, that knows some queues or fails."""

    name: str
    queues: set[str] = field(default_factory=set)
    prefix: str | None = None
    error: RunnerError | None = None
    may: bool = True
    word: str = ""
    closed: int = 0

    def matches(self, request: TargetRequest) -> bool:
        return self.prefix is not None and (request.word or "").startswith(self.prefix)

    def may_have(self, request: TargetRequest) -> bool:
        return self.may

    def connect(self, request: TargetRequest) -> QueueConnection:
        self.word = request.word or ""
        return cast(QueueConnection, self)

    def locate(self) -> None:
        if self.error is not None:
            raise self.error
        if self.word not in self.queues:
            raise NotFoundError(f"{self.name} has no {self.word}")

    def close(self) -> None:
        self.closed += 1


def use(monkeypatch: pytest.MonkeyPatch, *places: Place) -> None:
    monkeypatch.setattr(registry, "TARGETS", places)


@pytest.mark.parametrize(
    ("given", "kind"),
    [
        ({"on": INSTANCE}, "EC2"),
        ({"on": "nightly"}, "EC2"),
        ({"word": INSTANCE}, "EC2"),
        ({"word": "nightly", "region": "eu-west-1"}, "EC2"),
        ({"word": "nightly", "bucket": "b"}, "EC2"),
        ({}, "this machine"),
        ({"queue": "nightly"}, "this machine"),
    ],
)
def test_flags_and_forms_mean_one_target(given: dict[str, str], kind: str) -> None:
    """A queue of this machine would be sought in EC2, at the price of a login, or the reverse."""
    meant = [t.name for t in registry.TARGETS if t.matches(request(**given))]
    assert meant == [kind]


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"word": "q", "on": INSTANCE}, 'give "q", or --on: not both'),
        ({"region": "eu-west-1"}, "--region is about a machine on EC2: say which, with --on"),
        ({"bucket": "b"}, "--bucket is about a machine on EC2: say which, with --on"),
        ({"on": INSTANCE, "state_dir": "/s"}, "--state-dir is about this machine"),
        ({"on": INSTANCE, "log_dir": "/l"}, "--log-dir is about this machine"),
        ({"word": "q", "queue": "r"}, 'give "q", or --queue: not both'),
        ({"word": "a/b"}, "QUEUE: "),
    ],
)
def test_flags_that_contradict_are_refused(given: dict[str, str], told: str) -> None:
    """One of them would be ignored, and another queue shown than the one that was meant."""
    with pytest.raises(UsageError) as raised:
        registry.connect(request(**given))
    assert str(raised.value).startswith(told)


def test_a_machine_on_ec2_needs_no_settings_of_this_one() -> None:
    """A broken settings file here would hide a machine elsewhere."""
    there = registry.connect(request(on=INSTANCE, queue="q"))
    assert isinstance(there, Ec2Connection) and there.queue_id == "q"
    assert not HereTarget().matches(request(on=INSTANCE))


def test_a_third_target_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    """A new target would need changes in the verbs."""
    here, ec2, batch = Place("here"), Place("EC2"), Place("Batch", {"q"}, prefix="batch:")
    use(monkeypatch, here, ec2, batch)
    assert registry.connect(request(word="batch:q")) is batch
    assert (here.closed, ec2.closed) == (0, 0)
    assert registry.connect(request(word="q")) is batch
    assert (here.closed, ec2.closed, batch.closed) == (1, 1, 0)


def test_what_each_target_says_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """The user would not know that a login is missing to look further."""
    here, ec2 = Place("here"), Place("EC2", error=RunnerError("no credentials"))
    use(monkeypatch, here, ec2, Place("Batch"))
    with pytest.raises(NotFoundError) as raised:
        registry.connect(request(word="q"))
    assert str(raised.value).split("\n") == [
        "here has no q",
        "and on EC2: no credentials",
        "and on Batch: Batch has no q",
    ]
    assert (here.closed, ec2.closed) == (1, 1)


@pytest.mark.parametrize("error", [UnreachableError("silent"), AmbiguousError("two of them")])
def test_only_an_unknown_queue_is_looked_for_further(
    monkeypatch: pytest.MonkeyPatch, error: RunnerError
) -> None:
    """A queue whose daemon hangs, or one of two of the name, would be taken for another's."""
    here, ec2 = Place("here", error=error), Place("EC2", {"q"})
    use(monkeypatch, here, ec2)
    with pytest.raises(type(error)):
        registry.connect(request(word="q"))
    assert here.closed == 1 and not ec2.word


def test_an_ambiguous_word_is_refused_wherever_it_is_found(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The list of the queues that it may mean would end in a line about this machine."""
    use(monkeypatch, Place("here"), Place("EC2", error=AmbiguousError("two of them")))
    with pytest.raises(AmbiguousError, match=r"^two of them$"):
        registry.connect(request(word="q"))


def test_who_names_a_folder_means_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """`status q --state-dir DIR` would show a queue of the same name on EC2."""
    use(monkeypatch, Place("here"), Place("EC2", {"q"}, may=False))
    with pytest.raises(NotFoundError, match=r"^here has no q$"):
        registry.connect(request(word="q"))
    ec2 = registry.Ec2Target()
    assert not ec2.may_have(request(word="q", state_dir="/s"))
    assert ec2.may_have(request(word="q"))
