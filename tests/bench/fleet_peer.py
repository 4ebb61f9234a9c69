"""A peer of the fleet in its own environment: ``fleet_peer.py prepare | send KIND N | work``.

PEER names it, PEER_URL is its server, PEER_DONE a file that gets a byte for each task that is done.
"""

from __future__ import annotations

import os
import subprocess
import sys
from typing import Any

PEER, URL, DONE = (os.environ.get(name, "") for name in ("PEER", "PEER_URL", "PEER_DONE"))


def task(kind: str) -> None:
    """``command``: one that does nothing; ``call``: nothing itself."""
    if kind == "command":
        subprocess.run(["bash", "-c", "true"], check=True)
    with open(DONE, "ab") as file:
        file.write(b".")


def procrastinate(verb: str, kind: str, count: int) -> None:
    from procrastinate import App, PsycopgConnector, SyncPsycopgConnector

    if verb == "work":
        app = App(connector=PsycopgConnector(conninfo=URL, max_size=4))
        app.task(name="task")(task)
        with app.open():
            app.run_worker(concurrency=1, listen_notify=False, fetch_job_polling_interval=0.1)
        return
    app = App(connector=SyncPsycopgConnector(conninfo=URL))
    made = app.task(name="task")(task)
    with app.open():
        if verb == "prepare":
            try:
                app.schema_manager.apply_schema()
            except Exception as error:
                if "exists" not in str(error.__cause__ or error):
                    raise
        else:
            for start in range(0, count, 1000):
                some = min(1000, count - start)
                made.batch_defer(*({"kind": kind} for _ in range(some)))


def dramatiq(verb: str, kind: str, count: int) -> None:
    import dramatiq as library
    from dramatiq.brokers.redis import RedisBroker

    broker: Any = RedisBroker(url=URL)
    library.set_broker(broker)
    actor = library.actor(task)
    if verb == "send":
        for _ in range(count):
            actor.send(kind)
    elif verb == "work":
        import signal
        import threading

        worker = library.Worker(broker, worker_threads=1)
        worker.start()
        ended = threading.Event()
        signal.signal(signal.SIGTERM, lambda *_: ended.set())
        ended.wait()
        worker.stop()


def celery(verb: str, kind: str, count: int) -> None:
    from urllib.parse import urlsplit

    from celery import Celery

    where = urlsplit(URL)
    app = Celery("peer", broker=f"sqs://AKIATESTS:secret@{where.hostname}:{where.port}")
    app.conf.update(
        task_acks_late=True,
        worker_prefetch_multiplier=1,
        task_ignore_result=True,
        broker_transport_options={
            "region": "us-east-1", "is_secure": False, "polling_interval": 0.05,
            "wait_time_seconds": 1,
        },
        worker_enable_remote_control=False,
    )  # fmt: skip
    made = app.task(name="task")(task)
    if verb == "send":
        for _ in range(count):
            made.delay(kind)
    elif verb == "work":
        options = ["worker", "--pool=solo", "--concurrency=1", "--without-gossip",
                   "--without-mingle", "--without-heartbeat", "--loglevel=ERROR"]  # fmt: skip
        app.worker_main(options)


if __name__ == "__main__":
    verb, kind, count = [*sys.argv[1:], "", "0"][:3]
    {"procrastinate": procrastinate, "dramatiq": dramatiq, "celery": celery}[PEER](
        verb, kind, int(count)
    )
