"""The metadata store: a versioned tree with ZooKeeper's semantics, behind one small interface.

A node holds bytes or None. Every change gets the next transaction id (zxid); a node keeps the zxid
of its creation (`czxid`) and of its last change of data (`mzxid`), and counts changes of its data
(`version`, 0 at creation). Ephemeral nodes go with the session that made them. A watch fires once,
after the change, and says only what kind of thing happened: read again, and arm again by that read.
Equal watches armed on a node are one watch.

Order promised: a session's operations take effect in the order they were called, and it hears a
watch before the reply that shows the change. After `SUSPENDED` the fate of pending writes is
unknown (`ConnectionLoss`: a write may have been done), later calls wait until the connection is
back; `RECONNECTED` means same session, all watches gone; `EXPIRED` means all ephemerals of this
session are gone; `CONNECTED` is a new session.
"""

from collections.abc import Callable, Sequence
from enum import Enum
from typing import NamedTuple, Protocol

ANY_VERSION = -1


class StoreError(Exception):
    """An operation was refused or could not be carried out; `path` is what it was about."""

    def __init__(self, path: str = "", detail: str = "") -> None:
        super().__init__(path, detail)
        self.path = path
        self.detail = detail

    def __str__(self) -> str:
        return f"{type(self).__name__}: {self.path} {self.detail}".rstrip()


class NoNode(StoreError):
    """The node, or the parent of a node to create, is not there."""


class NodeExists(StoreError):
    """A node of that name is there already."""


class BadVersion(StoreError):
    """The node's version is not the one asked for."""


class NotEmpty(StoreError):
    """A node with children cannot be deleted."""


class NoChildrenForEphemerals(StoreError):
    """Ephemeral nodes have no children."""


class ConnectionLoss(StoreError):
    """The store could not be reached in time; a write may have been done or not."""


class SessionExpired(StoreError):
    """The session is over, its ephemerals are gone; nothing was done."""


class StoreFailed(StoreError):
    """The store itself is in trouble (disk full, closed, corrupt); nothing was done."""


class MultiFailed(StoreError):
    """A multi was refused as a whole; `index`: the first operation at fault, `error`: why."""

    def __init__(self, index: int, error: StoreError) -> None:
        super().__init__(error.path, f"operation {index}: {type(error).__name__} {error.detail}")
        self.index = index
        self.error = error


class Stat(NamedTuple):
    """What the store knows about a node beside its data."""

    version: int
    czxid: int
    mzxid: int
    owner: int
    """Session id of an ephemeral node, 0 for others."""


class Create(NamedTuple):
    """Create a node; a sequential one gets ten digits behind its path, counted per parent."""

    path: str
    data: bytes | None = None
    ephemeral: bool = False
    sequential: bool = False


class SetData(NamedTuple):
    """Replace a node's data if its version is `version` (or any)."""

    path: str
    data: bytes | None
    version: int = ANY_VERSION


class Delete(NamedTuple):
    """Delete a childless node if its version is `version` (or any)."""

    path: str
    version: int = ANY_VERSION


class Check(NamedTuple):
    """Fail the multi unless the node is there with that version."""

    path: str
    version: int


Op = Create | SetData | Delete | Check
OpResult = str | Stat | bool
"""Of a multi: the path for Create, the Stat for SetData, True for Delete and Check."""


class EventKind(Enum):
    """What a watch saw."""

    CREATED = "created"
    DELETED = "deleted"
    CHANGED = "changed"
    CHILDREN = "children"


class WatchEvent(NamedTuple):
    """One firing of a watch."""

    kind: EventKind
    path: str


class SessionEvent(Enum):
    """What happened to the session; see the module's docstring."""

    CONNECTED = "connected"
    RECONNECTED = "reconnected"
    SUSPENDED = "suspended"
    EXPIRED = "expired"


Watch = Callable[[WatchEvent], None]
Listener = Callable[[SessionEvent], None]


class Store(Protocol):
    """One session with the metadata store. All methods belong to the event loop's thread.

    Watches and listeners are plain functions called on the loop; they must not block or raise.
    """

    @property
    def session_id(self) -> int:
        """Id of the present session (the owner of ephemerals made now), never 0."""

    @property
    def connected(self) -> bool:
        """False while suspended, expired or closed."""

    def listen(self, listener: Listener) -> None:
        """Hear the session's events from now on."""

    async def start(self) -> None:
        """Open the session. Raises StoreFailed or ConnectionLoss with a sentence for people."""

    async def close(self) -> None:
        """End the session: its ephemerals go at once. Closing twice is fine."""

    async def create(
        self,
        path: str,
        data: bytes | None = None,
        *,
        ephemeral: bool = False,
        sequential: bool = False,
    ) -> tuple[str, Stat]:
        """The path as created and its stat. Raises NodeExists, NoNode, NoChildrenForEphemerals."""

    async def get(self, path: str, watch: Watch | None = None) -> tuple[bytes | None, Stat]:
        """Data and stat; the watch sees CHANGED and DELETED. Raises NoNode (no watch is left)."""

    async def get_many(self, paths: Sequence[str]) -> list[tuple[bytes | None, Stat] | None]:
        """Data and stat of each path, None where there is no node. No watches."""

    async def exists(self, path: str, watch: Watch | None = None) -> Stat | None:
        """The stat or None; the watch sees CREATED, CHANGED and DELETED."""

    async def children(self, path: str, watch: Watch | None = None) -> list[str]:
        """Names of the children, unordered; the watch sees CHILDREN and DELETED. Raises NoNode."""

    async def set(self, path: str, data: bytes | None, version: int = ANY_VERSION) -> Stat:
        """Replace the data. Raises NoNode, BadVersion."""

    async def delete(self, path: str, version: int = ANY_VERSION) -> None:
        """Delete a childless node. Raises NoNode, BadVersion, NotEmpty."""

    async def multi(self, ops: Sequence[Op]) -> list[OpResult]:
        """All or nothing, one transaction id. Raises MultiFailed with the first one at fault."""


async def ensure_path(store: Store, path: str) -> None:
    """Create `path` and its parents, without data, where they are missing."""
    at = 0
    while at != -1:
        at = path.find("/", at + 1)
        part = path if at == -1 else path[:at]
        if await store.exists(part) is None:
            try:
                await store.create(part)
            except NodeExists:
                pass
