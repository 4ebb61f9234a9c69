"""botocore's models of AWS, read once by a process: EC2's alone is 0.3 s of JSON a session."""

from __future__ import annotations

from functools import cache
from typing import Any


@cache
def read_once() -> None:
    """From now on. Nobody changes what a model says."""
    from botocore.loaders import JSONFileLoader

    models: dict[str, Any] = {}
    load = JSONFileLoader.load_file

    def load_once(loader: Any, path: str) -> Any:
        # One that isn't there may come: each test has a HOME of its own.
        if (model := models.get(path) or load(loader, path)) is not None:
            models[path] = model
        return model

    JSONFileLoader.load_file = load_once
