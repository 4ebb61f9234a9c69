"""The last of a launched machine's boot: the settings of launch, installer and image, joined."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

from runner.errors import RunnerError
from runner.targets.ec2.boot.provision import main, write_settings


def test_the_launch_stands_over_the_image_and_the_rest_stays(tmp_path: Path) -> None:
    """The jobs' user that the installer found would be lost, or an image's lifetime hold."""
    path = tmp_path / "etc" / "runner.toml"
    path.parent.mkdir()
    path.write_text('job_user = "ec2-user"\nmax_lifetime = "900h"\ndisk_reserve = 4096\n')
    write_settings(path, {"max_lifetime": "24h", "kms_key": 'a"b\\c\x7fé'})
    assert tomllib.loads(path.read_text()) == {
        "job_user": "ec2-user",
        "max_lifetime": "24h",
        "disk_reserve": 4096,
        "kms_key": 'a"b\\c\x7fé',
    }
    assert [each.name for each in path.parent.iterdir()] == ["runner.toml"]


def test_without_a_file_there_is_one(tmp_path: Path) -> None:
    """A bundle that writes no settings would leave the launch without its limits."""
    path = tmp_path / "etc" / "runner.toml"
    write_settings(path, {"on_complete": "terminate"})
    assert tomllib.loads(path.read_text()) == {"on_complete": "terminate"}


def test_what_is_no_toml_is_told(tmp_path: Path) -> None:
    """An image's broken settings would be replaced in silence, or end in a traceback."""
    path = tmp_path / "runner.toml"
    path.write_text("job_user = \n")
    with pytest.raises(RunnerError, match="is not TOML"):
        write_settings(path, {})


BROKEN = {
    "cut": '{"queue_id": "q", "sett',
    "a list": "[]",
    "expires in words": '{"queue_id": "q", "settings": {}, "expires": "soon", "workdir": null}',
    "settings of numbers": '{"queue_id": "q", "settings": {"a": 1}, "expires": 1, "workdir": null}',
    "a path for an id": '{"queue_id": "../q", "settings": {}, "expires": 1, "workdir": {}}',
}


@pytest.mark.parametrize("text", BROKEN.values(), ids=list(BROKEN))
def test_what_is_no_boot_record_is_told_by_name(
    text: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A disk that lost half of it would end the boot in a traceback, or write elsewhere."""
    (tmp_path / "boot.json").write_text(text)
    assert main([str(tmp_path)]) == 1
    assert capsys.readouterr().err.startswith("runner provision: boot.json: ")
    assert [each.name for each in tmp_path.iterdir()] == ["boot.json"]
