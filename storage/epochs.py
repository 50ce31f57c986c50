"""Which leader epoch each part of a log was written in (KIP-101, KIP-279).

Entries are (epoch, start offset), both strictly growing. Pure: the log reads and writes the
leader-epoch-checkpoint file. A change sets `dirty`; the file follows with the next flush or clean
close, because every epoch that has data can be read from the batches.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable
from typing import Final

NO_EPOCH: Final = -1
NO_OFFSET: Final = -1


class LeaderEpochCache:
    """Leader epochs of one log. Offsets are absolute, epochs as the controller counts them."""

    __slots__ = ("_epochs", "_starts", "dirty", "latest")

    def __init__(self, entries: Iterable[tuple[int, int]] = ()) -> None:
        """`entries` from a checkpoint; those that do not grow in both are left out."""
        self._epochs: list[int] = []
        self._starts: list[int] = []
        self.latest = NO_EPOCH
        """The newest epoch, -1 when none is known. Read on the hot path."""
        for epoch, start in entries:
            self.assign(epoch, start)
        self.dirty = False

    def __len__(self) -> int:
        return len(self._epochs)

    def __bool__(self) -> bool:
        return bool(self._epochs)

    def entries(self) -> list[tuple[int, int]]:
        """(epoch, start offset), oldest first."""
        return list(zip(self._epochs, self._starts, strict=True))

    @property
    def earliest(self) -> int:
        """The oldest epoch, -1 when none is known."""
        return self._epochs[0] if self._epochs else NO_EPOCH

    def assign(self, epoch: int, start_offset: int) -> bool:
        """Notes that `epoch` begins at `start_offset`; whether that was new.

        Entries at or above that offset never got data and go. An epoch that is not above the
        latest one changes nothing.
        """
        if epoch <= self.latest or epoch < 0 or start_offset < 0:
            return False
        while self._starts and self._starts[-1] >= start_offset:
            self._epochs.pop()
            self._starts.pop()
        self._epochs.append(epoch)
        self._starts.append(start_offset)
        self.latest = epoch
        self.dirty = True
        return True

    def epoch_of(self, offset: int) -> int:
        """The epoch in which `offset` was written, -1 when not known."""
        index = bisect_right(self._starts, offset) - 1
        return self._epochs[index] if index >= 0 else NO_EPOCH

    def end_offset_for(self, epoch: int, log_end_offset: int) -> tuple[int, int]:
        """OffsetForLeaderEpoch's answer: the largest epoch at or below `epoch`, and where it ends.

        (-1, -1) when that cannot be told: no epochs, or `epoch` newer than the latest or -1. An
        epoch older than the first entry is answered with itself and the first start offset.
        """
        if epoch == NO_EPOCH or not self._epochs or epoch > self.latest:
            return NO_EPOCH, NO_OFFSET
        if epoch == self.latest:
            return epoch, log_end_offset
        index = bisect_right(self._epochs, epoch)
        if index == 0:
            return epoch, self._starts[0]
        return self._epochs[index - 1], self._starts[index]

    def truncate_from_end(self, end_offset: int) -> None:
        """The log ends at `end_offset` now: epochs that begin there or later go."""
        while self._starts and self._starts[-1] >= end_offset:
            self._epochs.pop()
            self._starts.pop()
            self.dirty = True
        self.latest = self._epochs[-1] if self._epochs else NO_EPOCH

    def truncate_from_start(self, start_offset: int) -> None:
        """The log begins at `start_offset` now: epochs that end before it go, the one that holds
        it begins there."""
        index = bisect_right(self._starts, start_offset) - 1
        if index < 0 or (index == 0 and self._starts[0] == start_offset):
            return
        del self._epochs[:index], self._starts[:index]
        self._starts[0] = start_offset
        self.dirty = True

    def clear(self) -> None:
        """Forgets everything: the log starts over somewhere else."""
        if self._epochs:
            self._epochs.clear()
            self._starts.clear()
            self.dirty = True
        self.latest = NO_EPOCH
