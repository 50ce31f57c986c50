"""Property files are read by Java's rules."""

import pytest

from broker.properties import BadProperties, decode, parse


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a=1\nb=2", {"a": "1", "b": "2"}),
        ("a = 1", {"a": "1"}),
        ("a:1", {"a": "1"}),
        ("a 1", {"a": "1"}),
        ("a\t=\t1 ", {"a": "1 "}),
        ("  a=1", {"a": "1"}),
        ("# a=1\n! b=2\n\n   # c=3", {}),
        ("a=1#not a comment", {"a": "1#not a comment"}),
        ("a=b=c:d", {"a": "b=c:d"}),
        ("a", {"a": ""}),
        ("a=", {"a": ""}),
        ("=1", {"": "1"}),
        ("a=1\na=2", {"a": "2"}),
        ("a=1\r\nb=2\rc=3", {"a": "1", "b": "2", "c": "3"}),
        ("a=one,\\\n   two,\\\n\tthree", {"a": "one,two,three"}),
        ("a=one\\\n# two", {"a": "one# two"}),
        ("a=x\\", {"a": "x"}),
        ("a=x\\\\\nb=2", {"a": "x\\", "b": "2"}),
        (r"a\ b\=c\:d=1", {"a b=c:d": "1"}),
        (r"a=\tb\n\q", {"a": "\tb\nq"}),
        (r"a=\u00e9\u20AC", {"a": "é€"}),
        (r"a=\ud83d\ude00", {"a": "😀"}),
        (r"a=C:\\data", {"a": "C:\\data"}),
    ],
)
def test_lines(text: str, expected: dict[str, str]) -> None:
    assert parse(text) == expected


def test_bad_escapes() -> None:
    with pytest.raises(BadProperties, match="line 2"):
        parse("a=1\nb=\\u12x4")


def test_bytes() -> None:
    assert decode("a=é".encode()) == "a=é"
    assert decode("a=é".encode("latin-1")) == "a=é"
    assert decode("\ufeffa=1".encode()) == "a=1"
