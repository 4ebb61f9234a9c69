"""Launch a machine on EC2 that runs a queue to its end, and then ends itself."""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from runner.cli import options
from runner.cli.text import clean
from runner.errors import ExitCode, UsageError

if TYPE_CHECKING:
    from runner.model.document import Queue
    from runner.targets.ec2.launch import Launched, Launcher
    from runner.targets.ec2.launches import Launch
    from runner.targets.ec2.plan import Candidate
    from runner.targets.ec2.survey import Surveyed
    from runner.targets.ec2.wish import Wish

WORKDIR_LIMIT = 512 * 1024 * 1024
"""Bytes of a work folder: more belongs in S3, as a job's inputs."""


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--batch-queue", metavar="FILE", required=True, help="the queue document")
    _configure_machine(parser.add_argument_group("the machine"))
    _configure_place(parser.add_argument_group("where it is, and as whom"))
    _configure_end(parser.add_argument_group("its end"))
    parser.add_argument(
        "--workdir", metavar="DIR", help="ship this folder: what git tracks, or doesn't ignore"
    )
    parser.add_argument(
        "--bundle", metavar="FILE|s3://…", help="install this, and not this runner's own bundle"
    )
    parser.add_argument("--wait", action="store_true", help="wait for the queue; Ctrl-C detaches")
    parser.add_argument("--dry-run", action="store_true", help="show the plan, launch nothing")
    parser.add_argument("--yes", action="store_true", help="don't ask")
    options.add_json(parser)


def _configure_machine(group: Any) -> None:
    group.add_argument(
        "--instance-type", metavar="T[,T2…]", help="instance types, in the order they are tried"
    )
    group.add_argument("--spot", action="store_true", help="cheaper; EC2 may stop it for a while")
    group.add_argument(
        "--fallback-on-demand", action="store_true", help="on demand, if there is no spot machine"
    )
    group.add_argument("--disk-size", metavar="GiB", help="of the root volume (default: 30)")
    group.add_argument("--ami", metavar="ID", help="default: Amazon Linux 2023, or its DLAMI")
    group.add_argument("--job-user", metavar="NAME", help="whose rights the jobs have")
    group.add_argument("--tag", metavar="KEY=VALUE", action="append", help="may be repeated")


def _configure_place(group: Any) -> None:
    group.add_argument("--region", metavar="REGION", help="default: your AWS settings'")
    group.add_argument("--subnet", metavar="ID[,ID…]", help="default: the default VPC's")
    group.add_argument("--security-group", metavar="ID[,ID…]", help="default: the VPC's default")
    group.add_argument(
        "--no-public-ip",
        action="store_true",
        help="no public address, whatever the subnet says",
    )
    group.add_argument(
        "--iam-role", metavar="NAME|ARN", help="an instance profile (default: `runner setup`'s)"
    )
    group.add_argument("--key-name", metavar="NAME", help="a key pair, for ssh")


def _configure_end(group: Any) -> None:
    group.add_argument(
        "--on-complete",
        choices=("terminate", "stop", "none"),
        help="what becomes of the machine when the queue has ended (default: terminate)",
    )
    group.add_argument(
        "--keep-on-failure", metavar="DURATION", help="so long after a failure instead, for a look"
    )
    group.add_argument(
        "--max-lifetime",
        metavar="DURATION",
        help="its end in any case (default: 2 × global_timeout + 1h, at most a week or what the "
        "queue may take)",
    )


def execute(arguments: argparse.Namespace) -> int:
    from runner.targets.ec2.launches import Launches

    queue, wish = _read(arguments)
    launches = Launches(options.settings(arguments).state_dir / "launches")
    with launches.locked():
        done = _Command(arguments, queue, wish, launches).run()
    if done is None:
        return ExitCode.DONE
    if arguments.wait:
        from runner.cli.launch_wait import wait

        return wait(done.launch, _say)
    return ExitCode.DONE


def _read(arguments: argparse.Namespace) -> tuple[Queue, Wish]:
    """The document and the flags; all that is wrong with both at once."""
    from runner.model.document import read_document
    from runner.targets.ec2.wish import wish_of

    errors: list[str] = []
    queue = None
    try:
        queue = read_document(Path(arguments.batch_queue))
        errors += _unfit(queue)
    except UsageError as error:
        errors.append(str(error))
    if arguments.workdir is not None and not Path(arguments.workdir).is_dir():
        errors.append(f"--workdir: {arguments.workdir} is not a folder")
    try:
        wish = wish_of(vars(arguments), queue.global_timeout if queue else 1.0)
    except UsageError as error:
        errors.append(str(error))
    if errors:
        raise UsageError("\n".join(errors))
    assert queue is not None
    return queue, wish


def _unfit(queue: Queue) -> list[str]:
    if queue.result_s3_bucket is None:
        return [
            'result_s3_bucket: is missing; a launch needs a bucket of yours, "result_s3_bucket": '
            '"my-bucket": results, logs and state go there, and the machine is fed from there'
        ]
    return []


class _Command:
    """One call of the verb."""

    def __init__(
        self, arguments: argparse.Namespace, queue: Queue, wish: Wish, launches: Any
    ) -> None:
        from runner.aws.ec2 import Ec2
        from runner.targets.ec2.bucket import Bucket
        from runner.targets.ec2.launch import Launcher

        self._arguments = arguments
        self._wish = wish
        self._launches = launches
        self._ec2 = Ec2(_region(wish.region))
        assert queue.result_s3_bucket is not None
        self._bucket = Bucket(queue.result_s3_bucket, self._ec2.region)
        self._launcher: Launcher = Launcher(self._ec2, self._bucket, launches, _say)
        self._digest = _digest(arguments, queue, self._ec2.region)
        self._before: Launch | None = launches.unfinished(self._digest)
        self._queue = queue.with_id(self._queue_id(queue))

    def _queue_id(self, queue: Queue) -> str:
        import time

        from runner.targets.ec2.launch import new_queue_id

        if queue.queue_id is not None:
            return queue.queue_id
        return self._before.queue_id if self._before else new_queue_id(time.time())

    @property
    def _store(self) -> str:
        from runner.service.result_stores import wanted

        return str(wanted(self._queue).where)

    def run(self) -> Launched | None:
        """None where nothing was to be launched, or the user said no."""
        from runner.targets.ec2.launch import probe
        from runner.targets.ec2.plan import candidates
        from runner.targets.ec2.survey import survey

        surveyed = survey(self._wish, self._ec2, self._bucket)
        for note in surveyed.notes:
            _say(note)
        if (done := self._found()) is not None:
            self._tell(done, None)
            return done
        tried = candidates(self._wish, surveyed.facts)
        probe(self._ec2, self._wish, surveyed.facts, tried[0])
        self._show(surveyed, tried)
        if self._arguments.dry_run:
            self._print_plan(surveyed, tried)
            return None
        if not self._agreed():
            _say("nothing was launched")
            return None
        done = self._launch(surveyed, tried)
        self._tell(done, (surveyed, tried))
        return done

    def _found(self) -> Launched | None:
        """What a cut-off launch of the same command has come to."""
        from runner.targets.ec2.launch import Launched

        assert self._queue.queue_id is not None
        machine = self._launcher.standing(self._queue.queue_id, self._before)
        if self._before is None or self._arguments.dry_run:
            return None
        if machine is not None:
            return Launched(self._launcher.finish(self._before, machine), machine)
        return self._launcher.go_on(self._before)

    def _launch(self, surveyed: Surveyed, tried: tuple[Candidate, ...]) -> Launched:
        from runner.cli.progress import progress_bar
        from runner.targets.ec2.bundles import bundle_file
        from runner.targets.ec2.launch import Cargo
        from runner.targets.ec2.workdir import pack

        given = self._arguments.workdir
        packed = pack(Path(given), WORKDIR_LIMIT, _say) if given else None
        cargo = Cargo(
            self._queue, packed, lambda arch: bundle_file(self._arguments.bundle, arch, _say)
        )
        assert self._queue.queue_id is not None
        launch = self._launcher.begin(self._wish, self._queue.queue_id, self._store, self._digest)
        with progress_bar() as progress:
            try:
                return self._launcher.run(
                    launch, self._wish, surveyed.facts, tried, cargo, progress
                )
            except KeyboardInterrupt:
                _say("cut off; the same command again goes on, and launches nothing twice")
                raise

    # -- what the user sees ------------------------------------------------------------------

    def _show(self, surveyed: Surveyed, tried: tuple[Candidate, ...]) -> None:
        from runner.cli.launch_text import plan_lines

        out = sys.stdout if self._arguments.dry_run and not self._arguments.json else sys.stderr
        for line in plan_lines(self._queue, self._store, self._wish, surveyed.facts, tried):
            print(clean(line), file=out)

    def _print_plan(self, surveyed: Surveyed, tried: tuple[Candidate, ...]) -> None:
        if self._arguments.json:
            print(json.dumps(self._plan(surveyed, tried)))

    def _plan(self, surveyed: Surveyed, tried: tuple[Candidate, ...]) -> dict[str, Any]:
        from runner.targets.ec2.sums import plan_view

        where = {"queue_id": self._queue.queue_id, "store": self._store}
        return {**where, **plan_view(self._wish, surveyed.facts, tried, self._queue)}

    def _agreed(self) -> bool:
        if self._arguments.yes or not (sys.stdin.isatty() and sys.stderr.isatty()):
            return True
        print("Launch it? [y/N] ", end="", file=sys.stderr, flush=True)
        return sys.stdin.readline().strip().lower() in ("y", "yes")

    def _tell(self, done: Launched, planned: Any) -> None:
        from runner.cli.launch_text import launched_lines

        assert self._queue.queue_id is not None
        if self._arguments.json:
            plan = {"plan": self._plan(*planned)} if planned else {}
            print(json.dumps({**done.launch.public, **plan}), flush=True)
        else:
            for line in launched_lines(done, self._queue.queue_id):
                print(clean(line), flush=True)
        self._launcher.told(done.launch)


def _digest(arguments: argparse.Namespace, queue: Queue, region: str) -> str:
    """What makes two commands the same."""
    from runner.model.document import dump_document

    given = {
        name: value
        for name, value in vars(arguments).items()
        if name not in ("batch_queue", "wait", "dry_run", "yes", "json")
    }
    text = json.dumps([dump_document(queue), region, given], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def _region(given: str | None) -> str:
    from runner.aws.ec2 import Ec2
    from runner.aws.faults import AwsError

    try:
        return Ec2(given).region
    except AwsError as error:
        if error.code != "NoRegionError":
            raise
        raise UsageError("no region is set: give --region, or set AWS_REGION") from error


def _say(line: str) -> None:
    print(f"runner launch: {clean(line)}", file=sys.stderr, flush=True)
