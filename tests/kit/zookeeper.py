"""A real Apache ZooKeeper on loopback for tests: one server or an ensemble, from jars.

The class path is $ZOOKEEPER_CLASSPATH, the jars of Apache Kafka 3.9.2 (compat.reference), or
Debian's libzookeeper-java. Servers are ended by their own pid, at the latest with this process.

`standalone()` is one server for the whole test run; each test takes a `chroot()` of its own.
"""

import asyncio
import atexit
import contextlib
import functools
import itertools
import os
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import pytest

from broker.cluster.store import SessionEvent, Store, StoreError
from compat.reference import LEAN, NoReference, _end_with_parent, free_ports, jars, missing
from tests.kit.netns import Network
from tests.kit.signals import pause

VERSION = "3.9.2"
LOCALHOST = "127.0.0.1"
DEBIAN = Path("/usr/share/java/zookeeper.jar")
MAIN = "org.apache.zookeeper.server.quorum.QuorumPeerMain"
START_S = 60.0
PROBE_S = 0.15
"""A connection that arrives while a server starts may stay unanswered for ever: probe briefly."""
TICK_MS = 200

LOG4J = """log4j.rootLogger=WARN, out
log4j.appender.out=org.apache.log4j.ConsoleAppender
log4j.appender.out.layout=org.apache.log4j.PatternLayout
log4j.appender.out.layout.ConversionPattern=%d %p %c: %m%n
"""

_numbers = itertools.count()


def lacking() -> str | None:
    """One sentence on what this machine lacks to run ZooKeeper, or None."""
    if shutil.which("java") is None:
        return "ZooKeeper needs Java (Debian: apt-get install default-jre-headless)"
    if "ZOOKEEPER_CLASSPATH" in os.environ or DEBIAN.exists():
        return None
    return missing(VERSION)


@functools.cache
def class_path() -> str:
    """Skips the test where there is no ZooKeeper to be had."""
    given = os.environ.get("ZOOKEEPER_CLASSPATH")
    if given:
        return given
    lack = lacking()
    if lack is not None:
        pytest.skip(lack)
    try:
        return f"{jars(VERSION)}/*"
    except NoReference as error:
        if not DEBIAN.exists():
            pytest.skip(str(error))
    return f"{DEBIAN}:{DEBIAN.parent}/*"


class ZooKeeper:
    """One server process on `directory`; several with each other's addresses are an ensemble."""

    def __init__(
        self,
        directory: Path,
        port: int = 0,
        *,
        number: int = 0,
        peers: Sequence[str] = (),
        settings: Mapping[str, str] | None = None,
        flags: Sequence[str] = (),
        host: str = LOCALHOST,
        before: Sequence[str] = (),
    ) -> None:
        """`peers`: the server.N lines of an ensemble, in which this is number `number`; `before` is
        put before the command line (`tests.kit.netns`).
        """
        self.directory = directory
        self.host = host
        self._before = list(before)
        self.port = port or free_ports(1)[0]
        self.number = number
        self._peers = list(peers)
        self._settings = dict(settings or {})
        self._flags = list(flags)
        self.process: subprocess.Popen[bytes] | None = None
        _running.append(self)

    @property
    def address(self) -> str:
        return f"{self.host}:{self.port}"

    def start(self) -> None:
        """Launch and wait until it serves."""
        self.launch()
        self.wait()

    def launch(self) -> None:
        """Start the process and return at once; the data of an earlier start is kept."""
        assert self.process is None, "the server runs already"
        path = class_path()
        data = self.directory / "data"
        data.mkdir(parents=True, exist_ok=True)
        if self._peers:
            (data / "myid").write_text(str(self.number))
        (self.directory / "log4j.properties").write_text(LOG4J)
        conf = self.directory / "zoo.cfg"
        lines = [f"{name}={value}" for name, value in self._config(data).items()]
        conf.write_text("\n".join([*lines, *self._peers]) + "\n")
        command = [
            *self._before,
            "java",
            "-Xmx192m",
            "-Xms32m",
            *LEAN,
            "-Dzookeeper.jmx.log4j.disable=true",
            "-Djava.net.preferIPv4Stack=true",
            f"-Dlog4j.configuration=file:{self.directory}/log4j.properties",
            "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn",
            *self._flags,
        ]
        with open(self.directory / "server.log", "ab") as log:
            self.process = subprocess.Popen(
                [*command, "-cp", path, MAIN, str(conf)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                preexec_fn=_end_with_parent if sys.platform == "linux" else None,
            )

    def _config(self, data: Path) -> dict[str, str]:
        return {
            "tickTime": str(TICK_MS),
            "initLimit": "50",
            "syncLimit": "10",
            "minSessionTimeout": "400",
            "maxSessionTimeout": "60000",
            "dataDir": str(data),
            "clientPort": str(self.port),
            "clientPortAddress": self.host,
            "admin.enableServer": "false",
            "4lw.commands.whitelist": "*",
            "maxClientCnxns": "0",
            **self._settings,
        }

    def wait(self) -> str:
        """Until it serves; standalone, leader or follower."""
        end = time.monotonic() + START_S
        while True:
            mode = self.mode()
            if mode is not None:
                return mode
            assert self.process is not None
            if self.process.poll() is not None or time.monotonic() > end:
                raise AssertionError(f"ZooKeeper did not start:\n{self.log_text()[-3000:]}")
            time.sleep(0.02)

    def mode(self) -> str | None:
        """What it says it is, None while it does not serve."""
        for line in self.ask("srvr").splitlines():
            if line.startswith("Mode: "):
                return line[6:]
        return None

    def ask(self, word: str) -> str:
        """The answer to a four-letter word, empty when there is none."""
        answer = b""
        try:
            with socket.create_connection((self.host, self.port), PROBE_S) as link:
                link.settimeout(PROBE_S)
                link.sendall(word.encode())
                while part := link.recv(65536):
                    answer += part
        except OSError:
            return ""
        return answer.decode("utf-8", "replace")

    def log_text(self) -> str:
        return (self.directory / "server.log").read_text("utf-8", "replace")

    def kill(self) -> None:
        """SIGKILL, and wait for the end."""
        self._end(signal.SIGKILL)

    def stop(self) -> None:
        """SIGTERM, and wait for the end."""
        self._end(signal.SIGTERM)

    def pause(self) -> None:
        """SIGSTOP: it is there and says nothing."""
        assert self.process is not None
        pause(self.process)

    def resume(self) -> None:
        """SIGCONT."""
        assert self.process is not None
        self.process.send_signal(signal.SIGCONT)

    def _end(self, number: signal.Signals) -> None:
        process, self.process = self.process, None
        if process is not None and process.poll() is None:
            process.send_signal(number)
            process.send_signal(signal.SIGCONT)  # one that is paused does nothing more before
            process.wait(30)


class Ensemble:
    """Servers that elect a leader among each other; on a `network` the nodes zookeeper-1, ..."""

    def __init__(self, directory: Path, size: int = 3, network: Network | None = None) -> None:
        ports = free_ports(3 * size)
        names = [f"zookeeper-{n + 1}" for n in range(size)]
        hosts = [LOCALHOST if network is None else network.address(name) for name in names]
        peers = [
            f"server.{n + 1}={hosts[n]}:{ports[3 * n + 1]}:{ports[3 * n + 2]}" for n in range(size)
        ]
        self.servers = [
            ZooKeeper(
                directory / str(n + 1),
                ports[3 * n],
                number=n + 1,
                peers=peers,
                host=hosts[n],
                before=() if network is None else network.at(names[n]),
            )
            for n in range(size)
        ]

    @property
    def address(self) -> str:
        return ",".join(server.address for server in self.servers)

    def start(self) -> None:
        for server in self.servers:
            server.launch()
        for server in self.servers:
            server.wait()

    def leader(self) -> ZooKeeper:
        """Waits until there is one."""
        end = time.monotonic() + START_S
        while time.monotonic() < end:
            for server in self.servers:
                if server.process is not None and server.mode() == "leader":
                    return server
            time.sleep(0.02)
        raise AssertionError("no leader was elected")

    def kill(self) -> None:
        for server in self.servers:
            server.kill()


_running: list[ZooKeeper] = []


@contextlib.contextmanager
def scratch() -> Iterator[Path]:
    """A directory for servers' data, removed afterwards."""
    with tempfile.TemporaryDirectory(prefix="zookeeper-") as name:
        yield Path(name)


@functools.cache
def standalone() -> ZooKeeper:
    """The one server of this test run. Skips the test where it cannot be had."""
    class_path()
    directory = Path(tempfile.mkdtemp(prefix="zookeeper-"))
    server = ZooKeeper(directory)
    atexit.register(shutil.rmtree, directory, ignore_errors=True)
    server.start()
    return server


def chroot() -> str:
    """A path that no other test of this run uses."""
    return f"/test-{os.getpid()}-{next(_numbers)}"


def end_session(server: ZooKeeper, session_id: int, password: bytes) -> None:
    """Close somebody else's session, which is how a session is made to expire at once.

    Connects with that session's id and closes it in one packet, before its owner can come back.
    """
    connect = struct.pack(">iqiqi", 0, 0, 10_000, session_id, len(password)) + password + b"\0"
    close = struct.pack(">ii", 1, -11)
    packets = b"".join(struct.pack(">i", len(p)) + p for p in (connect, close))
    with socket.create_connection((server.host, server.port), 10) as link:
        link.sendall(packets)
        try:
            while link.recv(4096):
                pass
        except OSError:
            pass  # its owner was faster; the caller sees that nothing has expired


async def expire(server: ZooKeeper, store: Store) -> None:
    """End a ZooKeeperStore's session; returns when it has the next one."""
    old, heard = store.session_id, asyncio.Event()

    def listen(event: SessionEvent) -> None:
        if event is SessionEvent.CONNECTED:
            heard.set()

    store.listen(listen)
    async with asyncio.timeout(30):
        while store.session_id == old:
            await asyncio.to_thread(end_session, server, old, store._password)  # type: ignore[attr-defined]
            # Its owner may have come back in between: then it answers, and has to be ended again.
            try:
                await store.exists("/")
            except StoreError:
                break
        await heard.wait()


@atexit.register
def _kill_the_rest() -> None:
    for server in _running:
        server.kill()
