"""Train a linear classifier on the digits, epoch by epoch, and survive interruptions.

A checkpoint is written every few epochs, and at once on SIGTERM. The next attempt goes on from it,
and the order of the rows depends only on seed and epoch: a training that was interrupted ends
with exactly the model of one that wasn't.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import time
from pathlib import Path
from types import FrameType

import checkpoint
import joblib
import numpy as np
from atomic import replacing, write_json
from checkpoint import Training
from sklearn.linear_model import SGDClassifier
from sklearn.metrics import log_loss

STOPPED = 128 + signal.SIGTERM  # not 0: this training isn't complete


class Stop:
    """Whether SIGTERM has come. The handler only remembers it: an epoch is never cut in two."""

    requested = False

    @classmethod
    def request(cls, _signal: int, _frame: FrameType | None) -> None:
        """Handle the signal."""
        cls.requested = True


def machine_is_leaving() -> bool:
    """Say whether the runner has announced that this machine is about to be taken away.

    SIGTERM follows when the time has come. Go on until then, with a checkpoint after each epoch:
    a job that ends by itself before the signal has failed, rather than been interrupted.
    """
    notice = os.environ.get("RUNNER_SPOT_NOTICE")
    return notice is not None and os.path.exists(notice)


def train_epoch(training: Training, data: Path, batch_size: int, seed: int) -> None:
    """Show the model every training row once, in batches, and add to the history."""
    train, validation = np.load(data / "train.npz"), np.load(data / "validation.npz")
    x, y, epoch = train["x"], train["y"], len(training.history) + 1
    order = np.random.default_rng([seed, epoch]).permutation(len(y))
    for start in range(0, len(y), batch_size):
        rows = order[start : start + batch_size]
        training.model.partial_fit(x[rows], y[rows], classes=np.unique(y))
    odds = training.model.predict_proba(validation["x"])
    training.history.append(
        {
            "epoch": epoch,
            "attempt": int(os.environ.get("JOB_ATTEMPT", "1")),
            "train_accuracy": round(float(training.model.score(x, y)), 4),
            "validation_accuracy": round(float((odds.argmax(axis=1) == validation["y"]).mean()), 4),
            "validation_loss": round(float(log_loss(validation["y"], odds)), 4),
        }
    )


def train(args: argparse.Namespace, path: Path, settings: dict[str, object]) -> Training:
    """Train up to `args.epochs` from the checkpoint at `path`; on SIGTERM save it and exit."""
    found = checkpoint.load(path, settings)
    training = found or Training(SGDClassifier(loss="log_loss", alpha=0.01, random_state=args.seed))
    print(f"checkpoint: {len(training.history)} of {args.epochs} epochs are done", flush=True)
    while len(training.history) < args.epochs:
        train_epoch(training, args.data, args.batch_size, args.seed)
        print(json.dumps(training.history[-1]), flush=True)
        time.sleep(args.epoch_pause)
        done = len(training.history)
        due = done % args.checkpoint_every == 0 or done == args.epochs
        if Stop.requested or due or machine_is_leaving():
            checkpoint.save(path, training, settings)
            print(f"checkpoint saved after epoch {done}", flush=True)
        if Stop.requested and done < args.epochs:
            print("SIGTERM: the next attempt goes on from the checkpoint", file=sys.stderr)
            sys.exit(STOPPED)
    return training


def main() -> None:
    """Write model.joblib and training_history.json; keep checkpoint.joblib beside them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--epochs", type=int, default=30)
    parser.add_argument("--checkpoint-every", type=int, default=5, metavar="EPOCHS")
    parser.add_argument("--batch-size", type=int, default=int(os.environ.get("BATCH_SIZE", "32")))
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument(
        "--epoch-pause",
        type=float,
        default=float(os.environ.get("EPOCH_PAUSE", "0")),
        help="seconds added to each epoch, to have the time to interrupt it",
    )
    args = parser.parse_args()
    signal.signal(signal.SIGTERM, Stop.request)

    metadata = json.loads((args.data / "metadata.json").read_text(encoding="utf-8"))
    settings = {"data": metadata["sha256"], "batch_size": args.batch_size, "seed": args.seed}
    training = train(args, args.output / "checkpoint.joblib", settings)
    with replacing(args.output / "model.joblib") as draft:
        joblib.dump(training.model, draft)
    write_json(args.output / "training_history.json", training.history)


if __name__ == "__main__":
    main()
