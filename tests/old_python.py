"""Programs that run where runner isn't yet, on whichever Python there is: 3.6 and newer."""

from __future__ import annotations

import ast
import shutil
from collections.abc import Iterator
from pathlib import Path

_VERSIONS = ("3.6", "3.7", "3.8", "3.9")
_SINCE_3_9 = ("dict", "list", "tuple", "set", "frozenset", "type")


def interpreters() -> list[str]:
    """Old ones that are on this machine and run, the oldest first."""
    found = []
    for version in _VERSIONS:
        kept = sorted(Path.home().glob(f".pyenv/versions/{version}.*/bin/python"))
        if kept or (on_path := shutil.which(f"/usr/bin/python{version}")):
            found.append(str(kept[0]) if kept else str(on_path))
    return found


def new_annotations(tree: ast.AST) -> list[str]:
    """Those that an older Python can't evaluate when it imports the module."""
    return [ast.unparse(each) for each in _evaluated(tree) if _is_new(each)]


def _evaluated(tree: ast.AST) -> Iterator[ast.expr]:
    """Annotations of names inside functions are not."""
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef):
            arguments = node.args
            every = [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs]
            every += [each for each in (arguments.vararg, arguments.kwarg) if each is not None]
            yield from (each.annotation for each in every if each.annotation is not None)
            if node.returns is not None:
                yield node.returns
        elif isinstance(node, ast.Module | ast.ClassDef):
            yield from (each.annotation for each in node.body if isinstance(each, ast.AnnAssign))


def _is_new(annotation: ast.expr) -> bool:
    for node in ast.walk(annotation):
        if isinstance(node, ast.BinOp):
            return True
        if isinstance(node, ast.Subscript) and isinstance(node.value, ast.Name):
            if node.value.id in _SINCE_3_9:
                return True
    return False
