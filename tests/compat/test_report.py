"""The report card's tables: which client a test is about, and where a table is written."""

import pytest

from compat.report import PAGE, client_of, put, table


@pytest.mark.parametrize(
    ("words", "client"),
    [
        ("kafka-python-gzip", "kafka-python"),
        ("aiokafka", "aiokafka"),
        ("kcat-zstd-True", "kcat"),
        ("gzip", None),
        ("", None),
    ],
)
def test_client_of_a_test(words: str, client: str | None) -> None:
    assert client_of(words) == client


def test_table() -> None:
    cells = {("a", "x"): "1", ("b", "y"): "2"}
    assert table(cells, "row").splitlines() == [
        "| row | x | y |",
        "| --- | --- | --- |",
        "| a | 1 | - |",
        "| b | - | 2 |",
    ]


def test_only_the_section_is_replaced() -> None:
    page = "a\n<!-- s -->\nold\n<!-- end of s -->\nb\n"
    assert put(page, "s", "new") == "a\n<!-- s -->\nnew\n<!-- end of s -->\nb\n"
    with pytest.raises(AssertionError):
        put(page, "t", "new")


def test_the_page_has_both_sections() -> None:
    page = PAGE.read_text()
    for section in ("clients", "workloads"):
        assert put(page, section, "x").count("x\n<!-- end of " + section) == 1
