"""Declared settings: one row a setting, how its text is read and what it may hold.

The topic table (storage/config.py) and the broker tables (broker/settings_*.py) are tuples of
`Setting`. A default is kept as the text that DescribeConfigs shows; nothing is parsed before it is
asked for, because a start imports several hundred rows and uses a few dozen of them.

Reading follows Kafka's ConfigDef: numbers, booleans and lists are stripped of blanks around them,
strings are kept as they are.
"""

import re
from collections.abc import Callable, Iterable
from enum import IntEnum
from typing import Any, NamedTuple


class Kind(IntEnum):
    """Type of a setting; the numbers are the ConfigType of DescribeConfigs (KIP-569)."""

    UNKNOWN = 0
    BOOLEAN = 1
    STRING = 2
    INT = 3
    SHORT = 4
    LONG = 5
    DOUBLE = 6
    LIST = 7
    CLASS = 8
    PASSWORD = 9


class Scope(IntEnum):
    """Where a broker setting may be changed while the broker runs (KIP-226)."""

    READ_ONLY = 0
    PER_BROKER = 1
    CLUSTER_WIDE = 2


Check = Callable[[Any], str | None]
"""Says in a few words what a parsed value must be, or None when it is fine."""


class Setting(NamedTuple):
    """One row of a table of settings."""

    name: str
    kind: Kind
    default: str | None
    doc: str
    check: Check | None = None
    scope: Scope = Scope.READ_ONLY
    synonyms: tuple[str, ...] = ()

    @property
    def sensitive(self) -> bool:
        """Passwords are never shown."""
        return self.kind is Kind.PASSWORD


class SettingError(ValueError):
    """A setting has an unusable value (or an unknown name); str() is one sentence."""

    def __init__(self, name: str, value: str | None, reason: str) -> None:
        said = f"Value {reason}" if reason.startswith("must ") else reason
        super().__init__(f"Invalid value {value} for configuration {name}: {said}")
        self.name = name
        self.value = value
        self.reason = reason


class UnknownSetting(SettingError):
    """No setting has this name."""

    def __init__(self, name: str, sentence: str) -> None:
        ValueError.__init__(self, sentence)
        self.name = name
        self.value = None
        self.reason = sentence


_REAL = r"([+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?)[fFdD]?"
_BITS = {Kind.SHORT: 15, Kind.INT: 31, Kind.LONG: 63}
_SPECIAL_REALS = {
    sign + word: float(sign + word) for word in ("NaN", "Infinity") for sign in ("", "+", "-")
}


def parse(setting: Setting, text: str | None) -> Any:
    """The value that `text` stands for, checked; None for None. Raises SettingError.

    A LIST becomes a list of strings, a DOUBLE a float, whole numbers an int.
    """
    if text is None:
        return None
    value = _read(setting, text)
    if setting.check is not None:
        wrong = setting.check(value)
        if wrong is not None:
            raise SettingError(setting.name, text, wrong)
    return value


def _read(setting: Setting, text: str) -> Any:
    kind = setting.kind
    if kind is Kind.STRING:
        return text
    stripped = text.strip()
    if kind in _BITS:
        limit = 1 << _BITS[kind]
        if not _is_whole(stripped) or not -limit <= (number := int(stripped)) < limit:
            raise SettingError(setting.name, text, f"must be a number of type {kind.name}")
        return number
    if kind is Kind.BOOLEAN:
        lowered = stripped.lower()
        if lowered not in ("true", "false"):
            raise SettingError(setting.name, text, "must be true or false")
        return lowered == "true"
    if kind is Kind.LIST:
        return split_list(stripped)
    if kind is Kind.DOUBLE:
        return _read_real(setting, text, stripped)
    return stripped


def _is_whole(text: str) -> bool:
    digits = text[1:] if text[:1] in ("+", "-") else text
    return digits.isascii() and digits.isdigit()


def _read_real(setting: Setting, text: str, stripped: str) -> float:
    special = _SPECIAL_REALS.get(stripped)
    if special is not None:
        return special
    match = re.fullmatch(_REAL, stripped)
    if match is None:
        raise SettingError(setting.name, text, "must be a number of type DOUBLE")
    return float(match[1])


def split_list(text: str) -> list[str]:
    """Items of a comma-separated list; no items for blank text."""
    stripped = text.strip()
    return [item.strip() for item in stripped.split(",")] if stripped else []


def render(setting: Setting, text: str | None) -> str | None:
    """`text` in the form in which Kafka shows the value it stands for (`TRUE` as `true`)."""
    if text is None:
        return None
    value = _read(setting, text)
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return render_real(value)
    if isinstance(value, list):
        return ",".join(value)
    return str(value)


def render_real(value: float) -> str:
    """A float as Java prints a double: 0.5, 1.0E7, NaN."""
    if value != value:
        return "NaN"
    if value in (float("inf"), float("-inf")):
        return "Infinity" if value > 0 else "-Infinity"
    size = abs(value)
    if size == 0 or 1e-3 <= size < 1e7:
        # repr gives the shortest digits, in this range never with an exponent.
        return repr(value)
    digits, _, exponent = f"{value!r}".partition("e")
    if not exponent:
        digits, _, exponent = _normalised(value)
    if "." not in digits:
        digits += ".0"
    return f"{digits}E{int(exponent)}"


def _normalised(value: float) -> tuple[str, str, str]:
    """Shortest digits of a float that repr prints without an exponent, with one."""
    places = len(repr(value).replace(".", "").replace("-", "").strip("0")) - 1
    return f"{value:.{max(places, 0)}e}".partition("e")


# Checks. Each returns a function over the parsed value.


def at_least(low: float) -> Check:
    """A number not below `low`."""

    def check(value: Any) -> str | None:
        return None if value >= low else f"must be at least {low}"

    return check


def between(low: float, high: float) -> Check:
    """A number from `low` to `high`, both allowed."""

    def check(value: Any) -> str | None:
        if low <= value <= high:
            return None
        return f"must be at least {low}" if value < low else f"must be no more than {high}"

    return check


def one_of(*choices: str) -> Check:
    """One of these words, letters as written."""

    def check(value: Any) -> str | None:
        return None if value in choices else f"must be one of: {', '.join(choices)}"

    return check


def each_of(*choices: str) -> Check:
    """A list with nothing but these words."""

    def check(value: Any) -> str | None:
        if all(item in choices for item in value):
            return None
        return f"every item must be one of: {', '.join(choices)}"

    return check


def int_or(special: int, low: int, high: int) -> Check:
    """A whole number from `low` to `high`, or the one special value."""

    def check(value: Any) -> str | None:
        if value == special or low <= value <= high:
            return None
        return f"must be {special} or from {low} to {high}"

    return check


def matching(pattern: str, meaning: str) -> Check:
    """Text that the regular expression covers wholly; `meaning` ends "must be ..."."""
    compiled: list[re.Pattern[str]] = []

    def check(value: Any) -> str | None:
        if not compiled:  # compiled at first use: most starts check none of these
            compiled.append(re.compile(pattern))
        items = value if isinstance(value, list) else [value]
        return None if all(compiled[0].fullmatch(item) for item in items) else f"must be {meaning}"

    return check


def not_empty(value: Any) -> str | None:
    """Text or a list with something in it."""
    return None if value else "must not be empty"


def table(rows: Iterable[Setting]) -> dict[str, Setting]:
    """Rows by name."""
    return {row.name: row for row in rows}
