"""What a trainer keeps on disk, so that the next attempt goes on where this one stopped."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import joblib
from atomic import replacing
from sklearn.linear_model import SGDClassifier


@dataclass
class Training:
    """A model in the making, and one history entry for each epoch it has seen."""

    model: SGDClassifier
    history: list[dict[str, float]] = field(default_factory=list)


def save(path: Path, training: Training, settings: dict[str, object]) -> None:
    """Replace the checkpoint; until that is done the earlier one stays."""
    with replacing(path) as draft:
        joblib.dump({"settings": settings, "training": vars(training)}, draft)


def load(path: Path, settings: dict[str, object]) -> Training | None:
    """Return the saved training; None if there is none, or it was made with other settings."""
    if not path.exists():
        return None
    saved = joblib.load(path)
    return Training(**saved["training"]) if saved["settings"] == settings else None
