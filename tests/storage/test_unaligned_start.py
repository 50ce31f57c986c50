"""A follower that begins where DeleteRecords has put its leader's log start: inside of a batch."""

import pytest

from storage.errors import UnexpectedAppendOffset
from storage.filesystem import MemoryFileSystem
from tests.storage.log_kit import NOW, batch, open_log, placed, read_records

START = 13


def test_the_batch_is_taken_whole_and_the_start_stays() -> None:
    fs = MemoryFileSystem()
    log = open_log(fs)
    log.truncate_fully_and_start_at(START)
    whole, following = placed(batch(5), 10, 2), placed(batch(2), 15, 3)
    log.append_as_follower(memoryview(bytearray(whole + following)), NOW)
    assert (log.log_start_offset, log.end_offset, log.high_watermark) == (START, 17, START)
    assert log.epochs.entries() == [(2, 10), (3, 15)]
    log.advance_high_watermark(17)
    assert log.segments[0].base_offset == 10
    assert bytes(log.segments[0].file().pread(1 << 20, 0)) == whole + following
    again = open_log(fs, log_start_offset=START)
    assert (again.log_start_offset, again.end_offset) == (START, 17)


def test_a_start_before_the_batch_came_is_where_it_was() -> None:
    """A crash between emptying the log and the first write."""
    fs = MemoryFileSystem()
    open_log(fs).truncate_fully_and_start_at(10)
    log = open_log(fs, log_start_offset=START)
    assert (log.log_start_offset, log.end_offset) == (START, START)
    log.append_as_follower(memoryview(bytearray(placed(batch(5), 10))), NOW)
    assert (log.log_start_offset, log.end_offset) == (START, 15)


@pytest.mark.parametrize(
    ("base", "count"),
    [
        (8, 5),  # ends at 12, all below the start
        (0, 1),
    ],
)
def test_a_batch_that_does_not_reach_the_start_is_refused(base: int, count: int) -> None:
    log = open_log(MemoryFileSystem())
    log.truncate_fully_and_start_at(START)
    with pytest.raises(UnexpectedAppendOffset):
        log.append_as_follower(memoryview(bytearray(placed(batch(count), base))), NOW)
    assert (log.log_start_offset, log.end_offset) == (START, START)


def test_a_log_with_records_refuses_what_begins_below_its_end() -> None:
    log = open_log(MemoryFileSystem())
    log.append_as_follower(memoryview(bytearray(placed(batch(3), 0))), NOW)
    log.advance_high_watermark(3)
    log.advance_log_start_offset(3)
    assert read_records(log) == []
    log.append_as_follower(memoryview(bytearray(placed(batch(1), 3))), NOW)
    with pytest.raises(UnexpectedAppendOffset):
        log.append_as_follower(memoryview(bytearray(placed(batch(5), 2))), NOW)
    assert log.end_offset == 4
