"""Split scikit-learn's 1,797 handwritten digits for training and test."""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from atomic import replacing
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split


def main() -> None:
    """Write digits.npz: the pixels and labels of both parts."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--seed", type=int, default=7)
    args = parser.parse_args()

    pixels, labels = load_digits(return_X_y=True)
    x, test_x, y, test_y = train_test_split(
        pixels, labels, test_size=0.3, random_state=args.seed, stratify=labels
    )
    with replacing(args.output / "digits.npz") as draft, draft.open("wb") as file:
        np.savez_compressed(file, x=x, y=y, test_x=test_x, test_y=test_y)
    print(f"{len(y)} rows for training, {len(test_y)} for test")


if __name__ == "__main__":
    main()
