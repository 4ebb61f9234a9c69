"""Queues whose document names a bucket: what is stored there, when, and what is said if not."""

from __future__ import annotations

import json
import signal
from typing import Any

import pytest
from imds import Imds, in_seconds
from s3_endpoint import Endpoint
from s3_faults import PART, SLOW_DOWN, Canned, FaultProxy, Match, Slow, Stall
from world import World


class Cloud:
    """A world whose commands talk to the endpoint, and a bucket of its own."""

    def __init__(self, world: World, endpoint: Endpoint) -> None:
        self.world = world
        self.endpoint = endpoint
        self.bucket = endpoint.bucket()
        world.env.update(endpoint.env)

    def document(self, *jobs: dict[str, Any], name: str = "q", **queue: Any) -> str:
        return self.world.document(*jobs, name=name, **{"result_s3_bucket": self.bucket, **queue})

    def keys(self, prefix: str = "queues/q/") -> set[str]:
        """What is there but for the story, whose parts are named by how many events there were."""
        found = self.endpoint.keys(self.bucket, prefix)
        return {
            key.removeprefix(prefix)
            for key in found
            if not key.removeprefix(prefix).startswith("events/")
        }

    def read(self, key: str) -> bytes:
        return self.endpoint.read(self.bucket, f"queues/q/{key}")

    def state(self) -> dict[str, Any]:
        state: dict[str, Any] = json.loads(self.read("queue-state.json"))
        return state


@pytest.fixture
def cloud(world: World, endpoint: Endpoint) -> Cloud:
    return Cloud(world, endpoint)


def job(name: str, command: str = "true", **more: Any) -> dict[str, Any]:
    return {"job_id": name, "command": command, "timeout": "2m", **more}


def test_all_of_a_queue_is_in_its_bucket(cloud: Cloud) -> None:
    """Results, logs or the state would be lost with the machine."""
    document = cloud.document(
        job(
            "a", "echo hello; mkdir -p out/x; echo 1 > out/x/1; : > out/2", result_paths=["out/**"]
        ),
        job("b", "echo $JOB_ATTEMPT; exit 3", retry={"max_attempts": 2, "base_delay": "10ms"}),
        job("c", "cat out/x/1", depends_on=["a"]),
        on_failure="continue",
    )
    assert cloud.world.call("run", document).returncode == 100
    logs = {"stdout.log", "stderr.log", "manifest.json"}
    assert cloud.keys() == {
        "queue.json",
        "queue-state.json",
        *(f"jobs/{name}/{log}" for name in "abc" for log in logs),
        *(f"jobs/b/attempts/1/{log}" for log in ("stdout.log", "stderr.log")),
        "jobs/a/x/1",
        "jobs/a/2",
    }
    assert cloud.read("jobs/b/stdout.log") == b"2\n"
    assert cloud.read("jobs/b/attempts/1/stdout.log") == b"1\n"
    state = cloud.state()
    assert (state["status"], state["epoch"]) == ("failed", 1)
    assert [each.get("results_uploaded") for each in state["jobs"]] == [True, None, None]
    assert {each["logs_uploaded"] for each in state["jobs"]} == {True}
    manifest = json.loads(cloud.read("jobs/a/manifest.json"))
    assert (manifest["run_id"], manifest["epoch"]) == (state["run_id"], 1)
    assert cloud.endpoint.open_uploads(cloud.bucket) == []


def test_what_happened_is_known_when_the_machine_is_gone(cloud: Cloud) -> None:
    """Why a job was tried three times would be known only to a disk that has been deleted."""
    world = cloud.world
    go = f"until [ -e {world.home}/go ]; do sleep 0.02; done"
    retry = {"max_attempts": 2, "base_delay": "10ms"}
    document = cloud.document(job("a", "exit 3", retry=retry), job("b", go), on_failure="continue")
    where = f"s3://{cloud.bucket}/queues/q"
    run = world.start("run", document)
    world.until(lambda: world.jobs().get("b", {}).get("pid"))
    run.kill()
    run.wait()
    (world.home / "go").touch()
    assert world.call("run", document).returncode == 100
    told = world.call("logs", "--events", "--from", where)
    assert told.returncode == 0 and not told.stderr
    words = [line.partition(" ")[2] for line in told.stdout.splitlines()]
    assert sum(word.startswith("a started attempt=") for word in words) == 2, told.stdout
    assert "queue failed" in words[-1]
    here = world.data("logs", "a", "--events")["events"]
    there = world.data("logs", "a", "--events", "--from", where)["events"]
    assert here == there and len(here) > 4
    # More than there are is all of them.
    many = [*("logs", "a", "--events", "--from", where), "-n", str(len(there) + 1)]
    assert len(world.data(*many)["events"]) == len(there)
    last = world.call("logs", "a", "--events", "--from", where, "-n", "1").stdout
    assert last.count("\n") == 1 and "a failed attempt=2 exit_code=3" in last
    (part, *_) = cloud.endpoint.keys(cloud.bucket, "queues/q/events/")
    cloud.endpoint.client().put_object(Bucket=cloud.bucket, Key=part, Body=b'{"seq": "x"}\n')
    torn = world.call("logs", "--events", "--from", where)
    assert torn.returncode == 105 and "seq" in torn.stderr
    assert world.call("logs", "--events").returncode == 2
    assert world.call("logs").returncode == 2


def test_a_flag_stands_for_the_documents_bucket(cloud: Cloud) -> None:
    """Who has no AWS account could not try a colleague's queue."""
    document = cloud.document(job("a", "echo hello"))
    elsewhere = f"s3://{cloud.bucket}/else/where/"
    assert cloud.world.call("run", document, "--results", elsewhere).returncode == 0
    assert cloud.keys() == set()
    assert "jobs/a/stdout.log" in cloud.keys("else/where/")
    folder = str(cloud.world.home / "here")
    assert cloud.world.call("run", document, "--results", folder).returncode == 0
    assert (cloud.world.home / "here/jobs/a/stdout.log").read_text() == "hello\n"


def test_objects_are_encrypted_and_classed_as_asked_for(cloud: Cloud) -> None:
    """Patients' data would lie in the bucket under the wrong key, or cost five times as much."""
    big = "head -c 9000000 /dev/urandom > big; echo small > small"
    document = cloud.document(job("a", big, result_paths=["big", "small"]))
    flags = ["--kms-key", "alias/of-ours", "--storage-class", "STANDARD_IA"]
    assert cloud.world.call("run", document, *flags).returncode == 0
    for name in ("jobs/a/big", "jobs/a/small", "jobs/a/manifest.json", "queue-state.json"):
        head = cloud.endpoint.client().head_object(Bucket=cloud.bucket, Key=f"queues/q/{name}")
        assert head["ServerSideEncryption"] == "aws:kms", name
        assert head["SSEKMSKeyId"].endswith("alias/of-ours"), name
        kept = "STANDARD_IA" if name.endswith(("big", "small")) else None
        assert head.get("StorageClass") == kept, "an archive can't be read and written again"
    wrong = cloud.world.call("run", document, "--kms-key", "")
    assert wrong.returncode == 2 and "--kms-key is empty" in wrong.stderr


def test_what_can_not_be_stored_is_told_before_anything_is_done(cloud: Cloud) -> None:
    """A night of training would end with nowhere to put the model."""
    world = cloud.world
    cloud.document(job("a"), result_s3_bucket="there-is-no-such-bucket")
    done = world.call("run", "q.json")
    assert done.returncode == 2
    assert "s3://there-is-no-such-bucket: there is no such bucket" in done.stderr
    assert "--results DIR keeps this run's results in a folder" in done.stderr
    cloud.document(job("a"))
    none = dict.fromkeys(("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"), "")
    done = world.call("run", "q.json", env=none)
    assert (done.returncode, "there are no AWS credentials" in done.stderr) == (2, True)
    done = world.call("run", "q.json", "--results", "s3://Bad_Bucket/x")
    assert done.returncode == 2 and "is not a bucket's name" in done.stderr
    assert not world.state.exists() and not world.logs.exists()


def test_a_running_jobs_log_can_be_read_elsewhere(cloud: Cloud) -> None:
    """With the machine lost, nobody could see what the job had done in its ten hours."""
    world, often = cloud.world, {"RUNNER_LIVE_LOG_INTERVAL": "50ms"}
    go = world.home / "go"
    command = f"echo one; touch began; until [ -e {go} ]; do sleep 0.02; done; echo two"
    document = cloud.document(job("a", command, retry={"max_attempts": 1}))
    run = world.start("run", document, env=often)
    where = f"s3://{cloud.bucket}/queues/q"
    log = ["logs", "a", "--from", where]
    parts = "jobs/a/attempts/1/stdout.log.parts/"
    world.until(lambda: cloud.keys(f"queues/q/{parts}") == {"0" * 20})
    world.until(lambda: world.call(*log).stdout == "one\n")
    run.kill()
    run.wait()
    again = world.start("run", document, env=often)
    world.until(lambda: world.jobs()["a"].get("pid"))
    go.touch()
    assert again.wait(20) == 0
    assert cloud.read("jobs/a/stdout.log") == b"one\ntwo\n"
    assert not cloud.keys(f"queues/q/{parts}"), "the whole log replaces its parts"
    assert world.call(*log).stdout == "one\ntwo\n"


def test_a_log_of_any_size_holds_up_neither_the_state_nor_other_logs(cloud: Cloud) -> None:
    """A job that writes a sparse file of 64 GiB as its log would be the last that anybody sees of
    the queue."""
    world = cloud.world
    proxy = FaultProxy(cloud.endpoint.port)
    try:
        parts = Match("PUT", key=".*/large/.*parts/.*")
        proxy.fail(parts, Canned(), times=1_000_000)
        env = {"RUNNER_LIVE_LOG_INTERVAL": "50ms", "AWS_ENDPOINT_URL": proxy.url}
        wait = f"until [ -e {world.home}/go ]; do sleep 0.02; done"
        grow = (
            f"truncate -s 64G /proc/self/fd/1; touch grown; {wait}; truncate -s 1 /proc/self/fd/1"
        )
        document = cloud.document(
            job("large", grow), job("small", f"echo here; {wait}"), max_parallel_jobs=2
        )
        run = world.start("run", document, env=env)
        world.until(lambda: len(proxy.seen(parts)) > 1)
        first = f"jobs/small/attempts/1/stdout.log.parts/{0:020}"
        world.until(lambda: {first} <= cloud.keys())
        world.until(lambda: {each["status"] for each in cloud.state()["jobs"]} == {"running"})
        (world.home / "go").touch()
        assert run.wait(40) == 0
    finally:
        proxy.close()
    assert cloud.read("jobs/large/stdout.log") == b"\0"
    assert cloud.state()["status"] == "completed"


def test_a_bucket_that_was_made_anew_gets_the_document_again(cloud: Cloud) -> None:
    """Another machine would find a state that it can't go on with."""
    world = cloud.world
    go = f"until [ -e {world.home}/go ]; do sleep 0.02; done"
    run = world.start("run", cloud.document(job("a"), job("b", go)))
    world.until(lambda: {"queue.json", "queue-state.json"} <= cloud.keys())
    client = cloud.endpoint.client()
    cloud.endpoint.empty(cloud.bucket)
    client.delete_bucket(Bucket=cloud.bucket)
    client.create_bucket(Bucket=cloud.bucket)
    (world.home / "go").touch()
    assert run.wait(30) == 0
    assert {"queue.json", "queue-state.json"} <= cloud.keys()
    assert json.loads(cloud.read("queue.json"))["queue_id"] == "q"


@pytest.mark.long
def test_a_document_that_could_not_be_stored_is_tried_again(cloud: Cloud) -> None:
    """One refusal at the start, and no other machine could ever go on with the queue."""
    proxy = FaultProxy(cloud.endpoint.port)
    try:
        rule = proxy.fail(Match("PUT", key=".*/queue.json"), SLOW_DOWN, times=8)
        env = {"AWS_ENDPOINT_URL": proxy.url}
        assert cloud.world.call("run", cloud.document(job("a")), env=env).returncode == 0
        assert rule.done
    finally:
        proxy.close()
    assert {"queue.json"} <= cloud.keys()


def test_the_log_of_a_try_before_the_last_is_there_while_the_next_runs(cloud: Cloud) -> None:
    """What went wrong the first time would be known only when all is over."""
    world = cloud.world
    command = "echo try $JOB_ATTEMPT; [ $JOB_ATTEMPT = 1 ] && { sleep 0.3; exit 1; }; sleep 60"
    document = cloud.document(job("a", command, retry={"max_attempts": 2, "base_delay": "200ms"}))
    run = world.start("run", document, env={"RUNNER_LIVE_LOG_INTERVAL": "50ms"})
    where = ["logs", "a", "--from", f"s3://{cloud.bucket}/queues/q"]
    world.until(lambda: world.call(*where, "--attempt", "2").stdout == "try 2\n")
    assert world.call(*where, "--attempt", "1").stdout == "try 1\n"
    run.send_signal(signal.SIGINT)
    assert run.wait(20) == 130
    assert cloud.read("jobs/a/stdout.log") == b"try 2\n"
    assert cloud.state()["jobs"][0]["status"] == "interrupted"


def test_a_role_that_comes_late_costs_a_moment(cloud: Cloud, imds: Imds) -> None:
    """A machine would idle for a minute, at its price, for one lost answer of its metadata."""
    world = cloud.world
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        del world.env[name]
    world.env.update(imds.env)
    world.daemon()
    world.call("submit", cloud.document(job("a")))
    told = world.until(lambda: world.data("status", "--queue", "q").get("blocked"))
    assert "this instance has no role, or its metadata service doesn't answer" in told
    assert world.jobs("q").get("a", {}).get("attempt", 0) == 0
    keys = {"AccessKeyId": "test", "SecretAccessKey": "test", "Token": "test"}
    keys |= {"Code": "Success", "Expiration": in_seconds(7200)}
    imds.lose = 3  # then a token, the role's name and its keys in one go
    imds.data["iam/security-credentials/role"] = json.dumps(keys)
    assert world.call("wait", "--queue", "q", "--timeout", "30s").returncode == 0


def test_the_daemon_stores_what_the_document_says(cloud: Cloud) -> None:
    """Results of a service's queues would stay on the machine that is about to be ended."""
    world = cloud.world
    world.daemon()
    world.call("submit", cloud.document(job("a", "echo hi > r", result_paths=["r"])))
    assert world.call("wait").returncode == 0
    assert cloud.read("jobs/a/r") == b"hi\n"
    assert cloud.state()["status"] == "completed"


def test_a_queue_without_its_bucket_waits_until_somebody_mends_it(cloud: Cloud) -> None:
    """Jobs would run for hours for nothing, or a queue be lost for a bucket made too late."""
    world = cloud.world
    world.daemon()
    world.call("submit", cloud.document(job("a"), name="bad", result_s3_bucket="not-there-yet"))
    told = world.until(lambda: world.data("status", "--queue", "bad").get("blocked"))
    assert "s3://not-there-yet: there is no such bucket" in told
    world.call("submit", cloud.document(job("b")))
    assert world.call("wait", "--queue", "q").returncode == 0, "others go on"
    assert world.jobs("bad").get("a", {}).get("attempt", 0) == 0
    cloud.endpoint.client().create_bucket(Bucket="not-there-yet")
    world.call("submit", "bad.json")
    assert world.call("wait", "--queue", "bad").returncode == 0


# -- when the network is away --------------------------------------------------------------------

AWAY = {"AWS_ENDPOINT_URL": "http://127.0.0.1:1", "RUNNER_UPLOAD_TIMEOUT": "100ms"}
"""Nobody listens there."""


def test_what_could_not_be_stored_is_stored_when_asked_for(cloud: Cloud) -> None:
    """Results would be lost for a network that was away when the queue ended."""
    world = cloud.world
    document = cloud.document(job("a", "echo 1 > r", result_paths=["r"]), job("b", "cat r"))
    done = world.call("run", document, env=AWAY)
    assert done.returncode == 105, done
    assert "work goes on" in done.stderr
    assert world.jobs()["a"]["status"] == "completed"
    assert world.jobs()["a"]["results_uploaded"] is False
    assert "PutObject" in world.jobs()["a"]["result_error"] or world.jobs()["a"]["result_error"]
    assert cloud.keys() == set()
    assert world.call("upload", env=AWAY).returncode == 105
    done = world.call("upload")
    assert (done.returncode, done.stdout) == (0, "q completed: results stored\n")
    assert cloud.read("jobs/a/r") == b"1\n"
    assert cloud.state()["status"] == "completed"
    assert world.jobs()["a"]["attempt"] == 1
    assert world.call("wait").returncode == 0


def test_a_service_stores_what_it_could_not_before(cloud: Cloud) -> None:
    """A daemon's queue would stay incomplete until somebody notices."""
    world = cloud.world
    daemon = world.daemon(env=AWAY)
    world.call("submit", cloud.document(job("a", "echo 1 > r", result_paths=["r"])))
    assert world.call("wait").returncode == 105
    asked = world.call("upload")
    assert asked.returncode == 105 and "results are incomplete" in asked.stdout
    daemon.terminate()
    assert daemon.wait(20) == 0
    world.daemon()
    world.until(lambda: cloud.keys("queues/q/jobs/a/r"))
    world.until(lambda: world.call("wait").returncode == 0)
    assert world.call("upload").returncode == 0, "there is nothing left to be done"
    assert world.jobs()["a"]["attempt"] == 1


def test_a_last_state_that_could_not_be_stored_keeps_the_machine(cloud: Cloud) -> None:
    """All that is seen of a finished queue would be that it runs, for ever, on a machine that is
    gone."""
    world = cloud.world
    proxy = FaultProxy(cloud.endpoint.port)
    env = {"RUNNER_ON_COMPLETE": "stop", "RUNNER_KEEP_ON_FAILURE": "9h"}
    try:
        away = {"AWS_ENDPOINT_URL": proxy.url, "RUNNER_UPLOAD_TIMEOUT": "500ms"}
        daemon = world.daemon(env={**env, **away})
        go = f"until [ -e {world.home}/go ]; do sleep 0.02; done"
        world.call("submit", cloud.document(job("a", go)))
        world.until(lambda: "queue-state.json" in {*cloud.keys()})
        proxy.fail(Match("PUT", key=".*/queue-state.json"), SLOW_DOWN, times=1_000_000)
        (world.home / "go").touch()
        plan = world.until(lambda: planned(world))
        assert plan["after"] == 9 * 3600 and "only on this machine" in plan["why"]
        assert cloud.state()["status"] == "running"
        daemon.terminate()
        assert daemon.wait(20) == 0
    finally:
        proxy.close()
    world.daemon(env=env)
    world.until(lambda: cloud.state()["status"] == "completed")
    world.until(lambda: planned(world).get("why") == "queue q completed")


def planned(world: World) -> dict[str, Any]:
    """The end of the machine, as it is planned now."""
    path = world.state / "machine.json"
    told: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}
    return told.get("plan") or {}


def test_there_is_nothing_to_upload_of_a_queue_that_goes_on(cloud: Cloud) -> None:
    """Two would upload the same files, or a waiting queue be taken for a finished one."""
    world = cloud.world
    run = world.start("run", cloud.document(job("a", "touch began; sleep 60")))
    world.until_file("began")
    refused = world.call("upload")
    assert refused.returncode == 2 and "is being worked on by runner run" in refused.stderr
    run.send_signal(signal.SIGINT)
    assert run.wait(20) == 130
    refused = world.call("upload")
    assert refused.returncode == 2 and "its next start uploads what is missing" in refused.stderr
    world.document(job("a"), name="nowhere")
    assert world.call("run", "nowhere.json").returncode == 0
    refused = world.call("upload", "--queue", "nowhere")
    assert refused.returncode == 2 and "stores its results nowhere" in refused.stderr


@pytest.mark.long
def test_an_upload_that_makes_progress_is_never_cut(cloud: Cloud) -> None:
    """A model that takes longer than the timeout would never be stored, however often tried."""
    world = cloud.world
    proxy = FaultProxy(cloud.endpoint.port)
    try:
        proxy.fail(PART, Slow(4e6), times=1_000_000)
        env = {"AWS_ENDPOINT_URL": proxy.url, "RUNNER_UPLOAD_TIMEOUT": "4s"}
        size = 30_000_000
        document = cloud.document(
            job("a", f"head -c {size} /dev/urandom > r", result_paths=["r"]),
        )
        assert world.call("run", document, env=env).returncode == 0
        assert sum(part.size for part in proxy.seen(PART)) == size, "each byte was sent once"
    finally:
        proxy.close()
    assert cloud.read("jobs/a/r") == (world.home / "r").read_bytes()


def test_what_was_left_open_of_a_job_that_is_gone_is_ended(cloud: Cloud) -> None:
    """Parts of a job that was taken out of the document would be paid for for ever."""
    for key in ("queues/q/jobs/gone/big", "queues/other/jobs/a/big"):
        cloud.endpoint.client().create_multipart_upload(Bucket=cloud.bucket, Key=key)
    assert cloud.world.call("run", cloud.document(job("a"))).returncode == 0
    assert cloud.endpoint.open_uploads(cloud.bucket) == ["queues/other/jobs/a/big"]


def test_an_upload_that_was_cut_goes_on_with_what_is_up(cloud: Cloud) -> None:
    """Each `runner upload` of a large file would begin at its first byte."""
    world = cloud.world
    proxy = FaultProxy(cloud.endpoint.port)
    try:
        env = {"AWS_ENDPOINT_URL": proxy.url, "RUNNER_UPLOAD_TIMEOUT": "500ms"}
        rule = proxy.fail(PART, Stall(), skip=2, times=1_000_000)
        command = "head -c 30000000 /dev/urandom > r"
        done = world.call("run", cloud.document(job("a", command, result_paths=["r"])), env=env)
        assert done.returncode == 105
        assert world.jobs()["a"]["result_error"] == "it made no progress for 500ms"
        assert cloud.endpoint.open_uploads(cloud.bucket) == ["queues/q/jobs/a/r"]
        rule.left = 0
        proxy.release()
        begun = len(proxy.seen(PART))
        assert world.call("upload", env=env).returncode == 0
        assert len(proxy.seen(PART)) - begun <= 2, "of four"
    finally:
        proxy.close()
    assert cloud.read("jobs/a/r") == (world.home / "r").read_bytes()
    assert cloud.endpoint.open_uploads(cloud.bucket) == []


@pytest.mark.long
def test_a_service_lets_go_of_a_network_that_hangs(cloud: Cloud) -> None:
    """An upgrade would wait for minutes, and be taken for a service that has to be killed."""
    world = cloud.world
    proxy = FaultProxy(cloud.endpoint.port)
    try:
        daemon = world.daemon(env={"AWS_ENDPOINT_URL": proxy.url})
        command = "echo 1 > r; touch began; until [ -e go ]; do sleep 0.02; done"
        jobs = [job("a", "echo 1 > r", result_paths=["r"]), job("b", f"cd {world.home}; {command}")]
        world.call("submit", cloud.document(*jobs, max_parallel_jobs=2))
        world.until_file("began")
        before = len(proxy.seen(Match()))
        proxy.fail(Match(), Stall(), times=1_000_000)
        # Whatever it is: on a busy machine the state may not have been looked at yet.
        world.until(lambda: len(proxy.seen(Match())) > before or None)
        daemon.terminate()
        assert daemon.wait(20) == 0
    finally:
        proxy.close()
    world.daemon()
    (world.home / "go").touch()
    assert world.call("wait").returncode == 0
    assert cloud.read("jobs/a/r") == b"1\n"
    assert world.jobs()["b"]["attempt"] == 1
