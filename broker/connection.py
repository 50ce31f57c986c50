"""A client's socket: frames in, answers out in order, one request in hand at a time.

Raw non-blocking sockets on the event loop's reader and writer callbacks. Bytes are received into a
buffer of the pool that lasts for one pass; a frame that is not whole yet moves to a buffer of its
own, which grows with what really arrives. Produce requests of a pass are staged and answered
together after the pass's write. A request that waits parks the connection: nothing more of it is
handled until the answer, as in Apache Kafka. While answers cannot leave, nothing more is read.
"""

import asyncio
import logging
import socket
from collections import deque
from struct import Struct
from typing import TYPE_CHECKING, Any

from broker.context import Context
from broker.dispatch import PRODUCE, Parked, Route
from broker.sending import FilePiece, send_pieces
from protocol.errors import Malformed
from storage.log import LogSlice

if TYPE_CHECKING:
    from broker.connections import Connections
    from broker.handlers.produce import Call, ProduceCall

log = logging.getLogger("odradek.connections")

_SIZE = Struct(">i").unpack_from
_KEY_VERSION = Struct(">hh").unpack_from

FIRST_RESERVE = 2 << 20
"""A frame up to this size gets its whole buffer at once; a longer one grows as its bytes arrive."""
MAX_PENDING = 1 << 16
"""Bytes read ahead of a parked request, to notice a client that goes."""


class Connection:
    """One accepted socket."""

    __slots__ = (
        "_body",
        "_buffer",
        "_calls",
        "_context",
        "_filled",
        "_frame_size",
        "_in_pass",
        "_out",
        "_owner",
        "_parked",
        "_parked_on",
        "_pending",
        "_reading",
        "_sock",
        "_task",
        "_writing",
        "closed",
        "last_active",
        "peer",
    )

    def __init__(self, owner: "Connections", sock: socket.socket, context: Context) -> None:
        self._owner = owner
        self._sock = sock
        self._context = context
        self.peer = context.client_host
        self.closed = False
        self.last_active = owner.loop.time()
        self._out: deque[bytes | FilePiece] = deque()
        # A frame that has begun: its bytes so far (without the length) and its size.
        self._body: bytearray | None = None
        self._filled = 0
        self._frame_size = 0
        # Bytes after the last handled frame, kept while the connection is parked.
        self._pending = bytearray()
        self._buffer: bytearray | None = None
        self._calls: list[Call] = []
        # True while frames are being handled: staged batches and frames to come lie in the buffer.
        self._in_pass = False
        self._parked = False
        self._parked_on: Parked | None = None
        self._task: asyncio.Task[None] | None = None
        self._reading = True
        self._writing = False
        owner.loop.add_reader(sock.fileno(), self._on_readable)

    # --- receiving

    def _on_readable(self) -> None:
        try:
            if self._parked or self._writing:
                self._read_ahead()
            elif self._body is not None and self._frame_size:
                self._receive_body()
            else:
                self._receive()
        except (BlockingIOError, InterruptedError):
            pass
        except Malformed as error:
            self._refuse(error)
        except OSError:
            self.close(None)

    def _refuse(self, error: Malformed) -> None:
        """Answer what came before the bad bytes, then close."""
        if self._calls:
            self._owner.write_now()
        self.close(str(error))

    def _receive(self) -> None:
        """A pass: everything the socket has, frame by frame."""
        owner = self._owner
        buffer = owner.take_buffer()
        start = len(self._pending)
        if start:
            buffer[:start] = self._pending
            self._pending = bytearray()
        try:
            count = self._sock.recv_into(memoryview(buffer)[start:])
        except BaseException:
            if start:
                self._pending = buffer[:start]
            owner.give_buffer(buffer)
            raise
        if not count:
            owner.give_buffer(buffer)
            self.close(None)
            return
        self.last_active = owner.loop.time()
        self._buffer = buffer
        try:
            self._handle_frames(memoryview(buffer), start + count)
        finally:
            self._end_pass()

    def _receive_body(self) -> None:
        """More of a frame that has its own buffer."""
        body = self._body
        assert body is not None
        size = self._frame_size
        if self._filled == len(body):
            body.extend(bytes(min(len(body), size - len(body))))
        with memoryview(body) as view, view[self._filled : size] as space:
            count = self._sock.recv_into(space)
        if not count:
            self.close(None)
            return
        self.last_active = self._owner.loop.time()
        self._filled += count
        if self._filled == size:
            try:
                self._handle_body(body)
            finally:
                self._end_pass()

    def _handle_body(self, body: bytearray) -> None:
        """Handle the frame that has its own buffer: it is whole."""
        size = self._frame_size
        self._buffer = body
        self._body = None
        self._filled = self._frame_size = 0
        self._in_pass = True
        self._request(memoryview(body)[:size])

    def _read_ahead(self) -> None:
        """While a request waits: notice a client that goes, keep what it sends ahead, up to a
        bound.
        """
        space = MAX_PENDING - len(self._pending)
        if self._writing or space <= 0:
            self._stop_reading()
            return
        data = self._sock.recv(space)
        if not data:
            self.close(None)
            return
        self._pending += data

    def _handle_frames(self, view: memoryview, end: int) -> None:
        """Handle every whole frame in view[:end]; keep what is left."""
        pos = 0
        limit = self._owner.max_request_size
        self._in_pass = True
        while end - pos >= 4:
            (size,) = _SIZE(view, pos)
            if size <= 0 or size > limit:
                raise Malformed(f"a frame claims {size} bytes")
            stop = pos + 4 + size
            if stop > end:
                break
            if not self._request(view[pos + 4 : stop]):
                break
            pos = stop
            if self._parked or self.closed:
                break
        if pos < end and not self.closed:
            self._keep(view[pos:end])

    def _handle_kept(self, view: memoryview) -> None:
        """What was read ahead: the rest of a frame that had begun before, then other frames."""
        body = self._body
        if body is not None:
            filled = self._filled
            count = min(len(view), self._frame_size - filled)
            body[filled : filled + count] = view[:count]
            self._filled += count
            if self._filled < self._frame_size:
                return
            self._handle_body(body)
            view = view[count:]
            if self._parked and not self.closed:
                self._pending = bytearray(view)
        if not self._parked and not self.closed:
            self._handle_frames(view, len(view))

    def _keep(self, rest: memoryview) -> None:
        """Keep the beginning of a frame, or frames that may not be handled yet."""
        if self._parked or len(rest) < 4:
            self._pending = bytearray(rest)
            return
        (size,) = _SIZE(rest)
        have = len(rest) - 4
        if have >= size:
            # Whole frames behind one that could not be handled now.
            self._pending = bytearray(rest)
            return
        self._frame_size = size
        self._body = self._owner.take_large(min(size, max(FIRST_RESERVE, 2 * have)))
        self._body[:have] = rest[4:]
        self._filled = have

    # --- handling

    def _request(self, frame: memoryview) -> bool:
        """Handle one frame; False if it must wait for the answers before it."""
        if len(frame) < 8:
            raise Malformed("a frame is too short for a request header")
        key, version = _KEY_VERSION(frame)
        if key == PRODUCE and 0 <= version <= 13:
            return self._produce(frame, version)
        if self._calls:
            self._owner.write_now()
            if self._parked or self.closed:
                return False
        route, request, result = self._owner.dispatcher.dispatch(self._context, frame)
        self._take(route, request, result)
        return True

    def _produce(self, frame: memoryview, version: int) -> bool:
        owner = self._owner
        call = owner.begin_produce(owner.node, self._context, frame, version)
        if call.unverified:
            return self._verify(call)
        self._calls.append(call)
        owner.answer_after_write(self)
        return True

    def _verify(self, call: "ProduceCall") -> bool:
        """A transaction's first batches: park until its coordinator has answered; they are staged
        then. False if it must wait for the answers before it."""
        owner = self._owner
        if self._calls:
            owner.write_now()
            if self._parked or self.closed:
                return False
        waiting = call.ask()
        if waiting is None:
            self._calls.append(call)
            owner.answer_after_write(self)
            return True

        def answered(codes: Any) -> None:
            self._parked_on = None
            self._parked = False
            call.verified(codes)
            self._calls.append(call)
            owner.answer_after_write(self)
            owner.write_now()

        self._parked = True
        self._parked_on = waiting
        waiting.start(answered)
        return True

    def _take(self, route: Route, request: Any, result: Any) -> None:
        """Queue the answer, or park until it is there."""
        if isinstance(result, list):
            self._queue_pieces(result)
        elif hasattr(result, "start"):
            self._park_on(route, result)
        elif hasattr(result, "__await__"):
            self._parked = True
            self._task = self._owner.loop.create_task(self._finish(route, request, result))
        else:
            self._queue(route, result)

    def _queue(self, route: Route, response: Any) -> None:
        context = self._context
        self._out.append(route.encode(context.version, context.correlation_id, response))

    def _queue_pieces(self, pieces: list[bytes | LogSlice]) -> None:
        for piece in pieces:
            if isinstance(piece, LogSlice):
                file_piece = FilePiece.of(piece)
                self._out.append(piece.bytes() if file_piece is None else file_piece)
            else:
                self._out.append(piece)

    def _park_on(self, route: Route, waiting: Parked) -> None:
        """Wait without a task; what comes is a response, or a fetch's pieces."""

        def answered(result: Any) -> None:
            self._parked_on = None
            if isinstance(result, list):
                self._queue_pieces(result)
            else:
                self._queue(route, result)
            self._unpark()

        self._parked = True
        self._parked_on = waiting
        waiting.start(answered)

    async def _finish(self, route: Route, request: Any, work: Any) -> None:
        try:
            response = await self._owner.dispatcher.finish(route, self._context, request, work)
            self._task = None
            if not self.closed:
                self._queue(route, response)
                self._unpark()
        except Malformed as error:
            self._task = None
            self.close(str(error))

    def _unpark(self) -> None:
        """The answer is there: send it and go on with what was kept."""
        self._parked = False
        if not self._flush() or self.closed:
            return
        self._go_on()

    def _go_on(self) -> None:
        """Handle what was read ahead, then read again."""
        if self._pending:
            kept = self._pending
            self._pending = bytearray()
            try:
                self._handle_kept(memoryview(kept))
            except Malformed as error:
                self._refuse(error)
                return
            finally:
                self._end_pass()
        if not self.closed and not self._reading and not self._writing:
            self._start_reading()

    # --- answers of Produce

    def complete(self) -> None:
        """The pass is written: answer its Produce requests, in order, as far as they are
        settled.
        """
        calls = self._calls
        answered = 0
        for call in calls:
            if call.acks == -1 and not call.settled():
                break
            answered += 1
            self._answer_produce(call, timed_out=False)
            if self.closed:
                return
        del calls[:answered]
        if calls:
            self._park_on_replication(calls[0])
            return
        if self.closed or self._in_pass:
            return
        self._release_buffer()
        if self._flush() and not self._parked:
            self._go_on()

    def _answer_produce(self, call: "Call", *, timed_out: bool) -> None:
        try:
            answer = call.answer(timed_out=timed_out)
        except Malformed as error:
            self.close(str(error))
            return
        if answer is not None:
            self._out.append(answer)

    def _park_on_replication(self, call: "Call") -> None:
        """acks=all waits for the high watermark."""
        from broker.replication_wait import ReplicationWait

        self._parked = True
        wait = ReplicationWait(call)
        self._parked_on = wait
        wait.start(self._replicated)

    def _replicated(self, timed_out: bool) -> None:
        self._parked_on = None
        self._parked = False
        if self._calls:
            self._answer_produce(self._calls.pop(0), timed_out=timed_out)
        if not self.closed:
            self.complete()

    # --- sending

    def _end_pass(self) -> None:
        self._in_pass = False
        if self.closed:
            return
        if not self._calls:
            self._release_buffer()
        if self._out:
            self._flush()

    def _release_buffer(self) -> None:
        if self._buffer is not None:
            self._owner.give_buffer(self._buffer)
            self._buffer = None

    def _flush(self) -> bool:
        """Send what is queued; False if some of it must wait for the socket."""
        try:
            done = send_pieces(self._sock, self._out)
        except OSError:
            self.close(None)
            return False
        if not done and not self._writing:
            self._writing = True
            self._owner.loop.add_writer(self._sock.fileno(), self._on_writable)
        return done

    def _on_writable(self) -> None:
        if self._flush():
            self._writing = False
            self._owner.loop.remove_writer(self._sock.fileno())
            self.last_active = self._owner.loop.time()
            if not self._parked:
                self._go_on()
            elif not self._reading:
                self._start_reading()

    def _stop_reading(self) -> None:
        if self._reading:
            self._reading = False
            self._owner.loop.remove_reader(self._sock.fileno())

    def _start_reading(self) -> None:
        if not self._reading:
            self._reading = True
            self._owner.loop.add_reader(self._sock.fileno(), self._on_readable)

    # --- the end

    @property
    def idle(self) -> bool:
        """Whether nothing is under way, so that it may be closed for having been silent."""
        return not (self._parked or self._writing or self._calls)

    def close(self, reason: str | None) -> None:
        """Drop everything of this connection; a reason is logged in one line."""
        if self.closed:
            return
        self.closed = True
        if reason is not None:
            log.warning("connection %s closed: %s", self._context.connection_id, reason)
        fd = self._sock.fileno()
        if fd >= 0:
            self._owner.loop.remove_reader(fd)
            self._owner.loop.remove_writer(fd)
        self._sock.close()
        if self._parked_on is not None:
            self._parked_on.cancel()
            self._parked_on = None
        if self._task is not None:
            self._task.cancel()
            self._task = None
        closing, self._context.closing = self._context.closing, None
        for act in (closing or {}).values():
            act()
        self._out.clear()
        self._pending = bytearray()
        self._body = None
        if self._calls:
            # What is staged lies in the buffer until the pass is written.
            self._calls.clear()
            self._owner.write_now()
        self._release_buffer()
        self._owner.forget(self)
