"""From bytes to JSON values, one job at a time.

Owns what is wrong with a document as text (encoding, syntax, size) and what JSON itself would let
through: duplicate keys, NaN, NUL characters, lone surrogates. It knows that a document is an
object whose ``jobs`` are many, and nothing else of its fields. The jobs never exist as dicts all at
once: a document of 100,000 jobs would take some 200 MB more that way.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Generator, Iterator
from json import JSONDecodeError, JSONDecoder
from typing import Any, NoReturn

from runner.errors import DocumentError
from runner.model.messages import kind, step
from runner.model.validation_errors import Faults

MAX_BYTES = 64 * 1024 * 1024
"""The largest document: what fits into one `submit` request. 100,000 jobs take about 24 MB."""

JOBS = "jobs"

_BLANK = " \t\n\r"
_YAML = re.compile(r"---|%YAML|- |[A-Za-z_][\w-]*:(?:[ \t\r\n]|$)")
"""How documents begin that are written in YAML's own way."""

_SPACE = re.compile(r"[ \t\n\r]*")
_NEXT = re.compile(r"[ \t\n\r]*,[ \t\n\r]*")
_ODD_ESCAPE = re.compile(r"\\u(?:0000|[dD][89a-fA-F])")
_SURROGATE = re.compile("[\ud800-\udfff]")
_INT_DIGITS = 18
_HUGE = 10**18
_MOST_KEYS = 10_000


class _Doubled(dict[str, Any]):
    """An object that names a key more than once."""

    keys_doubled: tuple[str, ...] = ()


class _Constant(float):
    """NaN, Infinity or -Infinity: Python's json reads it, but it is not JSON."""

    def __init__(self, name: str) -> None:
        self.name = name


_CONSTANTS = {name: _Constant(name) for name in ("NaN", "Infinity", "-Infinity")}


def decode(raw: bytes, name: str) -> str:
    """The text of a document. Raises DocumentError naming ``name``."""
    if len(raw) > MAX_BYTES:
        most = f"{MAX_BYTES:,} bytes ({MAX_BYTES >> 20} MiB)"
        raise DocumentError([f"{name}: too large: a document has at most {most}"])
    if raw.startswith(b"\xef\xbb\xbf"):
        raise DocumentError([f"{name}: begins with a byte order mark; save it as plain UTF-8"])
    if raw.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise DocumentError([f"{name}: is UTF-16; save it as UTF-8"])
    try:
        return raw.decode()
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise DocumentError([f"{name}: line {line}, byte {error.start}: is not UTF-8"])


class Reader:
    """Reads the text of one document once; its oddities go to ``faults`` with their places.

    ``name``: of its file, for errors of its syntax.
    """

    def __init__(self, text: str, faults: Faults, name: str = "") -> None:
        self._text = text
        self._name = name
        self._faults = faults
        # Until something odd is seen nothing needs a second look.
        self._odd = _ODD_ESCAPE.search(text) is not None
        self._constants = False
        self._scan = self._scanner(parse_int=None)

    def _scanner(self, parse_int: Callable[[str], int] | None) -> Any:
        decoder: Any = JSONDecoder(
            object_pairs_hook=self._object, parse_int=parse_int, parse_constant=self._constant
        )
        return decoder.scan_once

    def members(self) -> Iterator[tuple[str, int | None, Any]]:
        """Yield (key, None, value) for each key of the document, in order.

        An array of jobs comes as ("jobs", None, []) and then ("jobs", index, job) for each of
        them. Raises DocumentError with line and column where the text is no JSON object.
        """
        at = self._skip(0)
        if self._peek(at) != "{":
            self._not_an_object(at)
        seen: set[str] = set()
        more = self._peek(at := self._skip(at + 1)) != "}"
        while more:
            if self._peek(at) != '"':
                self._fail("expecting a key in double quotes", at)
            key, at = self._value(at)
            place = step(key)
            if key in seen:
                self._faults.add(place, "is given twice")
            seen.add(key)
            if len(seen) > _MOST_KEYS:
                self._fail(f"more than {_MOST_KEYS:,} keys", at)
            at = self._skip(at)
            if self._peek(at) != ":":
                self._fail("expecting ':' after a key", at)
            at = self._skip(at + 1)
            if key == JOBS and self._peek(at) == "[":
                yield key, None, []
                at = yield from self._elements(at)
            else:
                value, at = self._value(at)
                self._look_at({key: value}, "")
                yield key, None, value
            at, more = self._separator(at, "}")
        if (at := self._skip(at + 1)) < len(self._text):
            self._fail("the document ends here, but more text follows", at)

    def _elements(self, at: int) -> Generator[tuple[str, int | None, Any], None, int]:
        index = 0
        more = self._peek(at := self._skip(at + 1)) != "]"
        while more:
            value, at = self._value(at)
            if self._odd:
                self._look_at(value, f"{JOBS}[{index}]")
            yield JOBS, index, value
            index += 1
            at, more = self._separator(at, "]")
        return at + 1

    def _separator(self, at: int, end: str) -> tuple[int, bool]:
        """Where the next item, or the end, stands; and whether there is a next item."""
        if match := _NEXT.match(self._text, at):
            return match.end(), True
        at = self._skip(at)
        if self._peek(at) != end:
            self._fail(f"expecting ',' or '{end}'", at)
        return at, False

    def _skip(self, at: int) -> int:
        match = _SPACE.match(self._text, at)
        return match.end() if match else at

    def _peek(self, at: int) -> str:
        return self._text[at : at + 1]

    def _value(self, at: int) -> tuple[Any, int]:
        try:
            value, end = self._scan(self._text, at)
        except StopIteration as stop:
            self._fail("expecting a value", stop.value)
        except JSONDecodeError as error:
            self._fail(error.msg[:1].lower() + error.msg[1:].removesuffix(" at"), error.pos)
        except ValueError:
            # int() refuses more than 4,300 digits, without saying where: let the field's rule say.
            value, end = self._scanner(parse_int=_clamped)(self._text, at)
        except RecursionError:
            self._fail("what begins here is nested too deeply", at)
        return value, end

    def _not_an_object(self, at: int) -> NoReturn:
        if at == len(self._text):
            self._fail("the document is empty", at)
        if _YAML.match(self._text, at):
            self._fail("this looks like YAML: a document is JSON (RFC 8259)", at)
        value, _ = self._value(at)
        self._fail(f"must be an object, not {kind(value)}", at)

    def _fail(self, message: str, at: int) -> NoReturn:
        line = self._text.count("\n", 0, at) + 1
        column = at - self._text.rfind("\n", 0, at)
        file = f"{self._name}: " if self._name else ""
        raise DocumentError([f"{file}line {line}, column {column}: {self._known(at) or message}"])

    def _known(self, at: int) -> str | None:
        """What people write who know other notations, in words of its own."""
        rest = self._text[at : at + 2]
        if rest[:1] == "#" or rest in ("//", "/*"):
            return 'JSON has no comments: a key that begins with "x-" may hold a note'
        if rest[:1] == "'":
            return "a string is in double quotes, not in single ones"
        if rest[:1] in ("]", "}") and self._text[:at].rstrip(_BLANK).endswith(","):
            return f"JSON has no comma before '{rest[0]}'"
        return None

    def _object(self, pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        made = dict(pairs)
        if len(made) == len(pairs):
            return made
        self._odd = True
        doubled = _Doubled(made)
        counts = Counter(key for key, _ in pairs)
        doubled.keys_doubled = tuple(key for key, count in counts.items() if count > 1)
        return doubled

    def _constant(self, name: str) -> float:
        self._odd = self._constants = True
        return _CONSTANTS[name]

    def _look_at(self, value: Any, place: str) -> None:
        """Note all that is odd inside ``value``; without recursion, it may be deep."""
        if not self._odd:
            return
        steps = [place]
        open_values = [(_inside(value), False)]
        while open_values:
            children, ignored = open_values[-1]
            for key, child in children:
                # The value of an ignored key is its own affair; that it comes twice is not.
                skip = ignored or (
                    isinstance(key, str) and is_ignored(key) and child is not _GIVEN_TWICE
                )
                if skip and not self._constants:
                    continue
                if fault := _oddity(child, skip):
                    self._faults.add("".join(steps) + _step(key), fault)
                if isinstance(child, dict | list):
                    steps.append(_step(key))
                    open_values.append((_inside(child), skip))
                    break
            else:
                open_values.pop()
                steps.pop()


_GIVEN_TWICE = object()


def _inside(value: Any) -> Iterator[tuple[str | int, Any]]:
    """What there is to look at in an object or array, with its key or index."""
    if isinstance(value, list):
        yield from enumerate(value)
    elif isinstance(value, dict):
        for key in getattr(value, "keys_doubled", ()):
            yield key, _GIVEN_TWICE
        for key, child in value.items():
            yield key, key
            yield key, child


def _step(key: str | int) -> str:
    return step(key) if isinstance(key, str) else f"[{key}]"


def is_ignored(key: str) -> bool:
    """Whether a key is a note to other programs, which is allowed anywhere."""
    return key.startswith("x-") or key == "$schema"


def _oddity(value: Any, ignored: bool) -> str | None:
    if isinstance(value, _Constant):
        return f"{value.name} is not JSON"
    if ignored:
        return None
    if value is _GIVEN_TWICE:
        return "is given twice"
    if isinstance(value, str):
        if "\0" in value:
            return "must not hold a NUL character"
        if not value.isascii() and (lone := _SURROGATE.search(value)):
            code, at = ord(lone[0]), lone.start() + 1
            return f"character {at} is a lone surrogate (\\u{code:04x}), not a character"
    return None


def _clamped(text: str) -> int:
    """The number itself, or one that is also far outside of what any field allows."""
    if len(text) <= _INT_DIGITS:
        return int(text)
    return -_HUGE if text[0] == "-" else _HUGE
