"""A real Apache Kafka on loopback, started from its published jars, to ask how it behaves.

    python -m compat.reference start 3.9.2 [--dir D] [--port P] [--set name=value]... [--foreground]
    python -m compat.reference stop [--dir D]
    python -m compat.reference jars 3.9.2

A 3.x version runs with a ZooKeeper server of its own (same jars), a 4.x version as one combined
KRaft node. The jars come from Maven once and stay in $KAFKA_JARS or ~/.cache/kafka-jars. As a
library: `with Reference("3.9.2") as kafka: ...`; leaving the block ends every process that
was started, by its id, and removes the directory if it was a temporary one. Needs a Java runtime
(17 or newer) and, for the first time, Maven.
"""

import argparse
import contextlib
import ctypes
import fcntl
import json
import os
import pathlib
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from types import FrameType, TracebackType

VERSIONS = ("3.9.2", "4.4.0")
NODE_ID = 1
CLUSTER_ID = "b2RyYWRlay1yZWYtMDAwMQ"
START_SECONDS = 120.0
STOP_SECONDS = 20.0

LEAN = (
    "-XX:TieredStopAtLevel=1",
    "-XX:+UseSerialGC",
    "-XX:-UsePerfData",
    "-Xshare:auto",
    "-Djava.awt.headless=true",
)
"""JVM flags that trade peak speed for a quick start and little memory."""

SMALL = {
    "offsets.topic.replication.factor": "1",
    "offsets.topic.num.partitions": "1",
    "transaction.state.log.replication.factor": "1",
    "transaction.state.log.min.isr": "1",
    "transaction.state.log.num.partitions": "1",
    "group.initial.rebalance.delay.ms": "0",
}
"""What a single node needs, and little internal topics."""

SMALL_SHARE_STATES = {
    "share.coordinator.state.topic.replication.factor": "1",
    "share.coordinator.state.topic.min.isr": "1",
    "share.coordinator.state.topic.num.partitions": "1",
}
"""The same for share groups, which 3.9 does not know."""

LOG4J1 = """log4j.rootLogger=WARN, out
log4j.appender.out=org.apache.log4j.ConsoleAppender
log4j.appender.out.layout=org.apache.log4j.PatternLayout
log4j.appender.out.layout.ConversionPattern=%d %p %c: %m%n
"""
LOG4J2 = """<Configuration><Appenders>
<Console name="out"><PatternLayout pattern="%d %p %c: %m%n"/></Console></Appenders>
<Loggers><Root level="warn"><AppenderRef ref="out"/></Root></Loggers></Configuration>
"""

POM = """<project xmlns="http://maven.apache.org/POM/4.0.0">
<modelVersion>4.0.0</modelVersion><groupId>compat</groupId><artifactId>jars</artifactId><version>1</version>
<dependencies>{}</dependencies></project>
"""


class NoReference(Exception):
    """The reference cannot be had or did not start; the text is one sentence for a person."""


def cache() -> pathlib.Path:
    """Where the jars of all versions are kept."""
    return pathlib.Path(
        os.environ.get("KAFKA_JARS") or pathlib.Path.home() / ".cache" / "kafka-jars"
    )


def _pom(version: str) -> str:
    """What Maven is asked for: the broker, and what its logging writes with (a broker without that
    has no loggers that could be described)."""
    wanted = [("org.apache.kafka", "kafka_2.13", version)]
    if version.startswith("4"):
        wanted.append(("org.apache.logging.log4j", "log4j-slf4j-impl", "2.25.3"))
    else:
        wanted.append(("org.slf4j", "slf4j-reload4j", "1.7.36"))
    dependencies = "".join(
        f"<dependency><groupId>{g}</groupId><artifactId>{a}</artifactId><version>{v}</version></dependency>"
        for g, a, v in wanted
    )
    return POM.format(dependencies)


def have_jars(version: str) -> bool:
    """Whether what is asked for today has been fetched."""
    fetched = cache() / version / "fetched.xml"
    return fetched.exists() and fetched.read_text() == _pom(version)


def missing(version: str) -> str | None:
    """One sentence on what this machine lacks to run that version, or None."""
    if shutil.which("java") is None:
        return "A Java runtime (17 or newer) is not installed."
    if not have_jars(version) and shutil.which("mvn") is None:
        return f"The jars of Apache Kafka {version} are not cached and Maven is not installed."
    return None


def jars(version: str) -> pathlib.Path:
    """The folder with the jars of a version, filled from Maven where it is not yet."""
    libs = cache() / version
    if have_jars(version):
        return libs
    cache().mkdir(parents=True, exist_ok=True)
    with (cache() / f"{version}.lock").open("w") as lock:
        # One process fetches, the others (tests on another core) wait for it.
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not have_jars(version):
            _fetch(version, libs)
    return libs


def _fetch(version: str, libs: pathlib.Path) -> None:
    lack = missing(version)
    if lack:
        raise NoReference(lack)
    libs.mkdir(parents=True, exist_ok=True)
    pom = libs / "pom.xml"
    pom.write_text(_pom(version))
    copy = ["mvn", "-q", "-B", "-f", str(pom), "dependency:copy-dependencies"]
    done = subprocess.run([*copy, f"-DoutputDirectory={libs}"], check=False)
    if done.returncode:
        raise NoReference(f"Maven could not fetch the jars of Apache Kafka {version}.")
    pom.rename(libs / "fetched.xml")


def free_ports(count: int) -> list[int]:
    """Ports of 127.0.0.1 that nobody listens on at this moment."""
    held = [socket.socket() for _ in range(count)]
    try:
        for each in held:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in held]
    finally:
        for each in held:
            each.close()


def answers_api_versions(port: int, host: str = "127.0.0.1", seconds: float = 2.0) -> bool:
    """Whether something on that port answers ApiVersions version 0 without an error."""
    request = struct.pack(">hhih", 18, 0, 1, -1)
    try:
        with socket.create_connection((host, port), seconds) as link:
            link.sendall(struct.pack(">i", len(request)) + request)
            head = b""
            while len(head) < 10:
                part = link.recv(10 - len(head))
                if not part:
                    return False
                head += part
    except OSError:
        return False
    return bool(struct.unpack(">ih", head[4:])[1] == 0)


def _end_with_parent() -> None:
    """In the child, on Linux: be ended by the kernel when the process that started it dies."""
    try:
        ctypes.CDLL(None).prctl(1, signal.SIGTERM)
    except (OSError, AttributeError):
        pass


class Reference:
    """A real Apache Kafka of one version: `launch()`, `wait()`, `address`; `close()` ends it."""

    def __init__(
        self,
        version: str,
        *,
        directory: str | os.PathLike[str] | None = None,
        port: int = 0,
        settings: Mapping[str, str] | None = None,
        outlive: bool = False,
        lean: bool = True,
    ) -> None:
        """`outlive`: leave the processes running when the one that started them ends. `lean`: for
        questions, not for measuring."""
        self.version = version
        self.settings = dict(settings or {})
        self.temporary = directory is None
        self.directory = pathlib.Path(directory or tempfile.mkdtemp(prefix=f"kafka-{version}-"))
        self.port, self.second_port = free_ports(2)
        self.port = port or self.port
        self.processes: list[subprocess.Popen[bytes]] = []
        self.outlive = outlive
        self._flags = LEAN if lean else ()

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    @property
    def data(self) -> pathlib.Path:
        return self.directory / "data"

    def __enter__(self) -> "Reference":
        try:
            self.launch()
            self.wait()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        self.close()

    def launch(self) -> None:
        """Starts the processes and returns at once. Raises NoReference where the port is taken:
        whoever has it would answer in the broker's place."""
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", self.port))
            except OSError:
                raise NoReference(f"Port {self.port} of 127.0.0.1 is taken.") from None
        self.directory.mkdir(parents=True, exist_ok=True)
        if self.version.startswith("3"):
            self._zookeeper()
            conf = self._write("broker.properties", self._zookeeper_mode())
        else:
            conf = self._write("broker.properties", self._kraft_mode())
            if not (self.data / "meta.properties").exists():
                tool = ("kafka.tools.StorageTool", "format", "-t", CLUSTER_ID, "-c", str(conf))
                if self._java("format", *tool).wait(START_SECONDS):
                    raise NoReference(f"Formatting failed; see {self.directory}/format.log.")
                self.processes.clear()
        self._java("broker", "kafka.Kafka", str(conf), heap="768m")

    def wait(self) -> None:
        """Returns when the broker answers; raises NoReference when it ends or stays silent."""
        end = time.monotonic() + START_SECONDS
        while not answers_api_versions(self.port):
            ended = [p for p in self.processes if p.poll() is not None]
            if ended or time.monotonic() > end:
                raise NoReference(
                    f"Apache Kafka {self.version} did not start; see {self.directory}/broker.log."
                )
            time.sleep(0.05)

    def close(self) -> None:
        """Ends what was started, the broker before its ZooKeeper; at once where no data is kept."""
        first = signal.SIGKILL if self.temporary else signal.SIGTERM
        _end([p.pid for p in reversed(self.processes)], self.processes, first)
        self.processes.clear()
        if self.temporary:
            shutil.rmtree(self.directory, ignore_errors=True)

    def _write(self, name: str, settings: Mapping[str, str]) -> pathlib.Path:
        path = self.directory / name
        path.write_text("".join(f"{key}={value}\n" for key, value in settings.items()))
        return path

    def _zookeeper_mode(self) -> dict[str, str]:
        return {
            "broker.id": str(NODE_ID),
            "listeners": f"PLAINTEXT://127.0.0.1:{self.port}",
            "log.dirs": str(self.data),
            "zookeeper.connect": f"127.0.0.1:{self.second_port}",
            **SMALL,
            **self.settings,
        }

    def _kraft_mode(self) -> dict[str, str]:
        return {
            "process.roles": "broker,controller",
            "node.id": str(NODE_ID),
            "controller.quorum.voters": f"{NODE_ID}@127.0.0.1:{self.second_port}",
            "controller.listener.names": "CONTROLLER",
            "listeners": f"PLAINTEXT://127.0.0.1:{self.port},CONTROLLER://127.0.0.1:{self.second_port}",
            "log.dirs": str(self.data),
            **SMALL,
            **SMALL_SHARE_STATES,
            **self.settings,
        }

    def _zookeeper(self) -> None:
        conf = self._write(
            "zookeeper.properties",
            {
                "dataDir": str(self.directory / "zookeeper"),
                "clientPort": str(self.second_port),
                "clientPortAddress": "127.0.0.1",
                "admin.enableServer": "false",
                "maxClientCnxns": "0",
                "tickTime": "1000",
            },
        )
        main = "org.apache.zookeeper.server.quorum.QuorumPeerMain"
        self._java("zookeeper", main, str(conf), heap="192m")

    def _java(
        self, name: str, main: str, *arguments: str, heap: str = "256m"
    ) -> subprocess.Popen[bytes]:
        command = java_command(
            self.version, self.directory, main, *arguments, heap=heap, flags=self._flags
        )
        process = launch(command, self.directory / f"{name}.log", outlive=self.outlive)
        self.processes.append(process)
        return process


def java_command(
    version: str,
    directory: pathlib.Path,
    main: str,
    *arguments: str,
    heap: str = "256m",
    flags: tuple[str, ...] = LEAN,
) -> list[str]:
    """A command line with the jars of a version; what its logging is told lies in `directory`."""
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "log4j.properties").write_text(LOG4J1)
    (directory / "log4j2.xml").write_text(LOG4J2)
    logging = (
        f"-Dlog4j.configuration=file:{directory}/log4j.properties",
        f"-Dlog4j2.configurationFile={directory}/log4j2.xml",
    )
    path = ("-cp", f"{jars(version)}/*")
    return ["java", f"-Xmx{heap}", *flags, *logging, *path, main, *arguments]


def launch(
    command: list[str], log: pathlib.Path, *, outlive: bool = False
) -> subprocess.Popen[bytes]:
    """Start a process that writes to `log` and, unless it may `outlive` this one, ends with it."""
    with open(log, "ab") as file:
        return subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=file,
            start_new_session=outlive,
            preexec_fn=None if outlive or sys.platform != "linux" else _end_with_parent,
        )


def _end(
    pids: list[int],
    children: list[subprocess.Popen[bytes]],
    first: signal.Signals = signal.SIGTERM,
) -> None:
    """The signal to each in turn, SIGKILL where that is not enough; waits until all are gone."""
    for pid in pids:
        _signal(pid, first)
        end = time.monotonic() + STOP_SECONDS
        while _alive(pid, children):
            if time.monotonic() > end:
                _signal(pid, signal.SIGKILL)
                end += STOP_SECONDS
            time.sleep(0.02)


def _signal(pid: int, number: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)


def _alive(pid: int, children: list[subprocess.Popen[bytes]]) -> bool:
    for child in children:
        if child.pid == pid:
            return child.poll() is None
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def default_directory() -> pathlib.Path:
    """Where `start` keeps data and process ids when no directory is given."""
    return pathlib.Path(tempfile.gettempdir()) / f"odradek-reference-{os.getuid()}"


def _start(arguments: argparse.Namespace) -> None:
    directory = pathlib.Path(arguments.dir or default_directory()).resolve()
    note = directory / "reference.json"
    if note.exists():
        raise NoReference(f"{directory} is in use; run `stop --dir {directory}` first.")
    settings = dict(pair.split("=", 1) for pair in arguments.set)
    kafka = Reference(
        arguments.version,
        directory=directory,
        port=arguments.port,
        settings=settings,
        outlive=not arguments.foreground,
    )
    try:
        kafka.launch()
        note.write_text(json.dumps({"pids": [p.pid for p in reversed(kafka.processes)]}))
        kafka.wait()
        print(f"ready: {kafka.address}", flush=True)
        if arguments.foreground:
            kafka.processes[-1].wait()
    except BaseException:
        kafka.close()
        note.unlink(missing_ok=True)
        raise
    if arguments.foreground:
        kafka.close()
        note.unlink()


def _stop(arguments: argparse.Namespace) -> None:
    note = pathlib.Path(arguments.dir or default_directory()) / "reference.json"
    if not note.exists():
        raise NoReference(f"Nothing was started in {note.parent}.")
    _end([int(pid) for pid in json.loads(note.read_text())["pids"]], [])
    note.unlink()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m compat.reference", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    commands = parser.add_subparsers(dest="command", required=True)
    start = commands.add_parser("start", help="start a broker and print its address")
    start.add_argument("version")
    start.add_argument("--dir")
    start.add_argument("--port", type=int, default=0)
    start.add_argument("--set", action="append", default=[], metavar="NAME=VALUE")
    start.add_argument("--foreground", action="store_true", help="stay until SIGTERM or SIGINT")
    stop = commands.add_parser("stop", help="end what `start` started")
    stop.add_argument("--dir")
    commands.add_parser("jars", help="fetch the jars, print their folder").add_argument("version")
    return parser


@contextlib.contextmanager
def ending_on_sigterm() -> Iterator[None]:
    """Turns SIGTERM into SystemExit, so that `with` blocks end their processes."""

    def leave(number: int, frame: FrameType | None) -> None:
        sys.exit(128 + number)

    before = signal.signal(signal.SIGTERM, leave)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def main() -> int:
    arguments = _parser().parse_args()
    try:
        with ending_on_sigterm():
            if arguments.command == "start":
                _start(arguments)
            elif arguments.command == "stop":
                _stop(arguments)
            else:
                print(jars(arguments.version))
    except NoReference as error:
        print(error, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
