"""The narrow waist: everything this package does to a disk goes through a `FileSystem`.

`RealFileSystem` is the operating system's, `MemoryFileSystem` keeps everything in this process
(tests, brokers without a disk). Paths are text with forward slashes. What a platform lacks
(pwritev, preallocation, fsync of a directory) has its fallback here and nowhere else. All calls
raise OSError and nothing else.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import Final, Protocol

from protocol.wire import Buffer

MAX_IOVECS: Final = 1024
_CREATE: Final = os.O_RDWR | os.O_CREAT | getattr(os, "O_BINARY", 0)
_OPEN: Final = os.O_RDWR | getattr(os, "O_BINARY", 0)
_READ: Final = os.O_RDONLY | getattr(os, "O_BINARY", 0)


class File(Protocol):
    """An open file. Closed when its last reference goes: whoever sends a part of it keeps it."""

    size: int
    """Bytes written so far through this object, or found when it was opened."""

    def fileno(self) -> int | None:
        """The descriptor for os.sendfile, None when there is none (memory)."""
        ...

    def pread(self, count: int, position: int) -> bytes:
        """At most `count` bytes from `position`; less only at the end of the file."""
        ...

    def append(self, buffers: Sequence[Buffer]) -> int:
        """Writes all buffers at `size` with as few calls as possible; bytes written.

        On an error some of them may have reached the file beyond `size`, which stays as it was.
        """
        ...

    def pwrite(self, data: Buffer, position: int) -> None:
        """Writes all of `data` at `position`."""
        ...

    def truncate(self, size: int) -> None:
        """Cuts (or extends with zeros) to `size` bytes."""
        ...

    def sync(self) -> None:
        """Waits until the file's data is on the disk (fdatasync where there is one)."""
        ...

    def close(self) -> None:
        """Closes it now; further use raises OSError."""
        ...


class Entry:
    """One file of a directory listing. `size` in bytes, `modified_ms` since the epoch."""

    __slots__ = ("modified_ms", "name", "size")

    def __init__(self, name: str, size: int, modified_ms: int) -> None:
        self.name = name
        self.size = size
        self.modified_ms = modified_ms


class FileSystem(Protocol):
    """Files and directories by path."""

    shared: bool
    """Whether other processes (and other FileSystem objects) see the same files."""
    locked: set[str]
    """Log directories that somebody in this process has locked."""

    def open(self, path: str, *, create: bool = False, truncate: bool = False) -> File: ...
    def exists(self, path: str) -> bool: ...
    def is_dir(self, path: str) -> bool: ...
    def mkdir(self, path: str) -> None:
        """Makes the directory and those above it; fine if it is there."""
        ...

    def listdir(self, path: str) -> list[str]:
        """Names in the directory, sorted."""
        ...

    def scan(self, path: str) -> list[Entry]:
        """The directory's plain files with their sizes, in no order."""
        ...

    def rename(self, path: str, to: str) -> None:
        """Renames, replacing a file that is there."""
        ...

    def remove(self, path: str) -> None: ...
    def remove_tree(self, path: str) -> None:
        """Removes a directory with all in it; fine if it is gone."""
        ...

    def sync_dir(self, path: str) -> None:
        """Waits until creations, renames and removals in the directory are on the disk."""
        ...

    def read_bytes(self, path: str) -> bytes: ...
    def write_atomic(self, path: str, data: bytes, *, sync: bool = True) -> None:
        """Replaces the file as a whole: `<path>.tmp`, fsync, rename, fsync of the directory.

        Without `sync` no fsync: after a crash of the machine the file may be missing or empty.
        """
        ...

    def modified_ms(self, path: str) -> int:
        """When the file was last written, ms since the epoch."""
        ...

    def set_modified_ms(self, path: str, modified_ms: int) -> None:
        """Makes the file look as if it was last written then."""
        ...

    def disk_usage(self, path: str) -> tuple[int, int]:
        """(total, usable) bytes of the volume, -1 where it has no limit."""
        ...

    def preallocate(self, file: File, size: int) -> None:
        """Reserves space for `size` bytes if that can be done without changing the file's size."""
        ...


# --- the operating system


def _pwrite_seeking(fd: int, data: Buffer, position: int) -> int:
    os.lseek(fd, position, os.SEEK_SET)
    return os.write(fd, data)


def _pwritev_seeking(fd: int, buffers: Sequence[Buffer], position: int) -> int:
    return _pwrite_seeking(fd, b"".join(buffers), position)


def _pread_seeking(fd: int, count: int, position: int) -> bytes:
    os.lseek(fd, position, os.SEEK_SET)
    return os.read(fd, count)


# Windows has none of them; there the log's one writer thread makes seeking safe.
_pwrite = getattr(os, "pwrite", _pwrite_seeking)
_pwritev = getattr(os, "pwritev", _pwritev_seeking)
_pread = getattr(os, "pread", _pread_seeking)
_sync = getattr(os, "fdatasync", os.fsync)


class RealFile:
    """A descriptor of the operating system."""

    __slots__ = ("_fd", "size")

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self.size: int = os.fstat(fd).st_size

    def __del__(self) -> None:
        fd = self._fd
        if fd >= 0:
            self._fd = -1
            os.close(fd)

    def fileno(self) -> int | None:
        return self._fd

    def pread(self, count: int, position: int) -> bytes:
        data: bytes = _pread(self._fd, count, position)
        if len(data) < count and data:
            return self._pread_rest(data, count, position)
        return data

    def _pread_rest(self, data: bytes, count: int, position: int) -> bytes:
        """One call reads at most some 2 GiB, and may be cut short by a signal."""
        pieces = [data]
        got = len(data)
        while got < count:
            data = _pread(self._fd, count - got, position + got)
            if not data:
                break
            pieces.append(data)
            got += len(data)
        return b"".join(pieces)

    def append(self, buffers: Sequence[Buffer]) -> int:
        start = self.size
        if len(buffers) == 1:
            want = len(buffers[0])
            done = _pwrite(self._fd, buffers[0], start)
        else:
            want = sum(map(len, buffers))
            done = _pwritev(self._fd, buffers[:MAX_IOVECS], start)
        if done != want:
            self._append_rest(buffers, start, done, want)
        self.size = start + want
        return want

    def _append_rest(self, buffers: Sequence[Buffer], start: int, done: int, want: int) -> None:
        """More buffers than one call takes, or a disk that took only a part."""
        rest = list(buffers)
        first = 0
        skip = done
        while done < want:
            while skip >= len(rest[first]):
                skip -= len(rest[first])
                first += 1
            if skip:
                rest[first] = memoryview(rest[first])[skip:]
            skip = _pwritev(self._fd, rest[first : first + MAX_IOVECS], start + done)
            done += skip

    def pwrite(self, data: Buffer, position: int) -> None:
        view = memoryview(data)
        end = position + len(view)
        while view:
            done = _pwrite(self._fd, view, position)
            view = view[done:]
            position += done
        self.size = max(self.size, end)

    def truncate(self, size: int) -> None:
        os.ftruncate(self._fd, size)
        self.size = size

    def sync(self) -> None:
        _sync(self._fd)

    def close(self) -> None:
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)


class RealFileSystem:
    """Files of the operating system."""

    shared: bool = True
    locked: set[str] = set()  # noqa: RUF012 - of this process: all see the same files

    def open(self, path: str, *, create: bool = False, truncate: bool = False) -> File:
        flags = _CREATE if create else _OPEN
        if truncate:
            flags |= os.O_TRUNC
        try:
            return RealFile(os.open(path, flags, 0o644))
        except PermissionError:
            if create or truncate:
                raise
            return RealFile(os.open(path, _READ))

    def exists(self, path: str) -> bool:
        return os.path.lexists(path)

    def is_dir(self, path: str) -> bool:
        return os.path.isdir(path)

    def mkdir(self, path: str) -> None:
        try:
            os.mkdir(path, 0o755)
        except FileExistsError:
            if not os.path.isdir(path):
                raise
        except FileNotFoundError:
            os.makedirs(path, 0o755, exist_ok=True)

    def listdir(self, path: str) -> list[str]:
        return sorted(os.listdir(path))

    def scan(self, path: str) -> list[Entry]:
        entries = []
        with os.scandir(path) as found:
            for entry in found:
                if entry.is_file():
                    stat = entry.stat()
                    entries.append(Entry(entry.name, stat.st_size, stat.st_mtime_ns // 1_000_000))
        return entries

    def rename(self, path: str, to: str) -> None:
        os.replace(path, to)

    def remove(self, path: str) -> None:
        os.unlink(path)

    def remove_tree(self, path: str) -> None:
        try:
            with os.scandir(path) as found:
                entries = [(entry.path, entry.is_dir(follow_symlinks=False)) for entry in found]
        except FileNotFoundError:
            return
        for inner, is_dir in entries:
            if is_dir:
                self.remove_tree(inner)
            else:
                os.unlink(inner)
        os.rmdir(path)

    def sync_dir(self, path: str) -> None:
        if os.name == "nt":
            return  # directories cannot be opened there
        fd = os.open(path, os.O_RDONLY)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)

    def read_bytes(self, path: str) -> bytes:
        fd = os.open(path, _READ)
        try:
            # One byte more than the size tells the end without another call.
            wanted = os.fstat(fd).st_size + 1
            data = os.read(fd, wanted)
            if len(data) == wanted - 1:
                return data
            pieces = [data]
            while data:
                data = os.read(fd, 1 << 20)
                pieces.append(data)
            return b"".join(pieces)
        finally:
            os.close(fd)

    def write_atomic(self, path: str, data: bytes, *, sync: bool = True) -> None:
        aside = path + ".tmp"
        fd = os.open(aside, _CREATE | os.O_TRUNC, 0o644)
        try:
            view = memoryview(data)
            while view:
                view = view[os.write(fd, view) :]
            if sync:
                os.fsync(fd)
        finally:
            os.close(fd)
        os.replace(aside, path)
        if sync:
            self.sync_dir(_parent(path))

    def modified_ms(self, path: str) -> int:
        return os.stat(path).st_mtime_ns // 1_000_000

    def set_modified_ms(self, path: str, modified_ms: int) -> None:
        os.utime(path, ns=(modified_ms * 1_000_000, modified_ms * 1_000_000))

    def disk_usage(self, path: str) -> tuple[int, int]:
        from shutil import disk_usage

        usage = disk_usage(path)
        return usage.total, usage.free

    def preallocate(self, file: File, size: int) -> None:
        fd = file.fileno()
        fallocate = _fallocate()
        if fd is not None and fallocate is not None:
            fallocate(fd, _KEEP_SIZE, 0, size)  # best effort: a refusal costs nothing


_KEEP_SIZE: Final = 1


def _fallocate() -> Callable[[int, int, int, int], int] | None:
    """Linux's fallocate(2), None elsewhere. posix_fallocate would change the file's size."""
    import ctypes

    try:
        function = ctypes.CDLL(None).fallocate
    except (AttributeError, OSError, TypeError):
        return None
    function.argtypes = [ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64]
    found: Callable[[int, int, int, int], int] = function
    return found


def descriptor_limit() -> int:
    """How many descriptors this process may have open; a cautious guess where nothing tells."""
    try:
        import resource
    except ImportError:
        return 1024
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return 1 << 16 if soft == resource.RLIM_INFINITY else min(soft, 1 << 16)


def _parent(path: str) -> str:
    return path.rpartition("/")[0] or ("/" if path.startswith("/") else ".")


# --- memory


class MemoryData:
    """The bytes of one file in memory, apart from its names."""

    __slots__ = ("content", "modified_ms")

    def __init__(self) -> None:
        self.content = bytearray()
        self.modified_ms = 0


class MemoryFile:
    """An open file of a MemoryFileSystem."""

    __slots__ = ("_data", "size")

    def __init__(self, data: MemoryData) -> None:
        self._data: MemoryData | None = data
        self.size = len(data.content)

    def _content(self) -> bytearray:
        if self._data is None:
            raise OSError(9, "the file is closed")
        return self._data.content

    def fileno(self) -> int | None:
        return None

    def pread(self, count: int, position: int) -> bytes:
        return bytes(memoryview(self._content())[position : position + count])

    def append(self, buffers: Sequence[Buffer]) -> int:
        content = self._content()
        start = self.size
        data = buffers[0] if len(buffers) == 1 else b"".join(buffers)
        content[start : start + len(data)] = data
        self.size = start + len(data)
        return len(data)

    def pwrite(self, data: Buffer, position: int) -> None:
        content = self._content()
        if position > len(content):
            content += bytes(position - len(content))
        content[position : position + len(data)] = data
        self.size = max(self.size, position + len(data))

    def truncate(self, size: int) -> None:
        content = self._content()
        if size <= len(content):
            del content[size:]
        else:
            content += bytes(size - len(content))
        self.size = size

    def sync(self) -> None:
        self._content()

    def close(self) -> None:
        self._data = None


class MemoryFileSystem:
    """Files that live as long as this object. Behaves like the real one, errors included."""

    shared: bool = False

    def __init__(self) -> None:
        self.files: dict[str, MemoryData] = {}
        # Directory -> names in it. "/" and "." (for relative paths) are always there.
        self.directories: dict[str, dict[str, None]] = {"/": {}, ".": {}}
        self.locked: set[str] = set()

    def _data(self, path: str) -> MemoryData:
        data = self.files.get(path)
        if data is None:
            if path in self.directories:
                raise IsADirectoryError(21, "Is a directory", path)
            raise FileNotFoundError(2, "No such file or directory", path)
        return data

    def _names(self, path: str) -> dict[str, None]:
        names = self.directories.get(path)
        if names is None:
            raise FileNotFoundError(2, "No such file or directory", path)
        return names

    def _link(self, path: str, data: MemoryData) -> None:
        self._names(_parent(path))[path.rpartition("/")[2]] = None
        self.files[path] = data

    def _unlink(self, path: str) -> MemoryData:
        data = self._data(path)
        del self._names(_parent(path))[path.rpartition("/")[2]]
        del self.files[path]
        return data

    def open(self, path: str, *, create: bool = False, truncate: bool = False) -> File:
        if create and path not in self.files and path not in self.directories:
            self._link(path, MemoryData())
        data = self._data(path)
        if truncate:
            del data.content[:]
        return self._file(path, data)

    def _file(self, path: str, data: MemoryData) -> File:
        return MemoryFile(data)

    def exists(self, path: str) -> bool:
        return path in self.files or path in self.directories

    def is_dir(self, path: str) -> bool:
        return path in self.directories

    def mkdir(self, path: str) -> None:
        if path in self.directories:
            return
        if path in self.files:
            raise FileExistsError(17, "File exists", path)
        parent = _parent(path)
        self.mkdir(parent)
        self.directories[path] = {}
        self.directories[parent][path.rpartition("/")[2]] = None

    def listdir(self, path: str) -> list[str]:
        return sorted(self._names(path))

    def scan(self, path: str) -> list[Entry]:
        found = []
        for name in self._names(path):
            data = self.files.get(f"{path}/{name}")
            if data is not None:
                found.append(Entry(name, len(data.content), data.modified_ms))
        return found

    def rename(self, path: str, to: str) -> None:
        if path not in self.directories:
            self._names(_parent(to))
            self._link(to, self._unlink(path))
            return
        if to in self.files or self.directories.get(to):
            raise OSError(39, "Directory not empty", to)
        self.mkdir(to)
        for name in list(self.directories[path]):
            self.rename(f"{path}/{name}", f"{to}/{name}")
        self._rmdir(path)

    def _rmdir(self, path: str) -> None:
        del self.directories[path]
        del self.directories[_parent(path)][path.rpartition("/")[2]]

    def remove(self, path: str) -> None:
        self._unlink(path)

    def remove_tree(self, path: str) -> None:
        for name in list(self.directories.get(path, ())):
            inner = f"{path}/{name}"
            if inner in self.directories:
                self.remove_tree(inner)
            else:
                self.remove(inner)
        if path in self.directories:
            self._rmdir(path)

    def sync_dir(self, path: str) -> None:
        self._names(path)

    def read_bytes(self, path: str) -> bytes:
        return bytes(self._data(path).content)

    def write_atomic(self, path: str, data: bytes, *, sync: bool = True) -> None:
        file = self.open(path + ".tmp", create=True, truncate=True)
        file.append([data])
        if sync:
            file.sync()
        self.rename(path + ".tmp", path)
        if sync:
            self.sync_dir(_parent(path))

    def modified_ms(self, path: str) -> int:
        return self._data(path).modified_ms

    def set_modified_ms(self, path: str, modified_ms: int) -> None:
        self._data(path).modified_ms = modified_ms

    def disk_usage(self, path: str) -> tuple[int, int]:
        return -1, -1

    def preallocate(self, file: File, size: int) -> None:
        return
