"""The load generator, a process of its own: `python -m tests.bench.load`, a job as JSON on standard
input, its result as one JSON line on standard output.

It does as little as it can for each request: requests are built beforehand, answers are counted by
their length alone (what they say is checked before and after by the caller, through offsets).
"""

import json
import select
import socket
import struct
import sys
import time
from collections.abc import Callable
from typing import Any

from tests.bench import members, network, requests
from tests.kit.server import process_cpu
from tests.kit.wire import address_of, decode_answer

SOCKET_BUFFER = 4 << 20
PATIENCE = 20.0


def connect(bootstrap: str, *, big: bool = False) -> socket.socket:
    """A connection to the broker; `big` asks for large socket buffers."""
    connection = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    network.choose_reno(connection)
    if big:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, SOCKET_BUFFER)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SOCKET_BUFFER)
    connection.settimeout(PATIENCE)
    connection.connect(address_of(bootstrap))
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return connection


class Window:
    """The measured part of a run: time and the broker's CPU between its two ends."""

    def __init__(self, job: dict[str, Any]) -> None:
        self.pid: int = job["pid"]
        now = time.monotonic()
        self.begins = now + job["warm_up"]
        self.ends = self.begins + job["seconds"]
        self.before = 0
        self.requests = 0
        self.cpu = 0.0
        self.wall = 0.0
        self._started: tuple[float, float] | None = None

    def over(self, answered: int) -> bool:
        """Called often with the number of answers so far; True when the run is to end."""
        now = time.monotonic()
        if self._started is None:
            if now >= self.begins:
                self.before = answered
                self._started = (now, process_cpu(self.pid))
        elif now >= self.ends:
            self.requests = answered - self.before
            self.wall = now - self._started[0]
            self.cpu = process_cpu(self.pid) - self._started[1]
            return True
        return False


class Small:
    """A connection that keeps `depth` equal small requests under way; answers have one length."""

    def __init__(self, bootstrap: str, request: bytes, answer_size: int, depth: int) -> None:
        self.socket = connect(bootstrap)
        self.several = [request * count for count in range(depth + 1)]
        self.answer_size = answer_size
        self.depth = depth
        self.left_over = 0
        self.owed = 0

    def fileno(self) -> int:
        return self.socket.fileno()

    def start(self) -> None:
        self.socket.sendall(self.several[self.depth])
        self.owed = self.depth
        self.socket.setblocking(False)

    def read(self, more: bool) -> int:
        """Take what came; send as many new requests as there were answers. Their number."""
        data = self.socket.recv(65536)
        if not data:
            raise ConnectionError("the broker closed the connection")
        count, self.left_over = divmod(self.left_over + len(data), self.answer_size)
        self.owed -= count
        if count and more:
            # small enough for the socket buffer: depth requests of some hundred bytes
            self.socket.send(self.several[count])
            self.owed += count
        return count


class Large:
    """A connection with `depth` requests under way where requests or answers are large."""

    def __init__(self, bootstrap: str, requests_: list[bytes], start: int, depth: int) -> None:
        self.socket = connect(bootstrap, big=True)
        self.requests = requests_
        self.next = start
        self.depth = depth
        self.owed = 0
        self.out: list[memoryview] = []
        self.buffer = bytearray(SOCKET_BUFFER)
        self.view = memoryview(self.buffer)
        self.missing = 0
        self.head = b""
        self.bytes_in = 0

    def fileno(self) -> int:
        return self.socket.fileno()

    def start(self) -> None:
        self.socket.setblocking(False)
        for _ in range(self.depth):
            self._queue()
        self.write()

    def _queue(self) -> None:
        self.out.append(memoryview(self.requests[self.next % len(self.requests)]))
        self.next += 1
        self.owed += 1

    def write(self) -> bool:
        """Send what the socket takes; True when nothing is left."""
        while self.out:
            try:
                sent = self.socket.send(self.out[0])
            except BlockingIOError:
                return False
            if sent == len(self.out[0]):
                self.out.pop(0)
            else:
                self.out[0] = self.out[0][sent:]
        return True

    def read(self, more: bool) -> int:
        count = 0
        try:
            size = self.socket.recv_into(self.buffer)
        except BlockingIOError:
            return 0
        if not size:
            raise ConnectionError("the broker closed the connection")
        self.bytes_in += size
        pos = 0
        while pos < size:
            if self.missing:
                step = min(self.missing, size - pos)
                self.missing -= step
                pos += step
                if self.missing == 0:
                    count += 1
            else:
                step = min(4 - len(self.head), size - pos)
                self.head += bytes(self.view[pos : pos + step])
                pos += step
                if len(self.head) == 4:
                    (self.missing,) = struct.unpack(">i", self.head)
                    self.head = b""
        self.owed -= count
        if more:
            for _ in range(count):
                self._queue()
        return count


def pipelined(job: dict[str, Any]) -> dict[str, Any]:
    """Many connections, small requests of one kind."""
    request = requests.tiny_produce(job["topic"], job.get("partitions", 1))
    size = _answer_size(job["bootstrap"], request)
    connections = [
        Small(job["bootstrap"], request, size, job["depth"]) for _ in range(job["connections"])
    ]
    answered = 1 + _loop(job, connections, small=True)
    return {**_measured, "answered": answered}


def _answer_size(bootstrap: str, request: bytes) -> int:
    with connect(bootstrap) as connection:
        connection.sendall(request)
        head = _exactly(connection, 4)
        size: int = struct.unpack(">i", head)[0]
        _, answer = decode_answer(0, requests.PRODUCE_VERSION, _exactly(connection, size))
        error = answer.responses[0].partition_responses[0].error_code
        if error:
            raise ConnectionError(f"Produce is refused with error {error}")
        return size + 4


def _exactly(connection: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        part = connection.recv(size - len(data))
        if not part:
            raise ConnectionError("the broker closed the connection")
        data += part
    return data


def large(job: dict[str, Any]) -> dict[str, Any]:
    """Few connections, 1 MiB a request (`work` produce) or an answer (`work` fetch)."""
    prepared = requests.large_produce(job) if job["work"] == "produce" else requests.fetches(job)
    connections = [
        Large(job["bootstrap"], prepared, number * 17, job["depth"])
        for number in range(job["connections"])
    ]
    answered = _loop(job, connections, small=False)
    each = sum(c.bytes_in for c in connections) / max(1, answered)
    if job["work"] == "produce":
        each = requests.batch_size(prepared[0])
    return {**_measured, "answered": answered, "bytes_each": each}


_measured: dict[str, Any] = {}


def _loop(job: dict[str, Any], connections: list[Any], *, small: bool) -> int:
    """Run all connections over the window and until every answer has come; the answers' number."""
    epoll = select.epoll()
    by_number = {c.fileno(): c for c in connections}
    for connection in connections:
        connection.start()
        epoll.register(connection.fileno(), select.EPOLLIN | (0 if small else select.EPOLLOUT))
    window = Window(job)
    answered = 0
    more = True
    while more or any(c.owed for c in connections):
        events = epoll.poll(PATIENCE)
        if not events:
            raise TimeoutError(f"no answer for {PATIENCE} s")
        for number, event in events:
            connection = by_number[number]
            if event & ~select.EPOLLOUT:
                answered += connection.read(more)
            if not small:
                done = connection.write()
                epoll.modify(number, select.EPOLLIN | (0 if done else select.EPOLLOUT))
        if more and window.over(answered):
            more = False
    _measured.update(requests=window.requests, cpu=window.cpu, wall=window.wall)
    for connection in connections:
        connection.socket.close()
    return answered


def latency(job: dict[str, Any]) -> dict[str, Any]:
    """Records sent one by one at a fixed rate, read by a long poll; times from send to receipt."""
    producer, consumer = connect(job["bootstrap"]), connect(job["bootstrap"])
    request = requests.tiny_produce(job["topic"])
    poll = requests.Poll(job["topic"], job["start"])
    consumer.sendall(poll.request())
    total = int(job["rate"] * (job["warm_up"] + job["seconds"]))
    sent: list[float] = []
    took: list[float] = []
    clock = time.perf_counter
    cpu = process_cpu(job["pid"])
    began = clock()
    data = bytearray()
    while len(took) < total:
        due = began + len(sent) / job["rate"]
        wait = due - clock() if len(sent) < total else PATIENCE
        ready, _, _ = select.select([consumer, producer], [], [], max(0.0, wait))
        if consumer in ready:
            data += consumer.recv(1 << 20)
            now = clock()
            if poll.whole(data):
                until = poll.take(data)
                took += [now - sent[number] for number in range(len(took), until - job["start"])]
                consumer.sendall(poll.request())
        if producer in ready and not producer.recv(65536):
            raise ConnectionError("the broker closed the connection")
        if len(sent) < total and clock() >= due:
            sent.append(clock())
            producer.sendall(request)
        elif not ready and len(sent) == total:
            raise TimeoutError(f"{len(took)} of {total} records came")
    cpu = process_cpu(job["pid"]) - cpu
    measured = sorted(took[int(job["rate"] * job["warm_up"]) :])
    return {
        "p50": measured[len(measured) // 2],
        "p99": measured[int(len(measured) * 0.99)],
        "cpu_share": cpu / (clock() - began),
        "answered": total,
    }


def librdkafka(job: dict[str, Any]) -> dict[str, Any]:
    """1 KiB records through confluent-kafka with its default settings and acks=1."""
    from confluent_kafka import Producer

    producer = Producer(
        {
            "bootstrap.servers": job["bootstrap"],
            "acks": 1,
            "queue.buffering.max.messages": 1_000_000,
            "queue.buffering.max.kbytes": 1_000_000,
        }
    )
    value = bytes(range(256)) * 4
    producer.produce(job["topic"], value)
    if producer.flush(PATIENCE):
        raise TimeoutError("the first record was not acknowledged")
    cpu, began = process_cpu(job["pid"]), time.monotonic()
    for _ in range(job["count"] - 1):
        while True:
            try:
                producer.produce(job["topic"], value)
                break
            except BufferError:
                producer.poll(0.01)
    if producer.flush(PATIENCE):
        raise TimeoutError("not every record was acknowledged")
    wall = time.monotonic() - began
    return {
        "cpu": process_cpu(job["pid"]) - cpu,
        "wall": wall,
        "requests": job["count"],
        "answered": job["count"],
        "bytes_each": len(value),
    }


KINDS: dict[str, Callable[[dict[str, Any]], dict[str, Any]]] = {
    "pipelined": pipelined,
    "large": large,
    "latency": latency,
    "librdkafka": librdkafka,
    "rebalance": members.rebalance,
    "heartbeats": members.heartbeats,
    "transactions": members.transactions,
}


def main() -> None:
    """One job from standard input."""
    job = json.loads(sys.stdin.read())
    print(json.dumps(KINDS[job["job"]](job)))


if __name__ == "__main__":
    main()
