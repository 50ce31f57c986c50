"""README names settings and options that exist."""

import re
from pathlib import Path

from broker.cli import _parser
from broker.config import ALONE
from broker.settings import INTERNAL, SETTINGS

README = (Path(__file__).parents[2] / "README.md").read_text("utf-8")


def test_every_setting_in_the_table_exists() -> None:
    table = README.split("These have an effect:")[1].split("All others")[0]
    named = re.findall(r"`([a-z][a-z0-9.]+)`", table)
    assert len(named) > 50
    assert len(set(named)) == len(named)
    assert [name for name in named if name not in SETTINGS | INTERNAL] == []


def test_what_a_broker_alone_has_is_told() -> None:
    assert all(f"`{name}" in README for name in ALONE)


def test_every_option_is_told() -> None:
    options = set(re.findall(r"--[a-z-]+", _parser().format_help()))
    start = next(a for a in _parser()._actions if a.choices).choices
    assert start is not None
    options |= set(re.findall(r"--[a-z-]+", start["start"].format_help()))  # type: ignore[index]
    assert {o for o in options - {"--help"} if f"{o}" not in README} == set()
