"""Split one of scikit-learn's data sets for training, validation and test; scale it."""

from __future__ import annotations

import argparse
import hashlib
from pathlib import Path

import joblib
import numpy as np
from atomic import replacing, write_json
from sklearn.datasets import load_breast_cancer, load_digits, load_iris, load_wine
from sklearn.model_selection import train_test_split
from sklearn.preprocessing import StandardScaler

DATASETS = {
    "breast_cancer": load_breast_cancer,
    "digits": load_digits,
    "iris": load_iris,
    "wine": load_wine,
}


def main() -> None:
    """Write train.npz, validation.npz, test.npz, scaler.joblib and metadata.json."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--dataset", choices=DATASETS, default="digits")
    parser.add_argument("--seed", type=int, default=7)
    args = parser.parse_args()

    values, labels = DATASETS[args.dataset](return_X_y=True)
    rest, test, rest_labels, test_labels = train_test_split(
        values, labels, test_size=0.2, random_state=args.seed, stratify=labels
    )
    train, validation, train_labels, validation_labels = train_test_split(
        rest, rest_labels, test_size=0.2, random_state=args.seed, stratify=rest_labels
    )
    # Fitted on the training rows only: what is learnt from the test rows would flatter the score.
    scaler = StandardScaler().fit(train)
    parts = {
        "train": (train, train_labels),
        "validation": (validation, validation_labels),
        "test": (test, test_labels),
    }
    for name, (x, y) in parts.items():
        with replacing(args.output / f"{name}.npz") as draft, draft.open("wb") as file:
            np.savez_compressed(file, raw=x, x=scaler.transform(x), y=y)
    with replacing(args.output / "scaler.joblib") as draft:
        joblib.dump(scaler, draft)
    write_json(
        args.output / "metadata.json",
        {
            "dataset": f"scikit-learn {args.dataset}",
            "seed": args.seed,
            "features": int(values.shape[1]),
            "classes": sorted({int(label) for label in labels}),
            "rows": {name: len(y) for name, (_, y) in parts.items()},
            "sha256": hashlib.sha256(train.tobytes() + train_labels.tobytes()).hexdigest(),
        },
    )
    print(", ".join(f"{len(y)} rows for {name}" for name, (_, y) in parts.items()))


if __name__ == "__main__":
    main()
