"""Measure the model on rows that it has never seen."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

import joblib
import numpy as np
from atomic import write_json
from sklearn.metrics import accuracy_score, confusion_matrix, precision_recall_fscore_support


def main() -> None:
    """Write eval_metrics.json and confusion_matrix.json (a row per true class)."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--test", type=Path, required=True)
    parser.add_argument("--output", type=Path, required=True)
    args = parser.parse_args()

    test = np.load(args.test)
    predicted = joblib.load(args.model).predict(test["x"])
    classes = [int(label) for label in np.unique(test["y"])]
    precision, recall, _, support = precision_recall_fscore_support(
        test["y"], predicted, labels=classes, zero_division=0
    )
    accuracy = float(accuracy_score(test["y"], predicted))
    matrix = confusion_matrix(test["y"], predicted, labels=classes)
    write_json(
        args.output / "eval_metrics.json",
        {
            "accuracy": round(accuracy, 4),
            "rows": len(predicted),
            "classes": {
                str(label): {
                    "precision": round(float(precision[i]), 4),
                    "recall": round(float(recall[i]), 4),
                    "rows": int(support[i]),
                }
                for i, label in enumerate(classes)
            },
        },
    )
    write_json(
        args.output / "confusion_matrix.json",
        {"labels": classes, "rows_true_columns_predicted": matrix.tolist()},
    )
    if told := os.environ.get("RUNNER_TASK_METRICS"):  # a task of a fleet
        wrong = int((predicted != test["y"]).sum())
        metrics = {"total_images": len(predicted), "nb_errors": wrong, "accuracy": accuracy}
        write_json(Path(told), metrics)
    print(f"accuracy {accuracy:.4f} on {len(predicted)} rows")
    print(matrix)


if __name__ == "__main__":
    main()
