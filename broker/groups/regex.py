"""Patterns of topic names, in the syntax of RE2 that Apache Kafka's brokers take (KIP-848).

A pattern has to match a whole name. It is compiled to an automaton without backtracking: a name
costs one step for each of its characters whatever the pattern is, and steps are remembered (and
dropped when there are too many). Names of topics have 65 different characters, so what matches a
character is a set of those: one integer.

Not as in RE2 are the bounds: a pattern of more than `MOST_STATES` states, or nested deeper than
`MOST_NESTED`, is refused.
"""

from itertools import pairwise
from typing import Final, NamedTuple, TypeAlias

from broker.groups.regex_syntax import BIT, InvalidPattern, Node, parse

MOST_STATES: Final = 20_000
"""Characters and branches that a pattern may have once its repetitions are written out."""
KEPT_STATES: Final = 2_000
"""States of the automaton that are remembered, with the steps between them."""

_WORD: Final = sum(bit for char, bit in BIT.items() if char.isalnum() or char == "_")

_Ends: TypeAlias = list[tuple[int, int]]
"""Open ends of a part of the automaton: (state, which of its two ways on)."""


class _State(NamedTuple):
    """Of the automaton: where it may be (before assertions are looked at)."""

    places: frozenset[int]
    begun: bool
    """Some character was read."""
    after_word: bool
    """And the last one belongs to a word."""


class Pattern:
    """A compiled pattern. Raises InvalidPattern with what is wrong with it.

    `work` counts what matching has cost so far, in places looked at: some million are a second.
    """

    def __init__(self, text: str) -> None:
        self.work = 0
        self._kinds: list[str] = []
        self._what: list[int] = []
        self._next: list[list[int]] = []
        start, ends = self._compile(parse(text))
        self._join(ends, self._state("accept"))
        self._start = _State(frozenset((start,)), False, False)
        self._forget()

    def _forget(self) -> None:
        self._numbers: dict[_State, int] = {}
        self._states: list[_State] = []
        self._steps: list[dict[str, int]] = []
        self._accepted: dict[int, bool] = {}
        self._number(self._start)

    def matches(self, name: str) -> bool:
        """Whether the whole name, of a topic, matches."""
        self.work += len(name)
        if len(self._states) > KEPT_STATES:
            self._forget()
        at = 0
        for char in name:
            following = self._steps[at].get(char)
            if following is None:
                following = self._steps[at][char] = self._step(self._states[at], BIT[char])
            at = following
            if not self._states[at].places:
                return False
        accepted = self._accepted.get(at)
        if accepted is None:
            reached = self._reach(self._states[at], None)
            accepted = self._accepted[at] = any(self._kinds[p] == "accept" for p in reached)
        return accepted

    # --- running

    def _number(self, state: _State) -> int:
        number = self._numbers.get(state)
        if number is None:
            number = self._numbers[state] = len(self._states)
            self._states.append(state)
            self._steps.append({})
        return number

    def _step(self, state: _State, bit: int) -> int:
        kinds, what, ways = self._kinds, self._what, self._next
        reached = frozenset(
            ways[place][0]
            for place in self._reach(state, bit)
            if kinds[place] == "char" and what[place] & bit
        )
        return self._number(_State(reached, True, bool(bit & _WORD)))

    def _reach(self, state: _State, bit: int | None) -> list[int]:
        """All places that are reached without a character; `bit` is the next one, None the end."""
        boundary = state.after_word != bool((bit or 0) & _WORD)
        holds = {
            "split": True,
            "^": not state.begun,
            "$": bit is None,
            "b": boundary,
            "B": not boundary,
        }
        found = dict.fromkeys(state.places)
        todo = list(state.places)
        while todo:
            place = todo.pop()
            if holds.get(self._kinds[place], False):
                for way in self._next[place]:
                    if way not in found:
                        found[way] = None
                        todo.append(way)
        self.work += len(found)
        return list(found)

    # --- compiling

    def _state(self, kind: str, what: int = 0) -> int:
        if len(self._kinds) >= MOST_STATES:
            raise InvalidPattern("expression too large")
        self._kinds.append(kind)
        self._what.append(what)
        self._next.append([])
        return len(self._kinds) - 1

    def _open(self, state: int) -> tuple[int, int]:
        """A new way on from a state, to be joined."""
        self._next[state].append(-1)
        return state, len(self._next[state]) - 1

    def _join(self, ends: _Ends, state: int) -> None:
        for end, way in ends:
            self._next[end][way] = state

    def _compile(self, node: Node) -> tuple[int, _Ends]:
        """(first state, open ends)."""
        kind = node.kind
        if kind == "all":
            return self._sequence([self._compile(part) for part in node.parts])
        if kind == "any":
            return self._alternatives(node)
        if kind == "repeat":
            return self._repeated(node)
        state = self._state(kind, node.chars)
        return state, [self._open(state)]

    def _sequence(self, parts: list[tuple[int, _Ends]]) -> tuple[int, _Ends]:
        if not parts:
            state = self._state("split")
            return state, [self._open(state)]
        for (_, ends), (start, _) in pairwise(parts):
            self._join(ends, start)
        return parts[0][0], parts[-1][1]

    def _alternatives(self, node: Node) -> tuple[int, _Ends]:
        split = self._state("split")
        ends: _Ends = []
        for part in node.parts:
            start, more = self._compile(part)
            self._join([self._open(split)], start)
            ends += more
        return split, ends

    def _repeated(self, node: Node) -> tuple[int, _Ends]:
        """x{2,} is xxx*, x{2,3} is xx(x)?, each written out."""
        part, least, most = node.parts[0], node.least, node.most
        made = [self._compile(part) for _ in range(least)]
        if most is None:
            loop = self._state("split")
            start, ends = self._compile(part)
            self._join([self._open(loop)], start)
            self._join(ends, loop)
            made.append((loop, [self._open(loop)]))
            return self._sequence(made)
        skips: _Ends = []
        for _ in range(most - least):
            split = self._state("split")
            start, ends = self._compile(part)
            self._join([self._open(split)], start)
            skips.append(self._open(split))
            made.append((split, ends))
        start, ends = self._sequence(made)
        return start, ends + skips
