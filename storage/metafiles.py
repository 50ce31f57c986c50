"""The small files at the top of a log directory: meta.properties, .lock, the clean-shutdown marker.

Formats are Apache Kafka 3.9's in ZooKeeper mode: meta.properties version 0 with `broker.id` and
`cluster.id`. Unknown keys are kept.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

from storage.errors import StorageError
from storage.filesystem import File, FileSystem

META_PROPERTIES: Final = "meta.properties"
LOCK: Final = ".lock"
CLEAN_SHUTDOWN: Final = ".kafka_cleanshutdown"
CLEAN_SHUTDOWN_TEXT: Final = b'{"version":0,"brokerEpoch":-1}'

_ESCAPES: Final = {"t": "\t", "n": "\n", "r": "\r", "f": "\f"}


class InconsistentLogDir(StorageError):
    """A log directory that this broker must not use; the message is one sentence for the user."""


class LogDirInUse(InconsistentLogDir):
    """Another process (or another broker in this one) has the directory locked."""


def parse_properties(text: str) -> dict[str, str]:
    """Key and value lines of a Java properties file; without continued lines."""
    properties = {}
    for line in text.splitlines():
        line = line.strip()
        if not line or line[0] in "#!":
            continue
        key, value, in_key, escaped = "", "", True, False
        for char in line:
            if escaped:
                char = _ESCAPES.get(char, char)
                escaped = False
            elif char == "\\":
                escaped = True
                continue
            elif in_key and char in "=:":
                in_key = False
                continue
            if in_key:
                key += char
            else:
                value += char
        properties[key.strip()] = value.lstrip()
    return properties


def format_properties(properties: Mapping[str, str]) -> str:
    """A Java properties file."""
    lines = []
    for key, value in properties.items():
        escaped = value.replace("\\", "\\\\").replace("=", "\\=").replace(":", "\\:")
        lines.append(f"{key}={escaped}\n")
    return "#\n" + "".join(lines)


def read_meta_properties(fs: FileSystem, directory: str) -> dict[str, str] | None:
    """The properties of a log directory, None when it has none yet (a new one). Raises OSError."""
    path = f"{directory}/{META_PROPERTIES}"
    if not fs.exists(path):
        return None
    return parse_properties(fs.read_bytes(path).decode("utf-8", "replace"))


def known_broker_id(fs: FileSystem, directories: Iterable[str]) -> int | None:
    """The id of the broker that these directories belong to: that of the first one that says."""
    for directory in directories:
        try:
            text = (read_meta_properties(fs, directory) or {}).get("broker.id", "")
        except OSError:
            continue  # reported when the directory is loaded
        if text.isascii() and text.isdigit():
            return int(text)
    return None


def write_meta_properties(fs: FileSystem, directory: str, broker_id: int, cluster_id: str) -> None:
    """Writes version 0 of it: write aside, fsync, rename."""
    text = format_properties(
        {"version": "0", "broker.id": str(broker_id), "cluster.id": cluster_id}
    )
    fs.write_atomic(f"{directory}/{META_PROPERTIES}", text.encode())


def check_meta_properties(
    directory: str, properties: Mapping[str, str], broker_id: int, cluster_id: str
) -> None:
    """Raises InconsistentLogDir when the directory belongs to something else."""
    version = properties.get("version", "0")
    path = f"{directory}/{META_PROPERTIES}"
    if version == "1":
        raise InconsistentLogDir(
            f"{path} has version 1: the directory was formatted for Apache Kafka in KRaft mode."
        )
    if version != "0":
        raise InconsistentLogDir(f"{path} has version {version}, which is not known.")
    theirs = properties.get("broker.id")
    if theirs is not None and theirs != str(broker_id):
        raise InconsistentLogDir(
            f"{path} says broker.id={theirs} but this broker is configured as {broker_id}: "
            "use the broker's own directory, or remove the file if it was moved on purpose."
        )
    cluster = properties.get("cluster.id")
    if cluster is not None and cluster != cluster_id:
        raise InconsistentLogDir(
            f"{path} says cluster.id={cluster} but this cluster is {cluster_id}: the directory "
            "belongs to another cluster."
        )


class DirLock:
    """The exclusive lock on a log directory's `.lock` file, held until `release` (or until nobody
    refers to it).

    Interoperates with Apache Kafka's (a POSIX record lock on the whole file). Such locks do not
    hold between two users of one process, so those are told apart by `FileSystem.locked`.
    """

    __slots__ = ("_directory", "_file", "_locked")

    def __init__(self, fs: FileSystem, directory: str) -> None:
        """Raises LogDirInUse when somebody else holds it, OSError when it cannot be made."""
        self._file: File | None = None
        self._directory = directory
        self._locked = fs.locked
        if directory in fs.locked:
            raise LogDirInUse(f"{directory} is in use by another broker of this process.")
        file = fs.open(f"{directory}/{LOCK}", create=True)
        number = file.fileno()
        if number is not None and not lock_file(number):
            file.close()
            raise LogDirInUse(f"{directory} is in use: another process holds {directory}/{LOCK}.")
        fs.locked.add(directory)
        self._file = file

    def __del__(self) -> None:
        self.release()

    def release(self) -> None:
        """Gives the lock back; the file stays, as Kafka leaves it."""
        if self._file is not None:
            self._file.close()
            self._file = None
            self._locked.discard(self._directory)


def lock_file(number: int) -> bool:
    """Tries to lock the open file exclusively; False when another process has it.

    Where neither POSIX nor Windows locks exist nothing is locked and the answer is True.
    """
    try:
        import fcntl
    except ImportError:
        return _lock_windows(number)
    try:
        fcntl.lockf(number, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):
        return False
    return True


def _lock_windows(number: int) -> bool:
    try:
        import msvcrt
    except ImportError:
        return True
    try:
        msvcrt.locking(number, msvcrt.LK_NBLCK, 1)  # type: ignore[attr-defined,unused-ignore]
    except OSError:
        return False
    return True
