"""Secrets with the real commands: in the job and nowhere else, whatever happens on the way."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import pwd
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from s3_endpoint import Endpoint, env_for
from secrets_stub import (
    DENIED,
    EXPIRED,
    GET_PARAMETERS,
    HANG,
    THROTTLED,
    Fault,
    SecretsStub,
)
from world import World

# Others run these tests at the same time, and look at the same processes.
VALUE = f"s3kr1t-Wert \"$HOME\" 'q' \n second line é😀 {os.getpid()}\t"
OTHER = f"another-s3kr1t-in-json-{os.getpid()}"


@pytest.fixture
def stub(world: World) -> Iterator[SecretsStub]:
    """The world's commands ask it for their secrets."""
    stub = SecretsStub()
    world.env.update(stub.env)
    yield stub
    stub.close()


def job(name: str, command: str = "true", **more: Any) -> dict[str, Any]:
    return {"job_id": name, "command": command, "timeout": "1m", **more}


def has(name: str, value: str) -> str:
    """A command that compares a variable with a value, and holds neither it nor a word of it."""
    digest = hashlib.sha256(value.encode()).hexdigest()
    return f'test "$(printf %s "${name}" | sha256sum | cut -c-64)" = {digest}'


def traces(folder: Path, *values: str) -> list[str]:
    """Files below a folder, and their names, in which a value stands in any shape we know of."""
    shapes = set()
    for value in values:
        raw = value.encode()
        shapes |= {raw, json.dumps(value)[1:-1].encode(), base64.b64encode(raw)[:-4]}
        shapes |= {raw.hex().encode(), raw[:12], value.encode("utf-16-le")}
    found = []
    for path in folder.rglob("*"):
        text = os.fsencode(path)
        if path.is_file() and not path.is_symlink():
            text += path.read_bytes()
        found += [f"{path}: {shape!r}" for shape in shapes if shape in text]
    return found


def holders(value: str) -> dict[int, str]:
    """Processes with the value in what /proc shows of them: pid → which."""
    found = {}
    for name in filter(str.isdigit, os.listdir("/proc")):
        for what in ("environ", "cmdline"):
            try:
                if value.encode() in Path(f"/proc/{name}/{what}").read_bytes():
                    found[int(name)] = what
            except OSError:
                continue
    return found


def parents(pid: int) -> list[int]:
    """A process and all above it."""
    line = [pid]
    while line[-1] > 1:
        line.append(int(Path(f"/proc/{line[-1]}/stat").read_text().rpartition(")")[2].split()[1]))
    return line


@pytest.fixture
def aws(world: World, endpoint: Endpoint) -> Endpoint:
    """Secrets in moto, where the world's commands look."""
    import boto3

    world.env.update(endpoint.env)
    keys = {"aws_access_key_id": "test", "aws_secret_access_key": "test"}
    made = {
        name: boto3.client(name, endpoint_url=endpoint.url, region_name="us-east-1", **keys)
        for name in ("ssm", "secretsmanager")
    }
    made["ssm"].put_parameter(Name="/sys/value", Value=VALUE, Type="SecureString", Overwrite=True)
    existing = made["secretsmanager"].list_secrets()["SecretList"]
    if "sys/db" not in [each["Name"] for each in existing]:
        secret = json.dumps({"password": OTHER, "empty": ""})
        made["secretsmanager"].create_secret(Name="sys/db", SecretString=secret)
    return endpoint


SECRETS = {
    "VALUE": "ssm:/sys/value",
    "PASSWORD": "secretsmanager:sys/db#password",
    "EMPTY": "secretsmanager:sys/db#empty",
}
SEEN = f'{has("VALUE", VALUE)} && {has("PASSWORD", OTHER)} && test "${{EMPTY-unset}}" = ""'


def test_a_run_gives_a_job_its_secrets_and_keeps_none(world: World, aws: Endpoint) -> None:
    """A token would be missing, or lie on a disk and in a bucket for all to read."""
    bucket = aws.bucket()
    document = world.document(
        job("own", f"{SEEN} && touch there", secret_env=SECRETS, result_paths=["there"]),
        job("plain", 'test "$VALUE" = mine', env={"VALUE": "mine"}, depends_on=["own"]),
        job("queues", has("VALUE", OTHER), depends_on=["plain"]),
        job("fails", "env >/dev/null; exit 3", secret_env=SECRETS, depends_on=["queues"]),
        on_failure="continue",
        secret_env={"VALUE": "secretsmanager:sys/db#password"},
        result_s3_bucket=bucket,
    )
    done = world.call("run", document)
    assert done.returncode == 100, done.stderr
    states = {name: told["status"] for name, told in world.jobs().items()}
    assert states == dict.fromkeys(("own", "plain", "queues"), "completed") | {"fails": "failed"}
    said = [done.stdout, done.stderr]
    for verb in (["status", "--json"], ["status", "--job", "own"], ["logs", "own"], ["queues"]):
        said.append("".join(world.call(*verb).stdout))
    for value in (VALUE, OTHER):
        assert not any(value[:12] in text for text in said)
    stored = world.home / "stored"
    for key in aws.keys(bucket):
        (stored / key).parent.mkdir(parents=True, exist_ok=True)
        (stored / key).write_bytes(aws.read(bucket, key))
    assert (stored / "queues/q/jobs/own/there").exists()
    assert traces(world.home.parent, VALUE, OTHER) == []
    # What is looked for would be found: the references are there.
    assert traces(world.state, "ssm:/sys/value") and traces(stored, "ssm:/sys/value")


def test_only_the_jobs_own_processes_hold_its_secrets(world: World, aws: Endpoint) -> None:
    """Whoever may look at the daemon, its log or its shims would read every token."""
    daemon = world.daemon()
    world.call(
        "submit",
        world.document(
            job("holds", f"{SEEN} && touch seen; sleep 60 & wait", secret_env=SECRETS),
            result_s3_bucket=aws.bucket(),
        ),
    )
    world.until_file("../state/queues/q/work/seen")
    found = holders(VALUE) | holders(OTHER)
    # Its pid is told a moment after it has begun.
    command = world.until(lambda: world.ask("job", job="holds")["job"].get("pid"))
    assert command in found
    for pid, where in found.items():
        assert where == "environ" and command in parents(pid), found
        assert os.stat(f"/proc/{pid}/environ").st_mode & 0o777 == 0o400
    daemon.terminate()
    daemon.wait()
    assert traces(world.home.parent, VALUE, OTHER) == [] and VALUE[:12] not in world.stderr
    # Adopted by the next daemon, it needs nothing: it ends as it would have.
    world.env.update(env_for("http://127.0.0.1:9"))
    world.daemon()
    world.call("cancel", "holds")
    assert world.until(lambda: world.jobs()["holds"]["status"] == "cancelled")


def can_read(user: pwd.struct_passwd, path: str) -> bool:
    ids = {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": ()}
    return subprocess.run(["cat", path], capture_output=True, check=False, **ids).returncode == 0


@pytest.mark.skipif(os.geteuid() != 0, reason="only root starts jobs as another user")
def test_no_other_user_reads_the_secrets_of_a_job(world: World, aws: Endpoint) -> None:
    """On a machine of several users each could read what the jobs log in with."""
    with tempfile.TemporaryDirectory(prefix="secrets-") as name:
        folder = Path(name)
        folder.chmod(0o755)
        env, world = world.env, World(folder, job_user="nobody")
        world.env = {**env, **{k: v for k, v in world.env.items() if k == "RUNNER_CONFIG"}}
        try:
            world.daemon()
            command = f"{SEEN} && touch seen; sleep 60 & wait"
            world.call("submit", world.document(job("holds", command, secret_env=SECRETS)))
            world.until_file("../state/queues/q/work/seen")
            for pid in holders(VALUE):
                environ = f"/proc/{pid}/environ"
                assert Path(environ).owner() == "nobody"
                assert can_read(pwd.getpwnam("nobody"), environ)
                assert not can_read(pwd.getpwnam("daemon"), environ)
        finally:
            world.close()


def test_as_much_as_a_process_can_hold(world: World, stub: SecretsStub) -> None:
    """A certificate, or twenty, would arrive cut; or too much of it end in a start that hangs."""
    stub.secrets = {f"s{n}": {"SecretString": f"{n % 10}" * 65_536} for n in range(40)}
    some = {f"S{n}": f"secretsmanager:s{n}" for n in range(20)}
    much = {f"S{n}": f"secretsmanager:s{n}" for n in range(40)}
    count = "test $(env | awk -F= '/^S[0-9]+=/ && length($2) == 65536' | wc -l) = 20"
    document = world.document(
        job("some", count, secret_env=some), job("much", secret_env=much), on_failure="continue"
    )
    assert world.call("run", document).returncode == 100
    jobs = world.jobs()
    assert jobs["some"]["status"] == "completed"
    assert "too large for this system" in jobs["much"]["error_message"]


def test_each_attempt_asks_anew(world: World, stub: SecretsStub) -> None:
    """A retry would fail with the token that had just been replaced."""
    values = iter(["old", "new"])
    real = stub._good

    def rotated(target: str, request: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        stub.parameters["/token"] = next(values)
        return real(target, request)

    stub._good = rotated  # type: ignore[method-assign]
    retry = {"max_attempts": 2, "base_delay": "10ms"}
    command = has("TOKEN", "new")
    document = world.document(job("a", command, retry=retry, secret_env={"TOKEN": "ssm:/token"}))
    done = world.call("run", document)
    assert done.returncode == 0, done.stdout
    assert world.jobs()["a"]["attempt"] == 2


def test_what_passes_is_tried_again_and_costs_no_attempt(world: World, stub: SecretsStub) -> None:
    """A throttled minute would use up the retries, and nobody would see what is waited for."""
    stub.parameters = {"/token": VALUE}
    stub.always[GET_PARAMETERS] = THROTTLED
    document = world.document(
        job("a", has("TOKEN", VALUE), secret_env={"TOKEN": "ssm:/token"}), job("b")
    )
    run = world.start("run", document)
    told = world.until(lambda: (a := world.jobs().get("a", {})).get("next_attempt_at") and a)
    assert told["status"] == "pending" and told["attempt"] == 0
    why = "fetching secrets: ssm:/token: ThrottlingException: Rate exceeded"
    assert told["reason"] == why
    stub.fail(GET_PARAMETERS, EXPIRED)
    del stub.always[GET_PARAMETERS]
    assert run.wait(40) == 0
    jobs = world.jobs()
    assert jobs["a"]["attempt"] == 1 and "reason" not in jobs["a"]
    assert jobs["b"]["started_at"] < jobs["a"]["started_at"]


NEEDS = "and kms:Decrypt for a key of your own"
DENIED_BY_KMS = Fault(400, "AccessDeniedException", "Access to KMS is not allowed")
FINAL = {
    "ssm:/none": "there is no such parameter in us-east-1",
    "ssm:/denied": f"AccessDeniedException: {DENIED.message}; it needs ssm:GetParameters, {NEEDS}",
    "ssm:/nul": "holds a NUL character, which no variable can",
    "ssm:/long": "is too long: 131,078 bytes with its name, at most 131,071",
    "secretsmanager:none": "there is no such secret in us-east-1",
    "secretsmanager:denied#password": "AccessDeniedException: Access to KMS is not allowed; "
    f"it needs secretsmanager:GetSecretValue, {NEEDS}",
    "secretsmanager:db#nope": "its JSON object has no such key",
}


def test_what_is_final_fails_at_once_and_says_what_to_do(world: World, stub: SecretsStub) -> None:
    """A misspelt name would be tried until morning, or its error show the secret."""
    stub.parameters = {"/nul": f"{OTHER}\0", "/long": "x" * 131_072}
    stub.secrets = {"db": {"SecretString": json.dumps({"password": OTHER})}}
    stub.always = {"/denied": DENIED, "denied": DENIED_BY_KMS}
    retry = {"max_attempts": 5, "base_delay": "10ms"}
    failing = [
        job(f"j{n}", "touch ran", secret_env={"TOKEN": reference}, retry=retry)
        for n, reference in enumerate(FINAL)
    ]
    after = [job("needs", depends_on=["j0"]), job("free")]
    done = world.call(
        "run", world.document(*failing, *after, on_failure="continue"), "--results", "results"
    )
    assert done.returncode == 100, done.stderr
    jobs = world.jobs()
    for n, (reference, why) in enumerate(FINAL.items()):
        told = jobs[f"j{n}"]
        assert told["error_message"] == f"secret {reference}: {why}"
        assert (told["status"], told["attempt"]) == ("failed", 1)
        assert told["logs_uploaded"] and "result_error" not in told
    assert (jobs["needs"]["status"], jobs["free"]["status"]) == ("skipped", "completed")
    assert not (world.home / "ran").exists() and len(stub.seen) == len(FINAL)
    assert traces(world.home.parent, OTHER) == []
    assert world.call("logs", "j0").returncode == 0


def hang(world: World, stub: SecretsStub, *more: dict[str, Any], **queue: Any) -> None:
    """A daemon with a job that waits for an answer, once that is so."""
    stub.parameters = {"/token": VALUE}
    stub.always[GET_PARAMETERS] = HANG
    world.daemon()
    waits = job("a", has("TOKEN", VALUE), secret_env={"TOKEN": "ssm:/token"})
    done = world.call("submit", world.document(waits, *more, **queue))
    assert done.returncode == 0, done.stderr
    stub.wait_hanging()


def status(world: World, name: str = "a") -> str:
    return str(world.jobs().get(name, {}).get("status"))


def test_a_hanging_endpoint_holds_up_nobody_else(world: World, stub: SecretsStub) -> None:
    """One service's outage would stop jobs that have nothing to do with it."""
    stub.secrets = {"db": {"SecretString": OTHER}}
    other = job("b", has("TOKEN", OTHER), secret_env={"TOKEN": "secretsmanager:db"})
    hang(world, stub, other, job("c", depends_on=["b"]), max_parallel_jobs=2)
    world.until(lambda: status(world, "c") == "completed")
    told = world.jobs()["a"]
    assert told["reason"].startswith("fetching secrets") and "pid" not in told
    stub.release()
    world.until(lambda: status(world) == "completed")
    assert "reason" not in world.jobs()["a"]


def test_the_only_place_is_given_up_while_secrets_do_not_come(world: World) -> None:
    """With one job at a time, an endpoint that is gone would stop the whole queue."""
    world.env.update(env_for("http://127.0.0.1:9"))
    world.daemon()
    waits = job("a", secret_env={"TOKEN": "ssm:/token"})
    world.call("submit", world.document(waits, job("b")))
    world.until(lambda: status(world, "b") == "completed")
    told = world.until(lambda: (a := world.jobs()["a"])["status"] == "pending" and a)
    why = "fetching secrets: ssm:/token: Could not connect"
    assert told["reason"].startswith(why)
    world.until(lambda: why in world.call("status").stdout)
    assert world.call("cancel", "a").returncode == 0
    world.until(lambda: status(world) == "cancelled")


def test_cancelled_while_it_waits(world: World, stub: SecretsStub) -> None:
    """A cancelled job would hold its place until an endpoint answers, and then run."""
    hang(world, stub, job("b"))
    assert world.call("cancel", "a").returncode == 0
    world.until(lambda: (status(world), status(world, "b")) == ("cancelled", "completed"))
    stub.release()
    assert world.jobs()["a"]["attempt"] == 0


def test_a_daemon_killed_meanwhile_asks_again(world: World, stub: SecretsStub) -> None:
    """A job would be lost, or its attempt counted, for a crash that it had no part in."""
    hang(world, stub)
    daemon = int(world.ask("ping")["pid"])
    os.kill(daemon, signal.SIGKILL)
    stub.release()
    world.daemon()
    world.until(lambda: status(world) == "completed")
    told = world.jobs()["a"]
    assert told["attempt"] == 1 and "interruptions" not in told


def test_detached_meanwhile(world: World, stub: SecretsStub) -> None:
    """`systemctl restart` would hang, or the next daemon find an attempt that never ends."""
    hang(world, stub)
    daemon = int(world.ask("ping")["pid"])
    os.kill(daemon, signal.SIGTERM)
    world.until(lambda: not Path(f"/proc/{daemon}/fd").exists() or not fds(daemon))
    stub.release()
    world.daemon()
    world.until(lambda: status(world) == "completed")
    assert world.jobs()["a"]["attempt"] == 1


def fds(pid: int) -> list[str]:
    """None for a process that has ended and is not yet waited for."""
    try:
        return os.listdir(f"/proc/{pid}/fd")
    except OSError:
        return []


def test_paused_meanwhile(world: World, stub: SecretsStub) -> None:
    """A paused queue would start a job, or never come back to it."""
    hang(world, stub)
    assert world.call("pause").returncode == 0
    stub.release()
    world.until(lambda: status(world) == "pending")
    assert world.call("unpause").returncode == 0
    world.until(lambda: status(world) == "completed")
    assert world.jobs()["a"]["attempt"] == 1


def test_interrupted_meanwhile(world: World, stub: SecretsStub) -> None:
    """Ctrl-C would wait for an endpoint that hangs, or cost the job an interruption."""
    stub.parameters = {"/token": VALUE}
    stub.always[GET_PARAMETERS] = HANG
    waits = job("a", has("TOKEN", VALUE), secret_env={"TOKEN": "ssm:/token"})
    document = world.document(waits)
    run = world.start("run", document)
    stub.wait_hanging()
    run.send_signal(signal.SIGINT)
    assert run.wait(5) == 130
    assert world.jobs()["a"]["attempt"] == 0
    stub.release()
    done = world.call("run", document)
    assert done.returncode == 0, done.stderr
    told = world.jobs()["a"]
    assert told["attempt"] == 1 and "interruptions" not in told


def test_a_retry_that_waits_keeps_the_logs_of_the_attempt_before(
    world: World, stub: SecretsStub
) -> None:
    """What the failed attempt had to say would be gone as long as the next one can't start."""
    stub.parameters = {"/token": VALUE}
    retry = {"max_attempts": 2, "base_delay": "10ms"}
    waits = job("a", "echo first; exit 1", secret_env={"TOKEN": "ssm:/token"}, retry=retry)
    world.daemon()
    real = stub._good

    def once(target: str, request: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        stub.always[GET_PARAMETERS] = THROTTLED
        return real(target, request)

    stub._good = once  # type: ignore[method-assign]
    world.call("submit", world.document(waits, result_s3_bucket=None))
    world.until(lambda: "Throttling" in str(world.jobs().get("a", {}).get("reason")))
    assert world.call("logs", "a").stdout == "first\n"
    stub.always[GET_PARAMETERS] = DENIED
    world.until(lambda: status(world) == "failed")
    assert world.call("logs", "a").stdout == ""
    assert world.call("logs", "a", "--attempt", "1").stdout == "first\n"
