"""A group that grows and shrinks under load: `python -m tests.e2e.scale [--kind KIND]...`.

One member, then eight, then three read 12 partitions while a producer writes. The watch over the
group (`tests.e2e.members`) checks at every moment that a partition has one owner, that owners begin
where the last commit was, skip nothing and read nothing again that was committed. Here it is
checked besides that the broker's description of the group agrees with what the members say, that
every record was read in the end, and that cooperative members keep what they may keep.
"""

import argparse
import contextlib
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from confluent_kafka import Producer

from tests.e2e.clients.python_confluent import Confluent
from tests.e2e.members import KINDS, Broken, Member, Place, Watch
from tests.e2e.settings import arguments
from tests.kit.server import Server

PARTITIONS = 12
STEPS = (1, 8, 3)
RECORDS_A_STEP = 100
"""Records that every partition must get on in each step, after the group has settled."""
COOPERATIVE = ("confluent-cooperative", "confluent-consumer", "kafka-python-cooperative")


class Load(threading.Thread):
    """Writes records b"0", b"1", ... to every partition until told to stop."""

    def __init__(
        self, bootstrap: str, topic: str, partitions: int = PARTITIONS, pause: float = 0.005
    ) -> None:
        """`pause` in seconds is between one record for every partition and the next."""
        super().__init__(daemon=True)
        self.pause = pause
        self.ending = threading.Event()
        self.topic = topic
        self.partitions = partitions
        self.written = 0
        """Records in every partition, final when the thread has ended."""
        self.lost: list[str] = []
        self.client = Producer(
            {
                "bootstrap.servers": bootstrap,
                "enable.idempotence": True,  # for the order of records when a send is repeated
                "linger.ms": 2,
                "reconnect.backoff.max.ms": 200,
                "log_level": 0,
            }
        )

    def run(self) -> None:
        while not self.ending.wait(self.pause):
            value = b"%d" % self.written
            for partition in range(self.partitions):
                self.client.produce(
                    self.topic, value, partition=partition, on_delivery=self._delivered
                )
            self.written += 1
            self.client.poll(0)
        if self.client.flush(30):
            self.lost.append("not everything was acknowledged")

    def _delivered(self, error: object, message: object) -> None:
        if error is not None:
            self.lost.append(str(error))

    def end(self) -> int:
        """Stop; how many records each partition has."""
        self.ending.set()
        self.join(60)
        assert not self.is_alive() and not self.lost, self.lost[:3]
        return self.written


@dataclass
class Report:
    """What a run came to."""

    records: int = 0
    rebalances: list[float] = field(default_factory=list)
    """Seconds until the group was settled, for each step."""
    moved: list[int] = field(default_factory=list)
    """How many partitions were given up, for each step."""


class Scale:
    """One group of one kind; `to(count)` brings it to a size."""

    def __init__(self, bootstrap: str, kind: str, name: str) -> None:
        self.bootstrap = bootstrap
        self.kind = kind
        self.topic = name
        self.group = f"group-of-{name}"
        self.places: list[Place] = [(name, partition) for partition in range(PARTITIONS)]
        self.watch = Watch()
        self.members: list[Member] = []
        self.report = Report()
        self.stack = contextlib.ExitStack()
        self.made = 0

    def to(self, count: int) -> None:
        """Grow or shrink, all at once, and wait until the group has settled and reads on."""
        began, before, moves = time.monotonic(), dict(self.watch.owners), len(self.watch.moves)
        leaving = self.members[count:]
        self.members = self.members[:count]
        threads = [threading.Thread(target=member.leave) for member in leaving]
        for thread in threads:
            thread.start()
        while len(self.members) < count:
            self.members.append(self._member())
        for thread in threads:
            thread.join(60)
        self.watch.until(self.watch.shared(self.members, self.places), f"{count} members share")
        self.report.rebalances.append(time.monotonic() - began)
        lost = self.watch.given_up(moves)
        self.report.moved.append(len(lost))
        if self.kind in COOPERATIVE:
            self._kept(before, lost)
        self._reads_on()
        self._described()

    def _member(self) -> Member:
        make, way = KINDS[self.kind]
        name = f"m{self.made}"
        self.made += 1
        member = make(
            self.bootstrap, self.group, [self.topic], self.watch, name, way=way, commits="each"
        )
        return self.stack.enter_context(member)

    def _kept(self, before: dict[Place, str], lost: list[Place]) -> None:
        """Who owned a partition and owns it now never gave it up in between."""
        for place, owner in before.items():
            if self.watch.owners.get(place) == owner and place in lost:
                raise Broken(f"{place} was taken from {owner} and given back")

    def _reads_on(self) -> None:
        reads = self.watch.reads
        goals = {p: len(reads.get(p, ())) + RECORDS_A_STEP for p in self.places}
        self.watch.until(
            lambda: all(len(reads.get(p, ())) >= goal for p, goal in goals.items()),
            "every partition is read on",
        )

    def _described(self) -> None:
        owned = {member.name: self.watch.share_of(member) for member in self.members}
        client = Confluent(self.bootstrap)
        # a member of the consumer protocol acknowledges with its next heartbeat
        self.watch.until(
            lambda: client.group_members(self.group) == owned, "the group as described"
        )

    def finish(self, written: int) -> None:
        """Everything was read, in order, again only where no commit had succeeded."""
        self.watch.until(
            lambda: self.watch.committed == dict.fromkeys(self.places, written),
            "everything is read and committed",
        )
        for place in self.places:
            highest = -1
            for offset, value in self.watch.reads[place]:
                if value != b"%d" % offset:
                    raise Broken(f"{place} {offset} holds {value!r}")
                if offset > highest + 1:
                    raise Broken(f"{place}: {offset} was read after {highest}")
                highest = max(highest, offset)
            if highest != written - 1:
                raise Broken(f"{place}: the last record read is {highest} of {written}")
        self.report.records = written * PARTITIONS


def run(
    bootstrap: str,
    kind: str,
    name: str,
    steps: tuple[int, ...] = STEPS,
    tell: Callable[[str], None] = lambda line: None,
) -> Report:
    """Raises `Broken` or what a client met; `name` is the topic to make."""
    Confluent(bootstrap).create_topic(name, PARTITIONS)
    scale = Scale(bootstrap, kind, name)
    load = Load(bootstrap, name)
    load.start()
    with scale.stack:
        try:
            for count in steps:
                scale.to(count)
                seconds, moved = scale.report.rebalances[-1], scale.report.moved[-1]
                tell(f"{kind}: {count} members after {seconds:.2f} s, {moved} partitions given up")
        finally:
            written = load.end()
        scale.finish(written)
    if scale.watch.failure is not None:
        raise scale.watch.failure
    return scale.report


def main() -> int:
    """Exit status 1 when a promise of the group was broken."""
    parser = argparse.ArgumentParser(prog="python -m tests.e2e.scale", description=__doc__)
    parser.add_argument("--kind", action="append", choices=KINDS, help="default: all")
    parser.add_argument("--steps", default="1,8,3", help="members, step by step")
    parser.add_argument("--bootstrap", help="a running broker")
    options = parser.parse_args()
    steps = tuple(int(step) for step in options.steps.split(","))
    with contextlib.ExitStack() as stack:
        bootstrap = options.bootstrap
        if bootstrap is None:
            folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="odradek-scale-"))
            server = Server(Path(folder) / "data", arguments=arguments())
            bootstrap = stack.enter_context(server).bootstrap
        for kind in options.kind or KINDS:
            name = f"scale-{kind}-{time.time_ns() // 1000}"
            try:
                report = run(bootstrap, kind, name, steps, lambda line: print(line, flush=True))
            except AssertionError as error:
                print(f"{kind}: BROKEN: {error}")
                return 1
            print(f"{kind}: {report.records} records, each read and committed", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
