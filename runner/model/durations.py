"""Go duration strings: the only way a document or a setting spells a length of time.

Owns reading (durationpy does the arithmetic) and printing as Go's ``time.Duration`` prints. What is
read is exact to the microsecond. It must not know what a duration is for.
"""

from __future__ import annotations

import re
from functools import lru_cache

from runner.model.messages import kind, quoted

LONGEST = 10 * 365 * 86_400.0
"""The longest duration in seconds, ten years: `87600h`."""

# Go's time.ParseDuration without a sign; [0-9] because \d takes the digits of every script.
PATTERN = r"(?:(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:ns|us|µs|μs|ms|s|m|h))+"
_DAYS = r"([0-9]{1,6})d"
_LONGEST_TEXT = 64


def parse_duration(text: str) -> float:
    """Seconds, above 0, of a Go duration string such as `1h30m`, `1.5h` or `300ms`.

    Raises ValueError with a message for the user; anything but a string is such an error too.
    """
    if not isinstance(text, str):
        raise ValueError(f'must be a duration in quotes such as "90s", not {kind(text)}')
    return _parse(text)


# Documents repeat a handful of timeouts; all jobs share the float as well.
@lru_cache(maxsize=1024)
def _parse(text: str) -> float:
    if days := re.fullmatch(_DAYS, text):
        hours = int(days[1]) * 24
        raise ValueError(f'"{text}": Go durations have no days; write "{hours}h"')
    if len(text) > _LONGEST_TEXT or not re.fullmatch(PATTERN, text):
        example = 'such as "30s", "1h30m" or "1.5h"; a day is "24h"'
        raise ValueError(f"{quoted(text)} is not a duration {example}")
    import durationpy

    try:
        seconds: float = durationpy.from_str(text).total_seconds()
    except (ValueError, OverflowError):  # the pattern holds, so it can only be out of range
        seconds = LONGEST + 1
    if seconds <= 0:
        raise ValueError(f'"{text}" must be longer than 0')
    if seconds > LONGEST:
        raise ValueError(f'"{text}" is too long: at most "87600h" (ten years)')
    return seconds


def format_duration(seconds: float) -> str:
    """As Go prints a time.Duration: `2h0m0s`, `1m30s`, `1.5s`, `300ms`, `0s`.

    From one second up it is exact to the microsecond, below to the nanosecond. ``seconds`` is
    finite; a negative one gets a leading ``-``.
    """
    if seconds < 0:
        return "-" + format_duration(-seconds)
    if seconds < 1 and (nanos := round(seconds * 1e9)) < 1_000_000_000:
        return _format_small(nanos)
    # A float of ten years has no nanoseconds left: they would print as noise.
    micros = round(seconds * 1e6)
    minutes, micros = divmod(micros, 60_000_000)
    hours, minutes = divmod(minutes, 60)
    text = _decimal(micros, 1_000_000) + "s"
    if hours:
        return f"{hours}h{minutes}m{text}"
    return f"{minutes}m{text}" if minutes else text


def _format_small(nanos: int) -> str:
    if nanos == 0:
        return "0s"
    for unit, size in (("ms", 1_000_000), ("µs", 1_000)):
        if nanos >= size:
            return _decimal(nanos, size) + unit
    return f"{nanos}ns"


def _decimal(value: int, size: int) -> str:
    """``value / size`` without trailing zeros; ``size`` is a power of ten."""
    whole, part = divmod(value, size)
    if not part:
        return str(whole)
    digits = len(str(size)) - 1
    return f"{whole}.{part:0{digits}d}".rstrip("0")
