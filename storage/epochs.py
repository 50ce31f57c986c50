"""Leader epochs of a log and where each began: what truncation after a leader change rests on.

KIP-101, KIP-279. Kept in memory as two ordered lists; the log writes them to
`leader-epoch-checkpoint` when it flushes, and finds the ones after that again in the batches.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right

UNDEFINED_EPOCH = -1
UNDEFINED_OFFSET = -1


class LeaderEpochCache:
    """Epoch -> start offset, both increasing. `dirty` says that the file lags behind."""

    __slots__ = ("_epochs", "_starts", "dirty", "latest")

    def __init__(self, entries: list[tuple[int, int]] | None = None) -> None:
        self._epochs: list[int] = []
        self._starts: list[int] = []
        self.latest = UNDEFINED_EPOCH
        """The newest epoch, -1 without any."""
        self.dirty = False
        for epoch, start in entries or ():
            self.assign(epoch, start)
        self.dirty = False

    def __len__(self) -> int:
        return len(self._epochs)

    def entries(self) -> list[tuple[int, int]]:
        """(epoch, start offset) in order."""
        return list(zip(self._epochs, self._starts, strict=True))

    @property
    def earliest(self) -> tuple[int, int] | None:
        """The oldest epoch and its start offset."""
        return (self._epochs[0], self._starts[0]) if self._epochs else None

    @property
    def latest_entry(self) -> tuple[int, int] | None:
        """The newest epoch and its start offset."""
        return (self._epochs[-1], self._starts[-1]) if self._epochs else None

    def assign(self, epoch: int, start_offset: int) -> None:
        """The epoch begins at this offset. Entries that contradict it go; a known one stays."""
        if epoch == self.latest or epoch < 0:
            return
        epochs, starts = self._epochs, self._starts
        keep = min(bisect_left(epochs, epoch), bisect_left(starts, start_offset))
        if keep < len(epochs) and epochs[keep] == epoch and starts[keep] == start_offset:
            keep += 1
            del epochs[keep:], starts[keep:]
        else:
            del epochs[keep:], starts[keep:]
            epochs.append(epoch)
            starts.append(start_offset)
        self.latest = epochs[-1]
        self.dirty = True

    def epoch_of(self, offset: int) -> int:
        """The epoch that the record at this offset was written in, -1 when not known."""
        number = bisect_right(self._starts, offset)
        return self._epochs[number - 1] if number else UNDEFINED_EPOCH

    def end_offset_for(self, epoch: int, end_offset: int) -> tuple[int, int]:
        """The largest known epoch not above `epoch`, and where it ended (OffsetsForLeaderEpoch).

        `end_offset` is the log's. (-1, -1) when `epoch` is newer than all known, or nothing is
        known; an epoch older than all known ends where the first known one begins.
        """
        if epoch == UNDEFINED_EPOCH:
            return UNDEFINED_EPOCH, UNDEFINED_OFFSET
        if epoch == self.latest:
            return epoch, end_offset
        number = bisect_right(self._epochs, epoch)
        if number == len(self._epochs):
            return UNDEFINED_EPOCH, UNDEFINED_OFFSET
        if number == 0:
            return epoch, self._starts[0]
        return self._epochs[number - 1], self._starts[number]

    def truncate_from_end(self, end_offset: int) -> None:
        """The log now ends here: epochs that begin at or after it go."""
        keep = bisect_left(self._starts, end_offset)
        if keep < len(self._starts):
            del self._epochs[keep:], self._starts[keep:]
            self.latest = self._epochs[-1] if keep else UNDEFINED_EPOCH
            self.dirty = True

    def truncate_from_start(self, start_offset: int) -> None:
        """The log now begins here: the epoch in force there begins there, older ones go."""
        number = bisect_right(self._starts, start_offset)
        if number and self._starts[number - 1] != start_offset:
            self._starts[number - 1] = start_offset
            self.dirty = True
        if number > 1:
            del self._epochs[: number - 1], self._starts[: number - 1]
            self.dirty = True

    def clear(self) -> None:
        """Forgets everything."""
        if self._epochs:
            self._epochs.clear()
            self._starts.clear()
            self.latest = UNDEFINED_EPOCH
            self.dirty = True
