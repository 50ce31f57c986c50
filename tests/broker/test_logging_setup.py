"""Log lines and levels by logger."""

import io
import logging
import re
from collections.abc import Iterator

import pytest

from broker import logging_setup


@pytest.fixture(autouse=True)
def as_before() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level, raising = root.handlers[:], root.level, logging.raiseExceptions
    names = {n: logging.getLevelName(n) for n in (5, 10, 20, 30, 40, 50)}
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    logging.raiseExceptions = raising
    logging.getLogger("asyncio").setLevel(logging.NOTSET)
    for number, name in names.items():
        logging.addLevelName(number, name)


def test_a_line_is_like_kafkas(monkeypatch: pytest.MonkeyPatch) -> None:
    out = io.StringIO()
    monkeypatch.setattr("sys.stderr", out)
    logging_setup.configure()
    logging.getLogger("odradek.test").warning("three %s", "words")
    logging.getLogger("odradek.test").debug("nothing")
    line = r"\[\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3}\] WARN three words \(odradek\.test\)\n"
    assert re.fullmatch(line, out.getvalue())


def test_levels(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stderr", io.StringIO())
    logging_setup.configure()
    logger = logging.getLogger("odradek.test.levels")
    assert logging_setup.levels()["root"] == "INFO"
    assert logging_setup.levels()["odradek.test.levels"] == "INFO"
    logging_setup.set_level("odradek.test.levels", "TRACE")
    assert logging_setup.levels()["odradek.test.levels"] == "TRACE"
    assert logger.isEnabledFor(5)
    logging_setup.unset_level("odradek.test.levels")
    logging_setup.set_level("root", "FATAL")
    assert logging_setup.levels()["odradek.test.levels"] == "FATAL"
    logger.setLevel(35)
    assert logging_setup.levels()["odradek.test.levels"] == "WARN"
    logging_setup.unset_level("odradek.test.levels")


def test_existence() -> None:
    logging.getLogger("odradek.test.deep.one")
    assert logging_setup.exists("root")
    assert logging_setup.exists("odradek.test.deep.one")
    assert not logging_setup.exists("odradek.test.deep")  # only a placeholder
    assert not logging_setup.exists("never.asked.for")
