"""Share partitions under random use: what must hold after every step, and what members may get."""

import random

import pytest

from broker.shares.common import ACQUIRED, AVAILABLE, TERMINAL
from tests.broker.shares.script import PartitionScript

MEMBERS = "ABC"
SETTINGS = {"lock_ms": "1000", "deliveries": "4", "in_flight": "60"}


class _Use:
    """A partition in use. `owners` is who has a record as far as members can know, `over` the
    records that nobody may get any more."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.script = PartitionScript(SETTINGS)
        self.end = 0
        self.owners: dict[int, str] = {}
        self.deliveries: dict[int, int] = {}
        self.over: set[int] = set()

    def step(self) -> None:
        chosen = self.random.choices(
            (
                self.log,
                self.fetch,
                self.acknowledge,
                self.wait,
                self.leave,
                self.write,
                self.lead,
                self.cut,
            ),
            (2, 6, 6, 1, 1, 2, 0.3, 0.2),
        )
        chosen[0]()
        self.check()

    def log(self) -> None:
        count = self.random.choice((1, 2, 3, 8, 20))
        gap = self.random.choice((0, 0, 0, 2))  # as compaction leaves them
        first = self.end + gap
        self.end = first + count
        self.script.run(f"log {first}-{self.end - 1}")

    def cut(self) -> None:
        """Records are deleted."""
        self.script.run(f"start {self.random.randint(self.script.log_start, self.end)}")

    def fetch(self) -> None:
        member, most = self.random.choice(MEMBERS), self.random.choice((1, 3, 10, 500))
        batch, limit = self.random.choice((1, 5, 500)), self.random.choice(("yes", "no"))
        if not self.script.spans:
            return
        lines = self.script.run(f"fetch {member} {most} batch={batch} limit={limit}")
        for word in lines[-1].split():
            span, _, deliveries = word.partition("x")
            if deliveries.isdigit():
                first, _, last = span.partition("-")
                self.got(member, int(first), int(last or first), int(deliveries))

    def got(self, member: str, first: int, last: int, deliveries: int) -> None:
        for offset in range(first, last + 1):
            assert offset not in self.over, f"{offset} is over"
            assert offset not in self.owners, f"{offset} is at {self.owners[offset]}"
            self.owners[offset] = member
            assert deliveries <= int(SETTINGS["deliveries"])
            self.deliveries[offset] = max(deliveries, self.deliveries.get(offset, 0))

    def acknowledge(self) -> None:
        if not self.owners:
            return
        first = self.random.choice(sorted(self.owners))
        member = self.owners[first]
        last = first
        while self.owners.get(last + 1) == member and self.random.random() < 0.8:
            last += 1
        kinds = [self.random.choice((0, 1, 1, 2, 2, 3, 4)) for _ in range(first, last + 1)]
        if self.random.random() < 0.5:
            kinds = kinds[:1]
        text = ",".join(map(str, kinds))
        lines = self.script.run(f"ack {member} {first}-{last}={text}")
        assert not any("INVALID" in line for line in lines), lines
        for number, offset in enumerate(range(first, last + 1)):
            kind = kinds[number if len(kinds) > 1 else 0]
            if kind != 4:
                del self.owners[offset]
                if kind != 2 and self.script.held is None:
                    self.over.add(offset)

    def wait(self) -> None:
        self.script.run(f"wait {self.random.choice((1, 400, 1000))}")
        self.owners = {
            offset: run.member
            for batch in self.script.share.in_flight
            for run in batch.runs
            for offset in range(run.first, run.last + 1)
            if run.state == ACQUIRED
        }

    def leave(self) -> None:
        member = self.random.choice(MEMBERS)
        self.script.run(f"leave {member}")
        self.owners = {offset: who for offset, who in self.owners.items() if who != member}

    def write(self) -> None:
        """Changes are held back, or end one way or the other."""
        if self.script.held is None:
            self.script.run("hold")
            return
        self.script.run(self.random.choice(("durable", "lost")))
        self.wait()  # what was lost is at its owner again

    def lead(self) -> None:
        self.script.run("lost")
        self.script.run("lead")
        self.owners.clear()

    def check(self) -> None:
        share = self.script.share
        known = -1
        done = 0
        for batch in share.in_flight:
            assert known < batch.first <= batch.last
            at = batch.first
            for run in batch.runs:
                assert run.first == at <= run.last
                at = run.last + 1
                if run.state in TERMINAL:
                    done += run.count_from(share.start_offset)
                if run.state == AVAILABLE and run.pending is None:
                    assert not run.member
                    assert run.deadline is None
                if run.state == ACQUIRED:
                    assert run.member
                    assert run.deadline is not None
            assert at == batch.last + 1
            known = batch.last
        assert done == share.complete_count
        if share.in_flight:
            assert share.end_offset >= known or share.start_offset > known


@pytest.mark.parametrize("seed", range(40))
def test_random_use(seed: int) -> None:
    use = _Use(seed)
    for _ in range(120):
        use.step()
    # In the end everything can be had and is acknowledged.
    use.script.run("lost")
    use.script.run("wait 1000")
    use.owners.clear()
    for _ in range(400):
        use.fetch()
        for offset, member in sorted(use.owners.items()):
            use.script.run(f"accept {member} {offset}")
        use.owners.clear()
    share = use.script.share
    if share.in_flight and share.in_flight.last.last >= share.start_offset:
        share.advance()  # over what was given up because it is not in the log
    assert share.start_offset >= use.end or not use.script.spans
    assert not share.in_flight or share.in_flight.last.last < share.start_offset
