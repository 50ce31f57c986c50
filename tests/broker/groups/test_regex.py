"""Topic patterns: what RE2/J takes and matches, in linear time.

Recorded: tests/broker/captured/consumer-patterns.jsonl.gz, RE2/J's answers (the library that Apache
Kafka 4.4.0 has) to patterns made by hand and by chance.
"""

import gzip
import json
import re
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.groups.regex import InvalidPattern, Pattern
from tests.kit.hosted import CAPTURED
from tests.kit.strategies import profile


def outcome(pattern: str, texts: list[str]) -> str | list[int]:
    try:
        compiled = Pattern(pattern)
    except InvalidPattern as error:
        return str(error)
    return [int(compiled.matches(text)) for text in texts]


def test_answers_are_those_of_re2() -> None:
    lines = gzip.decompress((CAPTURED / "consumer-patterns.jsonl.gz").read_bytes()).splitlines()
    rows = [json.loads(line) for line in lines]
    assert len(rows) > 1000
    wrong = [(p, texts, said) for p, texts, said in rows if outcome(p, texts) != said]
    assert not wrong


PLAIN = st.recursive(
    st.sampled_from(["a", "b", "-", ".", "[ab]", "[^a]", r"\d", r"\w", "", "^", "$", r"\b"]),
    lambda inner: st.one_of(
        st.tuples(inner, inner).map("".join),
        st.tuples(inner, inner).map("|".join).map("(?:{})".format),
        st.tuples(inner, st.sampled_from("*+?")).map(lambda x: f"(?:{x[0]}){x[1]}"),
        inner.map("({})".format),
    ),
    max_leaves=8,
)


@profile(150)
@given(PLAIN, st.lists(st.text("ab-1", max_size=6), max_size=6))
def test_what_both_know_means_the_same_as_in_python(pattern: str, texts: list[str]) -> None:
    """Names of topics have no line breaks, where `$` would differ."""
    compiled = Pattern(pattern)
    same = re.compile(pattern)
    for text in texts:
        assert compiled.matches(text) == (same.fullmatch(text) is not None), text


@pytest.mark.parametrize(
    "pattern", ["(a*)*b", "(a|a)*b", "(a|aa)+b", "(.*)(.*)(.*)(.*)(.*)(.*)x", "(a?){60}a{60}b"]
)
def test_no_pattern_takes_long(pattern: str) -> None:
    """A backtracking matcher needs more time than there is for these."""
    compiled = Pattern(pattern)
    begun = time.process_time()
    assert not compiled.matches("a" * 249)
    assert time.process_time() - begun < 2


@pytest.mark.parametrize(
    "pattern", ["(a{1000}){1000}", "((a{100}){100}){100}", "(?:" * 2000 + "a" + ")" * 2000]
)
def test_patterns_that_are_too_large_are_invalid(pattern: str) -> None:
    with pytest.raises(InvalidPattern):
        Pattern(pattern)
