"""One broker of Apache Kafka in ZooKeeper mode, in a cluster it may share with others.

`Member` has what tests.kit.server.Server has, so that a broker of either kind can stand in a test's
cluster, and one kind can take over from the other: same id, port and data directory.
`run_tool` runs a command-line tool of Apache Kafka.
"""

import os
import pathlib
import signal
import subprocess
import time
from collections.abc import Mapping

from compat.reference import (
    START_SECONDS,
    NoReference,
    answers_api_versions,
    free_ports,
    java_command,
    launch,
)

TOOL_SECONDS = 120.0
STOP_SECONDS = 60.0


class Member:
    """A broker on `data_dir` that registers at the ZooKeeper of `settings["zookeeper.connect"]`.

    What it is configured with and what it prints is beside the data, in `<data_dir>.kafka`.
    """

    def __init__(
        self,
        version: str,
        data_dir: pathlib.Path,
        settings: Mapping[str, str],
        *,
        port: int = 0,
    ) -> None:
        """`settings` needs broker.id and zookeeper.connect."""
        self.version = version
        self.data_dir = data_dir
        self.settings = dict(settings)
        self.port = port or free_ports(1)[0]
        self.directory = data_dir.parent / f"{data_dir.name}.kafka"
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def bootstrap(self) -> str:
        """`host:port` for clients."""
        return f"127.0.0.1:{self.port}"

    @property
    def running(self) -> bool:
        """Whether the process lives."""
        return self.process is not None and self.process.poll() is None

    def launch(self) -> None:
        """Start the process and return at once."""
        assert not self.running, "the broker already runs"
        conf = self.directory / "broker.properties"
        main = ("kafka.Kafka", str(conf))
        command = java_command(self.version, self.directory, *main, heap="512m")
        given = {
            "listeners": f"PLAINTEXT://127.0.0.1:{self.port}",
            "log.dirs": str(self.data_dir),
            **self.settings,
        }
        conf.write_text("".join(f"{name}={value}\n" for name, value in given.items()))
        self.process = launch(command, self.directory / "broker.log")

    def wait(self, timeout: float = START_SECONDS) -> None:
        """Until it answers. Raises NoReference when it ends or stays silent."""
        end = time.monotonic() + timeout
        while not answers_api_versions(self.port):
            if not self.running or time.monotonic() > end:
                told = self.log_text()[-3000:]
                raise NoReference(f"Apache Kafka {self.version} did not start: {told}")
            time.sleep(0.05)

    def start(self, timeout: float = START_SECONDS) -> float:
        """Start and wait until it answers; the seconds that took."""
        began = time.monotonic()
        self.launch()
        self.wait(timeout)
        return time.monotonic() - began

    def stop(self, timeout: float = STOP_SECONDS) -> int:
        """SIGTERM, which is a controlled shutdown, and wait for the end; the exit status."""
        return self._end(signal.SIGTERM, timeout)

    def kill(self) -> None:
        """SIGKILL, and wait for the end."""
        self._end(signal.SIGKILL, STOP_SECONDS)

    def log_text(self) -> str:
        """What it printed so far."""
        try:
            return (self.directory / "broker.log").read_text("utf-8", "replace")
        except FileNotFoundError:
            return ""

    def _end(self, number: signal.Signals, timeout: float) -> int:
        process, self.process = self.process, None
        if process is None:
            return 0
        if process.poll() is None:
            process.send_signal(number)
        try:
            return process.wait(timeout)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            raise AssertionError(f"Apache Kafka did not stop within {timeout} s") from None


def run_tool(
    version: str, directory: pathlib.Path, main: str, *arguments: str | os.PathLike[str]
) -> str:
    """Run a tool by its main class; what it printed. Raises AssertionError when it fails."""
    command = java_command(version, directory, main, *map(str, arguments))
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=TOOL_SECONDS, check=False
    )
    assert done.returncode == 0, f"{main} {arguments}:\n{done.stdout}\n{done.stderr}"
    return done.stdout
