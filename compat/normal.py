"""Answers as plain values (numbers, texts, lists, mappings), without what may differ."""

import re
from collections.abc import Sequence
from typing import Any

from compat.read_batches import around_now, read_records
from compat.rules import SET_AT_START, Rule, rule_for
from protocol.compiler import specs_of
from protocol.wire import ZERO_UUID, FieldSpec

IGNORED = "<ignored>"
MAYBE_TEXT = "<text or null>"
"""The sentence of a refusal: whether there is one is as much each broker's own as its words."""
_UUID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}|(?<=:)[A-Za-z0-9_-]{22}(?=:|$)")
_SHORT_UUID = re.compile(r"[A-Za-z0-9_-]{22}")
_NONE = {"topic id": (ZERO_UUID,), "session id": (0,), "producer id": (-1,), "metadata hash": (0,)}
"""The values of a space that mean "none" and are compared as they are."""


class Aliases:
    """Symbols for values that each side chooses for itself, given in order of appearance."""

    def __init__(self, host: str, port: int) -> None:
        self.host = host
        self.port = port
        self._symbols: dict[str, dict[Any, str]] = {}

    def copy(self) -> "Aliases":
        """The same symbols, to be added to apart."""
        made = Aliases(self.host, self.port)
        made._symbols = {space: dict(known) for space, known in self._symbols.items()}
        return made

    def seed(self, space: str, value: Any, symbol: str) -> None:
        """Fixes the symbol of a value that is known before the first answer."""
        self._symbols.setdefault(space, {})[value] = symbol

    def symbol(self, space: str, value: Any) -> Any:
        """The symbol of a value; the ones that mean "none" stay what they are."""
        if value in _NONE.get(space, ()) or value in ("", None):
            return value.hex() if isinstance(value, bytes) else value
        known = self._symbols.setdefault(space, {})
        if value not in known:
            count = sum(1 for s in known.values() if s.startswith(f"<{space} "))
            known[value] = f"<{space} {count + 1}>"
        return known[value]

    def named(self, value: str) -> str:
        """A text in which every UUID, and one that is a UUID in Kafka's short form, is a symbol."""
        if _SHORT_UUID.fullmatch(value):
            return str(self.symbol("uuid", value))
        return _UUID.sub(lambda found: str(self.symbol("uuid", found[0])), value)

    def address(self, value: Any) -> Any:
        if value == self.host:
            return "<host>"
        return "<port>" if value == self.port else value


class _Walk:
    """One pass over one answer."""

    def __init__(
        self, api: str, version: int, aliases: Aliases, texts: list[Any], errors: list[int]
    ) -> None:
        self.api = api
        self.version = version
        self.aliases = aliases
        self.texts = texts
        self.errors = errors

    def struct(self, value: Any, path: str) -> dict[str, Any]:
        out: dict[str, Any] = {}
        for spec in specs_of(type(value)):
            if spec.in_version(self.version):
                below = f"{path}.{spec.name}" if path else spec.name
                out[spec.name] = self.field(spec, getattr(value, spec.name), below)
        if self.api == "DescribeConfigs" and path == "results.configs":
            _hide_own(out)
        if out.get("error_code", 0) != 0 and "error_message" in out:
            out["error_message"] = MAYBE_TEXT
        return out

    def field(self, spec: FieldSpec, value: Any, path: str) -> Any:
        if spec.name == "error_code":
            self.errors.append(value)
        rule = rule_for(self.api, self.version, path)
        if rule is not None and rule.how == "offer":
            if len(value) > 1:
                return "<offer>"
        elif rule is not None and rule.how != "sort":
            return self.ruled(rule, value, path)
        if value is None:
            return None
        if spec.kind == "array":
            values = self.array(spec, self.ordered(rule, value), path)
            if rule is not None and rule.how == "sort":
                # Once more by what ids are called here: they themselves differ from side to side.
                values.sort(key=lambda v: [_sortable(v.get(n)) for n in rule.argument])
            return values
        if spec.kind == "struct":
            return self.struct(value, path)
        if spec.kind == "records":
            return read_records(bytes(value), 0, self.producer)
        return bytes(value).hex() if isinstance(value, bytes | memoryview | bytearray) else value

    def array(self, spec: FieldSpec, values: Sequence[Any], path: str) -> list[Any]:
        element = spec.element
        assert element is not None
        if element.kind == "struct":
            return [self.struct(value, path) for value in values]
        return [self.field(element, value, path) for value in values]

    def ordered(self, rule: Rule | None, values: Sequence[Any]) -> Sequence[Any]:
        if rule is None or rule.how != "sort" or not values:
            return values
        names = [n for n in rule.argument if hasattr(values[0], n)]
        return sorted(values, key=lambda v: [_sortable(getattr(v, n)) for n in names])

    def ruled(self, rule: Rule, value: Any, path: str) -> Any:
        if rule.how == "ignore":
            return IGNORED
        if rule.how == "numbers":
            return value if value is None else sorted(value)
        if rule.how == "sign":
            return (value > 0) - (value < 0)
        if rule.how == "alias":
            return self.aliases.symbol(rule.argument[0], value)
        if rule.how == "uuid":
            return value if value is None else self.aliases.named(value)
        if rule.how == "address":
            return self.aliases.address(value)
        if rule.how == "time":
            return around_now(value)
        assert rule.how == "text", rule
        self.texts.append((path, value))
        if path.endswith("batch_index_error_message"):
            return MAYBE_TEXT
        return "<text>" if value else value

    def producer(self, value: int) -> Any:
        return self.aliases.symbol("producer id", value)


def _sortable(value: Any) -> tuple[bool, bool, Any]:
    """Nothing first, then numbers, then the symbols of others."""
    plain = bytes(value) if isinstance(value, memoryview) else value
    return (value is not None, isinstance(value, str), plain)


def _hide_own(config: dict[str, Any]) -> None:
    if config["name"] in SET_AT_START:
        for each in (config, *config.get("synonyms", ())):
            if each["value"] is not None:
                each["value"] = "<its own>"


def normalise(
    api: str, version: int, answer: Any, aliases: Aliases, texts: list[Any], errors: list[int]
) -> Any:
    """An answer in comparable form. `texts` collects sentences, `errors` all error codes."""
    return _Walk(api, version, aliases, texts, errors).struct(answer, "")
