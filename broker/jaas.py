"""Java's login configuration (JAAS): named sections of login modules with options.

Client { org.apache.zookeeper.server.auth.DigestLoginModule required
         username="kafka" password="secret"; };
"""

import re
from collections.abc import Iterator, Mapping
from typing import NamedTuple

_TOKEN = re.compile(
    r"""//[^\n]* | /\*.*?\*/ | \s+ | (?P<quoted>"(?:[^"\\]|\\.)*") | (?P<mark>[{};=])
      | (?P<word>[^\s{};="]+)""",
    re.DOTALL | re.VERBOSE,
)
FLAGS = ("required", "requisite", "sufficient", "optional")


class BadJaas(ValueError):
    """The text is no login configuration; str() says what is wrong, never a value."""


class LoginModule(NamedTuple):
    """One module of a section: its Java class and its options."""

    name: str
    options: Mapping[str, str]


def parse(text: str) -> dict[str, list[LoginModule]]:
    """Sections by name. Raises BadJaas."""
    tokens = _tokens(text)
    sections: dict[str, list[LoginModule]] = {}
    for name in tokens:
        _expect(tokens, "{")
        modules: list[LoginModule] = []
        for token in tokens:
            if token == "}":
                break
            modules.append(_module(token, tokens))
        else:
            raise BadJaas(f"the section {name} does not end")
        _expect(tokens, ";")
        sections[name] = modules
    return sections


def _module(name: str, tokens: Iterator[str]) -> LoginModule:
    flag = next(tokens, "")
    if flag.lower() not in FLAGS:
        raise BadJaas(f"behind {name} stands none of {', '.join(FLAGS)}")
    options: dict[str, str] = {}
    for key in tokens:
        if key == ";":
            return LoginModule(name, options)
        _expect(tokens, "=")
        options[key] = next(tokens, "")
    raise BadJaas(f"the options of {name} do not end with a semicolon")


def _expect(tokens: Iterator[str], mark: str) -> None:
    if next(tokens, "") != mark:
        raise BadJaas(f"a {mark!r} is missing")


def _tokens(text: str) -> Iterator[str]:
    at = 0
    while at < len(text):
        match = _TOKEN.match(text, at)
        if match is None:
            raise BadJaas("a quotation mark is not closed")
        at = match.end()
        quoted, word = match["quoted"], match["mark"] or match["word"]
        if quoted is not None:
            yield re.sub(r"\\(.)", r"\1", quoted[1:-1])
        elif word is not None:
            yield word
