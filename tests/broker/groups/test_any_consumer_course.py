"""Any course of a group with members of both protocols: clients that do what they are told, lose
answers, die, come back and change their minds; topics that come, grow and go; refused appends;
restarts. No two of them ever have the same partition, and once they are left alone, each partition
gets its reader.

After every command the log is replayed into another machine as well (see `consumer_script`).
"""

import random
import re
from collections import Counter
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.groups.common import CONSUMER
from tests.broker.groups.consumer_script import ConsumerScript
from tests.kit.strategies import profile

HEARD = re.compile(r"epoch (-?\d+)(?:, has (.*))?$")
JOINED = re.compile(
    r"generation (\d+) (?:consumer|None) range as (\S+), (?:no leader|leader (\S+)); "
)
ASSIGNED = re.compile(r"consumer range assigned '(.*)'$")
READS = ("t", "u", "t+u", "t+later", "[tu]", ".*")
TIMEOUTS = "session=10000 rebalance=4000"


def places(text: str) -> set[str]:
    return set() if text == "nothing" else set(text.split())


class Client:
    """Of the consumer protocol. It has what it was told last, until it is told otherwise; where it
    was told nothing it says all again."""

    def __init__(self, name: str, instance: str = "") -> None:
        self.name, self.member_id = name, name
        self.static = f" static={instance}" if instance else ""
        self.has: set[str] = set()
        self.epoch = 0
        self.reads = "t"
        self.unsure = False

    def step(self, any_: random.Random) -> str:
        told = f"{self.name} beat g id={self.member_id} epoch={self.epoch}{self.static}"
        has = "+".join(sorted(self.has)) or "none"
        if self.epoch == 0 or self.unsure:
            is_regex = "." in self.reads or "[" in self.reads
            topics, regex = ("", self.reads) if is_regex else (self.reads, "")
            return f"{told} topics={topics} regex={regex} own={has} timeout=4000"
        return told if any_.random() < 0.3 else f"{told} own={has}"

    def changes(self, reads: str) -> None:
        self.reads, self.unsure = reads, True

    def hears(self, answer: str) -> None:
        heard = HEARD.match(answer)
        if heard is not None:
            self.epoch = max(int(heard[1]), 0)
            self.unsure = False
            if heard[2] is not None:
                self.has = places(heard[2])
        elif answer.startswith("NOT_COORDINATOR"):
            self.unsure = True
        else:
            self.lost()

    def lost(self) -> None:
        """Its place, with all that it had."""
        self.epoch = 0
        self.has.clear()

    def restarted(self) -> None:
        """Of the broker."""

    def is_known(self, group: Any) -> bool:
        """To the group, as one that has partitions."""
        return self.member_id in group.members


class ClassicClient(Client):
    """An eager one: it gives everything up before it joins again. As leader it assigns nothing."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.member_id = ""
        self.state = "out"
        self.generation, self.leads = -1, False

    def step(self, any_: random.Random) -> str:
        told = f"g id={self.member_id} generation={self.generation}"
        if self.state == "out":
            self.has.clear()
            self.state = "joining"
            topics = self.reads if self.reads.replace("+", "").isalpha() else "t"
            return f"{self.name} join g v=3 id={self.member_id} protocols=range:{topics} {TIMEOUTS}"
        if self.state == "joined":
            self.state = "syncing"
            return f"{self.name} sync {told}" + (f" give={self.member_id}:" if self.leads else "")
        if self.state == "stable":
            return f"{self.name} heartbeat {told}"
        return ""  # it waits for an answer

    def changes(self, reads: str) -> None:
        self.reads = reads
        if self.state == "stable":
            self.state = "out"

    def hears(self, answer: str) -> None:
        joined, assigned = JOINED.match(answer), ASSIGNED.match(answer)
        if joined is not None:
            self.generation, self.member_id = int(joined[1]), joined[2]
            self.leads = joined[3] == self.member_id
            self.state = "joined"
        elif assigned is not None:
            self.has, self.state = places(assigned[1]), "stable"
        elif answer != "NONE":
            self.lost()
            if answer.startswith(("UNKNOWN_MEMBER_ID", "FENCED")):
                self.member_id = ""

    def lost(self) -> None:
        self.has.clear()
        self.state = "out"

    def restarted(self) -> None:
        if self.state in ("joining", "syncing"):
            self.lost()

    def is_known(self, group: Any) -> bool:
        """In a group that was made a classic one, and a consumer group again, before this one
        heard of it, it counts (in Apache Kafka too) as one that has its target. It is fenced by its
        generation, which is over."""
        member = group.members.get(self.member_id)
        if member is None or group.kind != CONSUMER:
            return member is not None
        return bool(member.epoch <= self.generation)


class Crowd:
    """A group's clients, those that are alive and those that were."""

    def __init__(self, seed: int, classic: float) -> None:
        self.any = random.Random(seed)
        self.classic = classic
        self.script = ConsumerScript(
            {
                "group.initial.rebalance.delay.ms": "0",
                "group.consumer.assignment.interval.ms": self.any.choice(("0", "700")),
            }
        )
        self.clients: dict[str, Client] = {}
        self.dead: dict[str, Client] = {}
        self.count = 0

    @property
    def group(self) -> Any:
        return self.script.machine.shared.groups.get("g")

    def run(self, command: str, *, heard: bool = True) -> None:
        """What clients do once they are answered; `heard` is whether the answer arrives."""
        if not command:
            return
        for line in self.script.run(command):
            name, _, answer = line.partition(": ")
            client = self.clients.get(name)
            if client is None:
                continue
            if heard or isinstance(client, ClassicClient):
                client.hears(answer)
            else:
                client.unsure = True
        self.check()

    def step(self) -> None:
        any_ = self.any
        what = any_.choices(
            ("beat", "new", "gone", "dies", "changes", "wait", "refuse", "topics", "restart"),
            (60, 8, 4, 2, 4, 12, 3, 3, 2),
        )[0]
        client = any_.choice(list(self.clients.values())) if self.clients else None
        if what == "new" or client is None:
            self.comes()
        elif what == "beat":
            self.run(client.step(any_), heard=any_.random() < 0.9)
        elif what == "gone":
            self.goes(client)
        elif what == "dies":
            self.dead[client.name] = self.clients.pop(client.name)
        elif what == "changes":
            client.changes(any_.choice(READS))
        elif what == "wait":
            self.run(f"wait {any_.choice((1, 300, 800, 4001, 4001, 10001, 46000))}")
        elif what == "refuse":
            self.run("refuse NOT_COORDINATOR")
        elif what == "topics":
            self.topics()
        else:
            self.run("restart")
            for one in self.clients.values():
                one.restarted()

    def topics(self) -> None:
        """One more partition, a new topic, or one topic less."""
        there = self.script.view.topics
        if "later" not in there and self.any.random() < 0.5:
            self.run("topics later=2")
        elif "u" in there and self.any.random() < 0.2:
            self.run("drop u")
        else:
            name = self.any.choice(sorted(there))
            self.run(f"topics {name}={len(there[name].partitions) + 1}")

    def comes(self) -> None:
        if len(self.clients) > 5:
            return
        self.count += 1
        client: Client
        if self.any.random() < self.classic:
            client = ClassicClient(f"C{self.count}")
        else:
            client = Client(f"M{self.count}", self.any.choice(("", "", "", "i1", "i2")))
        client.reads = self.any.choice(READS)
        self.clients[client.name] = client
        self.run(client.step(self.any))

    def goes(self, client: Client) -> None:
        """Its instance may be back as another member."""
        client.has.clear()
        if isinstance(client, ClassicClient):
            if client.state == "stable":
                self.run(f"{client.name} leave g id={client.member_id}")
                self.clients.pop(client.name)
            return
        back = " back=yes" if client.static and self.any.random() < 0.7 else ""
        self.run(f"{client.name} leave8 g id={client.member_id}{client.static}{back}")
        self.clients.pop(client.name)

    # --- what must hold

    def check(self) -> None:
        group = self.group
        if group is None:
            return
        everybody = [*self.clients.values(), *self.dead.values()]
        known = [client for client in everybody if client.is_known(group)]
        owners = Counter(place for client in known for place in client.has)
        twice = [place for place, count in owners.items() if count > 1]
        assert not twice, f"{twice} have two readers"
        if group.kind != CONSUMER:
            return
        assert group.assignment_epoch <= group.epoch
        kept = Counter(
            (topic, partition)
            for member in group.members.values()
            for held in (member.assigned, member.revoking)
            for topic, partitions in held.items()
            for partition in partitions
        )
        assert not kept or max(kept.values()) == 1
        assert kept.keys() == {
            (topic, partition) for topic, row in group._owners.items() for partition in row
        }
        for member in group.members.values():
            assert member.epoch <= group.assignment_epoch

    def settle(self) -> None:
        """Everybody goes on undisturbed, and gets what it wants soon."""
        self.script.refusal = None
        for _ in range(80):
            for client in list(self.clients.values()):
                self.run(client.step(self.any))
            self.run("wait 900")
        if not self.clients:
            return
        group = self.group
        members = {client.member_id: client for client in self.clients.values()}
        # Two clients may want to be the same instance; only one of them can.
        assert set(group.members) <= set(members)
        assert group.state_name == "Stable"
        if group.kind != CONSUMER:
            return
        topics = self.script.view.topics
        wanted = {
            f"{name}-{index}"
            for member in group.members.values()
            for name in group.topics_of(member)
            if name in topics
            for index in range(len(topics[name].partitions))
        }
        has = Counter(place for name in group.members for place in members[name].has)
        assert has == Counter(wanted), "a partition without a reader, or a reader of nothing"


@pytest.mark.parametrize("classic", [0.0, 0.4])
@profile(60)
@given(seed=st.integers(0, 1 << 32))
def test_any_course(classic: float, seed: int) -> None:
    crowd = Crowd(seed, classic)
    for _ in range(50):
        crowd.step()
    crowd.settle()


@pytest.mark.parametrize("seed", range(10))
def test_a_long_course(seed: int) -> None:
    crowd = Crowd(seed, 0.25)
    for _ in range(300):
        crowd.step()
    crowd.settle()
