"""The log against a list of batches: any sequence of operations, the same reads.

One machine, run over files in memory and over real ones.
"""

import os
import random
import shutil
import tempfile
from collections.abc import Iterable
from itertools import pairwise
from typing import Any, NamedTuple

from hypothesis import HealthCheck, assume, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from protocol.batch import parse_header
from protocol.record import records_of
from storage.filesystem import FileSystem, MemoryFileSystem, RealFileSystem
from storage.log import Log
from tests.kit.faulty_files import FaultyFileSystem
from tests.storage.log_kit import LIMIT, NOW, batch, config, each_batch, marker, open_log, placed

LONG = os.environ.get("ODRADEK_HYPOTHESIS") == "long"
PRODUCERS = (11, 12)


class Stored(NamedTuple):
    """A batch that the log must have."""

    base: int
    last: int
    data: bytes
    epoch: int


class Txn(NamedTuple):
    """A transaction that a marker ended."""

    producer_id: int
    first: int
    marker: int
    aborted: bool


class LogMachine(RuleBasedStateMachine):
    """See the module."""

    may_truncate = True

    def __init__(self) -> None:
        super().__init__()
        self.fs, self.directory = self.new_files()
        self.batches: list[Stored] = []
        self.gone: list[Stored] = []  # in segments that were deleted
        self.start = 0
        self.end = 0
        self.high = 0
        self.epoch = 0
        self.clock = NOW
        self.checkpoint = 0  # the recovery point a restart is told
        self.sequences: dict[int, int] = {}
        self.open_txns: dict[int, int] = {}  # producer id -> first offset
        self.txns: list[Txn] = []
        self.exact = True  # no unreplicated marker was forgotten
        self.last_sent: dict[int, tuple[bytes, int, int]] = {}  # as sent, base, last offset
        self.settings: Any = None
        self.log: Log

    def new_files(self) -> tuple[FileSystem, str]:
        return MemoryFileSystem(), "/data/orders-0"

    @initialize(
        segment=st.sampled_from([700, 1000, 100_000]),
        interval=st.sampled_from([0, 64, 4096]),
        index=st.sampled_from([24, 48, 10_000]),
    )
    def create(self, segment: int, interval: int, index: int) -> None:
        self.settings = config(
            segment_bytes=segment,
            index_interval_bytes=interval,
            segment_index_bytes=index,
            segment_ms=5000,
        )
        self.log = self.open(clean=False)

    def open(self, *, clean: bool) -> Log:
        return open_log(
            self.fs,
            directory=self.directory,
            clean=clean,
            recovery_point=self.checkpoint,
            log_start_offset=self.start,
            settings=self.settings,
            now_ms=self.clock,
        )

    # --- appending

    def stored(self, data: memoryview, base: int, epoch: int) -> None:
        last = base + parse_header(data).last_offset_delta
        self.batches.append(Stored(base, last, placed(data, base, epoch), epoch))
        self.end = last + 1

    def stage(self, data: memoryview) -> None:
        sent = bytes(data)
        header = parse_header(data)
        appended = self.log.stage(data, self.epoch, self.clock)
        assert not appended.duplicate
        assert appended.base_offset == self.end
        assert appended.last_offset == self.end + header.last_offset_delta
        assert appended.log_append_time_ms == -1
        assert appended.log_start_offset == self.start
        self.last_sent[header.producer_id] = (sent, appended.base_offset, appended.last_offset)
        self.stored(memoryview(sent), self.end, self.epoch)
        assert self.log.next_offset == self.end

    @rule(
        sizes=st.lists(
            st.tuples(st.integers(1, 4), st.integers(0, 120), st.integers(-2000, 3000)),
            min_size=1,
            max_size=6,
        )
    )
    def append_several(self, sizes: list[tuple[int, int, int]]) -> None:
        """Several batches in one write."""
        for count, size, shift in sizes:
            self.clock += max(shift, 0)
            self.stage(batch(count, size=size, timestamp=self.clock + shift))
        self.log.write_staged()

    @rule(producer=st.sampled_from(PRODUCERS), count=st.integers(1, 3), txn=st.booleans())
    def append_of_producer(self, producer: int, count: int, txn: bool) -> None:
        txn = txn or producer in self.open_txns
        sequence = self.sequences.get(producer, 0)
        if txn:
            self.open_txns.setdefault(producer, self.end)
        self.stage(
            batch(
                count,
                timestamp=self.clock,
                producer_id=producer,
                producer_epoch=0,
                base_sequence=sequence,
                transactional=txn,
            )
        )
        self.sequences[producer] = sequence + count
        self.log.write_staged()

    @precondition(lambda self: set(self.last_sent) & set(self.sequences))
    @rule(data=st.data())
    def send_again(self, data: st.DataObject) -> None:
        producer = data.draw(st.sampled_from(sorted(set(self.last_sent) & set(self.sequences))))
        sent, base, last = self.last_sent[producer]
        appended = self.log.stage(memoryview(bytearray(sent)), self.epoch, self.clock)
        self.log.write_staged()
        assert appended.duplicate
        assert (appended.base_offset, appended.last_offset) == (base, last)

    @precondition(lambda self: self.open_txns)
    @rule(committed=st.booleans(), data=st.data())
    def end_transaction(self, committed: bool, data: st.DataObject) -> None:
        producer = data.draw(st.sampled_from(sorted(self.open_txns)))
        first = self.open_txns.pop(producer)
        self.txns.append(Txn(producer, first, self.end, not committed))
        sent = marker(producer, committed=committed, timestamp=self.clock)
        kept = bytes(sent)
        appended = self.log.stage(sent, self.epoch, self.clock, origin="coordinator")
        assert appended.base_offset == self.end
        self.stored(memoryview(kept), self.end, self.epoch)
        self.log.write_staged()

    @rule(
        gaps=st.lists(st.integers(0, 5), min_size=1, max_size=4),
        count=st.integers(1, 3),
        newer=st.integers(0, 2),
    )
    def append_as_follower(self, gaps: list[int], count: int, newer: int) -> None:
        """Batches as a leader has them: offsets kept, compaction may have left gaps."""
        self.epoch += newer
        pieces = []
        for gap in gaps:
            data = batch(count, timestamp=self.clock)
            self.stored(data, self.end + gap, self.epoch)
            pieces.append(self.batches[-1].data)
        self.log.append_as_follower(memoryview(bytearray(b"".join(pieces))))

    @rule(by=st.integers(1, 3))
    def new_leader_epoch(self, by: int) -> None:
        self.epoch += by

    @rule(ms=st.sampled_from([1, 1000, 6000]))
    def time_passes(self, ms: int) -> None:
        self.clock += ms

    # --- reading

    def expected(self, offset: int, upper: int) -> list[Stored]:
        """The batches one read may give: of one segment, ending below `upper`."""
        bases = [segment.base_offset for segment in self.log.segments]
        found = [stored for stored in self.batches if stored.last >= offset]
        found = [stored for stored in found if stored.last < upper]
        if not found:
            return []
        following = [base for base in bases if base > found[0].base]
        if following:
            found = [stored for stored in found if stored.base < following[0]]
        return found

    @rule(
        data=st.data(), most=st.sampled_from([0, 1, 60, 100, 200, 500, 10_000]), one=st.booleans()
    )
    def read(self, data: st.DataObject, most: int, one: bool) -> None:
        offset = data.draw(st.integers(self.start, self.end))
        borders = [stored.base for stored in self.batches if stored.base >= self.start]
        upper = data.draw(st.sampled_from([*borders, self.end]))
        piece = self.log.read(offset, most, upper, min_one=one)
        found = self.expected(offset, upper)
        whole = b"".join(stored.data for stored in found)
        size = most
        if found and len(found[0].data) > most:
            size = len(found[0].data) if one else 0
        assert piece.bytes() == whole[:size]
        assert piece.length == len(whole[:size])
        if piece.length:
            assert piece.first_offset == found[0].base

    @rule(shift=st.integers(-3000, 3000))
    def find_timestamp(self, shift: int) -> None:
        wanted = self.clock + shift
        found = self.log.offset_for_timestamp(wanted)
        for stored in self.batches:
            header = parse_header(stored.data)
            for record in records_of(stored.data, 0, header, LIMIT):
                if record.offset >= self.start and record.timestamp >= wanted:
                    assert found == (record.timestamp, record.offset, stored.epoch)
                    return
        assert found is None

    @rule()
    def find_newest(self) -> None:
        found = self.log.max_timestamp()
        if self.start != self.log.segments[0].base_offset:
            return  # what lies below the start may be the newest
        stamps = {}
        for stored in self.batches:
            if stored.last >= self.start:
                header = parse_header(stored.data)
                for record in records_of(stored.data, 0, header, LIMIT):
                    stamps[record.offset] = (record.timestamp, record.offset, stored.epoch)
        if not stamps:
            assert found is None
            return
        assert found is not None
        assert found[0] == max(stamps.values())[0]
        assert found == stamps[found[1]]

    @rule(data=st.data())
    def aborted(self, data: st.DataObject) -> None:
        low = data.draw(st.integers(self.start, self.end))
        upper = data.draw(st.integers(low, self.end))
        wanted = sorted(
            (txn.producer_id, txn.first)
            for txn in self.txns
            if txn.aborted and txn.marker >= low and txn.first < upper
        )
        assert sorted(tuple(found) for found in self.log.aborted_transactions(low, upper)) == wanted

    # --- moving the ends

    @rule(data=st.data())
    def replicate(self, data: st.DataObject) -> None:
        self.high = data.draw(st.integers(self.high, self.end))
        self.log.advance_high_watermark(self.high)

    @rule()
    def roll(self) -> None:
        self.log.roll(self.clock)
        assert self.log.segments[-1].base_offset == self.end
        assert self.log.segments[-1].size == 0

    @precondition(lambda self: self.may_truncate)
    @rule(data=st.data())
    def truncate(self, data: st.DataObject) -> None:
        target = data.draw(st.integers(self.start, self.end + 1))
        self.log.truncate_to(target)
        first = self.log.segments[0].base_offset
        kept = [stored for stored in self.batches if stored.last < target and stored.base >= first]
        if target < self.end:
            # The batch that holds the target goes as a whole, and a gap before it, too.
            assert self.log.end_offset == max([self.start, *(stored.last + 1 for stored in kept)])
        self.cut(kept, self.log.end_offset)

    def cut(self, kept: list[Stored], end: int) -> None:
        self.batches = kept
        self.end = end
        self.high = min(self.high, end)
        self.checkpoint = min(self.checkpoint, self.log.recovery_point)
        self.exact = False
        self.learn_producers()

    def learn_producers(self) -> None:
        """What the batches that are left tell of producers."""
        self.sequences = {}
        self.open_txns = {}
        self.txns = [txn for txn in self.txns if txn.marker < self.end]
        self.last_sent = {}
        for stored in self.batches:
            header = parse_header(stored.data)
            if header.producer_id < 0:
                continue
            if header.control:
                self.open_txns.pop(header.producer_id, None)
                continue
            self.sequences[header.producer_id] = header.last_sequence + 1
            if header.transactional:
                self.open_txns.setdefault(header.producer_id, stored.base)
        for producer, sequence in self.sequences.items():
            entry = self.log.producers.get(producer)
            assert entry is not None and entry.next_sequence == sequence
        # Of producers whose batches are gone from the start the log may know more.
        for entry in self.log.producers.entries():
            self.sequences.setdefault(entry.producer_id, entry.next_sequence)

    @precondition(lambda self: self.may_truncate)
    @rule(data=st.data())
    def start_over(self, data: st.DataObject) -> None:
        offset = data.draw(st.integers(0, self.end + 50))
        self.log.truncate_fully_and_start_at(offset)
        self.start = offset
        self.high = offset
        self.cut([], offset)
        self.txns = []
        self.log.advance_high_watermark(offset)

    @precondition(lambda self: not self.open_txns)
    @rule(data=st.data())
    def delete_records(self, data: st.DataObject) -> None:
        offset = data.draw(st.integers(0, self.high))
        self.log.advance_log_start_offset(offset)
        self.start = max(self.start, offset)
        assert self.log.log_start_offset == self.start

    @precondition(lambda self: len(self.log.segments) > 1 and not self.open_txns)
    @rule(data=st.data())
    def delete_segments(self, data: st.DataObject) -> None:
        count = data.draw(st.integers(1, len(self.log.segments) - 1))
        following = self.log.segments[count].base_offset
        assume(following <= self.high)
        self.log.delete_oldest(count, self.clock)
        self.start = max(self.start, following)
        self.gone += [stored for stored in self.batches if stored.base < following]
        self.batches = [stored for stored in self.batches if stored.base >= following]
        assert self.log.segments[0].base_offset == following

    @rule()
    def delete_files(self) -> None:
        for job in self.log.delete_jobs(self.clock + (1 << 40)):
            job()
        names = self.fs.listdir(self.directory)
        assert not [name for name in names if name.endswith(".deleted")]

    # --- flushing and restarting

    @rule(save=st.booleans())
    def flush(self, save: bool) -> None:
        self.log.flush()
        assert self.log.recovery_point == self.end
        if save:
            self.checkpoint = self.end

    @rule(ahead=st.booleans())
    def restart(self, ahead: bool) -> None:
        """A clean end and a new start."""
        before = self.settle()
        self.log.close(True)
        if ahead:
            self.checkpoint = self.log.recovery_point
        self.log = self.open(clean=True)
        self.check_same(before)

    @rule(ahead=st.booleans())
    def kill_and_restart(self, ahead: bool) -> None:
        """The process ends at once; the files are as they are."""
        before = self.settle()
        if ahead:
            self.checkpoint = self.log.recovery_point
        self.log = self.open(clean=False)
        self.check_same(before)

    def settle(self) -> Iterable[Any]:
        self.high = self.end
        self.log.advance_high_watermark(self.high)
        self.exact = True
        return self.producers()

    def producers(self) -> list[tuple[int, ...]]:
        return sorted(
            (
                entry.producer_id,
                entry.epoch,
                entry.last_sequence,
                entry.last_offset,
                entry.coordinator_epoch,
                entry.txn_first_offset,
            )
            for entry in self.log.producers.entries()
        )

    def check_same(self, before: Iterable[Any]) -> None:
        self.log.advance_high_watermark(self.high)
        assert self.producers() == before

    # --- always

    @invariant()
    def same_ends(self) -> None:
        log = self.log
        assert (log.log_start_offset, log.end_offset) == (self.start, self.end)
        assert log.next_offset == self.end
        assert log.high_watermark == self.high
        assert log.recovery_point <= self.end
        assert log.size == sum(segment.size for segment in log.segments)

    @invariant()
    def same_batches(self) -> None:
        offset = self.start
        data = b""
        while offset < self.end:
            piece = self.log.read(offset, 1 << 20, self.end).bytes()
            if not piece:
                break
            data += piece
            *_, (_, header) = each_batch(piece)
            offset = header.next_offset
        wanted = [stored.data for stored in self.batches if stored.last >= self.start]
        assert data == b"".join(wanted)

    @invariant()
    def same_stable_offset(self) -> None:
        firsts = list(self.open_txns.values())
        most = max(min([*firsts, self.high]), self.start)
        waiting = [txn.first for txn in self.txns if txn.marker >= self.high]
        least = max(min([*firsts, *waiting, self.high]), self.start)
        if self.exact:
            assert self.log.last_stable_offset == least
        else:
            assert least <= self.log.last_stable_offset <= most

    @invariant()
    def same_epochs(self) -> None:
        known = [stored for stored in self.batches if stored.base >= self.start]
        if not known:
            return
        assert self.log.epochs.latest == known[-1].epoch
        begins: dict[int, int] = {}
        for stored in known:
            begins.setdefault(stored.epoch, stored.base)
        epochs = sorted(begins)
        for epoch, following in pairwise(epochs):
            assert self.log.end_offset_for_epoch(epoch) == (epoch, begins[following])
        assert self.log.end_offset_for_epoch(epochs[-1]) == (epochs[-1], self.end)

    @invariant()
    def segments_fit(self) -> None:
        log = self.log
        bases = [segment.base_offset for segment in log.segments]
        assert bases == sorted(set(bases))
        for segment, following in zip(log.segments, [*bases[1:], 1 << 62], strict=True):
            inside = [s for s in self.batches if segment.base_offset <= s.base < following]
            assert segment.size == sum(len(stored.data) for stored in inside)
            if len(inside) > 1:
                assert segment.size <= self.settings.segment_bytes


class RealLogMachine(LogMachine):
    """The same over files of the operating system."""

    def new_files(self) -> tuple[FileSystem, str]:
        self.folder = tempfile.mkdtemp()
        return RealFileSystem(), f"{self.folder}/orders-0"

    def teardown(self) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)


class PowerCutMachine(LogMachine):
    """Now and then the machine goes down, and what was not synced may be gone.

    Without truncation: what it took away may come back then, which followers expect.
    """

    may_truncate = False

    def new_files(self) -> tuple[FileSystem, str]:
        return FaultyFileSystem(), "/data/orders-0"

    @rule(seed=st.integers(0, 1 << 16), ahead=st.booleans())
    def power_cut(self, seed: int, ahead: bool) -> None:
        assert isinstance(self.fs, FaultyFileSystem)
        if ahead:
            self.checkpoint = self.log.recovery_point
        self.fs = self.fs.crash(random.Random(seed).randrange)
        self.log = self.open(clean=False)
        self.end = self.log.end_offset
        assert self.end >= self.checkpoint, "less than was flushed"
        first = self.log.segments[0].base_offset
        history = [stored for stored in self.gone + self.batches if stored.base >= first]
        self.batches = [stored for stored in history if stored.last < self.end]
        self.gone = [stored for stored in self.gone if stored.base < first]
        ends = [stored.last + 1 for stored in self.batches]
        assert self.end in (*ends[-1:], self.start)
        self.high = self.log.high_watermark
        self.learn_producers()
        self.high = self.end
        self.log.advance_high_watermark(self.end)


def profile(examples: int) -> settings:
    return settings(
        max_examples=examples * 20 if LONG else examples,
        stateful_step_count=40,
        derandomize=not LONG,
        database=None,
        report_multiple_bugs=False,
        deadline=None,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
    )


TestInMemory = LogMachine.TestCase
TestInMemory.settings = profile(150)
TestPowerCuts = PowerCutMachine.TestCase
TestPowerCuts.settings = profile(100)
TestOnDisk = RealLogMachine.TestCase
TestOnDisk.settings = profile(25)
