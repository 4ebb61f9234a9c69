"""A queue on a machine on EC2, looked at and acted on from a laptop, over SSM and S3."""

from __future__ import annotations

import json
from typing import Any

from elsewhere import Elsewhere


def job(name: str, command: str = "true", **more: Any) -> dict[str, Any]:
    return {"job_id": name, "command": command, "timeout": "2m", **more}


def test_status(elsewhere: Elsewhere) -> None:
    """x"""
    name = elsewhere.launched()
    elsewhere.run(job("a", "echo hi"), job("b", "sleep 100"))
    elsewhere.until_job("b", "running")
    done = elsewhere.laptop.call("status", name)
    print(done.stdout, done.stderr)
    print(elsewhere.ssm.calls, elsewhere.ssm.outputs)
    done = elsewhere.laptop.call("status", "q", "--json")
    print(json.dumps(json.loads(done.stdout), indent=1), done.stderr)
    done = elsewhere.laptop.call("logs", "a", "--on", name)
    print(done.stdout, done.stderr)
    done = elsewhere.laptop.call("cancel", "b", "--on", name)
    print(done.stdout, done.stderr)
    done = elsewhere.laptop.call("wait", name)
    print(done.stdout, done.stderr, done.returncode)
    elsewhere.ec2().terminate_instances(InstanceIds=[name])
    done = elsewhere.laptop.call("status", name)
    print(done.stdout, done.stderr)
