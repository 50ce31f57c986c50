"""Any course of joins, syncs, heartbeats, departures, refused appends and time: what must hold at
every moment of a classic group's life, whatever its clients do."""

import random
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.groups.classic_group import (
    COMPLETING,
    EMPTY,
    PREPARING,
    STABLE,
    ClassicGroup,
    session_timer,
)
from tests.broker.groups.script import Script

SETTINGS = {"group.initial.rebalance.delay.ms": "300", "group.max.size": "5"}
OFTEN = ("join", "join", "enter", "enter", "sync", "sync", "sync", "wait")
RARELY = ("leave", "static", "heartbeat", "commit", "refuse", "restart")
PROTOCOLS = ("range:t", "range:t/sticky:t", "sticky:t/range:u", "other:t")


class Crowd:
    """Clients of one group that do anything, each of what it knows or makes up."""

    def __init__(self, seed: int) -> None:
        self.any = random.Random(seed)
        self.script = Script(SETTINGS)
        self.opened: list[object] = []
        ask = self.script._ask

        def counted(*args: object) -> object:
            who = ask(*args)  # type: ignore[arg-type]
            self.opened.append(who)
            return who

        self.script._ask = counted  # type: ignore[method-assign, assignment]

    @property
    def group(self) -> ClassicGroup | None:
        return self.script.machine.classic.group("g")

    def _member(self) -> str:
        """A member id that is known, or pending, or of nobody."""
        group = self.group
        known = [] if group is None else [*group.members, *group.pending]
        return self.any.choice([*known, *known, "nobody-0"])

    def _generation(self) -> int:
        group = self.group
        return (0 if group is None else group.generation) - (self.any.random() < 0.1)

    def _instance(self, member: str) -> str:
        """Mostly the member's own."""
        group = self.group
        found = None if group is None else group.members.get(member)
        if found is not None and found.instance_id is not None and self.any.random() < 0.9:
            return f" static={found.instance_id}"
        return " static=s1" if self.any.random() < 0.1 else ""

    def step(self) -> str:
        """A command that somebody might give."""
        what = self.any.choice(OFTEN * 3 + RARELY)
        member, name = self._member(), self.any.choice("ABC")
        more = f"session={self.any.choice((6000, 10000))} rebalance={self.any.choice((500, 20000))}"
        protocols = f"protocols={self.any.choice(PROTOCOLS[: self.any.choice((1, 4))])}"
        if what == "join":
            return f"{name} join g id={member}{self._instance(member)} {protocols} {more}"
        if what == "enter":
            return f"{name} join g {protocols} {more} v={self.any.choice((0, 3, 4, 9))}"
        if what == "static":
            return f"{name} join g static={self.any.choice(('s1', 's2'))} {protocols} {more} v=9"
        if what == "wait":
            return f"wait {self.any.choice((0, 100, 300, 700, 3000, 6001))}"
        if what == "refuse":
            return "refuse NOT_COORDINATOR"
        if what == "restart":
            return "restart"
        told = f"g id={member} generation={self._generation()}{self._instance(member)}"
        if what == "sync":
            group = self.group
            members = [] if group is None else [m for m in group.members if self.any.random() < 0.8]
            give = ",".join(f"{m}:{m[:1]}{self.any.randrange(9)}" for m in members)
            return f"{name} sync {told} v=3" + (f" give={give}" if give else "")
        if what == "commit":
            return f"{name} commit {told} offsets=t-0={self.any.randrange(99)}"
        if what == "leave":
            return f"{name} leave g ids={member}:"
        return f"{name} heartbeat {told}"

    def play(self, steps: int) -> None:
        for _ in range(steps):
            command = self.step()
            if command == "restart":
                self._restart()
            else:
                self.script.run(command)
            self.check()

    def _restart(self) -> None:
        """A stable group goes on as it was; what was under way is lost with its requests."""
        before = self.group
        stable = before is not None and before.state == STABLE and not self.script.refusal
        self.script.run("restart")
        self.opened.clear()
        after = self.group
        if stable and before is not None:
            assert after is not None
            assert (after.state, after.generation, after.leader, after.protocol) == (
                STABLE, before.generation, before.leader, before.protocol)  # fmt: skip
            for member_id, member in before.members.items():
                same = after.members[member_id]
                assert (same.assignment, same.instance_id, same.session_timeout_ms) == (
                    member.assignment, member.instance_id, member.session_timeout_ms)  # fmt: skip

    # --- what must hold

    def check(self) -> None:
        group, timers = self.group, self.script.timers.at
        waiting = sum(not who.done for who in self.opened)  # type: ignore[attr-defined]
        if group is None:
            assert not waiting and not any(key[0] == "classic" for key in timers)  # type: ignore[index]
            return
        members = group.members.values()
        joining = [m for m in members if m.joining is not None]
        syncing = [m for m in members if m.syncing is not None]
        assert waiting == len(joining) + len(syncing), "somebody waits for nothing"
        assert group.joined == len(joining)
        counts = Counter(name for m in members for name, _ in m.protocols)
        assert group._supported == counts
        assert (group.leader in group.members) == bool(members)
        assert group.static == {
            m.instance_id: m.member_id for m in members if m.instance_id is not None
        }
        assert not group.pending.keys() & group.members.keys()
        assert group.pending_sync.keys() <= group.members.keys()
        assert all(member_id == m.member_id for member_id, m in group.members.items())
        assert group.joined <= 5
        self._check_state(group, bool(joining), bool(syncing))
        for member in members:
            waits = member.joining is not None or member.syncing is not None
            assert member.session in timers or (waits and not member.is_new)
        for member_id in group.pending:
            assert session_timer("g", member_id) in timers

    def _check_state(self, group: ClassicGroup, joining: bool, syncing: bool) -> None:
        timers = self.script.timers.at
        if group.state == EMPTY:
            assert not group.members
        assert not joining or group.state == PREPARING
        assert not syncing or group.state == COMPLETING
        assert (("classic", "join", "g") in timers) == (group.state == PREPARING)
        if group.state in (STABLE, COMPLETING):
            assert group.members
            assert (("classic", "sync", "g") in timers) == bool(group.pending_sync)
        if group.state == COMPLETING:
            assert group.protocol == group.select_protocol()


@given(st.integers(0, 1 << 32))
def test_any_course(seed: int) -> None:
    crowd = Crowd(seed)
    crowd.play(60)
    # Nobody comes any more: every session ends, and everybody is answered.
    crowd.script.run("wait 600000")
    crowd.check()
    assert crowd.group is None or crowd.group.state == EMPTY
    assert all(who.done for who in crowd.opened)  # type: ignore[attr-defined]


@pytest.mark.parametrize("seed", range(20))
def test_a_long_course(seed: int) -> None:
    crowd = Crowd(seed)
    crowd.play(400)
