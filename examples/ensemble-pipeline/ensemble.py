"""Let the models vote: the digit with the highest mean probability wins."""

from __future__ import annotations

import argparse
from pathlib import Path

import joblib
import numpy as np
from atomic import replacing, write_json


def main() -> None:
    """Write ensemble.joblib (the models by name) and ensemble_metrics.json."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", type=Path, nargs="+", required=True)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--metrics", type=Path, required=True)
    args = parser.parse_args()

    data = np.load(args.data / "digits.npz")
    models = {path.stem: joblib.load(path) for path in args.models}
    odds = {name: model.predict_proba(data["test_x"]) for name, model in models.items()}

    def accuracy(probabilities: np.ndarray) -> float:
        # The labels are 0 to 9, so a column's number is its label.
        return round(float((probabilities.argmax(axis=1) == data["test_y"]).mean()), 4)

    together = accuracy(np.mean(list(odds.values()), axis=0))
    with replacing(args.output) as draft:
        joblib.dump({"voting": "soft", "models": models}, draft)
    write_json(
        args.metrics,
        {
            "accuracy": together,
            "voting": "soft",
            "models": {name: accuracy(probabilities) for name, probabilities in odds.items()},
            "rows": len(data["test_y"]),
        },
    )
    print(f"{', '.join(models)} together: accuracy {together}")


if __name__ == "__main__":
    main()
