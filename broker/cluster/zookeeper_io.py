"""What kazoo's thread is given to run on: its "handler", without threads for callbacks.

Results, watches and changes of state are posted to the event loop, in the order in which they came
from the wire. The thread that kazoo wakes for every request is woken without ever blocking the loop
(a pair of sockets, kazoo's own way, is full after 278 requests that were not yet sent).
"""

import asyncio
import logging
import select
import socket
import ssl
import threading
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

log = logging.getLogger("odradek.zookeeper")

LEAST_FIRST_WAIT_S = 1.0
MAX_PER_TURN = 200
"""Callbacks run in one turn of the loop, so that connections are not kept waiting by thousands."""


class TimedOut(Exception):
    """What kazoo raises and catches when the socket is silent for too long."""


class Inbox:
    """Functions posted by kazoo's thread, run in order on the loop."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._posted: deque[Callable[[], object]] = deque()
        self._scheduled = False

    def put(self, function: Callable[[], object]) -> None:
        """From any thread. What is posted after the loop has ended is dropped."""
        self._posted.append(function)
        if not self._scheduled:
            # Set before the loop is told and cleared before it takes: nothing is left lying.
            self._scheduled = True
            try:
                self._loop.call_soon_threadsafe(self._run)
            except RuntimeError:
                return  # the loop is closed

    def _run(self) -> None:
        self._scheduled = False
        for _ in range(MAX_PER_TURN):
            if not self._posted:
                return
            try:
                self._posted.popleft()()
            except Exception:
                log.exception("a callback of the metadata store failed")
        if self._posted and not self._scheduled:
            self._scheduled = True
            self._loop.call_soon(self._run)


class WakeUp:
    """Both ends of kazoo's wake-up pipe: it counts, and holds at most one byte in the pipe."""

    def __init__(self) -> None:
        self._read, self._write = socket.socketpair()
        self._lock = threading.Lock()
        self._count = 0

    def send(self, _: bytes) -> int:
        with self._lock:
            self._count += 1
            if self._count == 1:
                self._write.send(b"\0")
        return 1

    def recv(self, _: int) -> bytes:
        with self._lock:
            if self._count:
                self._count -= 1
                if not self._count:
                    self._read.recv(1)
        return b"\0"

    def fileno(self) -> int:
        return self._read.fileno()

    def close(self) -> None:
        """kazoo closes both of its ends, which are one here."""
        self._read.close()
        self._write.close()


class LoopHandler:
    """kazoo's handler interface; see the module's docstring."""

    name = "odradek_loop_handler"
    timeout_exception = TimedOut
    running = True

    def __init__(
        self, inbox: Inbox, tls: ssl.SSLContext | None, servers: int, session_s: float
    ) -> None:
        """`servers`: how many there are to try; each gets its share of the session timeout.

        A server that is starting may take a connection and never read from it (seen with 3.8): the
        first answer is waited for a third of the session at most, so that it outlives that.
        """
        self._inbox = inbox
        self._tls = tls
        self._servers = servers
        self._first_wait_s = min(session_s / servers, max(LEAST_FIRST_WAIT_S, session_s / 3))
        self._unheard: socket.socket | None = None
        """The newest connection, until its server has said something."""
        self.ended = threading.Event()
        """Set when nobody wants the connection any more: ends pauses between attempts."""
        self.sleep_func = self.ended.wait
        self.completion_queue = inbox
        self.failure = ""
        """Why the last attempt to connect failed, for people; empty when it did not."""
        self._told = ""

    def start(self) -> None:
        """There are no threads of its own."""

    def stop(self) -> None:
        """There are no threads of its own."""

    def dispatch_callback(self, callback: Any) -> None:
        """A watch: (type, function, arguments)."""
        self._inbox.put(lambda: callback.func(*callback.args))

    # --- threads and their tools ------------------------------------------------------------------

    def spawn(self, function: Callable[..., object], *arguments: Any) -> threading.Thread:
        thread = threading.Thread(
            target=self._guard, args=(function, arguments), name="zookeeper", daemon=True
        )
        thread.start()
        return thread

    def _guard(self, function: Callable[..., object], arguments: tuple[Any, ...]) -> None:
        try:
            function(*arguments)
        except Exception as error:  # noqa: BLE001 - kazoo has reported the end of its state already
            log.debug("the connection's thread ended: %r", error)

    def event_object(self) -> threading.Event:
        return threading.Event()

    def lock_object(self) -> "threading.Lock":
        return threading.Lock()

    def rlock_object(self) -> "threading.RLock":
        return threading.RLock()

    def async_result(self) -> Any:
        raise RuntimeError("calls are made through ZooKeeperStore only")

    # --- sockets ----------------------------------------------------------------------------------

    def create_socket_pair(self) -> tuple[WakeUp, WakeUp]:
        wake_up = WakeUp()
        return wake_up, wake_up

    def create_connection(
        self, address: tuple[str, int], *, hostname: str, timeout: float, **_: Any
    ) -> socket.socket:
        """A connection to one server, TLS included. Raises OSError."""
        try:
            link = socket.create_connection(address, timeout / self._servers)
        except OSError as error:
            self.failure = f"{hostname}:{address[1]}: {error.strerror or error}"
            raise
        link.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            if self._tls is not None:
                link = self._tls.wrap_socket(link, server_hostname=hostname)
            self.failure = ""
            self._unheard = link
            return link
        except OSError as error:
            link.close()
            reason = getattr(error, "verify_message", "") or getattr(error, "reason", "") or error
            self.failure = f"{hostname}:{address[1]}: TLS failed: {reason}"
            if self.failure != self._told:
                self._told = self.failure
                log.warning("%s", self.failure)
            raise

    def select(
        self,
        readers: Sequence[Any],
        writers: Sequence[Any],
        _: Sequence[Any],
        timeout: float | None = None,
    ) -> tuple[list[Any], list[Any], list[Any]]:
        """As `select.select`, by poll; bytes that TLS has decrypted already count as readable."""
        ready = [each for each in readers if getattr(each, "pending", _nothing)() > 0]
        if ready:
            timeout = 0
        elif timeout is not None and self._unheard in readers:
            timeout = min(timeout, self._first_wait_s)
        poll = select.poll()
        by_number: dict[int, Any] = {}
        for each, mask in [(r, select.POLLIN) for r in readers] + [
            (w, select.POLLOUT) for w in writers
        ]:
            by_number[each.fileno()] = each
            poll.register(each.fileno(), mask)
        for number, _events in poll.poll(None if timeout is None else timeout * 1000):
            if by_number[number] not in ready:
                ready.append(by_number[number])
        if self._unheard in ready and readers:
            self._unheard = None
        return (ready, [], []) if readers else ([], ready, [])


def _nothing() -> int:
    return 0
