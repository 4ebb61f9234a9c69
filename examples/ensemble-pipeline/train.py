"""Train one of the three models and measure it."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

import joblib
import numpy as np
from atomic import replacing, write_json
from sklearn.base import ClassifierMixin
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler


def build(name: str, seed: int) -> ClassifierMixin:
    """Give the untrained model of that name."""
    if name == "forest":
        return RandomForestClassifier(n_estimators=100, random_state=seed)
    if name == "logistic":
        return make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))
    return KNeighborsClassifier(n_neighbors=5)


def main() -> None:
    """Write NAME.joblib and NAME.json, its metrics."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", choices=("forest", "logistic", "knn"), required=True)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--seed", type=int, default=7)
    args = parser.parse_args()

    if os.environ.get("BREAK_MODEL") == args.model:
        sys.exit(f"BREAK_MODEL={args.model}: this model fails on request")
    data = np.load(args.data / "digits.npz")
    model = build(args.model, args.seed).fit(data["x"], data["y"])
    accuracy = round(float(model.score(data["test_x"], data["test_y"])), 4)
    with replacing(args.output / f"{args.model}.joblib") as draft:
        joblib.dump(model, draft)
    write_json(args.output / f"{args.model}.json", {"model": args.model, "accuracy": accuracy})
    print(f"{args.model}: accuracy {accuracy} on {len(data['test_y'])} rows")


if __name__ == "__main__":
    main()
