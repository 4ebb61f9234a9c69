"""Settings: who wins, what the defaults are, and what the errors name."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import fields
from pathlib import Path

import pytest

from runner.errors import UsageError
from runner.model.batch_settings import READERS, BatchSettings
from runner.model.settings import Settings, load_settings, parse_size

HOME = Path("/home/eve")


def load(environ: dict[str, str], *, root: bool = False, **more: object) -> Settings:
    return load_settings(environ, root=root, home=HOME, **more)  # type: ignore[arg-type]


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """The path of a settings file that a test may write."""
    return tmp_path / "runner.toml"


def test_defaults_of_root() -> None:
    """The service would not find the folders that the package makes."""
    settings = load({"XDG_STATE_HOME": "/x", "RUNNER_CONFIG": ""}, root=True)
    assert settings.state_dir == Path("/var/lib/runner")
    assert settings.log_dir == Path("/var/log/runner")
    assert settings.run_dir == Path("/run/runner")
    assert settings.config_file == Path("/etc/runner/runner.toml")
    assert (settings.queue_retention, settings.job_user) == (30 * 86400, None)
    assert (settings.projection_interval, settings.disk_reserve) == (2.0, 64 << 20)


def test_defaults_without_xdg() -> None:
    """A user without XDG variables would have no state, or share another's."""
    settings = load({"XDG_STATE_HOME": "relative/is/ignored"})
    assert settings.state_dir == HOME / ".local/state/runner"
    assert settings.log_dir == settings.state_dir / "logs"
    assert settings.run_dir == settings.state_dir / "run"
    assert settings.config_file == HOME / ".config/runner/runner.toml"


def test_defaults_follow_xdg() -> None:
    """A user's own XDG folders would be passed over."""
    settings = load(
        {"XDG_STATE_HOME": "/s", "XDG_RUNTIME_DIR": "/r", "XDG_CONFIG_HOME": "/nowhere/c"}
    )
    assert settings.state_dir == Path("/s/runner")
    assert settings.run_dir == Path("/r/runner")
    assert settings.config_file == Path("/nowhere/c/runner/runner.toml")


def test_only_who_has_chosen_no_folders_is_led_to_the_machines_daemon(config: Path) -> None:
    """`runner status` would find nothing, or another daemon than the one that was named."""
    assert load({}).machine_run_dir == Path("/run/runner")
    assert load({}, root=True).machine_run_dir is None
    assert load({"RUNNER_STATE_DIR": "/s"}).machine_run_dir is None
    assert load({}, overrides={"run_dir": "/r"}).machine_run_dir is None
    config.write_text('log_dir = "/file"')
    assert load({}, config=config).machine_run_dir is None


def test_who_has_no_home_is_asked_for_a_folder(config: Path) -> None:
    """The state would go into a folder named `~`, wherever the command was called."""
    with pytest.raises(UsageError, match="--state-dir DIR"):
        load_settings({}, root=False, home=None)
    config.write_text('state_dir = "~/s"')
    with pytest.raises(UsageError, match=r"state_dir: .*no home folder"):
        load_settings({}, root=False, home=None, config=config)
    given = load_settings({"RUNNER_STATE_DIR": "/s"}, root=False, home=None)
    assert (given.log_dir, given.run_dir, given.config_file) == (
        Path("/s/logs"),
        Path("/s/run"),
        None,
    )
    assert load_settings({"XDG_STATE_HOME": "/x"}, root=False, home=None).state_dir == Path(
        "/x/runner"
    )
    assert load_settings({}, root=True, home=None).state_dir == Path("/var/lib/runner")


def test_logs_follow_a_moved_state_dir() -> None:
    """`run --state-dir D` would leave its logs in the home folder."""
    assert load({}, overrides={"state_dir": Path("/d")}).log_dir == Path("/d/logs")


def test_flag_wins_over_variable_over_file(config: Path) -> None:
    """A flag would be ignored silently."""
    config.write_text('state_dir = "/file"\nheartbeat = "10s"\nrun_dir = "/file"\n')
    environ = {"RUNNER_CONFIG": str(config), "RUNNER_STATE_DIR": "/env", "RUNNER_HEARTBEAT": "20s"}
    settings = load(environ, overrides={"state_dir": "/flag", "log_dir": None})
    assert settings.state_dir == Path("/flag")
    assert settings.heartbeat == 20
    assert settings.run_dir == Path("/file")
    assert settings.config_file == config


def test_config_flag_wins_over_variable(config: Path) -> None:
    """`daemon --config F` would read another file."""
    config.write_text('job_user = "ec2-user"')
    settings = load({"RUNNER_CONFIG": "/does/not/exist"}, config=config)
    assert settings.job_user == "ec2-user"


def test_file_holds_every_kind_of_setting(config: Path) -> None:
    """A setting would be there but not work."""
    config.write_text(
        'state_dir = "~/state"\nqueue_retention = "24h"\ndisk_reserve = "1GiB"\n'
        'projection_interval = "500ms"\njob_user = "root"\nupload_wait = "5s"\n'
        'upload_timeout = "1h"\nlive_log_interval = "1m"\nkms_key = "alias/k"\n'
        'storage_class = "GLACIER_IR"\nspot_lead = "45s"\nrebalance = "drain"\n'
    )
    settings = load({}, config=config)
    assert settings.state_dir == HOME / "state"
    assert settings.queue_retention == 86400
    assert settings.disk_reserve == 1 << 30
    assert settings.projection_interval == 0.5
    assert settings.job_user == "root"
    times = (settings.upload_wait, settings.upload_timeout, settings.live_log_interval)
    assert times == (5.0, 3600.0, 60.0)
    assert (settings.kms_key, settings.storage_class) == ("alias/k", "GLACIER_IR")
    assert (settings.spot_lead, settings.rebalance) == (45.0, "drain")


def test_variables_that_are_no_settings_are_no_errors() -> None:
    """`runner run` inside a job would fail, because its environment names the job's folders."""
    assert load({"RUNNER_WORK_DIR": "/w", "RUNNER_STATE_DIR": ""}) == load({})


def test_relative_flag_is_from_here() -> None:
    """A daemon that changes its folder would move its state."""
    assert load({"RUNNER_STATE_DIR": "d"}).state_dir == Path.cwd() / "d"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('state_dri = "/x"', 'state_dri: unknown key; did you mean "state_dir"'),
        ("state_dir = 5", "state_dir: must be the path of a folder, not a number"),
        ('state_dir = ""', "state_dir: must begin with"),
        ('log_dir = "logs"', "log_dir: must begin with"),
        ("disk_reserve = -5", "disk_reserve: .* is not a size"),
        ("disk_reserve = 1.5", "disk_reserve: must be a size"),
        ('disk_reserve = "64 potatoes"', "disk_reserve: .* is not a size"),
        ("queue_retention = 30", 'queue_retention: must be a duration in quotes such as "90s"'),
        ('queue_retention = "30d"', 'queue_retention: .*write "720h"'),
        ('projection_interval = "3s"', "projection_interval: must be at most"),
        ("job_user = true", "job_user: must be the name of a user"),
        ('kms_key = "a b"', "kms_key: must be a word without spaces"),
        ('rebalance = "Drain"', 'rebalance: must be "note" or "drain"'),
        ("spot_lead = 45", "spot_lead: "),
        ("state_dir", "is not TOML"),
        ("x = " + "[" * 5000, "is not TOML"),
    ],
)
def test_errors_name_file_and_key(config: Path, text: str, message: str) -> None:
    """A wrong line in the settings would be ignored, or be hard to find."""
    config.write_text(text)
    with pytest.raises(UsageError, match=message) as caught:
        load({}, config=config)
    assert str(config) in str(caught.value)


def test_all_wrong_keys_are_named_at_once(config: Path) -> None:
    """The administrator would restart the service once for each error."""
    config.write_text("a = 1\ndisk_reserve = true\n[table]\n")
    with pytest.raises(UsageError) as caught:
        load({}, config=config)
    assert len(str(caught.value).splitlines()) == 3


def test_errors_name_variable_and_flag() -> None:
    """The user would not know where the wrong value comes from."""
    with pytest.raises(UsageError, match="RUNNER_DISK_RESERVE: "):
        load({"RUNNER_DISK_RESERVE": "lots"})
    with pytest.raises(UsageError, match="--state-dir: "):
        load({}, overrides={"state_dir": "a\0b"})
    with pytest.raises(UsageError, match=r"--log-dir: .* is an address"):
        load({}, overrides={"log_dir": "s3://bucket/logs"})


def test_unreadable_files_are_named(config: Path) -> None:
    """A named file that isn't there would be the same as none."""
    with pytest.raises(UsageError, match="there is no such settings file"):
        load({}, config=config)
    with pytest.raises(UsageError, match="can't be read: Is a directory"):
        load({}, config=config.parent)
    config.write_bytes(b"\xff\xfe")
    with pytest.raises(UsageError, match="is not UTF-8"):
        load({}, config=config)


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("0", 0),
        (4096, 4096),
        ("4096B", 4096),
        ("64MiB", 64 << 20),
        ("1 GB", 10**9),
        ("2TiB", 2 << 40),
    ],
)
def test_sizes(text: object, size: int) -> None:
    """The reserve would be a thousand times too small."""
    assert parse_size(text) == size


def test_imports_little() -> None:
    """`runner status` would take as long to start as what it asks about."""
    code = "import sys, runner.model.settings; print(*sys.modules)"
    names = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    heavy = {"pydantic", "json", "durationpy", "tomllib", "difflib", "boto3", "structlog"}
    assert not heavy & set(names.stdout.split())


def test_the_logs_follow_a_state_folder_that_is_named_over_them(config: Path) -> None:
    """Two state folders would share /var/log/runner, and one run's logs replace another's."""
    flag: dict[str, object] = {"overrides": {"state_dir": "/d"}}
    assert load({}, root=True, **flag).log_dir == Path("/d/logs")
    assert load({"RUNNER_STATE_DIR": "/d"}, root=True).log_dir == Path("/d/logs")
    assert load({"RUNNER_LOG_DIR": "/l"}, root=True, **flag).log_dir == Path("/d/logs")
    both = {"RUNNER_LOG_DIR": "/l", "RUNNER_STATE_DIR": "/d"}
    assert load(both, root=True).log_dir == Path("/l")
    assert load({}, overrides={"state_dir": "/d", "log_dir": "/l"}).log_dir == Path("/l")
    config.write_text('state_dir = "/d"')
    assert load({}, root=True, config=config).log_dir == Path("/var/log/runner")


def test_batch_has_a_table_of_its_own(config: Path) -> None:
    """Where jobs on AWS Batch run could not be said once, or would be said at three places."""
    config.write_text('[batch]\nregion = "eu-west-1"\njob_queue = "slow"\nimage = "a"\n')
    environ = {"RUNNER_BATCH_JOB_QUEUE": "fast", "RUNNER_BATCH_IMAGE": "b"}
    found = load(environ, config=config, overrides={"batch_image": "c"}).batch
    assert (found.region, found.job_queue, found.image) == ("eu-west-1", "fast", "c")
    assert load({}).batch == BatchSettings()
    names = {each.name for each in fields(BatchSettings)}
    assert names == READERS.keys()


def test_wrong_keys_of_the_batch_table_are_named(config: Path) -> None:
    """A mistyped key would be passed over, and the default used."""
    config.write_text('[batch]\nregoin = "x"\nbucket = "B"\njob_role = "me"\nshared = 3\n')
    with pytest.raises(UsageError) as caught:
        load({}, config=config)
    lines = str(caught.value).splitlines()
    assert [line.split(": ")[1] for line in lines] == [
        "batch.regoin", "batch.bucket", "batch.job_role", "batch.shared"
    ]  # fmt: skip
    assert 'did you mean "region"?' in lines[0]
    config.write_text("batch = 3\n")
    with pytest.raises(UsageError, match="batch: must be a table"):
        load({}, config=config)
    with pytest.raises(UsageError, match="RUNNER_BATCH_REGION"):
        load({"RUNNER_BATCH_REGION": "Europe"})
    with pytest.raises(UsageError, match="--job-queue"):
        load({}, overrides={"batch_job_queue": "not valid"})
