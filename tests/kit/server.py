"""An Odradek process for tests: start, stop, kill -9 and restart on the same port, every step
bounded in time.

Waits are for events (a line on standard output, the end of the process), never for time. Processes
are ended by their own pid, and whatever is left when the interpreter exits is killed.
"""

import atexit
import os
import re
import signal
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import IO

REPOSITORY = Path(__file__).resolve().parents[2]
LOCALHOST = "127.0.0.1"
TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")
PAGE = os.sysconf("SC_PAGE_SIZE")

_running: weakref.WeakSet["Server"] = weakref.WeakSet()


class StartFailed(AssertionError):
    """The broker ended or stayed silent instead of becoming ready; the message carries the end of
    its log.
    """


class Server:
    """One broker process on `data_dir`. Standard output and error go to `<log>.out` and
    `<log>.err`.

    `port` 0 lets the broker choose at the first start; later starts ask for the same port again.
    It listens on `host`. `before` is put before its command line (`tests.kit.netns`).
    """

    def __init__(
        self,
        data_dir: Path | str,
        *,
        arguments: Sequence[str] = (),
        host: str = LOCALHOST,
        port: int = 0,
        before: Sequence[str] = (),
        log: Path | str | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self.data_dir = Path(data_dir)
        self.arguments = list(arguments)
        self.host = host
        self.port = port
        self.before = list(before)
        self.log = Path(log) if log is not None else self.data_dir.parent / self.data_dir.name
        self.environment = {**os.environ, "PYTHONUNBUFFERED": "1", **(environment or {})}
        self.process: subprocess.Popen[bytes] | None = None
        self.start_seconds = 0.0
        self._ready = threading.Event()
        self._reader: threading.Thread | None = None

    def __enter__(self) -> "Server":
        if self.process is None:
            self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    @property
    def pid(self) -> int:
        """Process id of the running broker."""
        assert self.process is not None, "the broker is not running"
        return self.process.pid

    @property
    def bootstrap(self) -> str:
        """`host:port` for clients."""
        return f"{self.host}:{self.port}"

    @property
    def running(self) -> bool:
        """Whether the process lives."""
        return self.process is not None and self.process.poll() is None

    def command(self) -> list[str]:
        """The command line of the next start."""
        where = ["--port", str(self.port), "--data-dir", str(self.data_dir)]
        if self.host != LOCALHOST:
            where += ["--host", self.host]
        return [*self.before, sys.executable, "-m", "broker", "start", *where, *self.arguments]

    def start(self, timeout: float = 30.0) -> float:
        """Start and wait for the ready line. Returns the seconds from exec to that line."""
        assert not self.running, "the broker already runs"
        self.log.parent.mkdir(parents=True, exist_ok=True)
        self._ready.clear()
        self.start_seconds = 0.0
        with open(f"{self.log}.err", "ab") as errors:
            began = time.monotonic()
            self.process = subprocess.Popen(
                self.command(),
                cwd=REPOSITORY,
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=errors,
            )
        _running.add(self)
        assert self.process.stdout is not None
        self._reader = threading.Thread(
            target=self._drain, args=(self.process.stdout, began), daemon=True
        )
        self._reader.start()
        if not self._ready.wait(timeout) or not self.start_seconds:
            # Standard output that ended without the line: the process is about to end, too.
            alive = not self._ready.is_set()
            self.kill()
            what = "did not become ready" if alive else "ended"
            raise StartFailed(f"the broker {what}:\n{self.log_text()[-4000:]}")
        return self.start_seconds

    def _drain(self, pipe: IO[bytes], began: float) -> None:
        """Copy standard output to its file and notice the ready line. Ends with the process."""
        address = re.compile(rf"{re.escape(self.host)}:(\d+)")
        with pipe, open(f"{self.log}.out", "ab", buffering=0) as copy:
            for line in pipe:
                if not self._ready.is_set():
                    found = address.search(line.decode("utf-8", "replace"))
                    if found is not None:
                        self.start_seconds = time.monotonic() - began
                        self.port = int(found.group(1))
                        self._ready.set()
                copy.write(line)
        self._ready.set()

    def stop(self, timeout: float = 20.0) -> int:
        """Ask for a graceful stop (SIGTERM); returns the exit status, raises when it takes longer
        than `timeout`.
        """
        if self.process is None:
            return 0
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        try:
            status = self.process.wait(timeout)
        except subprocess.TimeoutExpired:
            self.kill()
            raise AssertionError(f"the broker did not stop within {timeout} s") from None
        self._forget()
        return status

    def kill(self) -> None:
        """SIGKILL, and wait for the end of the process."""
        if self.process is None:
            return
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait(30)
        self._forget()

    def _forget(self) -> None:
        if self._reader is not None:
            self._reader.join(10)
        self.process = None
        self._reader = None
        _running.discard(self)

    def log_text(self) -> str:
        """Everything the broker printed so far, over all starts (standard output, then standard
        error).
        """
        parts = []
        for suffix in (".out", ".err"):
            try:
                parts.append(Path(f"{self.log}{suffix}").read_text("utf-8", "replace"))
            except FileNotFoundError:
                continue
        return "".join(parts)

    def rss_bytes(self) -> int:
        """Resident memory."""
        return process_rss(self.pid)

    def cpu_seconds(self) -> float:
        """User plus system time so far, in steps of a clock tick (10 ms)."""
        return process_cpu(self.pid)


def process_rss(pid: int) -> int:
    """Resident memory of a process in bytes, from /proc."""
    with open(f"/proc/{pid}/statm") as file:
        return int(file.read().split()[1]) * PAGE


def process_cpu(pid: int) -> float:
    """User plus system seconds of a process, from /proc; threads included."""
    with open(f"/proc/{pid}/stat") as file:
        fields = file.read().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS_PER_SECOND


@atexit.register
def _kill_the_rest() -> None:
    for server in list(_running):
        server.kill()
