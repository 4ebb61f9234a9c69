"""What a new machine is told: small enough, the same every time, and not to be led astray."""

from __future__ import annotations

import ast
import gzip
import json
import subprocess
from dataclasses import replace
from pathlib import Path
from random import Random
from types import MappingProxyType

import pytest
from old_python import interpreters, new_annotations

import runner
import runner.targets.ec2
from runner.bundle.bare_files import bare_files
from runner.errors import UsageError
from runner.targets.ec2.launch.user_data import (
    LIMIT,
    BootConfig,
    BootFiring,
    Shipped,
    user_data,
)

PROGRAM = Path(runner.targets.ec2.__file__).parent / "boot" / "first_boot"
HOSTILE = '\'; rm -rf / #\n`id` $(id) "x" ${IFS}\nEND_OF_BOOT_JSON\nEND_OF_PROGRAM\n\\ é \x7f'
BOOT = BootConfig(
    region="eu-central-1",
    bucket="bucket",
    launch="launch-1",
    queue_id="q",
    bundle=Shipped("runner/bundles/b.tar.gz", "a" * 64),
    document=Shipped("runner/launches/launch-1/queue.json", "b" * 64),
    workdir=None,
    settings={"on_complete": "terminate"},
    expires=1_900_000_000,
    keep_on_failure=3600,
)


def script(boot: BootConfig) -> str:
    return gzip.decompress(user_data(boot)).decode()


def told(boot: BootConfig) -> dict[str, object]:
    """What the machine will find in its boot.json."""
    text = (
        script(boot)
        .partition("<<'END_OF_BOOT_JSON' || return\n")[2]
        .partition("\nEND_OF_BOOT_JSON\n")[0]
    )
    found: dict[str, object] = json.loads(text)
    return found


def test_the_longest_names_fit() -> None:
    """EC2 would refuse a launch only because its names are long."""
    shipped = Shipped("k" * 1024, "0123456789abcdef" * 4)
    settings = {"kms_key": "k" * 2048, "job_user": "u" * 32, "storage_class": "s" * 2048}
    long = BootConfig(
        "ap-southeast-3",
        "b" * 63,
        "l" * 64,
        "q" * 128,
        shipped,
        shipped,
        shipped,
        settings,
        2**33,
        10**7,
    )
    assert len(user_data(long)) < LIMIT
    assert told(long)["queue_id"] == "q" * 128
    fired = BootFiring("n" * 64, "p" * 200, "skip", 10**7)
    assert len(user_data(replace(long, firing=fired))) < LIMIT
    assert "\nexpires=+10000000\n" in script(replace(long, firing=fired))


def test_what_is_too_large_is_refused_here() -> None:
    """EC2's own words for it, after bundle and document were sent, help nobody."""
    noise = Random(1).randbytes(16_000).hex()
    with pytest.raises(UsageError, match="16,384"):
        user_data(replace(BOOT, settings={"job_user": noise}))


def test_the_same_boot_is_the_same_request() -> None:
    """A second try with the same client token would be refused: other parameters."""
    settings = {"on_complete": "stop", "job_user": "x"}
    first = user_data(replace(BOOT, settings=settings))
    turned = dict(reversed(settings.items()))
    assert first == user_data(replace(BOOT, settings=MappingProxyType(turned)))


def test_no_value_reaches_a_shell() -> None:
    """A queue_id or setting with a quote in it would run as root on the machine."""
    hostile = replace(BOOT, queue_id=HOSTILE, launch=HOSTILE, settings={"job_user": HOSTILE})
    assert told(hostile)["queue_id"] == HOSTILE
    assert told(hostile)["settings"] == {"job_user": HOSTILE}
    plain, other = script(BOOT).splitlines(), script(hostile).splitlines()
    differ = [b for a, b in zip(plain, other, strict=True) if a != b]
    assert len(differ) == 1 and json.loads(differ[0])
    done = subprocess.run(["sh", "-n"], input=script(hostile), text=True, capture_output=True)
    assert (done.returncode, done.stderr) == (0, "")


def test_a_setting_that_the_daemon_would_refuse_is_refused_here() -> None:
    """The daemon would refuse to start, on a machine that is paid for."""
    with pytest.raises(UsageError, match="max_liftime"):
        user_data(replace(BOOT, settings={"max_liftime": "1h"}))
    with pytest.raises(UsageError, match="on-complete-delay"):
        user_data(replace(BOOT, settings={"on_complete_delay": "0s"}))


def test_the_lifetime_guard_comes_before_all_that_can_fail() -> None:
    """A machine whose bootstrap fails early would live for ever."""
    text = script(BOOT)
    armed = text.index("\narm $((patience + keep))")
    assert all(text.index(f"\n{word} ") > armed for word in ("rm", "mkdir", "for"))
    assert "expires=1900000000\n" in text and "calendar='at 2030-03-17 17:46:40 UTC'" in text
    assert "OnCalendar" not in text, "a clock that is set would end it"


def test_an_old_python_takes_the_first_program(tmp_path: Path) -> None:
    """It would end at its first line on Amazon Linux 2023, and no machine ever run a job."""
    if not (found := interpreters()):
        pytest.skip("there is no Python older than 3.10 here")
    for path in [*bare_files(), *sorted(PROGRAM.glob("*.py"))]:
        copy = tmp_path / path.relative_to(Path(runner.__file__).parents[1])
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_text(path.read_text())
    names = [str(path.relative_to(tmp_path).with_suffix("")) for path in tmp_path.rglob("*.py")]
    words = "; ".join(f"import {name.replace('/', '.')}" for name in names if "__" not in name)
    for python in found:
        done = subprocess.run([python, "-c", words], cwd=tmp_path, capture_output=True, text=True)
        assert (done.returncode, done.stderr) == (0, ""), python


@pytest.mark.parametrize(
    "path", [*bare_files(), *sorted(PROGRAM.glob("*.py"))], ids=lambda path: path.name
)
def test_the_first_program_runs_on_the_oldest_python_of_an_image(path: Path) -> None:
    """Amazon Linux 2023 has 3.9, others less; the program would not even start."""
    text = path.read_text()
    tree = ast.parse(text, feature_version=(3, 6))
    assert text in script(BOOT) and "END_OF_PROGRAM" not in text
    modules = {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    assert "__future__" not in modules, "annotations of the future came with 3.7"
    assert "collections.abc" not in modules, "its classes take no [] before 3.9"
    assert new_annotations(tree) == [], "3.9, 3.10: the import would fail"
    for node in ast.walk(tree):
        assert not isinstance(node, ast.NamedExpr | ast.Match), "3.8, 3.10"
        if isinstance(node, ast.keyword):
            assert node.arg not in ("capture_output", "text", "missing_ok"), "3.7, 3.8"
        if isinstance(node, ast.Attribute):
            assert node.attr not in ("removeprefix", "removesuffix", "fromisoformat"), "3.9, 3.7"
