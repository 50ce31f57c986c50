"""The simulated ZooKeeper: one tree behind the simulated network, and nodes' sessions with it.

A session is a client at one end of a connection, the tree at the other: calls and answers take
time and can be cut off. The server ends a session that it has not heard of for its timeout; the
client learns of that when it reaches the server again, and until then does not know whether it
lives, as with ZooKeeper. What happens then is what `ZooKeeperStore` does: reads that were under way
are made again, writes end in ConnectionLoss (done or not), a call that waits for twice the timeout
does too, and watches are gone with the connection.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from itertools import count
from typing import Any

from broker.cluster.local import LocalStore, LocalTree
from broker.cluster.store import (
    ANY_VERSION,
    ConnectionLoss,
    Listener,
    Op,
    OpResult,
    SessionEvent,
    SessionExpired,
    Stat,
    StoreError,
    Watch,
    WatchEvent,
)
from tests.sim.loop import CURRENT, SimLoop
from tests.sim.network import Network, SimSocket

ADDRESS = ("10.0.9.1", 2181)
LETTER = 8
RETRY_S = 0.2
OPENING_S = 6.0
"""How long the first connection of a session may take (zookeeper.connection.timeout.ms)."""
CLOSE_S = 2.0

Work = Callable[[LocalStore], Any]
"""What is to be done with the server's side of the session: a call of one of its methods."""


class Post:
    """One end of a connection that carries objects instead of bytes: each is a number on the wire.

    `take(letter)` is called for each that arrives, `lost()` when the connection ends.
    """

    def __init__(
        self,
        keeper: "Keeper",
        sock: SimSocket,
        take: Callable[["Post", Any], None],
        lost: Callable[["Post"], None],
    ) -> None:
        self._letters = keeper.letters
        self._numbers = keeper.numbers
        self._loop = keeper.loop
        self._sock = sock
        self._take = take
        self._lost = lost
        self.closed = False
        self._loop.add_reader(sock.fileno(), self._readable)

    def send(self, letter: Any) -> None:
        """Post it; a connection that is broken tells so by `lost`."""
        if self.closed:
            return
        number = next(self._numbers)
        self._letters[number] = letter
        try:
            self._sock.send(number.to_bytes(LETTER, "big"))
        except OSError:
            self._loop.call_soon(self._broken)

    def _readable(self) -> None:
        try:
            data = self._sock.recv(1 << 16)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self._broken()
            return
        for at in range(0, len(data), LETTER):
            letter = self._letters.pop(int.from_bytes(data[at : at + LETTER], "big"))
            if not self.closed:
                self._take(self, letter)

    def _broken(self) -> None:
        if not self.closed:
            self.close()
            self._lost(self)

    def close(self) -> None:
        if not self.closed:
            self.closed = True
            self._loop.remove_reader(self._sock.fileno())
            self._sock.close()


class Held(LocalStore):
    """The server's side of a session; watches go to the client over the connection."""

    def __init__(self, tree: LocalTree) -> None:
        super().__init__(tree=tree)
        self.heard_at = 0.0
        self.post: Post | None = None

    def deliver(self, watch: Watch, event: WatchEvent) -> None:
        if self.post is not None:
            self.post.send(("event", watch, event))


class Keeper:
    """The server. It belongs to no node and never dies; it can be cut off and paused by the
    network."""

    def __init__(self, loop: SimLoop, network: Network, session_s: float) -> None:
        self.loop = loop
        self.session_s = session_s
        self.letters: dict[int, Any] = {}
        self.numbers = count(1)
        self.tree = LocalTree()
        self.tree.open()
        self.expired = 0
        """Sessions that ended because nothing was heard of them."""
        self._network = network
        self._sessions: dict[int, Held] = {}
        self._listener: SimSocket = network.module(ADDRESS[0]).socket()
        self._listener.bind(ADDRESS)
        self._listener.listen()
        loop.add_reader(self._listener.fileno(), self._accept)
        self._look_over()

    def client(self) -> "SimStore":
        """A session of the running life, not started yet."""
        life = CURRENT.get()
        assert life is not None
        return SimStore(self, self._network.module(life.name).socket)

    def _accept(self) -> None:
        sock, _ = self._listener.accept()
        Post(self, sock, self._take, self._lost)

    def _lost(self, post: Post) -> None:
        for held in self._sessions.values():
            if held.post is post:
                self._forget_watches(held)
                held.post = None

    def _forget_watches(self, held: Held) -> None:
        tree = self.tree
        for watches in (tree._data_watches, tree._child_watches):
            for path in list(watches):
                watches[path] = [w for w in watches[path] if w[0] != held.session_id]

    def _look_over(self) -> None:
        """Expire sessions, a few times a timeout."""
        now = self.loop.time()
        for session_id, held in list(self._sessions.items()):
            if now - held.heard_at > self.session_s:
                self.expired += 1
                self._end(session_id)
        self.loop.call_later(self.session_s / 8, self._look_over)

    def expire(self, session_id: int) -> bool:
        """End a session at once; whether there was one."""
        if session_id not in self._sessions:
            return False
        self.expired += 1
        self._end(session_id)
        return True

    def _end(self, session_id: int) -> None:
        held = self._sessions.pop(session_id)
        self.tree.leave(session_id)
        if held.post is not None:
            held.post.close()

    def _take(self, post: Post, letter: Any) -> None:
        kind, session_id, *rest = letter
        held = self._sessions.get(session_id)
        if kind == "hello":
            self._welcome(post, held)
            return
        if held is None or held.post is not post:
            post.close()  # of a session that has ended, or has another connection now
            return
        held.heard_at = self.loop.time()
        if kind == "ping":
            post.send(("pong",))
        elif kind == "close":
            self._sessions.pop(session_id)
            self.tree.leave(session_id)
            post.send(("closed",))
        else:
            number, work = rest
            post.send(("answer", number, *_carried_out(work, held)))

    def _welcome(self, post: Post, held: Held | None) -> None:
        if held is None:
            held = Held(self.tree)
            held._session_id = self.tree.enter(held)
            self._sessions[held.session_id] = held
        elif held.post is not None:
            self._forget_watches(held)
            held.post.close()
        held.post = post
        held.heard_at = self.loop.time()
        post.send(("welcome", held.session_id))


def _carried_out(work: Work, held: Held) -> tuple[Any, StoreError | None]:
    """Result and refusal; the embedded store's methods never suspend."""
    try:
        work(held).send(None)
    except StopIteration as end:
        return end.value, None
    except StoreError as error:
        return None, error
    raise AssertionError("the embedded store waits")


class _Call:
    """A call on its way."""

    __slots__ = ("again", "future", "path", "work")

    def __init__(self, work: Work, path: str, again: bool, future: "asyncio.Future[Any]") -> None:
        self.work = work
        self.path = path
        self.again = again
        self.future = future

    def fail(self, error: StoreError) -> None:
        if not self.future.done():
            self.future.set_exception(error)


class SimStore:
    """A node's session; satisfies `broker.cluster.store.Store`. See the module."""

    def __init__(self, keeper: Keeper, make_socket: Callable[[], SimSocket]) -> None:
        self._keeper = keeper
        self._loop = keeper.loop
        self._make_socket = make_socket
        self._timeout_s = keeper.session_s
        self._listeners: list[Listener] = []
        self._session_id = 0
        self._up = False
        self._closed = False
        self._post: Post | None = None
        self._heard_at = 0.0
        self._numbers = count(1)
        self._waiting: deque[_Call] = deque()
        self._flying: dict[int, _Call] = {}
        self._opened: asyncio.Event = asyncio.Event()
        self._ended: asyncio.Event = asyncio.Event()

    @property
    def session_id(self) -> int:
        return self._session_id

    @property
    def connected(self) -> bool:
        return self._up

    def listen(self, listener: Listener) -> None:
        self._listeners.append(listener)

    def _tell(self, event: SessionEvent) -> None:
        for listener in self._listeners:
            listener(event)

    # --- the connection

    async def start(self) -> None:
        self._connect()
        self._beat()
        try:
            async with asyncio.timeout(OPENING_S):
                await self._opened.wait()
        except TimeoutError:
            await self.close()
            raise ConnectionLoss("", "the store did not answer in time") from None

    async def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        had, self._session_id = self._session_id, 0
        for call in (*self._flying.values(), *self._waiting):
            call.fail(SessionExpired(call.path))
        if self._post is not None and self._up and had:
            self._post.send(("close", had))
            try:
                async with asyncio.timeout(CLOSE_S):
                    await self._ended.wait()
            except TimeoutError:
                pass
        self._up = False
        if self._post is not None:
            self._post.close()

    def _connect(self) -> None:
        if self._closed:
            return
        sock = self._make_socket()
        sock.connect_ex(ADDRESS)
        self._heard_at = self._loop.time()
        post = self._post = Post(self._keeper, sock, self._take, self._lost)
        self._loop.add_writer(sock.fileno(), self._greet, post, sock)

    def _greet(self, post: Post, sock: SimSocket) -> None:
        self._loop.remove_writer(sock.fileno())
        post.send(("hello", self._session_id))

    def _beat(self) -> None:
        """Ping, and give up a connection that is silent."""
        if self._closed:
            return
        post = self._post
        if post is not None and self._loop.time() - self._heard_at > 2 * self._timeout_s / 3:
            post.close()
            self._lost(post)
        elif post is not None and self._up:
            post.send(("ping", self._session_id))
        self._loop.call_later(self._timeout_s / 6, self._beat)

    def _lost(self, post: Post) -> None:
        if post is not self._post or self._closed:
            return
        self._post = None
        flying, self._flying = self._flying, {}
        self._waiting.extendleft(c for c in reversed(flying.values()) if c.again)
        for call in flying.values():
            if not call.again:
                call.fail(ConnectionLoss(call.path, "the connection was lost"))
        if self._up:
            self._up = False
            self._tell(SessionEvent.SUSPENDED)
        self._loop.call_later(RETRY_S, self._connect)

    def _take(self, post: Post, letter: Any) -> None:
        if post is not self._post:
            return
        self._heard_at = self._loop.time()
        kind, *rest = letter
        if kind == "welcome":
            self._welcomed(rest[0])
        elif kind == "closed":
            self._ended.set()
        elif kind == "event" and not self._closed:
            watch, event = rest
            watch(event)
        elif kind == "answer":
            number, value, error = rest
            call = self._flying.pop(number, None)
            if call is None or call.future.done():
                return
            if error is None:
                call.future.set_result(value)
            else:
                call.future.set_exception(error)

    def _welcomed(self, session_id: int) -> None:
        if self._closed:
            return
        had, same = self._session_id, session_id == self._session_id
        if had and not same:
            self._session_id = 0
            waiting, self._waiting = self._waiting, deque()
            for call in waiting:
                call.fail(SessionExpired(call.path))
            self._tell(SessionEvent.EXPIRED)
        self._session_id = session_id
        self._up = True
        self._opened.set()
        self._tell(SessionEvent.RECONNECTED if same else SessionEvent.CONNECTED)
        self._pump()

    # --- calls

    async def _call(self, work: Work, path: str, *, again: bool = False) -> Any:
        if not self._session_id:
            raise SessionExpired(path)
        call = _Call(work, path, again, self._loop.create_future())
        self._waiting.append(call)
        self._pump()
        lost = ConnectionLoss(path, "no answer in time")
        timer = self._loop.call_later(2 * self._timeout_s, call.fail, lost)
        try:
            return await call.future
        finally:
            timer.cancel()

    def _pump(self) -> None:
        while self._waiting and self._up and self._post is not None:
            call = self._waiting.popleft()
            if not call.future.done():
                number = next(self._numbers)
                self._flying[number] = call
                self._post.send(("call", self._session_id, number, call.work))

    async def create(
        self,
        path: str,
        data: bytes | None = None,
        *,
        ephemeral: bool = False,
        sequential: bool = False,
    ) -> tuple[str, Stat]:
        made: tuple[str, Stat] = await self._call(
            lambda held: held.create(path, data, ephemeral=ephemeral, sequential=sequential), path
        )
        return made

    async def get(self, path: str, watch: Watch | None = None) -> tuple[bytes | None, Stat]:
        found: tuple[bytes | None, Stat] = await self._call(
            lambda held: held.get(path, watch), path, again=True
        )
        return found

    async def get_many(self, paths: Sequence[str]) -> list[tuple[bytes | None, Stat] | None]:
        wanted = list(paths)
        found: list[tuple[bytes | None, Stat] | None] = await self._call(
            lambda held: held.get_many(wanted), wanted[0] if wanted else "", again=True
        )
        return found

    async def exists(self, path: str, watch: Watch | None = None) -> Stat | None:
        stat: Stat | None = await self._call(
            lambda held: held.exists(path, watch), path, again=True
        )
        return stat

    async def children(self, path: str, watch: Watch | None = None) -> list[str]:
        names: list[str] = await self._call(
            lambda held: held.children(path, watch), path, again=True
        )
        return names

    async def set(self, path: str, data: bytes | None, version: int = ANY_VERSION) -> Stat:
        stat: Stat = await self._call(lambda held: held.set(path, data, version), path)
        return stat

    async def delete(self, path: str, version: int = ANY_VERSION) -> None:
        await self._call(lambda held: held.delete(path, version), path)

    async def multi(self, ops: Sequence[Op]) -> list[OpResult]:
        given = list(ops)
        if not given:
            return []
        done: list[OpResult] = await self._call(lambda held: held.multi(given), given[0].path)
        return done
