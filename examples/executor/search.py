"""A hyper-parameter search: 50 trainings, each in a process of its own, the best one printed.

Needs scikit-learn. `python search.py STATE_DIR` keeps the queue: when it is killed, run it again.
"""

import sys
from itertools import product

from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import cross_val_score

from runner import Executor

GRID = list(product([0.001, 0.01, 0.1, 1.0, 10.0], range(20, 120, 10)))


def score(c, iterations):
    """The mean accuracy of five folds."""
    data, labels = load_iris(return_X_y=True)
    model = LogisticRegression(C=c, max_iter=iterations, solver="saga", tol=0.1)
    return float(cross_val_score(model, data, labels, cv=5).mean())


if __name__ == "__main__":
    state_dir = sys.argv[1] if len(sys.argv) > 1 else None
    with Executor(max_workers=2, state_dir=state_dir) as ex:
        # Ten trainings are one job: a process of its own for each would mostly import.
        scores = list(ex.map(score, *zip(*GRID, strict=True), chunksize=10))
        best, (c, iterations) = max(zip(scores, GRID, strict=True))
        print(f"{len(scores)} trainings; best {best:.3f} with C={c}, max_iter={iterations}")
