"""RE2's syntax, read into a tree; what is wrong with a pattern is said in the words of RE2/J, which
Apache Kafka passes on to its clients.

Only characters that occur in names of topics are kept apart: a tree's leaves are sets of those.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

ALPHABET: Final = "".join(
    [*map(chr, range(48, 58)), *map(chr, range(65, 91)), *map(chr, range(97, 123)), "._-"]
)
"""The characters of topic names."""
BIT: Final = {char: 1 << number for number, char in enumerate(ALPHABET)}
ALL: Final = (1 << len(ALPHABET)) - 1

MOST_REPEATS: Final = 1000
MOST_NESTED: Final = 100
MOST_TEXT: Final = 32_767
_LAST_RUNE: Final = 0x10FFFF


class InvalidPattern(Exception):
    """The text says what is wrong, as RE2/J would."""


@dataclass(slots=True)
class Node:
    """`kind`: "char" (one of `chars`), "all" or "any" of `parts`, "repeat" of the only part,
    "^", "$" (begin and end of the name), "b", "B" (boundary of a word and none)."""

    kind: str
    chars: int = 0
    parts: "list[Node]" = field(default_factory=list)
    least: int = 0
    most: int | None = None


def parse(text: str) -> Node:
    """The tree of a pattern. Raises InvalidPattern."""
    if len(text) > MOST_TEXT:
        raise InvalidPattern("expression too large")
    parser = _Parser(text)
    node = parser.alternatives(0)
    if parser.at < len(text):
        raise InvalidPattern("regexp/syntax: internal error")  # a ) too many
    return node


def _set_of(chars: Iterable[str]) -> int:
    return sum({BIT[char] for char in chars if char in BIT})


_DIGITS = _set_of("0123456789")
_UPPER = _set_of("ABCDEFGHIJKLMNOPQRSTUVWXYZ")
_LOWER = _set_of("abcdefghijklmnopqrstuvwxyz")
_WORD = _DIGITS | _UPPER | _LOWER | BIT["_"]
_PERL = {"d": _DIGITS, "s": 0, "w": _WORD}
_POSIX = {
    "alnum": _DIGITS | _UPPER | _LOWER,
    "alpha": _UPPER | _LOWER,
    "ascii": ALL,
    "blank": 0,
    "cntrl": 0,
    "digit": _DIGITS,
    "graph": ALL,
    "lower": _LOWER,
    "print": ALL,
    "punct": _set_of("._-"),
    "space": 0,
    "upper": _UPPER,
    "word": _WORD,
    "xdigit": _DIGITS | _set_of("ABCDEFabcdef"),
}
_CONTROL = {"a": 7, "f": 12, "n": 10, "r": 13, "t": 9, "v": 11}
_CATEGORIES = {
    **dict.fromkeys(("C", "Cc", "Cf", "Co", "Cs", "Lm", "Lo", "Lt", "M", "Mc", "Me", "Mn"), 0),
    **dict.fromkeys(("Nl", "No", "Pe", "Pf", "Pi", "Ps", "S", "Sc", "Sk", "Sm", "So"), 0),
    **dict.fromkeys(("Z", "Zl", "Zp", "Zs"), 0),
    **{"L": _UPPER | _LOWER, "Lu": _UPPER, "Ll": _LOWER, "N": _DIGITS, "Nd": _DIGITS},
    **{"P": _set_of("._-"), "Po": BIT["."], "Pc": BIT["_"], "Pd": BIT["-"]},
}
# fmt: off
_SCRIPTS = {
    **dict.fromkeys(
        (
            "Arabic", "Armenian", "Avestan", "Balinese", "Bamum", "Batak", "Bengali", "Bopomofo",
            "Brahmi", "Braille", "Buginese", "Buhid", "Canadian_Aboriginal", "Carian", "Cham",
            "Cherokee", "Coptic", "Cuneiform", "Cypriot", "Cyrillic", "Deseret", "Devanagari",
            "Egyptian_Hieroglyphs", "Ethiopic", "Georgian", "Glagolitic", "Gothic", "Greek",
            "Gujarati", "Gurmukhi", "Han", "Hangul", "Hanunoo", "Hebrew", "Hiragana",
            "Imperial_Aramaic", "Inherited", "Inscriptional_Pahlavi", "Inscriptional_Parthian",
            "Javanese", "Kaithi", "Kannada", "Katakana", "Kayah_Li", "Kharoshthi", "Khmer", "Lao",
            "Lepcha", "Limbu", "Linear_B", "Lisu", "Lycian", "Lydian", "Malayalam", "Mandaic",
            "Meetei_Mayek", "Mongolian", "Myanmar", "New_Tai_Lue", "Nko", "Ogham", "Ol_Chiki",
            "Old_Italic", "Old_Persian", "Old_South_Arabian", "Old_Turkic", "Oriya", "Osmanya",
            "Phags_Pa", "Phoenician", "Rejang", "Runic", "Samaritan", "Saurashtra", "Shavian",
            "Sinhala", "Sundanese", "Syloti_Nagri", "Syriac", "Tagalog", "Tagbanwa", "Tai_Le",
            "Tai_Tham", "Tai_Viet", "Tamil", "Telugu", "Thaana", "Thai", "Tibetan", "Tifinagh",
            "Ugaritic", "Unknown", "Vai", "Yi",
        ),
        0,
    ),
    **{"Latin": _UPPER | _LOWER, "Common": ALL & ~(_UPPER | _LOWER), "Any": ALL},
}
# fmt: on
_PROPERTIES = {**_CATEGORIES, **_SCRIPTS}
"""Of Unicode, as RE2/J names them: the characters of topic names that have one."""
_FOLDED_LL = _LOWER | BIT["K"] | BIT["S"]
"""What (?i)\\p{Ll} is in RE2/J: of the capitals, those with a third form alone."""


def _folded(low: int, high: int) -> int:
    """Characters that one of a range is another case of."""
    found = _set_of(
        c for c in ALPHABET if low <= ord(c) <= high or low <= ord(c.swapcase()) <= high
    )
    if low <= 0x212A <= high:  # the sign of the Kelvin is a k, and a long s an s
        found |= BIT["k"] | BIT["K"]
    if low <= 0x17F <= high:
        found |= BIT["s"] | BIT["S"]
    return found


class _Parser:
    """One pattern; `at` is what is read next."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.at = 0
        self.fold = False
        self.names: set[str] = set()

    # --- structure

    def alternatives(self, depth: int) -> Node:
        """Up to the end or a )."""
        if depth > MOST_NESTED:
            raise InvalidPattern("expression nests too deeply")
        branches: list[Node] = []
        while True:
            branches.append(self._branch(depth))
            if not self._take("|"):
                break
        return branches[0] if len(branches) == 1 else Node("any", parts=branches)

    def _branch(self, depth: int) -> Node:
        parts: list[Node] = []
        repeated = False  # what was read last was a repetition
        while self.at < len(self.text) and self.text[self.at] not in "|)":
            begin = self.at
            repeat = self._repetition()
            if repeat is not None:
                if repeated:
                    raise InvalidPattern("invalid nested repetition operator")
                if not parts:
                    raise InvalidPattern("missing argument to repetition operator")
                self._take("?")  # lazy or not is the same where the whole name must match
                least, most = repeat
                parts[-1] = Node("repeat", parts=[parts[-1]], least=least, most=most)
                repeated = True
                continue
            self.at = begin
            # RE2/J takes a { that stands for itself for a repetition here.
            repeated = self.text[begin] == "{"
            self._atom(parts, depth)
        return Node("all", parts=parts)

    def _repetition(self) -> tuple[int, int | None] | None:
        char = self.text[self.at]
        self.at += 1
        simple: dict[str, tuple[int, int | None]] = {"*": (0, None), "+": (1, None), "?": (0, 1)}
        if char in simple:
            return simple[char]
        return self._counted() if char == "{" else None

    def _counted(self) -> tuple[int, int | None] | None:
        """{n}, {n,} or {n,m}; None if it is not of that form, and so stands for itself."""
        least = self._number()
        most: int | None = least
        if least is None:
            return None
        if self._take(","):
            most = self._number()
            if most is None and not self._looking_at("}"):
                return None
        if not self._take("}"):
            return None
        if least > MOST_REPEATS or (most is not None and not least <= most <= MOST_REPEATS):
            raise InvalidPattern("invalid repeat count")
        return least, most

    def _number(self) -> int | None:
        begin = self.at
        while self.at < len(self.text) and self.text[self.at] in "0123456789":
            self.at += 1
        digits = self.text[begin : self.at]
        if not digits or (len(digits) > 1 and digits[0] == "0"):
            return None
        return min(int(digits[:9]), MOST_REPEATS + 1)

    def _atom(self, parts: list[Node], depth: int) -> None:
        char = self.text[self.at]
        if char == "(":
            self._group(parts, depth)
        elif char == "[":
            parts.append(self._char(self._class()))
        elif char == "\\":
            self._backslash(parts)
        else:
            self.at += 1
            parts.append(self._plain(char))

    def _plain(self, char: str) -> Node:
        if char in "^$":
            return Node(char)
        if char == ".":
            return self._char(ALL)
        return self._literal(ord(char))

    def _char(self, chars: int) -> Node:
        return Node("char", chars=chars)

    def _literal(self, rune: int) -> Node:
        return self._char(self._range(rune, rune))

    def _range(self, low: int, high: int) -> int:
        if self.fold:
            return _folded(low, high)
        return _set_of(c for c in ALPHABET if low <= ord(c) <= high)

    # --- groups

    def _group(self, parts: list[Node], depth: int) -> None:
        fold = self.fold
        self.at += 1
        if self._take("?") and not self._group_kind():
            return  # flags for what follows
        node = self.alternatives(depth + 1)
        if not self._take(")"):
            raise InvalidPattern("missing closing )")
        self.fold = fold
        parts.append(node)

    def _group_kind(self) -> bool:
        """After (?: whether a group follows, and not flags only."""
        if self._take("P<") or self._take("<"):
            end = self.text.find(">", self.at)
            name = self.text[self.at : end]
            if end < 0:
                raise InvalidPattern("invalid named capture")
            return self._named(name, end)
        return self._flags()

    def _named(self, name: str, end: int) -> bool:
        if not name or not name.isascii() or not name.replace("_", "a").isalnum():
            if self.text[self.at - 2] == "P" or not name.startswith(("=", "!")):
                raise InvalidPattern("invalid named capture")
            raise InvalidPattern("invalid or unsupported Perl syntax")
        if name in self.names:
            raise InvalidPattern("duplicate capture group name")
        self.names.add(name)
        self.at = end + 1
        return True

    def _flags(self) -> bool:
        """i-s: and the like, for the group that follows (true) or for what follows."""
        fold, minus, seen = self.fold, False, False
        while self.at < len(self.text):
            char = self.text[self.at]
            self.at += 1
            if char in "imsU":
                seen = True
                if char == "i":
                    fold = not minus
            elif char == "-" and not minus:
                minus, seen = True, False
            elif char in ":)" and (seen or not minus):
                self.fold = fold
                return char == ":"
            else:
                break
        raise InvalidPattern("invalid or unsupported Perl syntax")

    # --- escapes

    def _backslash(self, parts: list[Node]) -> None:
        following = self.text[self.at + 1 : self.at + 2]
        simple = {"A": "^", "z": "$", "b": "b", "B": "B"}
        if following in simple and following:
            self.at += 2
            parts.append(Node(simple[following]))
        elif following == "Q":
            self._quoted(parts)
        else:
            chars = self._class_escape()
            parts.append(self._literal(self._escape()) if chars is None else self._char(chars))

    def _quoted(self, parts: list[Node]) -> None:
        begin = self.at + 2
        end = self.text.find("\\E", begin)
        stop = len(self.text) if end < 0 else end
        parts += [self._literal(ord(char)) for char in self.text[begin:stop]]
        self.at = stop if end < 0 else end + 2

    def _class_escape(self) -> int | None:
        """\\d, \\pL, \\p{Lu} and the like; None for another escape."""
        kind = self.text[self.at + 1 : self.at + 2]
        if kind and kind.lower() in _PERL:
            self.at += 2
            chars = _PERL[kind.lower()]
            return chars if kind.islower() else ALL & ~chars
        if kind not in ("p", "P"):
            return None
        self.at += 2
        name = self.text[self.at : self.at + 1]
        self.at += 1
        if name == "{":
            end = self.text.find("}", self.at)
            if end < 0:
                raise InvalidPattern("invalid character class range")
            name = self.text[self.at : end]
            self.at = end + 1
        negated = (kind == "P") != name.startswith("^")
        name = name.removeprefix("^")
        found = _PROPERTIES.get(name)
        if found is None:
            raise InvalidPattern("invalid character class range")
        if name == "Ll" and self.fold:
            return ALL & ~_FOLDED_LL if negated else _FOLDED_LL
        return self._set(found, negated)

    def _set(self, chars: int, negated: bool) -> int:
        if self.fold:
            chars = sum({BIT[c] for c in ALPHABET if chars & (BIT[c] | _other_case(c))})
        return ALL & ~chars if negated else chars

    def _escape(self) -> int:
        """One escaped character."""
        self.at += 1
        if self.at >= len(self.text):
            raise InvalidPattern("trailing backslash at end of expression")
        char = self.text[self.at]
        self.at += 1
        if char in _CONTROL:
            return _CONTROL[char]
        if char == "x":
            return self._hexadecimal()
        if char in "01234567":
            return self._octal(char)
        if char.isascii() and char.isalnum():
            raise InvalidPattern("invalid escape sequence")
        return ord(char)

    def _octal(self, first: str) -> int:
        """\\0 to \\077, \\123; \\1 alone would refer to a group."""
        begin = self.at - 1
        if first != "0" and self.text[self.at : self.at + 1] not in tuple("01234567"):
            raise InvalidPattern("invalid escape sequence")
        while self.at < len(self.text) and self.at < begin + 3 and self.text[self.at] in "01234567":
            self.at += 1
        return int(self.text[begin : self.at], 8)

    def _hexadecimal(self) -> int:
        if self._take("{"):
            end = self.text.find("}", self.at)
            digits, after = self.text[self.at : max(end, 0)], end + 1
            most = 9
        else:
            digits, after = self.text[self.at : self.at + 2], self.at + 2
            most = 2
            if len(digits) < most:
                digits = ""
        plain = 0 < len(digits) <= most and all(c in "0123456789abcdefABCDEF" for c in digits)
        if not plain or int(digits, 16) > _LAST_RUNE:
            raise InvalidPattern("invalid escape sequence")
        self.at = after
        return int(digits, 16)

    # --- character classes

    def _class(self) -> int:
        self.at += 1
        negated = self._take("^")
        chars, first = 0, True
        while first or not self._looking_at("]"):
            if self.at >= len(self.text):
                raise InvalidPattern("missing closing ]")
            first = False
            chars |= self._class_part()
        self.at += 1
        return ALL & ~chars if negated else chars

    def _class_part(self) -> int:
        if self._looking_at("[:"):
            end = self.text.find(":]", self.at + 2)
            if end >= 0:
                name = self.text[self.at + 2 : end]
                self.at = end + 2
                return self._posix(name)
        if self._looking_at("\\"):
            chars = self._class_escape()
            if chars is not None:
                return chars
        low = high = self._class_char()
        if self._looking_at("-") and not self._looking_at("-]"):
            self.at += 1
            high = self._class_char()
            if high < low:
                raise InvalidPattern("invalid character class range")
        return self._range(low, high)

    def _posix(self, name: str) -> int:
        chars = _POSIX.get(name.removeprefix("^"))
        if chars is None:
            raise InvalidPattern("invalid character class range")
        return self._set(chars, name.startswith("^"))

    def _class_char(self) -> int:
        if self.at >= len(self.text):
            raise InvalidPattern("missing closing ]")
        if self.text[self.at] == "\\":
            return self._escape()
        self.at += 1
        return ord(self.text[self.at - 1])

    # --- reading

    def _looking_at(self, text: str) -> bool:
        return self.text.startswith(text, self.at)

    def _take(self, text: str) -> bool:
        if not self._looking_at(text):
            return False
        self.at += len(text)
        return True


def _other_case(char: str) -> int:
    return BIT[char.swapcase()]
