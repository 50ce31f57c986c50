"""Bounds the descriptors that logs keep open: the clock algorithm over those who hold files.

A holder sets `recently_used` whenever it uses its file (one attribute store is all that a hot path
pays) and registers when it opens one. The bound is one for the process, as descriptors are. Not
thread safe: it belongs to the thread that appends and reads.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Final, Protocol

from storage.filesystem import descriptor_limit


class Holder(Protocol):
    """Somebody who keeps a file open for the next time it is needed."""

    recently_used: bool

    def release(self) -> None:
        """Forget the file; it is opened again when needed. Does not call back."""
        ...


class OpenFiles:
    """At most `limit` holders with an open file; 0 takes half of what the process may have."""

    __slots__ = ("_holders", "limit")

    def __init__(self, limit: int = 0) -> None:
        self.limit = limit
        self._holders: OrderedDict[int, Holder] = OrderedDict()

    def __len__(self) -> int:
        return len(self._holders)

    def opened(self, holder: Holder) -> None:
        """`holder` has a file open now; somebody idle may lose theirs for it."""
        if not self.limit:
            self.limit = descriptor_limit() // 2
        holders = self._holders
        holders.pop(id(holder), None)
        while len(holders) >= self.limit:
            key, oldest = holders.popitem(last=False)
            if oldest.recently_used:
                oldest.recently_used = False
                holders[key] = oldest
            else:
                oldest.release()
        holder.recently_used = True
        holders[id(holder)] = holder

    def closed(self, holder: Holder) -> None:
        """`holder` gave its file up by itself."""
        self._holders.pop(id(holder), None)


OPEN_FILES: Final = OpenFiles()
"""Of this process."""
