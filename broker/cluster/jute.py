"""Requests and replies of ZooKeeper's protocol as this broker sends them: bytes only, no IO.

Jute is ZooKeeper's serialization: big-endian numbers, texts and buffers behind their length (-1 for
none). A request is encoded once, on the event loop, so that its size is known before it is sent: a
server drops a connection, with everything that is pending on it, over a request above its
`jute.maxbuffer`.
"""

import struct
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

from broker.cluster.store import (
    BadVersion,
    Check,
    ConnectionLoss,
    Create,
    NoChildrenForEphemerals,
    NodeExists,
    NoNode,
    NotEmpty,
    Op,
    OpResult,
    SessionExpired,
    SetData,
    Stat,
    StoreError,
    StoreFailed,
)

MAX_REQUEST_BYTES = 1_000_000
"""Above this a request is refused here; a server's default limit is 1,048,575."""
MAX_BATCH_BYTES = 256 * 1024
MAX_BATCH_PATHS = 1000
"""How many nodes one multiRead asks for, at most."""

CREATE, DELETE, GET_DATA, SET_DATA, CHECK, MULTI, CREATE2, MULTI_READ = 1, 2, 4, 5, 13, 14, 15, 22
ERROR = -1
EPHEMERAL, SEQUENTIAL = 1, 2

OK, RUNTIME_INCONSISTENCY = 0, -2
NO_NODE = -101
LOGIN_DEMANDED = -124

_INT = struct.Struct(">i")
_HEADER = struct.Struct(">i?i")
"""Of an operation in a multi: type, whether this is the end, error."""
_STAT = struct.Struct(">qq16xi8xq16x")
"""czxid, mzxid, version and owner out of a node's eleven figures."""
_END = _HEADER.pack(-1, True, -1)

Reader = Callable[[bytes, int], object]


class Request:
    """An encoded request, in the shape in which kazoo sends it and reads its reply."""

    __slots__ = ("body", "deserialize", "type")

    def __init__(self, kind: int, body: bytes, deserialize: Reader) -> None:
        self.type = kind
        self.body = body
        self.deserialize = deserialize

    def serialize(self) -> bytes:
        return self.body


class Refused(NamedTuple):
    """A multi was not done: index of the first operation at fault, and its error code."""

    at: int
    code: int


# --- fields ---------------------------------------------------------------------------------------


def _text(value: str) -> bytes:
    data = value.encode()
    return _INT.pack(len(data)) + data


def _buffer(value: bytes | None) -> bytes:
    return _INT.pack(-1) if value is None else _INT.pack(len(value)) + value


def _read_text(data: bytes, at: int) -> tuple[str, int]:
    (length,) = _INT.unpack_from(data, at)
    end = at + 4 + max(length, 0)
    return data[at + 4 : end].decode(), end


def _read_buffer(data: bytes, at: int) -> tuple[bytes | None, int]:
    (length,) = _INT.unpack_from(data, at)
    at += 4
    return (None, at) if length < 0 else (data[at : at + length], at + length)


def _read_stat(data: bytes, at: int) -> tuple[Stat, int]:
    czxid, mzxid, version, owner = _STAT.unpack_from(data, at)
    return Stat(version, czxid, mzxid, owner), at + _STAT.size


# --- access control -------------------------------------------------------------------------------

_READ, _ALL = 1, 31


def _acl(*entries: tuple[int, str, str]) -> bytes:
    parts = [_INT.pack(p) + _text(scheme) + _text(name) for p, scheme, name in entries]
    return _INT.pack(len(entries)) + b"".join(parts)


OPEN = _acl((_ALL, "world", "anyone"))
"""Everybody may do everything with the node."""
CREATOR_ONLY = _acl((_ALL, "auth", ""))
"""Whoever is authenticated as the node's creator may do everything, others nothing."""
CREATOR_AND_READERS = _acl((_ALL, "auth", ""), (_READ, "world", "anyone"))

AclOf = Callable[[str], bytes]
"""Encoded access control of a node to create, by its path within the store."""


# --- writes ---------------------------------------------------------------------------------------


def _create_body(op: Create, root: str, acl: bytes) -> bytes:
    flags = (EPHEMERAL if op.ephemeral else 0) | (SEQUENTIAL if op.sequential else 0)
    _check_path(op.path)
    return _text(root + op.path) + _buffer(op.data) + acl + _INT.pack(flags)


def _body(op: Op, root: str, acl_of: AclOf) -> tuple[int, bytes]:
    if isinstance(op, Create):
        return CREATE, _create_body(op, root, acl_of(op.path))
    path = _text(full_path(root, op.path))
    if isinstance(op, SetData):
        return SET_DATA, path + _buffer(op.data) + _INT.pack(op.version)
    return CHECK if isinstance(op, Check) else DELETE, path + _INT.pack(op.version)


def write(op: Op, root: str, acl_of: AclOf) -> Request:
    """A single operation. Its reply: path and Stat of Create, the Stat of SetData, True."""
    kind, body = _body(op, root, acl_of)
    if kind == CREATE:
        return Request(CREATE2, body, _read_created)
    return Request(kind, body, _read_set if kind == SET_DATA else _read_nothing)


def _read_created(data: bytes, at: int) -> tuple[str, Stat]:
    path, at = _read_text(data, at)
    return path, _read_stat(data, at)[0]


def _read_set(data: bytes, at: int) -> Stat:
    return _read_stat(data, at)[0]


def _read_nothing(data: bytes, at: int) -> bool:
    return True


def multi(ops: Iterable[Op], root: str, acl_of: AclOf) -> Request:
    """All of `ops` or none of them. Its reply: the results of `Store.multi`, or Refused."""
    parts: list[bytes] = []
    for op in ops:
        kind, body = _body(op, root, acl_of)
        parts += (_HEADER.pack(kind, False, -1), body)
    return Request(MULTI, b"".join((*parts, _END)), _read_multi)


def _read_multi(data: bytes, at: int) -> "list[OpResult] | list[Refused]":
    results: list[OpResult] = []
    codes: list[int] = []
    while True:
        kind, done, _ = _HEADER.unpack_from(data, at)
        at += _HEADER.size
        if done:
            break
        if kind == ERROR:
            codes.append(_INT.unpack_from(data, at)[0])
            at += 4
        elif kind == CREATE:
            path, at = _read_text(data, at)
            results.append(path)
        elif kind == SET_DATA:
            stat, at = _read_stat(data, at)
            results.append(stat)
        else:
            results.append(True)
    # Before the one at fault operations say "rolled back" (0), behind it "not tried" (-2).
    for index, code in enumerate(codes):
        if code not in (OK, RUNTIME_INCONSISTENCY):
            return [Refused(index, code)]
    return results


# --- reading many nodes ---------------------------------------------------------------------------

Found = tuple[bytes | None, Stat]


def read_many(paths: Sequence[str], root: str) -> list[tuple[Request, int]]:
    """Requests that read these nodes, each with the index of its first path.

    The reply of each: data and Stat, None where there is no node, or another error's code.
    """
    requests: list[tuple[Request, int]] = []
    head = _HEADER.pack(GET_DATA, False, -1)
    parts: list[bytes] = []
    first = size = 0
    for index, path in enumerate(paths):
        part = head + _text(full_path(root, path)) + b"\0"
        if parts and (size + len(part) > MAX_BATCH_BYTES or len(parts) >= MAX_BATCH_PATHS):
            requests.append((_read_request(parts), first))
            parts, first, size = [], index, 0
        parts.append(part)
        size += len(part)
    if parts:
        requests.append((_read_request(parts), first))
    return requests


def _read_request(parts: list[bytes]) -> Request:
    return Request(MULTI_READ, b"".join((*parts, _END)), _read_nodes)


def _read_nodes(data: bytes, at: int) -> list[Found | int | None]:
    found: list[Found | int | None] = []
    while True:
        kind, done, _ = _HEADER.unpack_from(data, at)
        at += _HEADER.size
        if done:
            return found
        if kind == ERROR:
            (code,) = _INT.unpack_from(data, at)
            at += 4
            found.append(None if code == NO_NODE else code)
            continue
        value, at = _read_buffer(data, at)
        stat, at = _read_stat(data, at)
        found.append((value, stat))


# --- paths and errors -----------------------------------------------------------------------------


def full_path(root: str, path: str) -> str:
    """A path of the store as the server knows it; `root` is the chroot, or empty.

    Raises StoreError for what would lie outside of it.
    """
    _check_path(path)
    return (root or "/") if path == "/" else root + path


def _check_path(path: str) -> None:
    if not path.startswith("/"):
        raise StoreError(path, "not a valid path")


_ERRORS: dict[int, tuple[type[StoreError], str]] = {
    -4: (ConnectionLoss, "the connection was lost"),
    -7: (ConnectionLoss, "no answer in time"),
    -8: (StoreError, "not a valid path"),
    -101: (NoNode, ""),
    -102: (StoreFailed, "ZooKeeper's access control does not allow it"),
    -103: (BadVersion, ""),
    -108: (NoChildrenForEphemerals, ""),
    -110: (NodeExists, ""),
    -111: (NotEmpty, ""),
    -112: (SessionExpired, ""),
    LOGIN_DEMANDED: (StoreFailed, "ZooKeeper demands that its clients log in by SASL"),
    -118: (ConnectionLoss, "the session has moved to another connection"),
}


def error(code: int | None, path: str) -> StoreError:
    """The store's error for a code of ZooKeeper's protocol."""
    kind, detail = _ERRORS.get(code or 0, (StoreFailed, f"ZooKeeper answered error {code}"))
    return kind(path, detail)
