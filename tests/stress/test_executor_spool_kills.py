"""A program with a spool is killed at any moment, while its places come and go: nothing twice."""

from __future__ import annotations

import random
import subprocess
import sys
import textwrap
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

PATIENCE = 180.0

PROGRAM = textwrap.dedent("""
    import sys, os
    from dataclasses import replace
    from pathlib import Path
    from runner import Executor
    from runner.api import failover_dispatch, failover_places, target_registry
    from runner.api.failover_places import FailoverPlace
    from runner.api.failover_target import FailoverTarget
    from runner.api.local_target import LocalTarget
    from runner.api.target_registry import TARGETS, TargetKind

    failover_dispatch.POLL = 0.02
    failover_places.TRIAL = 0.1
    where, first, count = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])

    class Leaving(LocalTarget):
        def away(self, capabilities, *, function):
            return "away" if (where / f"{self.name}.away").exists() else None

    def open_pair(place, options, listener):
        def opens(name):
            return lambda listener: Leaving(
                place.settings, f"{place.queue_id}-{name}", listener,
                name=name, max_workers=1, durable=True,
            )
        places = [FailoverPlace(name, name, opens(name)) for name in ("a", "b")]
        spool = place.settings.state_dir / "spool"
        return FailoverTarget("pair", places, ("spool",), spool, listener, durable=True)

    TARGETS["pair"] = TargetKind((), dict, open_pair)
    ex = Executor(target="pair", state_dir=where / "state")
    for number in range(first, first + count):
        if number % 2:
            job = ex.submit_command(f"echo {number} >> {where}/ran; sleep 0.02")
        else:
            job = ex.submit(os.system, f"echo {number} >> {where}/ran")
        print(number, job.job_id, flush=True)
    ex.shutdown()
    print("over", flush=True)
""")


def test_a_program_with_a_spool_is_killed(
    tmp_path: Path, scaled: Callable[[int], int], seed: int
) -> None:
    """A job would be lost with the program, or run at two places."""
    rng, taken = random.Random(seed), list[int]()
    rounds, each = scaled(12), 12
    for turn in range(rounds + 1):
        last = turn == rounds
        for name in ("a", "b"):
            flag = tmp_path / f"{name}.away"
            flag.touch() if not last and rng.random() < 0.6 else flag.unlink(missing_ok=True)
        program = subprocess.Popen(
            [sys.executable, "-c", PROGRAM, str(tmp_path), str(turn * each), str(each)],
            stdout=subprocess.PIPE,
            text=True,
        )
        assert program.stdout is not None
        lines = []
        if not last:
            for _ in range(rng.randint(1, each)):
                lines.append(program.stdout.readline())
                if rng.random() < 0.3:
                    flag = tmp_path / f"{rng.choice('ab')}.away"
                    flag.unlink() if flag.exists() else flag.touch()
            time.sleep(rng.uniform(0.0, 0.3))
            program.kill()
        lines += program.communicate(timeout=PATIENCE)[0].splitlines()
        taken += [int(line.split()[0]) for line in lines if line.split()[0].isdecimal()]
    assert lines[-1] == "over" and program.returncode == 0
    ran = Counter(map(int, (tmp_path / "ran").read_text().split()))
    print(f"{len(taken)} jobs were taken in {rounds} rounds")
    assert [number for number, count in ran.items() if count != 1] == []
    assert {*taken} <= {*ran}
