"""Installs the pinned clients and runs their scripts.

A script prints one line a feature: ``ok <feature>``, ``missing <feature>: <why>`` (the client
cannot do it) or ``FAILED <feature>: <error>``, and ends with status 1 when anything failed.
"""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).resolve().parent
KAFKAJS = HERE.parent / "kafkajs"
INSTALL_SECONDS = 300.0
RUN_SECONDS = 180.0
PYTHON_HELP = ("six==1.17.0", "python-snappy==0.7.3", "lz4==4.4.5", "xxhash==3.6.0")


class NotInstallable(Exception):
    """The registry or the tool that fetches the client cannot be reached; the text says which."""


@dataclass(frozen=True, slots=True)
class Client:
    """A pinned client: what to install and which script to run."""

    name: str
    language: str
    packages: tuple[str, ...]
    script: Path


CLIENTS = (
    Client(
        "kafka-python-1.4.7",
        "python",
        ("kafka-python==1.4.7", *PYTHON_HELP),
        HERE / "old_kafka_python.py",
    ),
    Client(
        "kafka-python-2.0.2",
        "python",
        ("kafka-python==2.0.2", *PYTHON_HELP, "zstandard==0.25.0"),
        HERE / "old_kafka_python.py",
    ),
    Client("kafkajs", "node", (), KAFKAJS / "run.js"),
)


def cache() -> Path:
    """Where clients are installed."""
    chosen = os.environ.get("ODRADEK_CACHE")
    return Path(chosen) if chosen else Path.home() / ".cache" / "odradek"


def install(client: Client) -> Path:
    """The folder that holds the client, filled at the first call. Raises `NotInstallable`."""
    kind = _python_folder if client.language == "python" else _node_folder
    return kind(client)


def _python_folder(client: Client) -> Path:
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    folder = cache() / "clients" / f"{client.name}-py{version}"
    with _filling(folder) as fresh:
        if fresh is not None:
            pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-input"]
            _fetch([*pip, "--target", str(fresh), *client.packages], fresh.parent)
    return folder


def _node_folder(client: Client) -> Path:
    if shutil.which("node") is None or shutil.which("npm") is None:
        raise NotInstallable("node and npm are not installed")
    folder = cache() / "clients" / "kafkajs"
    wanted = (KAFKAJS / "package.json").read_bytes()
    present = folder / "package.json"
    if folder.exists() and present.read_bytes() != wanted:
        shutil.rmtree(folder)
    with _filling(folder) as fresh:
        if fresh is not None:
            for file in ("package.json", "package-lock.json"):
                shutil.copy(KAFKAJS / file, fresh / file)
            _fetch(["npm", "ci", "--no-audit", "--no-fund", "--ignore-scripts"], fresh)
    return folder


@contextmanager
def _filling(folder: Path) -> Iterator[Path | None]:
    """A folder to fill that becomes `folder` when the block ends well; None when it is there
    already.
    """
    if folder.exists():
        yield None
        return
    fresh = folder.with_name(f"{folder.name}.{os.getpid()}")
    fresh.mkdir(parents=True)
    try:
        yield fresh
        fresh.rename(folder)
    finally:
        shutil.rmtree(fresh, ignore_errors=True)


def _fetch(command: list[str], folder: Path) -> None:
    try:
        done = subprocess.run(
            command, cwd=folder, capture_output=True, timeout=INSTALL_SECONDS, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise NotInstallable(f"{command[0]}: {error}") from error
    if done.returncode:
        raise NotInstallable(done.stderr.decode("utf-8", "replace")[-2000:])


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a script said."""

    client: str
    status: int
    text: str

    def features(self) -> dict[str, str]:
        """Feature -> ok, missing: why, or FAILED: error."""
        found = {}
        for line in self.text.splitlines():
            word, _, rest = line.partition(" ")
            if word in ("ok", "missing", "FAILED"):
                feature, _, why = rest.partition(": ")
                found[feature] = f"{word}: {why}" if why else word
        return found


def run(client: Client, bootstrap: str) -> Outcome:
    """Install where needed and run the client's script against `bootstrap`. Raises
    `NotInstallable`.
    """
    folder = install(client)
    if client.language == "python":
        # -S: nothing of the environment that runs this, the pinned folder alone
        command = [sys.executable, "-S", str(client.script), bootstrap]
        environment = {**os.environ, "PYTHONPATH": str(folder)}
    else:
        command = ["node", str(client.script), bootstrap]
        environment = {**os.environ, "NODE_PATH": str(folder / "node_modules")}
    try:
        done = subprocess.run(
            command,
            env=environment,
            cwd=folder,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=RUN_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        text = (error.stdout or b"").decode("utf-8", "replace")
        return Outcome(client.name, 1, f"{text}\nFAILED script: no end within {RUN_SECONDS} s\n")
    return Outcome(client.name, done.returncode, done.stdout.decode("utf-8", "replace"))
