"""A systemd user timer that runs a queue on this computer, again and again. Pure: it makes text.

A timer starts nothing while what it started still runs (systemd.timer(5)), and makes up for one
time that it missed while the computer was off.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from runner.errors import UsageError
from runner.model.recurrence.expressions import Cron, Rate

FOLDER = ".config/systemd/user"
"""Below the home folder: a user's own units (systemd.unit(5))."""


@dataclass(frozen=True, slots=True)
class TimerUnits:
    """``name``: of both, without their suffix."""

    name: str
    service: str
    timer: str

    @property
    def script(self) -> str:
        """A shell script that installs and starts them."""
        lines = [
            "set -e",
            "units=${XDG_CONFIG_HOME:-$HOME/.config}/systemd/user",
            'mkdir -p "$units"',
        ]
        for suffix, text in (("service", self.service), ("timer", self.timer)):
            lines += [f"cat > \"$units/{self.name}.{suffix}\" <<'END'", text.rstrip("\n"), "END"]
        lines += [
            "systemctl --user daemon-reload",
            f"systemctl --user enable --now {self.name}.timer",
        ]
        return "\n".join(lines) + "\n"


def timer_units(
    name: str, when: Cron | Rate, zone: str, command: Sequence[str], folder: str, path: str
) -> TimerUnits:
    """``command``: what is run in ``folder``, with ``path`` as its PATH.

    Raises UsageError for what systemd can't say.
    """
    unit = f"runner-{name}"
    words = " ".join(_word(each) for each in command)
    service = f"""[Unit]
Description=runner: queue {_percent(name)}, at set times

[Service]
Type=oneshot
WorkingDirectory={_percent(folder)}
Environment={_quoted(f"PATH={path}")}
ExecStart={words}
# Its jobs are given time to end, and what they have saved to be stored.
TimeoutStopSec=150
KillMode=mixed
"""
    timer = f"""[Unit]
Description=runner: when queue {_percent(name)} is run

[Timer]
{_times(when, zone)}AccuracySec=1s

[Install]
WantedBy=timers.target
"""
    return TimerUnits(unit, service, timer)


def _times(when: Cron | Rate, zone: str) -> str:
    if isinstance(when, Rate):
        return f"OnActiveSec={when.every}s\nOnUnitActiveSec={when.every}s\n"
    if not when.systemd:
        raise UsageError("--cron: --here takes cron's five fields or rate(…), not cron(…)")
    lines = "".join(f"OnCalendar={each} {zone}\n" for each in when.systemd)
    return f"{lines}Persistent=true\n"


def _percent(text: str) -> str:
    """systemd.unit(5), "Specifiers"."""
    return text.replace("%", "%%")


def _word(text: str) -> str:
    """One word of a command line (systemd.service(5), "Command lines")."""
    return _quoted(text).replace("$", "$$")


def _quoted(text: str) -> str:
    safe = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{_percent(safe)}"'
