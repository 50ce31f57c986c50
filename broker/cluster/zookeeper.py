"""ZooKeeperStore: the metadata store in a real Apache ZooKeeper (3.6 or newer), through kazoo.

The only module that imports kazoo, of which its connection is used and little else: requests are
encoded by `jute`, replies and events come to the event loop in the order of the wire, and chroot,
waiting, retries and sessions are handled here.

* At most `in_flight` requests are under way; the others wait in the order of the calls.
* While the connection is lost calls wait for its return. Reads that were under way are made again;
  writes that were under way end in ConnectionLoss. A call that waits for twice the session timeout
  ends in ConnectionLoss too.
* kazoo's thread may be ahead of the loop. A request is sent only in the session that the loop
  knows: a generation number, raised by the thread under a lock when a session is lost, must agree.
* A connection whose thread died (refused authentication, an error within kazoo) is made anew with
  the id of the session, which may still live.
"""

import asyncio
import functools
import logging
import threading
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from kazoo.client import KazooClient
from kazoo.exceptions import EXCEPTIONS, AuthFailedError, ConnectionDropped
from kazoo.protocol.serialization import SASL, Exists, GetChildren, GetData
from kazoo.protocol.states import EventType, KazooState, KeeperState
from kazoo.retry import KazooRetry

from broker.cluster import jute
from broker.cluster.digest_md5 import DigestMd5, DigestMd5Error
from broker.cluster.jute import Refused, full_path
from broker.cluster.store import (
    ANY_VERSION,
    ConnectionLoss,
    Create,
    Delete,
    EventKind,
    Listener,
    MultiFailed,
    NodeExists,
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
from broker.cluster.zookeeper_io import Inbox, LoopHandler
from broker.cluster.zookeeper_options import Options

log = logging.getLogger("odradek.zookeeper")

REVIVAL_S, MAX_REVIVAL_S = 0.1, 3.2
"""Pause before a connection whose thread died is made anew; doubles as long as that fails."""
CLOSE_S = 5.0
"""How long closing the session may take; a server that is away ends it by itself later."""
RECONNECT_S, RECONNECT_GROWTH, MAX_RECONNECT_S = 0.05, 1.5, 0.5
"""Pauses between attempts to reach the servers (kazoo's own grow to an hour)."""
DIGEST_URI = "zookeeper/zk-sasl-md5"
"""What ZooKeeper's server calls itself towards DIGEST-MD5, whatever its address."""

_LOST = frozenset((-4, -115))
"""Error codes of calls whose connection went away, or was refused before they were sent."""


class _LoginDemanded(Exception):
    """An answer that kazoo does not know: its thread would end and leave the call unanswered."""

    code = jute.LOGIN_DEMANDED


EXCEPTIONS[jute.LOGIN_DEMANDED] = _LoginDemanded

_KINDS = {
    EventType.CREATED: EventKind.CREATED,
    EventType.DELETED: EventKind.DELETED,
    EventType.CHANGED: EventKind.CHANGED,
    EventType.CHILD: EventKind.CHILDREN,
}


class _Call:
    """A request on its way; what kazoo calls an asynchronous result (from its thread)."""

    __slots__ = ("_inbox", "again", "finish", "future", "path", "request")

    def __init__(
        self,
        request: Any,
        path: str,
        again: bool,
        inbox: Inbox,
        finish: "Callable[[_Call, Any, Exception | None], None]",
        future: "asyncio.Future[Any]",
    ) -> None:
        self.request = request
        self.path = path
        self.again = again
        """Whether it may be made again after the connection was lost: it changes nothing."""
        self.future = future
        self.finish = finish
        self._inbox = inbox

    def set(self, value: Any = None) -> None:
        self._inbox.put(functools.partial(self.finish, self, value, None))

    def set_exception(self, error: Exception) -> None:
        self._inbox.put(functools.partial(self.finish, self, None, error))

    def fail(self, error: StoreError) -> None:
        """On the loop."""
        if not self.future.done():
            self.future.set_exception(error)


class _Armed(NamedTuple):
    """A watch in kazoo's hands; equal ones on one node fire once."""

    store: "ZooKeeperStore"
    session_id: int
    watch: Watch

    def __call__(self, event: Any) -> None:
        """On the loop. kazoo reports NONE when it drops a watch with its connection."""
        kind = _KINDS.get(event.type)
        if kind is not None and self.session_id == self.store.session_id:
            self.watch(WatchEvent(kind, self.store.own_path(event.path)))


class _Reasons(logging.Logger):
    """Keeps kazoo's last complaint instead of printing each: the store has lines of its own."""

    def __init__(self) -> None:
        super().__init__("kazoo", logging.WARNING)
        self.last = ""

    def handle(self, record: logging.LogRecord) -> None:
        if record.msg == "Transition to CONNECTING":
            return  # said after the reason
        self.last = record.getMessage()
        if record.exc_info and record.exc_info[1] is not None:
            self.last = f"{self.last}: {record.exc_info[1]!r}"
        log.debug("kazoo: %s", self.last)


class ZooKeeperStore:
    """A session with ZooKeeper; satisfies `broker.cluster.store.Store`. See the module."""

    def __init__(self, options: Options) -> None:
        self._options = options
        self._root = options.root
        self._deadline_s = 2 * options.session_ms / 1000
        self._listeners: list[Listener] = []
        self._client: Any = None
        self._handler: LoopHandler | None = None
        self._reasons = _Reasons()
        # Of the loop.
        self._session_id = 0
        self._password = b""
        self._connected = False
        self._generation = 0
        self._waiting: deque[_Call] = deque()
        self._flying: dict[_Call, None] = {}
        self._again: list[_Call] = []
        """Reads whose connection was lost, until the loss itself is heard of."""
        self._opening: asyncio.Future[None] | None = None
        self._revival: asyncio.TimerHandle | None = None
        self._pause_s = REVIVAL_S
        self._lost_at = 0.0
        # Of kazoo's thread and, read only, of the loop.
        self._lock = threading.Lock()
        self._io_up = False
        self._io_generation = 0

    # --- the session ------------------------------------------------------------------------------

    @property
    def session_id(self) -> int:
        return self._session_id

    @property
    def connected(self) -> bool:
        return self._connected

    def listen(self, listener: Listener) -> None:
        self._listeners.append(listener)

    async def start(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._inbox = Inbox(self._loop)
        self._opening = self._loop.create_future()
        self._launch()
        try:
            async with asyncio.timeout(self._options.connection_ms / 1000):
                await self._opening
                await self._make_root()
        except TimeoutError:
            reason = self._reason()
            await self.close()
            raise ConnectionLoss(
                "",
                f"ZooKeeper at {self._options.servers} did not answer within "
                f"{self._options.connection_ms} ms{reason}",
            ) from None
        except BaseException:
            await self.close()
            raise
        finally:
            self._opening = None

    def _launch(self) -> None:
        """A client of kazoo, which connects by itself from now on."""
        options = self._options
        servers = options.servers.count(",") + 1
        self._handler = handler = LoopHandler(
            self._inbox, options.tls, servers, options.session_ms / 1000
        )
        self._client = client = KazooClient(
            hosts=options.servers,
            timeout=options.session_ms / 1000,
            client_id=(self._session_id, self._password) if self._session_id else None,
            handler=handler,
            sasl_options=None if options.login is None else {},
            connection_retry=KazooRetry(
                max_tries=-1,
                delay=RECONNECT_S,
                backoff=RECONNECT_GROWTH,
                max_delay=MAX_RECONNECT_S,
                sleep_func=handler.sleep_func,
            ),
            logger=self._reasons,
        )
        if options.login is not None:
            client._connection._authenticate_with_sasl = functools.partial(
                self._authenticate, client
            )
        client.add_listener(functools.partial(self._on_state, client))
        client.start_async()

    async def _make_root(self) -> None:
        """Create the chroot where it is missing; without one, see that requests are answered."""
        root = self._root
        if not root:
            await self.exists("/")
            return
        at = 0
        while at != -1:
            at = root.find("/", at + 1)
            part = root if at == -1 else root[:at]
            if await self._call(Exists(part, None), part, again=True) is None:
                try:
                    await self._call(jute.write(Create(part), "", self._options.acl_of), part)
                except NodeExists:
                    pass

    async def close(self) -> None:
        client, self._client = self._client, None
        self._session_id = 0
        self._connected = False
        if self._revival is not None:
            self._revival.cancel()
            self._revival = None
        self._give_up(self._take_waiting())
        if client is None:
            return
        ended = asyncio.Event()
        if self._handler is not None:
            self._handler.ended.set()
        _discard(client, lambda: self._inbox.put(ended.set))
        try:
            async with asyncio.timeout(CLOSE_S):
                await ended.wait()
        except TimeoutError:
            log.warning("ZooKeeper did not confirm the end of the session")
        for call in list(self._flying):
            call.fail(ConnectionLoss(call.path, "the session was closed"))
        self._flying.clear()

    def _reason(self) -> str:
        text = (self._handler.failure if self._handler else "") or self._reasons.last
        return f" ({text})" if text else ""

    # --- what happens to the connection (kazoo's thread) ------------------------------------------

    def _on_state(self, client: Any, state: str) -> None:
        """kazoo calls it synchronously, between two steps on the socket."""
        if state == KazooState.CONNECTED:
            if self._options.login is None:
                self._on_connected(client)
            return
        with self._lock:
            self._io_up = False
            if state == KazooState.LOST:
                self._io_generation += 1
        if state == KazooState.SUSPENDED:
            self._inbox.put(functools.partial(self._suspended, client))
        elif client._state == KeeperState.EXPIRED_SESSION:
            self._inbox.put(functools.partial(self._expired, client))
        else:
            self._inbox.put(functools.partial(self._died, client))

    def _on_connected(self, client: Any) -> None:
        with self._lock:
            self._io_up = True
            generation = self._io_generation
        session = (client._session_id, client._session_passwd)
        self._inbox.put(functools.partial(self._came, client, session, generation))

    def _authenticate(self, client: Any, host: str, timeout: float) -> None:
        """SASL before anything else is sent; kazoo has reported CONNECTED already."""
        login = self._options.login
        assert login is not None
        mechanism = DigestMd5(login.username, login.password, DIGEST_URI)
        try:
            challenge = _exchange(client._connection, 1, b"", timeout)
            proof = _exchange(client._connection, 2, mechanism.answer(challenge), timeout)
            mechanism.verify(proof)
        except (ConnectionDropped, AuthFailedError, DigestMd5Error) as error:
            # ZooKeeper refuses by an answer or, older ones, by dropping the connection.
            raise AuthFailedError(f"ZooKeeper refused the login as {login.username}") from error
        self._on_connected(client)

    # --- what happens to the session (on the loop) ------------------------------------------------

    def _tell(self, event: SessionEvent) -> None:
        for listener in self._listeners:
            listener(event)

    def _came(self, client: Any, session: tuple[int, bytes], generation: int) -> None:
        if client is not self._client:
            return
        same = session[0] == self._session_id
        if self._session_id and not same:
            self._expired(client)
        self._session_id, self._password = session
        self._generation = generation
        self._pause_s = REVIVAL_S
        self._requeue()
        self._connected = True
        if self._opening is not None and not self._opening.done():
            self._opening.set_result(None)
        if same:
            log.info("ZooKeeper is back after %.1f s", self._loop.time() - self._lost_at)
        else:
            log.info("session 0x%x with ZooKeeper", self._session_id & 0xFFFFFFFFFFFFFFFF)
        self._tell(SessionEvent.RECONNECTED if same else SessionEvent.CONNECTED)
        self._pump()

    def _suspended(self, client: Any) -> None:
        if client is not self._client:
            return
        self._requeue()
        if self._connected:
            self._connected = False
            self._lost_at = self._loop.time()
            log.warning("the connection to ZooKeeper is lost%s", self._reason())
            self._tell(SessionEvent.SUSPENDED)

    def _expired(self, client: Any) -> None:
        if client is not self._client:
            return
        had, self._session_id = self._session_id, 0
        self._connected = False
        self._give_up(self._take_waiting())
        if had:
            log.warning("session 0x%x with ZooKeeper has expired", had & 0xFFFFFFFFFFFFFFFF)
            self._tell(SessionEvent.EXPIRED)

    def _died(self, client: Any) -> None:
        """kazoo's thread has ended without being asked to; it may have left calls unanswered."""
        if client is not self._client:
            return
        reason = self._reason()
        flying = list(self._flying)
        self._flying.clear()
        if self._opening is not None:
            failed = StoreFailed("", f"ZooKeeper at {self._options.servers} is of no use{reason}")
            if not self._opening.done():
                self._opening.set_exception(failed)
            for call in (*flying, *self._take_waiting()):
                call.fail(failed)
            return
        for call in flying:
            self._lose(call)
        self._suspended(client)
        log.error("the connection to ZooKeeper ended%s", reason)
        self._revival = self._loop.call_later(self._pause_s, self._revive, client)
        self._pause_s = min(2 * self._pause_s, MAX_REVIVAL_S)

    def _revive(self, client: Any) -> None:
        self._revival = None
        _discard(client, lambda: None)
        self._launch()

    def _lose(self, call: _Call) -> None:
        """The connection went away under a call."""
        if call.again:
            self._again.append(call)
        else:
            call.fail(ConnectionLoss(call.path, "the connection was lost"))

    def _requeue(self) -> None:
        self._waiting.extendleft(reversed(self._again))
        self._again.clear()

    def _take_waiting(self) -> list[_Call]:
        calls = [*self._again, *self._waiting]
        self._again.clear()
        self._waiting.clear()
        return calls

    @staticmethod
    def _give_up(calls: Sequence[_Call]) -> None:
        for call in calls:
            call.fail(SessionExpired(call.path))

    # --- calls ------------------------------------------------------------------------------------

    async def _call(self, request: Any, path: str, *, again: bool = False) -> Any:
        """The reply, or the error that it is. Sent in the order in which this is called."""
        if not self._session_id:
            raise SessionExpired(path)
        if isinstance(request, jute.Request) and len(request.body) > jute.MAX_REQUEST_BYTES:
            raise StoreFailed(path, f"{len(request.body)} bytes are too many for one request")
        call = _Call(request, path, again, self._inbox, self._finish, self._loop.create_future())
        self._waiting.append(call)
        self._pump()
        timer = self._loop.call_later(self._deadline_s, self._late, call)
        try:
            return await call.future
        finally:
            timer.cancel()

    def _late(self, call: _Call) -> None:
        call.fail(ConnectionLoss(call.path, f"no answer within {self._deadline_s:g} s"))

    def _pump(self) -> None:
        waiting, flying = self._waiting, self._flying
        while waiting and self._connected and len(flying) < self._options.in_flight:
            call = waiting[0]
            if not call.future.done() and not self._send(call):
                return  # the thread knows of a change that the loop will hear of next
            waiting.popleft()

    def _send(self, call: _Call) -> bool:
        with self._lock:
            if not self._io_up or self._io_generation != self._generation:
                return False
            self._flying[call] = None
            self._client._call(call.request, call)
        return True

    def _finish(self, call: _Call, value: Any, error: Exception | None) -> None:
        """On the loop: kazoo has answered (some failures it reports twice)."""
        if call not in self._flying:
            return
        del self._flying[call]
        if error is None:
            if not call.future.done():
                call.future.set_result(value)
        elif (code := getattr(error, "code", None)) in _LOST:
            self._lose(call)
        elif code is None:
            # Not an answer of the server: it may have done it or not.
            call.fail(ConnectionLoss(call.path, repr(error)))
        else:
            call.fail(jute.error(code, call.path))
        self._pump()

    # --- operations -------------------------------------------------------------------------------

    def own_path(self, path: str) -> str:
        """A path of the server as the store's callers know it."""
        return path[len(self._root) :] or "/"

    def _armed(self, watch: Watch | None) -> _Armed | None:
        return None if watch is None else _Armed(self, self._session_id, watch)

    async def create(
        self,
        path: str,
        data: bytes | None = None,
        *,
        ephemeral: bool = False,
        sequential: bool = False,
    ) -> tuple[str, Stat]:
        op = Create(path, data, ephemeral, sequential)
        made, stat = await self._call(jute.write(op, self._root, self._options.acl_of), path)
        return self.own_path(made), stat

    async def get(self, path: str, watch: Watch | None = None) -> tuple[bytes | None, Stat]:
        request = GetData(full_path(self._root, path), self._armed(watch))
        data, stat = await self._call(request, path, again=True)
        return data, _stat(stat)

    async def get_many(self, paths: Sequence[str]) -> list[tuple[bytes | None, Stat] | None]:
        batches = jute.read_many(paths, self._root)
        replies = await asyncio.gather(
            *(self._call(request, paths[first], again=True) for request, first in batches)
        )
        found: list[tuple[bytes | None, Stat] | None] = []
        for reply in replies:
            for node in reply:
                if isinstance(node, int):
                    raise jute.error(node, paths[len(found)])
                found.append(node)
        return found

    async def exists(self, path: str, watch: Watch | None = None) -> Stat | None:
        request = Exists(full_path(self._root, path), self._armed(watch))
        stat = await self._call(request, path, again=True)
        return None if stat is None else _stat(stat)

    async def children(self, path: str, watch: Watch | None = None) -> list[str]:
        request = GetChildren(full_path(self._root, path), self._armed(watch))
        names: list[str] = await self._call(request, path, again=True)
        return names

    async def set(self, path: str, data: bytes | None, version: int = ANY_VERSION) -> Stat:
        op = SetData(path, data, version)
        stat: Stat = await self._call(jute.write(op, self._root, self._options.acl_of), path)
        return stat

    async def delete(self, path: str, version: int = ANY_VERSION) -> None:
        await self._call(jute.write(Delete(path, version), self._root, self._options.acl_of), path)

    async def multi(self, ops: Sequence[Op]) -> list[OpResult]:
        if not ops:
            return []
        request = jute.multi(ops, self._root, self._options.acl_of)
        results = await self._call(request, ops[0].path)
        if isinstance(results[0], Refused):
            index, code = results[0]
            raise MultiFailed(index, jute.error(code, ops[index].path))
        return [self.own_path(r) if isinstance(r, str) else r for r in results]


def _stat(stat: Any) -> Stat:
    return Stat(stat.version, stat.czxid, stat.mzxid, stat.ephemeralOwner)


def _exchange(connection: Any, xid: int, token: bytes, timeout: float) -> bytes:
    """One step of SASL on kazoo's thread: a token there, a token back."""
    connection._submit(SASL(token), timeout, xid)
    header, data, at = connection._read_header(timeout)
    if header.err:
        raise EXCEPTIONS[header.err]()
    return SASL.deserialize(data, at)[0] or b""


def _discard(client: Any, then: Callable[[], None]) -> None:
    """End a client for good, in a thread: that waits for kazoo's own thread."""

    def end() -> None:
        try:
            client.stop()
            client.close()
        except Exception as error:  # noqa: BLE001 - the session ends by itself all the same
            log.debug("kazoo could not be stopped: %r", error)
        then()

    threading.Thread(target=end, name="zookeeper-end", daemon=True).start()
