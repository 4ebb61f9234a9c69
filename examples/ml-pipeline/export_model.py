"""Export the model twice: for scikit-learn, and as plain numbers for any language.

Both take raw pixels (64 numbers from 0 to 16): the scaling is part of what is exported.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from operator import mul
from pathlib import Path
from typing import Any

import joblib
import numpy as np
from atomic import replacing, write_json
from sklearn.pipeline import make_pipeline


def predict(exported: dict[str, Any], pixels: Sequence[float]) -> int:
    """Predict with nothing but the numbers of model.json: the code to copy into another language.

    The class with the highest score wins.
    """
    means, scales, intercepts = exported["mean"], exported["scale"], exported["intercepts"]
    scaled = [(pixel - means[i]) / scales[i] for i, pixel in enumerate(pixels)]
    scores = [
        sum(map(mul, weights, scaled)) + intercepts[i]
        for i, weights in enumerate(exported["coefficients"])
    ]
    best: int = exported["classes"][scores.index(max(scores))]
    return best


def main() -> None:
    """Write model.joblib and model.json; exit 1 if they don't predict the same on the test rows."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--output", type=Path, required=True)
    args = parser.parse_args()

    model, scaler = joblib.load(args.model), joblib.load(args.data / "scaler.joblib")
    pipeline = make_pipeline(scaler, model)
    with replacing(args.output / "model.joblib") as draft:
        joblib.dump(pipeline, draft)
    write_json(
        args.output / "model.json",
        {
            "classes": model.classes_.tolist(),
            "mean": scaler.mean_.tolist(),
            "scale": scaler.scale_.tolist(),
            "coefficients": model.coef_.tolist(),
            "intercepts": model.intercept_.tolist(),
        },
    )
    exported = json.loads((args.output / "model.json").read_text(encoding="utf-8"))
    raw = np.load(args.data / "test.npz")["raw"]
    found = [predict(exported, row) for row in raw.tolist()]
    wrong = int((pipeline.predict(raw) != found).sum())
    if wrong:
        sys.exit(f"model.json differs from model.joblib on {wrong} of {len(raw)} rows")
    print(f"model.json and model.joblib agree on all {len(raw)} test rows")


if __name__ == "__main__":
    main()
