"""LocalStore: the metadata store inside this process, kept in one SQLite file or in memory only.

The tree lives in a dict; every transaction is written through to SQLite before it is answered, so
that a killed process finds what it acknowledged (write-ahead log, synchronous=NORMAL: a power cut
may lose the last transactions, never their order). Ephemeral nodes are never written: a new process
is a new session. As in a ZooKeeper ensemble the upper half of a transaction id counts the openings
of the tree, so that ids never come twice although ephemerals leave no trace.

Several sessions may share one tree (`LocalStore.session`): several nodes in one process.
"""

import asyncio
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from broker.cluster.store import (
    ANY_VERSION,
    BadVersion,
    Check,
    Create,
    Delete,
    EventKind,
    Listener,
    MultiFailed,
    NoChildrenForEphemerals,
    NodeExists,
    NoNode,
    NotEmpty,
    Op,
    OpResult,
    SessionEvent,
    SessionExpired,
    SetData,
    Stat,
    StoreError,
    StoreFailed,
    Watch,
    WatchEvent,
)

if TYPE_CHECKING:
    import sqlite3

SCHEMA_VERSION = 1
BUSY_S = 0.5
"""How long a file held by another process is waited for."""
CHECKPOINT_PAGES = 4000
"""Pages (4 KiB) of write-ahead log after which SQLite folds it into the file."""


class _Znode:
    __slots__ = ("children", "created", "czxid", "data", "mzxid", "owner", "version")

    def __init__(
        self, data: bytes | None, czxid: int, owner: int, mzxid: int, version: int, created: int
    ) -> None:
        self.data = data
        self.czxid = czxid
        self.mzxid = mzxid
        self.version = version
        self.owner = owner
        self.created = created
        """Children created so far: the next sequential child's number."""
        self.children: set[str] | None = None

    def stat(self) -> Stat:
        return Stat(self.version, self.czxid, self.mzxid, self.owner)


def _parent(path: str) -> str:
    return path[: path.rfind("/")] or "/"


def _check_path(path: str) -> None:
    if not path.startswith("/") or (path != "/" and path.endswith("/")) or "//" in path:
        raise StoreError(path, "not a valid path")


def _arm(watches: list[tuple[int, Watch]], session_id: int, watch: Watch) -> None:
    """A watch armed twice on a node fires once."""
    if (session_id, watch) not in watches:
        watches.append((session_id, watch))


class LocalTree:
    """The tree itself: applies transactions, keeps the file, fires watches. Used by LocalStore."""

    def __init__(self, path: str | None = None) -> None:
        self._path = path
        self._db: sqlite3.Connection | None = None
        self._nodes: dict[str, _Znode] = {"/": _Znode(None, 0, 0, 0, 0, 0)}
        self._zxid = 0
        self._opened = False
        self._sessions: dict[int, LocalStore] = {}
        self._next_session = 1
        self._data_watches: dict[str, list[tuple[int, Watch]]] = {}
        self._child_watches: dict[str, list[tuple[int, Watch]]] = {}
        # Of the transaction in hand.
        self._undo: list[tuple[str, _Znode | None, _Znode | None]] = []
        self._dirty: dict[str, None] = {}
        self._events: list[WatchEvent] = []

    # --- opening and closing ----------------------------------------------------------------------

    def open(self) -> None:
        """Read the file. Raises StoreFailed with a sentence."""
        if self._opened:
            return
        if self._path is not None:
            self._open_file(self._path)
        else:
            self._zxid = 1 << 32
        self._opened = True

    def _open_file(self, path: str) -> None:
        import sqlite3

        try:
            db = sqlite3.connect(path, BUSY_S, isolation_level=None, check_same_thread=False)
            self._db = db
            db.execute("PRAGMA journal_mode=WAL")
            db.execute("PRAGMA synchronous=NORMAL")
            db.execute(f"PRAGMA wal_autocheckpoint={CHECKPOINT_PAGES}")
            db.execute("PRAGMA locking_mode=EXCLUSIVE")
            self._load(db)
        except sqlite3.Error as error:
            self.close()
            raise StoreFailed(path, f"the metadata store cannot be opened ({error})") from error

    def _load(self, db: "sqlite3.Connection") -> None:
        db.execute("BEGIN IMMEDIATE")
        (schema,) = db.execute("PRAGMA user_version").fetchone()
        if schema not in (0, SCHEMA_VERSION):
            raise StoreFailed(str(self._path), f"made by another release (schema {schema})")
        if schema == 0:
            db.execute(
                "CREATE TABLE node (path TEXT PRIMARY KEY, data BLOB, version INTEGER NOT NULL, "
                "czxid INTEGER NOT NULL, mzxid INTEGER NOT NULL, created INTEGER NOT NULL) "
                "WITHOUT ROWID"
            )
            db.execute("CREATE TABLE opening (number INTEGER NOT NULL)")
            db.execute("INSERT INTO opening VALUES (0)")
            db.execute(f"PRAGMA user_version={SCHEMA_VERSION}")
        db.execute("UPDATE opening SET number = number + 1")
        (opening,) = db.execute("SELECT number FROM opening").fetchone()
        self._zxid = opening << 32
        nodes = self._nodes
        rows = db.execute("SELECT path, data, version, czxid, mzxid, created FROM node").fetchall()
        for path, data, version, czxid, mzxid, created in rows:
            nodes[path] = _Znode(data, czxid, 0, mzxid, version, created)
        for path in nodes:
            if path == "/":
                continue
            cut = path.rfind("/")
            parent = nodes[path[:cut] or "/"]
            if parent.children is None:
                parent.children = set()
            parent.children.add(path[cut + 1 :])
        db.execute("COMMIT")

    def close(self) -> None:
        """Close the file; sessions are ended by their owners before."""
        db, self._db = self._db, None
        self._opened = False
        self._nodes = {"/": _Znode(None, 0, 0, 0, 0, 0)}
        if db is not None:
            db.close()

    # --- sessions ---------------------------------------------------------------------------------

    def enter(self, session: "LocalStore") -> int:
        """A new session id."""
        session_id = self._next_session
        self._next_session += 1
        self._sessions[session_id] = session
        return session_id

    def leave(self, session_id: int) -> None:
        """End a session: its watches go, then its ephemerals. Closes the file after the last."""
        if self._sessions.pop(session_id, None) is None:
            return
        for watches in (self._data_watches, self._child_watches):
            for path in list(watches):
                left = [w for w in watches[path] if w[0] != session_id]
                if left:
                    watches[path] = left
                else:
                    del watches[path]
        mine = [path for path, node in self._nodes.items() if node.owner == session_id]
        if mine and self._opened:
            self.transact([Delete(path) for path in mine], 0)

    @property
    def in_use(self) -> bool:
        """Whether a session is open."""
        return bool(self._sessions)

    # --- reading ----------------------------------------------------------------------------------

    def node(self, path: str) -> _Znode | None:
        """The node, or None."""
        if not self._opened:
            raise StoreFailed(path, "the metadata store is closed")
        return self._nodes.get(path)

    def watch_data(self, path: str, session_id: int, watch: Watch) -> None:
        _arm(self._data_watches.setdefault(path, []), session_id, watch)

    def watch_children(self, path: str, session_id: int, watch: Watch) -> None:
        _arm(self._child_watches.setdefault(path, []), session_id, watch)

    # --- transactions -----------------------------------------------------------------------------

    def transact(self, ops: Sequence[Op], session_id: int) -> list[OpResult]:
        """Apply all or nothing, write through, fire watches. Raises MultiFailed, StoreFailed."""
        if not self._opened:
            raise StoreFailed(ops[0].path if ops else "", "the metadata store is closed")
        self._undo, self._dirty, self._events = [], {}, []
        before, self._zxid = self._zxid, self._zxid + 1
        results: list[OpResult] = []
        try:
            for op in ops:
                result = self._apply(op, session_id)
                results.append(result)
        except StoreError as error:
            self._roll_back(before)
            raise MultiFailed(len(results), error) from None
        try:
            self._write_through()
        except Exception:
            self._roll_back(before)
            raise
        self._fire(self._events)
        return results

    def _apply(self, op: Op, session_id: int) -> OpResult:
        if isinstance(op, Create):
            return self._create(op, session_id)
        node = self._nodes.get(op.path)
        if node is None:
            raise NoNode(op.path)
        if op.version not in (ANY_VERSION, node.version):
            raise BadVersion(op.path, f"is {node.version}, not {op.version}")
        if isinstance(op, Check):
            return True
        if isinstance(op, SetData):
            return self._set(op, node)
        return self._delete(op.path, node)

    def _create(self, op: Create, session_id: int) -> str:
        path = op.path
        cut = path.rfind("/")
        if cut < 0 or (cut == len(path) - 1 and not op.sequential):
            raise StoreError(path, "not a valid path")
        parent_path = path[:cut] or "/"
        parent = self._nodes.get(parent_path)
        if parent is None:
            raise NoNode(path, "no parent")
        if parent.owner:
            raise NoChildrenForEphemerals(path)
        if op.sequential:
            path = f"{path}{parent.created:010d}"
        if path in self._nodes:
            raise NodeExists(path)
        _check_path(path)
        owner = session_id if op.ephemeral else 0
        node = _Znode(op.data, self._zxid, owner, self._zxid, 0, 0)
        self._undo.append((path, None, None))
        self._nodes[path] = node
        if parent.children is None:
            parent.children = set()
        parent.children.add(path[cut + 1 :])
        parent.created += 1
        self._dirty[path] = None
        self._dirty[parent_path] = None
        self._events.append(WatchEvent(EventKind.CREATED, path))
        self._events.append(WatchEvent(EventKind.CHILDREN, parent_path))
        return path

    def _set(self, op: SetData, node: _Znode) -> Stat:
        old = _Znode(node.data, node.czxid, node.owner, node.mzxid, node.version, node.created)
        self._undo.append((op.path, node, old))
        node.data = op.data
        node.version += 1
        node.mzxid = self._zxid
        self._dirty[op.path] = None
        self._events.append(WatchEvent(EventKind.CHANGED, op.path))
        return node.stat()

    def _delete(self, path: str, node: _Znode) -> bool:
        if node.children:
            raise NotEmpty(path)
        if path == "/":
            raise StoreError(path, "the root stays")
        self._undo.append((path, node, None))
        del self._nodes[path]
        parent_path = _parent(path)
        parent = self._nodes[parent_path]
        assert parent.children is not None
        parent.children.discard(path[path.rfind("/") + 1 :])
        self._dirty[path] = None
        self._events.append(WatchEvent(EventKind.DELETED, path))
        self._events.append(WatchEvent(EventKind.CHILDREN, parent_path))
        return True

    def _roll_back(self, zxid: int) -> None:
        self._zxid = zxid
        for path, node, old in reversed(self._undo):
            if old is not None:  # data was set
                assert node is not None
                node.data, node.version, node.mzxid = old.data, old.version, old.mzxid
                continue
            parent = self._nodes[_parent(path)]
            assert parent.children is not None
            name = path[path.rfind("/") + 1 :]
            if node is None:  # was created
                del self._nodes[path]
                parent.children.discard(name)
                parent.created -= 1
            else:
                self._nodes[path] = node
                parent.children.add(name)
        self._undo = []

    def _write_through(self) -> None:
        if self._db is None:
            return
        upserts: list[tuple[Any, ...]] = []
        deletes: list[tuple[str]] = []
        for path in self._dirty:
            node = self._nodes.get(path)
            if node is None:
                deletes.append((path,))
            elif not node.owner and path != "/":
                upserts.append(
                    (path, node.data, node.version, node.czxid, node.mzxid, node.created)
                )
        if not upserts and not deletes:
            return
        import sqlite3

        db = self._db
        try:
            db.execute("BEGIN IMMEDIATE")
            if deletes:
                db.executemany("DELETE FROM node WHERE path = ?", deletes)
            if upserts:
                db.executemany("INSERT OR REPLACE INTO node VALUES (?, ?, ?, ?, ?, ?)", upserts)
            db.execute("COMMIT")
        except sqlite3.Error as error:
            try:
                db.execute("ROLLBACK")
            except sqlite3.Error:
                pass
            raise StoreFailed(
                str(self._path), f"the metadata store cannot write ({error})"
            ) from error

    def _fire(self, events: list[WatchEvent]) -> None:
        if not self._data_watches and not self._child_watches:
            return
        for event in events:
            kind, path = event
            taken: list[tuple[int, Watch]] = []
            if kind is not EventKind.CHILDREN:
                taken += self._data_watches.pop(path, ())
            if kind in (EventKind.CHILDREN, EventKind.DELETED):
                taken += self._child_watches.pop(path, ())
            for session_id, watch in taken:
                session = self._sessions.get(session_id)
                if session is not None:
                    session.deliver(watch, event)


class LocalStore:
    """A session on a local tree; satisfies `broker.cluster.store.Store`.

    `LocalStore(path)` has a file, `LocalStore()` lives in memory; `session()` is one more session
    on the same tree. Replies come at once (the methods never suspend); watches are delivered by
    the loop right after the turn in which they fired, in order.
    """

    def __init__(self, path: str | None = None, *, tree: LocalTree | None = None) -> None:
        self._tree = tree if tree is not None else LocalTree(path)
        self._session_id = 0
        self._listeners: list[Listener] = []
        self._loop: asyncio.AbstractEventLoop | None = None

    def session(self) -> "LocalStore":
        """Another session on the same tree, to be started and closed on its own."""
        return LocalStore(tree=self._tree)

    @property
    def session_id(self) -> int:
        return self._session_id

    @property
    def connected(self) -> bool:
        return self._session_id != 0

    def listen(self, listener: Listener) -> None:
        self._listeners.append(listener)

    async def start(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._tree.open()
        self._session_id = self._tree.enter(self)
        self._tell(SessionEvent.CONNECTED)

    async def close(self) -> None:
        session_id, self._session_id = self._session_id, 0
        if session_id:
            self._tree.leave(session_id)
            if not self._tree.in_use:
                self._tree.close()

    async def expire(self) -> None:
        """End the session as ZooKeeper does to a silent client, then open the next (for tests)."""
        old, self._session_id = self._session_id, 0
        self._tree.leave(old)
        self._tell(SessionEvent.EXPIRED)
        self._session_id = self._tree.enter(self)
        self._tell(SessionEvent.CONNECTED)

    def _tell(self, event: SessionEvent) -> None:
        for listener in self._listeners:
            listener(event)

    def deliver(self, watch: Watch, event: WatchEvent) -> None:
        """Called by the tree: hand the event over in a later turn of the loop."""
        loop = self._loop
        if loop is not None and not loop.is_closed():
            loop.call_soon(self._deliver, self._session_id, watch, event)

    def _deliver(self, session_id: int, watch: Watch, event: WatchEvent) -> None:
        if session_id == self._session_id:
            watch(event)

    def _session(self, path: str) -> int:
        if not self._session_id:
            raise SessionExpired(path)
        return self._session_id

    def _single(self, op: Op) -> OpResult:
        try:
            return self._tree.transact([op], self._session(op.path))[0]
        except MultiFailed as failed:
            raise failed.error from None

    async def create(
        self,
        path: str,
        data: bytes | None = None,
        *,
        ephemeral: bool = False,
        sequential: bool = False,
    ) -> tuple[str, Stat]:
        made = self._single(Create(path, data, ephemeral, sequential))
        assert isinstance(made, str)
        node = self._tree.node(made)
        assert node is not None
        return made, node.stat()

    async def get(self, path: str, watch: Watch | None = None) -> tuple[bytes | None, Stat]:
        session_id = self._session(path)
        node = self._tree.node(path)
        if node is None:
            raise NoNode(path)
        if watch is not None:
            self._tree.watch_data(path, session_id, watch)
        return node.data, node.stat()

    async def get_many(self, paths: Sequence[str]) -> list[tuple[bytes | None, Stat] | None]:
        if paths:
            self._session(paths[0])
        node = self._tree.node
        found = [node(path) for path in paths]
        return [None if n is None else (n.data, n.stat()) for n in found]

    async def exists(self, path: str, watch: Watch | None = None) -> Stat | None:
        session_id = self._session(path)
        node = self._tree.node(path)
        if watch is not None:
            self._tree.watch_data(path, session_id, watch)
        return None if node is None else node.stat()

    async def children(self, path: str, watch: Watch | None = None) -> list[str]:
        session_id = self._session(path)
        node = self._tree.node(path)
        if node is None:
            raise NoNode(path)
        if watch is not None:
            self._tree.watch_children(path, session_id, watch)
        return list(node.children or ())

    async def set(self, path: str, data: bytes | None, version: int = ANY_VERSION) -> Stat:
        stat = self._single(SetData(path, data, version))
        assert isinstance(stat, Stat)
        return stat

    async def delete(self, path: str, version: int = ANY_VERSION) -> None:
        self._single(Delete(path, version))

    async def multi(self, ops: Sequence[Op]) -> list[OpResult]:
        session_id = self._session(ops[0].path if ops else "")
        return self._tree.transact(ops, session_id)
