"""A share partition without a broker: commands in, everything that comes of them out, as text.

Transcripts are as those of groups (`tests.broker.groups.script.check`). Commands:

    log 0-4 5-9               record batches are appended
    aborted 5-9               these batches belong to transactions that were given up
    fetch A 10                A asks for up to 10 records; batch=5: in portions of so many;
                              limit=yes: no more than it asks for
    accept A 0-4 (7-9 ...)    also release, reject, gap, renew; `ack A 0-4=1,1,2,2,3` with a type
                              for each record
    leave A                   its session ends
    wait MS                   time goes by, locks end
    hold                      what is written from now on is not durable until
    durable / lost            it is, or it was not written
    start 5                   the log begins there
    compact 0-4               these batches are no longer in the log
    show                      what is in flight
    lead                      another leader reads the state

What is written is shown as `write:`, start offset and count of records that are done with. States
are kept by the share coordinator's machine.
"""

from collections.abc import Mapping

from broker.cluster.view import ClusterView, PartitionInfo, TopicInfo
from broker.config import BrokerConfig
from broker.coordinator import Outcome, Waiting
from broker.shares.acquire import Wish, acquire
from broker.shares.common import NO_OFFSET, Refused, ShareKey, StateBatch
from broker.shares.partition import Acknowledgement, Limits, SharePartition, Update
from broker.shares.state import Change, ShareStates
from protocol.errors import ErrorCode

START_MS = 1_700_000_000_000
TOPIC_ID = b"topic id 16 long"
KEY = ShareKey("g", TOPIC_ID, 0)
STATES = "available", "acquired", "acknowledged", "archiving", "archived"
KINDS = {"gap": 0, "accept": 1, "release": 2, "reject": 3, "renew": 4}
Range = tuple[int, int]


class PartitionScript:
    """A share partition under test. Settings: lock_ms, deliveries, in_flight, renew, start."""

    def __init__(self, settings: Mapping[str, str] | None = None) -> None:
        known = dict(settings or {})
        self.limits = Limits(
            int(known.get("lock_ms", "30000")),
            int(known.get("deliveries", "5")),
            int(known.get("in_flight", "2000")),
            known.get("renew", "yes") == "yes",
        )
        self.now_ms = START_MS
        self.spans: list[Range] = []
        self.aborted: list[Range] = []
        self.log_start = int(known.get("start", "0"))
        self.lines: list[str] = []
        self.held: list[tuple[Update, Change]] | None = None
        info = TopicInfo("t", TOPIC_ID, (PartitionInfo(0, 0, 0, (0,), (0,)),))
        view = ClusterView(0, "cluster", 0, {}, {"t": info}, {TOPIC_ID: "t"})
        self.states = ShareStates(0, BrokerConfig(), lambda: view)
        self.records = 0
        self.leader_epoch = -1
        self._ask(self.states.initialize(KEY, 1, NO_OFFSET, Waiting(str), self.now_ms))
        self._do_lead()

    def run(self, command: str) -> list[str]:
        """Do what a line says; what came of it."""
        self.lines.clear()
        verb, *words = command.split()
        plain = [word for word in words if "=" not in word or verb == "ack"]
        named = dict(word.split("=") for word in words if "=" in word and verb != "ack")
        if verb in KINDS:
            kind = KINDS[verb]
            self._acknowledge(plain[0], [(*_range(word), (kind,)) for word in plain[1:]])
        else:
            getattr(self, f"_do_{verb}")(*plain, **named)
        return list(self.lines)

    # --- the log

    def _do_log(self, *spans: str) -> None:
        self.spans += map(_range, spans)

    def _do_aborted(self, *spans: str) -> None:
        self.aborted += map(_range, spans)

    def _do_start(self, offset: str) -> None:
        self.log_start = int(offset)

    def _do_compact(self, *spans: str) -> None:
        for span in map(_range, spans):
            self.spans.remove(span)

    # --- what members do

    def _do_fetch(self, who: str, most: str, batch: str = "500", limit: str = "no") -> None:
        share = self.share
        if not share.can_acquire(self.limits):
            self.lines.append(f"{who}: nothing, too many are in flight")
            return
        offset = share.next_fetch_offset
        if offset < self.log_start:
            share.log_start_moved(self.log_start)
            self.lines.append(f"{who}: {offset} is gone")
            return
        spans = [span for span in self.spans if span[1] >= offset]
        wish = Wish(who, int(most), int(batch), limit == "yes")
        acquired = acquire(share, wish, offset, spans, self.aborted, self.limits, self.now_ms)
        told = " ".join(f"{_span(a.first, a.last)}x{a.deliveries}" for a in acquired)
        self.lines.append(f"{who}: from {offset} {told or 'nothing'}")

    def _do_ack(self, who: str, *ranges: str) -> None:
        pairs = [word.split("=") for word in ranges]
        asked = [
            (*_range(span), tuple(int(kind) for kind in kinds.split(","))) for span, kinds in pairs
        ]
        self._acknowledge(who, asked)

    def _acknowledge(self, who: str, asked: list[tuple[int, int, tuple[int, ...]]]) -> None:
        acknowledgements = [Acknowledgement(*one) for one in asked]
        try:
            update = self.share.acknowledge(who, acknowledgements, self.limits, self.now_ms)
        except Refused as refused:
            self.lines.append(f"{who}: {refused.code.name}: {refused.message}")
            return
        self._persist(update)

    def _do_leave(self, who: str) -> None:
        self._persist(self.share.release(who, self.limits.max_deliveries))

    def _do_wait(self, ms: str) -> None:
        until = self.now_ms + int(ms)
        while (due := self.share.next_deadline) is not None and due <= until:
            self.now_ms = due
            update = self.share.expire(self.limits.max_deliveries, due)
            if update.batches:
                self.lines.append(f"{due - START_MS}: locks end")
                self._persist(update)
        self.now_ms = until

    # --- persistence

    def _persist(self, update: Update) -> None:
        if not update.batches:
            return
        share = self.share
        change = Change(
            share.state_epoch,
            share.leader_epoch,
            share.start_offset,
            share.complete_count,
            update.batches,
        )
        batches = " ".join(_batch(batch) for batch in update.batches)
        done = f"{change.complete_count} done"
        self.lines.append(f"write: start {change.start_offset}, {done}: {batches}")
        if self.held is None:
            self._end(update, change, lost=False)
        else:
            self.held.append((update, change))

    def _end(self, update: Update, change: Change, *, lost: bool) -> None:
        if not lost:
            self._ask(self.states.write(KEY, change, Waiting(str), self.now_ms))
        share = self.share
        share.complete(
            update.transitions, self.limits.max_deliveries, self.now_ms, persisted=not lost
        )
        if not update.transitions:
            share.advance()

    def _ask(self, outcome: Outcome) -> None:
        ((_, answer),) = outcome.replies
        assert answer.code == ErrorCode.NONE, answer
        for key, value in outcome.records:
            self.states.replay(key, value, -1, -1, self.records)
            self.records += 1

    def _do_hold(self) -> None:
        self.held = []

    def _do_durable(self) -> None:
        held, self.held = self.held or [], None
        for update, change in held:
            self._end(update, change, lost=False)

    def _do_lost(self) -> None:
        held, self.held = self.held or [], None
        for update, change in held:
            self._end(update, change, lost=True)

    def _do_lead(self) -> None:
        self.leader_epoch += 1
        self._ask(self.states.read(KEY, self.leader_epoch, Waiting(str), self.now_ms))
        state = self.states.states[KEY]
        start = self.log_start if state.start_offset == NO_OFFSET else state.start_offset
        self.share = SharePartition(KEY, self.leader_epoch, state, start)
        if self.leader_epoch:
            self._do_show()

    def _do_show(self) -> None:
        share = self.share
        self.lines.append(
            f"start {share.start_offset}, end {share.end_offset}, {share.complete_count} done"
        )
        for batch in share.in_flight:
            runs = ", ".join(_run(run) for run in batch.runs)
            split = " split" if batch.split else ""
            self.lines.append(f"    {_span(batch.first, batch.last)}{split}: {runs}")


def _range(text: str) -> Range:
    first, _, last = text.partition("-")
    return int(first), int(last or first)


def _span(first: int, last: int) -> str:
    return str(first) if first == last else f"{first}-{last}"


def _batch(batch: StateBatch) -> str:
    return f"{_span(batch.first, batch.last)} {STATES[batch.state]} x{batch.deliveries}"


def _run(run: object) -> str:
    text = repr(run)
    head, until, at = text.partition(" until ")
    if until:
        ms, _, rest = at.partition(" ")
        text = f"{head} until {int(ms) - START_MS}{' ' + rest if rest else ''}"
    return text
