"""The narrow waist under the log: files on disk or in memory. The one module that imports `os`.

Paths are strings with slashes. Every method may raise OSError, and nothing else. A `File` closes
its descriptor when the last reference to it goes: a slice that is being sent keeps it alive, even
when the file was renamed, removed or dropped from the set of open files meanwhile.
"""

from __future__ import annotations

import errno
import os
import shutil
from collections import OrderedDict
from collections.abc import Sequence
from typing import Final, NamedTuple, Protocol

Buffer = bytes | bytearray | memoryview

TEMPORARY: Final = ".tmp"
MOST_BUFFERS: Final = 1024
"""Pieces that one writev takes (IOV_MAX)."""

_UNLISTED: Final = 1024


class Entry(NamedTuple):
    """One entry of a directory."""

    name: str
    is_dir: bool
    size: int


class File(Protocol):
    """An open file. Positions and sizes are bytes."""

    @property
    def size(self) -> int:
        """Bytes of the file now."""
        ...

    def fileno(self) -> int | None:
        """The descriptor for `os.sendfile`; None for a file in memory."""
        ...

    def pread(self, length: int, position: int) -> bytes:
        """Up to `length` bytes from `position`; fewer only at the end of the file."""
        ...

    def write(self, buffers: Sequence[Buffer], position: int) -> int:
        """Writes all buffers one after the other from `position` on, or raises; returns the bytes
        written. After an error any prefix may have been written."""
        ...

    def append(self, buffers: Sequence[Buffer]) -> int:
        """Writes at the end; returns where that was."""
        ...

    def truncate(self, size: int) -> None:
        """Cuts off (or fills with zeros) to `size`."""
        ...

    def preallocate(self, size: int) -> None:
        """Reserves space: the file is `size` bytes long afterwards, zeros where nothing was."""
        ...

    def sync(self) -> None:
        """Returns when the content is on disk."""
        ...

    def close(self) -> None:
        """Closes now; for files that nobody else holds."""
        ...


class FileSystem(Protocol):
    """What storage asks of the system it runs on."""

    @property
    def shared(self) -> bool:
        """Whether other processes see the same files."""
        ...

    @property
    def open_files(self) -> OpenFiles:
        """Who holds descriptors, for bounding them."""
        ...

    def open(self, path: str, *, create: bool = False, truncate: bool = False) -> File:
        """Opens for reading and writing. `create` makes a missing file, `truncate` empties it."""
        ...

    def exists(self, path: str) -> bool: ...
    def is_dir(self, path: str) -> bool: ...
    def listdir(self, path: str) -> list[str]: ...

    def scandir(self, path: str) -> list[Entry]:
        """Names, kinds and sizes in a directory, in no order."""
        ...

    def file_size(self, path: str) -> int: ...

    def modified_ms(self, path: str) -> int:
        """Time of the last change of the content, in ms since the epoch; 0 where none is kept."""
        ...

    def mkdir(self, path: str) -> None:
        """Makes the directory and missing parents; one that is there is fine."""
        ...

    def rename(self, source: str, target: str) -> None:
        """Atomically; replaces a file at `target`."""
        ...

    def remove(self, path: str) -> None: ...

    def remove_tree(self, path: str) -> None:
        """Removes a directory and all in it; one that is missing is fine."""
        ...

    def sync_dir(self, path: str) -> None:
        """Makes names made, changed or removed in the directory last."""
        ...

    def read_bytes(self, path: str) -> bytes: ...
    def read_text(self, path: str) -> str: ...

    def write_bytes(self, path: str, data: Buffer) -> None:
        """Writes a small file in place, synced by nobody: for what can be told again."""
        ...

    def write_atomic(self, path: str, data: Buffer) -> None:
        """Replaces a small file: written aside, synced, renamed, directory synced."""
        ...

    def disk_usage(self, path: str) -> tuple[int, int]:
        """(bytes of the volume, bytes that may still be used); (-1, -1) where that is unknown."""
        ...


class Holder(Protocol):
    """Somebody who keeps a file open for the next time it is needed."""

    recently_used: bool

    def release(self) -> None:
        """Forget the file; it is opened again when needed."""
        ...


class OpenFiles:
    """Bounds the descriptors that logs keep open: the clock algorithm over their holders.

    A holder sets `recently_used` when it touches its file (one attribute store, that is all a hot
    path pays) and registers itself when it opens it.
    """

    __slots__ = ("_holders", "limit")

    def __init__(self, limit: int) -> None:
        self.limit = max(1, limit)
        self._holders: OrderedDict[int, Holder] = OrderedDict()

    def __len__(self) -> int:
        return len(self._holders)

    def opened(self, holder: Holder) -> None:
        """`holder` has a file open now; somebody idle may lose theirs for it."""
        holders = self._holders
        while len(holders) >= self.limit:
            key, oldest = holders.popitem(last=False)
            if oldest is holder:
                continue
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


class RealFile:
    """An open file of the operating system."""

    __slots__ = ("_fd", "path")

    def __init__(self, fd: int, path: str) -> None:
        self._fd = fd
        self.path = path

    def __del__(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)

    @property
    def size(self) -> int:
        return os.fstat(self._fd).st_size

    def fileno(self) -> int | None:
        return self._fd

    def pread(self, length: int, position: int) -> bytes:
        data = _pread(self._fd, length, position)
        if len(data) == length or not data:
            return data
        parts = [data]
        got = len(data)
        while got < length:  # at the end of the file, or a very large read
            data = _pread(self._fd, length - got, position + got)
            if not data:
                break
            parts.append(data)
            got += len(data)
        return b"".join(parts)

    def write(self, buffers: Sequence[Buffer], position: int) -> int:
        if len(buffers) == 1:
            data = buffers[0]
            written = _pwrite(self._fd, data, position)
            if written == len(data):
                return written
            return written + self._write_rest([memoryview(data)[written:]], position + written)
        return self._write_rest(buffers, position)

    def _write_rest(self, buffers: Sequence[Buffer], position: int) -> int:
        total = 0
        start = 0
        skip = 0  # bytes of buffers[start] that are written
        while start < len(buffers):
            piece = list(buffers[start : start + MOST_BUFFERS])
            if skip:
                piece[0] = memoryview(piece[0])[skip:]
            written = _pwritev(self._fd, piece, position + total)
            total += written
            if not written and any(len(buffer) for buffer in piece):
                raise OSError(errno.EIO, "nothing was written", self.path)
            skip += written
            while start < len(buffers) and skip >= len(buffers[start]):
                skip -= len(buffers[start])
                start += 1
        return total

    def append(self, buffers: Sequence[Buffer]) -> int:
        position = self.size
        self.write(buffers, position)
        return position

    def truncate(self, size: int) -> None:
        os.ftruncate(self._fd, size)

    def preallocate(self, size: int) -> None:
        if self.size >= size:
            return
        if hasattr(os, "posix_fallocate"):
            try:
                os.posix_fallocate(self._fd, 0, size)
            except OSError as error:
                if error.errno not in (errno.EINVAL, errno.EOPNOTSUPP):
                    raise
            else:
                return
        os.ftruncate(self._fd, size)

    def sync(self) -> None:
        _fdatasync(self._fd)

    def close(self) -> None:
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)


def _seek_read(fd: int, length: int, position: int) -> bytes:
    os.lseek(fd, position, os.SEEK_SET)
    return os.read(fd, length)


def _seek_write(fd: int, data: Buffer, position: int) -> int:
    os.lseek(fd, position, os.SEEK_SET)
    return os.write(fd, data)


def _write_pieces(fd: int, buffers: Sequence[Buffer], position: int) -> int:
    total = 0
    for buffer in buffers:
        written = _pwrite(fd, buffer, position + total)
        total += written
        if written < len(buffer):
            break
    return total


# Windows has no positional reads and writes, old macOS no gathering ones.
_pread = getattr(os, "pread", _seek_read)
_pwrite = getattr(os, "pwrite", _seek_write)
_pwritev = getattr(os, "pwritev", _write_pieces)
_fdatasync = getattr(os, "fdatasync", os.fsync)
_OPEN_FLAGS: Final = os.O_RDWR | getattr(os, "O_BINARY", 0) | getattr(os, "O_CLOEXEC", 0)


class RealFileSystem:
    """The operating system's files. `max_open` bounds the descriptors that logs keep open; by
    default half of what the process may have."""

    __slots__ = ("open_files",)

    shared: Final = True

    def __init__(self, max_open: int | None = None) -> None:
        self.open_files = OpenFiles(descriptor_limit() // 2 if max_open is None else max_open)

    def open(self, path: str, *, create: bool = False, truncate: bool = False) -> File:
        flags = _OPEN_FLAGS
        if create:
            flags |= os.O_CREAT
        if truncate:
            flags |= os.O_TRUNC
        return RealFile(os.open(path, flags, 0o644), path)

    def exists(self, path: str) -> bool:
        return os.path.exists(path)

    def is_dir(self, path: str) -> bool:
        return os.path.isdir(path)

    def listdir(self, path: str) -> list[str]:
        return os.listdir(path)

    def scandir(self, path: str) -> list[Entry]:
        with os.scandir(path) as entries:
            return [
                Entry(entry.name, entry.is_dir(), 0 if entry.is_dir() else entry.stat().st_size)
                for entry in entries
            ]

    def file_size(self, path: str) -> int:
        return os.stat(path).st_size

    def modified_ms(self, path: str) -> int:
        return os.stat(path).st_mtime_ns // 1_000_000

    def mkdir(self, path: str) -> None:
        try:
            os.mkdir(path, 0o755)
        except FileNotFoundError:
            os.makedirs(path, exist_ok=True)
        except FileExistsError:
            if not os.path.isdir(path):
                raise

    def rename(self, source: str, target: str) -> None:
        os.replace(source, target)

    def remove(self, path: str) -> None:
        os.remove(path)

    def remove_tree(self, path: str) -> None:
        try:
            shutil.rmtree(path)
        except FileNotFoundError:
            pass

    def sync_dir(self, path: str) -> None:
        if os.name == "nt":
            return  # a directory cannot be opened there, and renames are journalled
        fd = os.open(path, os.O_RDONLY)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)

    def read_bytes(self, path: str) -> bytes:
        fd = os.open(path, os.O_RDONLY | getattr(os, "O_BINARY", 0))
        try:
            # For most small files one read tells all; the second finds the end.
            parts = [os.read(fd, 1 << 16)]
            while parts[-1]:
                parts.append(os.read(fd, 1 << 20))
            return b"".join(parts)
        finally:
            os.close(fd)

    def read_text(self, path: str) -> str:
        return self.read_bytes(path).decode("utf-8", "replace")

    def write_bytes(self, path: str, data: Buffer) -> None:
        self._write(path, data, sync=False)

    def write_atomic(self, path: str, data: Buffer) -> None:
        self._write(path + TEMPORARY, data, sync=True)
        os.replace(path + TEMPORARY, path)
        self.sync_dir(os.path.dirname(path) or ".")

    def _write(self, path: str, data: Buffer, *, sync: bool) -> None:
        file = self.open(path, create=True, truncate=True)
        if data:
            file.write([data], 0)
        if sync:
            file.sync()
        file.close()

    def disk_usage(self, path: str) -> tuple[int, int]:
        usage = shutil.disk_usage(path)
        return usage.total, usage.free


def descriptor_limit() -> int:
    """How many descriptors the process may have open; a guess where the system does not tell."""
    try:
        import resource
    except ImportError:
        return _UNLISTED
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return _UNLISTED if soft == resource.RLIM_INFINITY else min(soft, 1 << 16)


class MemoryFile:
    """The content of a file in memory; every handle on it is the same object."""

    __slots__ = ("data",)

    def __init__(self, data: Buffer = b"") -> None:
        self.data = bytearray(data)

    @property
    def size(self) -> int:
        return len(self.data)

    def fileno(self) -> int | None:
        return None

    def pread(self, length: int, position: int) -> bytes:
        return bytes(memoryview(self.data)[position : position + length])

    def write(self, buffers: Sequence[Buffer], position: int) -> int:
        data = self.data
        if position > len(data):
            data.extend(bytes(position - len(data)))
        at = position
        for buffer in buffers:
            end = at + len(buffer)
            data[at:end] = buffer
            at = end
        return at - position

    def append(self, buffers: Sequence[Buffer]) -> int:
        position = len(self.data)
        self.write(buffers, position)
        return position

    def truncate(self, size: int) -> None:
        if size < len(self.data):
            del self.data[size:]
        else:
            self.data.extend(bytes(size - len(self.data)))

    def preallocate(self, size: int) -> None:
        """Memory is not reserved ahead."""

    def sync(self) -> None:
        pass

    def close(self) -> None:
        pass


class MemoryFileSystem:
    """Files that live as long as this object. Paths are compared as they are written."""

    __slots__ = ("directories", "files", "open_files")

    shared: Final = False

    def __init__(self) -> None:
        self.files: dict[str, MemoryFile] = {}
        self.directories: set[str] = {"", "/", "."}
        self.open_files = OpenFiles(1 << 30)

    def open(self, path: str, *, create: bool = False, truncate: bool = False) -> File:
        file = self.files.get(path)
        if file is None:
            if not create:
                raise self._missing(path)
            if _parent(path) not in self.directories or path in self.directories:
                raise self._missing(path)
            file = self.files[path] = MemoryFile()
        elif truncate:
            file.truncate(0)
        return file

    def _missing(self, path: str) -> OSError:
        if path in self.directories:
            return IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), path)
        return FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path)

    def _file(self, path: str) -> MemoryFile:
        file = self.files.get(path)
        if file is None:
            raise self._missing(path)
        return file

    def exists(self, path: str) -> bool:
        return path in self.files or path in self.directories

    def is_dir(self, path: str) -> bool:
        return path in self.directories

    def listdir(self, path: str) -> list[str]:
        return [entry.name for entry in self.scandir(path)]

    def scandir(self, path: str) -> list[Entry]:
        if path not in self.directories:
            raise self._missing(path)
        found = [
            Entry(name.rpartition("/")[2], False, file.size)
            for name, file in self.files.items()
            if _parent(name) == path
        ]
        found += [
            Entry(name.rpartition("/")[2], True, 0)
            for name in self.directories
            if name not in ("", "/", ".") and _parent(name) == path
        ]
        return found

    def file_size(self, path: str) -> int:
        return self._file(path).size

    def modified_ms(self, path: str) -> int:
        self._file(path)
        return 0

    def mkdir(self, path: str) -> None:
        while path not in self.directories:
            if path in self.files:
                raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), path)
            self.directories.add(path)
            path = _parent(path)

    def rename(self, source: str, target: str) -> None:
        if source in self.files:
            self.files[target] = self.files.pop(source)
            return
        if source not in self.directories:
            raise self._missing(source)
        prefix = source + "/"
        for path in [path for path in self.files if path.startswith(prefix)]:
            self.files[f"{target}/{path[len(prefix) :]}"] = self.files.pop(path)
        for path in [path for path in self.directories if path.startswith(prefix)]:
            self.directories.remove(path)
            self.directories.add(f"{target}/{path[len(prefix) :]}")
        self.directories.remove(source)
        self.directories.add(target)

    def remove(self, path: str) -> None:
        self._file(path)
        del self.files[path]

    def remove_tree(self, path: str) -> None:
        prefix = path + "/"
        for name in [name for name in self.files if name.startswith(prefix)]:
            del self.files[name]
        self.directories -= {
            name for name in self.directories if name == path or name.startswith(prefix)
        }

    def sync_dir(self, path: str) -> None:
        pass

    def read_bytes(self, path: str) -> bytes:
        return bytes(self._file(path).data)

    def read_text(self, path: str) -> str:
        return self.read_bytes(path).decode("utf-8", "replace")

    def write_bytes(self, path: str, data: Buffer) -> None:
        file = self.open(path, create=True, truncate=True)
        file.write([data], 0)

    def write_atomic(self, path: str, data: Buffer) -> None:
        self.write_bytes(path + TEMPORARY, data)
        self.rename(path + TEMPORARY, path)

    def disk_usage(self, path: str) -> tuple[int, int]:
        return -1, -1


def _parent(path: str) -> str:
    """The directory a path lies in; "/" and "" are their own."""
    head, slash, _ = path.rpartition("/")
    return head if head else slash
