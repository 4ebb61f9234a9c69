"""The templates, looked at by those who know CloudFormation."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from runner.targets.ec2.account import iam

FOLDER = Path(iam.__file__).parent


def test_templates_are_clean() -> None:
    """CloudFormation would refuse them, or IAM would deny what is misspelt."""
    paths = [str(path) for path in sorted(FOLDER.glob("*.yaml"))]
    assert len(paths) == len(iam.TEMPLATES)
    words = [sys.executable, "-c", "import cfnlint.runner as r; r.main()", "--", *paths]
    done = subprocess.run(words, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
