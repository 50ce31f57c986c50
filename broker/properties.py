"""Reads Java property files (`server.properties`), by the rules of java.util.Properties."""

from collections.abc import Iterator

_BLANKS = " \t\f"
_ESCAPES = {"t": "\t", "n": "\n", "r": "\r", "f": "\f"}


class BadProperties(ValueError):
    """The text is no property file; str() says where."""


def decode(data: bytes) -> str:
    """File content as text: UTF-8, or ISO 8859-1 (Java's reading) where it is not UTF-8."""
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        return data.decode("latin-1")


def parse(text: str) -> dict[str, str]:
    """Names and values; of a repeated name the last value. Raises BadProperties."""
    found: dict[str, str] = {}
    for number, line in _logical_lines(text):
        end = _end_of_name(line)
        rest = line[end:].lstrip(_BLANKS)
        if rest[:1] in ("=", ":"):
            rest = rest[1:].lstrip(_BLANKS)
        found[_unescaped(line[:end], number)] = _unescaped(rest, number)
    return found


def _logical_lines(text: str) -> Iterator[tuple[int, str]]:
    """(number of the first line, line joined with those it continues on), without comments."""
    joined: str | None = None
    first = 0
    for number, raw in enumerate(text.replace("\r\n", "\n").replace("\r", "\n").split("\n"), 1):
        line = raw.lstrip(_BLANKS)
        if joined is None:
            if not line or line[0] in "#!":
                continue
            joined, first = "", number
        backslashes = len(line) - len(line.rstrip("\\"))
        if backslashes % 2:
            joined += line[:-1]
            continue
        yield first, joined + line
        joined = None
    if joined:
        yield first, joined


def _end_of_name(line: str) -> int:
    escaped = False
    for at, char in enumerate(line):
        if escaped:
            escaped = False
        elif char == "\\":
            escaped = True
        elif char in "=:" or char in _BLANKS:
            return at
    return len(line)


def _unescaped(text: str, number: int) -> str:
    if "\\" not in text:
        return text
    parts: list[str] = []
    at = 0
    while at < len(text):
        char = text[at]
        at += 1
        if char != "\\" or at == len(text):
            parts.append(char)
            continue
        char = text[at]
        at += 1
        if char != "u":
            parts.append(_ESCAPES.get(char, char))
            continue
        digits = text[at : at + 4]
        if len(digits) < 4 or not all(d in "0123456789abcdefABCDEF" for d in digits):
            raise BadProperties(f"line {number} has \\u without four hexadecimal digits")
        parts.append(chr(int(digits, 16)))
        at += 4
    # Characters beyond the first plane come as two escapes, a surrogate each.
    return "".join(parts).encode("utf-16", "surrogatepass").decode("utf-16", "replace")
