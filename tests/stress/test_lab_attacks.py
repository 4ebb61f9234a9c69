"""Jobs of the installed service that mean harm, and the disk that one of them fills."""

from __future__ import annotations

import json
from collections.abc import Callable

from installed import RUNNER, WORK, Server, queue
from s3_endpoint import Endpoint

STATE = "/var/lib/runner"
QUEUE = f"{STATE}/queues/q"
LOGS = "/var/log/runner/queues/q"
SECRET = "root's alone"

ASK = """
import json, socket
there = socket.socket(socket.AF_UNIX)
there.connect("/run/runner/runner.sock")
there.sendall(json.dumps({"v": 1, "request": "stop"}).encode() + b"\\n")
assert there.recv(1000)
"""
# To be refused, each of them. A job is asked where its shim is, and who that one's parent is.
TRIES = {
    "read the state": f"cat {QUEUE}/state.db",
    "read it as it is written": f"cat {QUEUE}/state.db-wal",
    "list the queues": f"ls {STATE}/queues",
    "submit": f"{RUNNER} submit own.json",
    "stop the service": "python3 ask.py",
    "take its socket away": "rm -f /run/runner/runner.sock; [ ! -S /run/runner/runner.sock ]",
    "link the next job's log": f"ln -s /etc/passwd {LOGS}/jobs/next-stdout.log",
    "swap the log folder": f"mv {LOGS}/jobs {LOGS}/mine",
    "link results into the state": f"ln -s /etc/shadow {STATE}/shadow",
    "forge an exit record": f"printf forged >> {QUEUE}/attempts",
    "forge a claim": f"mv {QUEUE}/attempts own && touch {QUEUE}/attempts",
    "signal the daemon": "kill -0 $(cat daemon)",
    "freeze the shim": "kill -STOP $PPID",
    "read the shim's environment": "cat /proc/$PPID/environ",
    "leave the cgroup": "echo $BASHPID > /sys/fs/cgroup/cgroup.procs",
    "free the cgroup": "echo max > /sys/fs/cgroup$(sed 's/.*::\\.*//' /proc/self/cgroup)/pids.max",
    "write to the code": "touch /opt/runner/current/bin/runner",
    "write the settings": "echo >> /etc/runner/runner.toml",
    "end the machine": "systemctl stop runner || systemctl poweroff",
    # But for this: an attack that can do nothing shows nothing.
    "write to its own folder": "touch own.txt",
}
ATTACK = "\n".join(
    f'( {each} ) > /dev/null 2>&1 && echo "could {name}"' for name, each in TRIES.items()
)


def test_a_job_does_not_get_at_the_service(
    server: Callable[..., Server], endpoint: Endpoint
) -> None:
    """A job would read what is root's, act as the operator, or forge how it ended."""
    there = server(environment=endpoint.env)
    host, bucket = there.machine, endpoint.bucket()
    host.forward(endpoint.port)
    host.boot()
    host.write("/root/vault/f", SECRET, 0o600)
    swap = "while :; do mv d e; ln -s /root/vault d; rm d; mv -T e d; done 2> /dev/null"
    racers = [f"r{number}" for number in range(4)]
    own = json.dumps(queue({"job_id": "own", "command": "id"}, queue_id="own"))
    prepare = f"echo '{own}' > own.json; cat > ask.py <<'END'{ASK}END\n"
    prepare += "pgrep -of 'bin/runner daemon' > daemon; "
    prepare += f"mkdir d; echo fine > d/f; ({swap}) & echo on"
    there.submit(
        queue(
            {"job_id": "prepare", "command": prepare, "keep_background": True},
            {"job_id": "attack", "command": f"{ATTACK}\necho over; exit 3"},
            {
                "job_id": "next",
                "command": "ln /etc/passwd hard; ln -s /etc/shadow soft; id -un",
                "result_paths": ["soft", "hard", "/root/vault/*", "/etc/shadow"],
            },
            *(
                {"job_id": name, "command": "true", "result_paths": ["d/f", "d/*"]}
                for name in racers
            ),
            on_failure="continue",
            result_s3_bucket=bucket,
        )
    )
    jobs = there.wait_until("failed")["jobs"]
    assert host.read(f"{LOGS}/jobs/attack-stdout.log") == "could write to its own folder\nover\n"
    assert (jobs["attack"]["exit_code"], jobs["attack"]["attempt"]) == (3, 1)
    assert host.read(f"{LOGS}/jobs/next-stdout.log") == "runner\n"
    assert {jobs[name]["status"] for name in ("prepare", "next", *racers)} == {"completed"}
    assert host.show("runner", "NRestarts") == "0"
    assert host.read(f"{WORK}/daemon").strip() == host.show("runner", "MainPID")
    stored = {key: endpoint.read(bucket, key) for key in endpoint.keys(bucket)}
    assert not [key for key, data in stored.items() if SECRET.encode() in data or b"root:" in data]
    results = {key for key in stored if key.endswith(("/f", "/soft", "/hard", "/shadow"))}
    assert {stored[key] for key in results} <= {b"fine\n"}
    assert "shadow" in jobs["next"]["result_error"]


def test_a_job_that_fills_the_disk(server: Callable[..., Server]) -> None:
    """One job's rubbish would end its neighbour, the service or the queue."""
    there = server()
    there.settings(disk_reserve="4MiB")
    host = there.machine.boot()
    host.run("systemctl", "stop", "runner")
    host.run("mount", "-t", "tmpfs", "-o", "size=48m,mode=711", "small", STATE)
    host.run("systemctl", "start", "runner")
    lives = "echo yes > lives; until [ -e go ]; do sleep 0.05; done; echo lived"
    there.submit(
        queue(
            {"job_id": "lives", "command": lives},
            {"job_id": "fills", "command": "until [ -e lives ]; do :; done; cat /dev/zero > big"},
            {"job_id": "after", "command": "true", "depends_on": ["fills"], "run_if": "failure"},
            max_parallel_jobs=2,
            on_failure="continue",
        )
    )
    host.wait_for(lambda: "disk" in there.status().get("blocked", ""), "that it is held up")
    told = there.status()
    assert (told["jobs"]["lives"]["status"], told["jobs"]["after"]["status"]) == (
        "running",
        "pending",
    )
    assert "No space left on device" in host.read(f"{LOGS}/jobs/fills-stderr.log")
    host.run("rm", f"{WORK}/big")
    there.wait_for_jobs(fills="failed", after="completed", lives="running")
    host.write(f"{WORK}/go", "")
    jobs = there.wait_until("failed")["jobs"]
    assert (jobs["lives"]["status"], jobs["lives"]["attempt"]) == ("completed", 1)
    assert (jobs["fills"]["exit_code"], host.show("runner", "NRestarts")) == (1, "0")
