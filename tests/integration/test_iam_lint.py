"""The templates, looked at by those who know CloudFormation."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from runner.targets.batch.account import iam as batch_iam
from runner.targets.ec2.account import iam

MONITORING = Path(__file__).parents[2] / "packaging/monitoring"
FOLDERS = (Path(iam.__file__).parent, Path(batch_iam.__file__).parent, MONITORING)


def test_templates_are_clean() -> None:
    """CloudFormation would refuse them, or IAM would deny what is misspelt."""
    paths = [str(path) for folder in FOLDERS for path in sorted(folder.glob("*.yaml"))]
    assert len(paths) == len(iam.TEMPLATES) + len(batch_iam.TEMPLATES) + 1
    words = [sys.executable, "-c", "import cfnlint.runner as r; r.main()", "--", *paths]
    done = subprocess.run(words, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
