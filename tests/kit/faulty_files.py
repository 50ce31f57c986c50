"""A file system in memory that fails on demand and forgets what was not synced.

`fail_at(n)` makes the n-th changing operation from now on raise, a write having got through only in
part. `kill` is what a restarted process finds after SIGKILL: everything written. `crash` is what a
restarted machine may find: of each file what was synced and any part of what came later (cut at any
byte, or as zeros), of each directory what was synced and a prefix of the changes after that.
"""

import errno
import os
from collections.abc import Callable, Sequence
from typing import NamedTuple

from protocol.wire import Buffer
from storage.filesystem import File, MemoryData, MemoryFile, MemoryFileSystem

Choose = Callable[[int], int]
"""`choose(n)` picks a number from 0 to n - 1."""


class Fault(NamedTuple):
    """What is to fail: the operation counted as `at`; with `forever` all after it, too."""

    at: int
    number: int
    torn: int  # per mille of a write's bytes that get through
    forever: bool


class FaultyFile(MemoryFile):
    """A file whose changes are counted and may fail."""

    __slots__ = ("_files", "_kept", "_path")

    def __init__(self, files: "FaultyFileSystem", path: str, data: MemoryData) -> None:
        super().__init__(data)
        self._files = files
        self._path = path
        self._kept = data

    def append(self, buffers: Sequence[Buffer]) -> int:
        data = b"".join(buffers)
        size = self.size
        through = self._files.step("append", self._path, len(data))
        if through is not None:
            super().append([data[:through]])
            self.size = size
            self._files.refuse(self._path)
        return super().append([data])

    def pwrite(self, data: Buffer, position: int) -> None:
        size = self.size
        through = self._files.step("pwrite", self._path, len(data))
        if through is not None:
            super().pwrite(bytes(data)[:through], position)
            self.size = size
            self._files.refuse(self._path)
        super().pwrite(data, position)

    def truncate(self, size: int) -> None:
        if self._files.step("truncate", self._path) is not None:
            self._files.refuse(self._path)
        super().truncate(size)

    def sync(self) -> None:
        if self._files.step("sync", self._path) is not None:
            self._files.refuse(self._path)
        super().sync()
        self._files.synced[id(self._kept)] = (self._kept, bytes(self._kept.content))


class FaultyFileSystem(MemoryFileSystem):
    """See the module. `operations` counts what changed something, `trace` names it."""

    def __init__(self) -> None:
        super().__init__()
        self.operations = 0
        self.trace: list[str] = []
        self.fault: Fault | None = None
        self.dead = False
        self._renaming = False
        # Content of each file as of its last fsync (with the file, so that its id stays its own).
        self.synced: dict[int, tuple[MemoryData, bytes]] = {}
        # Each directory's names as of its last fsync, and what happened to them since.
        self._names_synced: dict[str, dict[str, MemoryData]] = {}
        self._changes: list[tuple[str, str, MemoryData | None]] = []  # directory, name, now

    # --- faults

    def fail_at(
        self, count: int, *, number: int = errno.EIO, torn: int = 500, forever: bool = False
    ) -> None:
        """The `count`-th (from 0) changing operation from now on raises OSError(`number`)."""
        self.fault = Fault(self.operations + count, number, torn, forever)

    def step(self, what: str, path: str, size: int = 0) -> int | None:
        """Counts an operation; how many bytes of it get through if it is to fail, else None."""
        if self.dead:
            raise OSError(errno.EIO, "this machine is off", path)
        at = self.operations
        self.operations += 1
        self.trace.append(f"{what} {path}")
        fault = self.fault
        if fault is None or at < fault.at or (at > fault.at and not fault.forever):
            return None
        return size * fault.torn // 1000

    def refuse(self, path: str) -> None:
        """Raises the error of the fault that is set."""
        assert self.fault is not None
        raise OSError(self.fault.number, os.strerror(self.fault.number), path)

    def _change(self, what: str, path: str) -> None:
        if not self._renaming and self.step(what, path) is not None:
            self.refuse(path)

    # --- operations

    def open(self, path: str, *, create: bool = False, truncate: bool = False) -> File:
        made = create and path not in self.files
        if made:
            self._change("create", path)
        elif truncate:
            self._change("empty", path)
        file = super().open(path, create=create, truncate=truncate)
        if made:
            self._note(path, self.files[path])
        return file

    def _file(self, path: str, data: MemoryData) -> File:
        return FaultyFile(self, path, data)

    def mkdir(self, path: str) -> None:
        if path not in self.directories:
            self._change("mkdir", path)
        super().mkdir(path)

    def rename(self, path: str, to: str) -> None:
        self._change("rename", path)
        if path in self.directories:
            # With all that is in it, at once.
            self._renaming = True
            super().rename(path, to)
            self._renaming = False
            self._forget_changes_below(path)
            return
        data = self.files.get(path)
        super().rename(path, to)
        self._note(to, data)
        self._note(path, None)

    def remove(self, path: str) -> None:
        self._change("remove", path)
        super().remove(path)
        self._note(path, None)

    def sync_dir(self, path: str) -> None:
        self._change("sync_dir", path)
        super().sync_dir(path)
        self._names_synced[path] = {
            name: self.files[f"{path}/{name}"]
            for name in self.directories[path]
            if f"{path}/{name}" in self.files
        }
        self._changes = [change for change in self._changes if change[0] != path]

    def _note(self, path: str, data: MemoryData | None) -> None:
        directory, _, name = path.rpartition("/")
        self._changes.append((directory, name, data))

    def _forget_changes_below(self, path: str) -> None:
        self._changes = [change for change in self._changes if change[0] != path]
        self._names_synced.pop(path, None)

    # --- ends

    def kill(self) -> "FaultyFileSystem":
        """The files as the next process finds them; this one changes nothing any more."""
        self.dead = True
        copy = FaultyFileSystem()
        for directory in self.directories:
            MemoryFileSystem.mkdir(copy, directory)
        for path, data in self.files.items():
            copy.put(path, bytes(data.content))
        return copy

    def crash(self, choose: Choose) -> "FaultyFileSystem":
        """The files as they may be when the machine comes back; this one is off.

        Directories themselves always last: only files and their names are at stake.
        """
        self.dead = True
        copy = FaultyFileSystem()
        for directory in self.directories:
            MemoryFileSystem.mkdir(copy, directory)
        names = {directory: dict(names) for directory, names in self._names_synced.items()}
        for directory, name, data in self._changes[: choose(len(self._changes) + 1)]:
            if data is None:
                names.get(directory, {}).pop(name, None)
            else:
                names.setdefault(directory, {})[name] = data
        for directory, inside in names.items():
            for name, data in inside.items():
                copy.put(f"{directory}/{name}", self._left_of(data, choose))
        return copy

    def _left_of(self, data: MemoryData, choose: Choose) -> bytes:
        now = bytes(data.content)
        synced = self.synced.get(id(data), (data, b""))[1]
        if now == synced:
            return now
        way = choose(4)
        if way == 0:
            return synced
        if way == 1:
            return now
        cut = len(synced) + choose(max(len(now) - len(synced), 0) + 1)
        if not now.startswith(synced):
            return synced if choose(2) else now
        if way == 2:
            return now[:cut]
        return now[:cut] + bytes(len(now) - cut)  # the size lasted, the data did not

    def put(self, path: str, content: bytes) -> None:
        """Sets a file's content as if it had been there, synced, from the start."""
        directory, _, name = path.rpartition("/")
        MemoryFileSystem.mkdir(self, directory)
        data = self.files.get(path)
        if data is None:
            data = MemoryData()
            self._link(path, data)
        data.content[:] = content
        self.synced[id(data)] = (data, content)
        self._names_synced.setdefault(directory, {})[name] = data
