"""A private network for tests: nodes with addresses of their own, between which packets can be
dropped, one way or both, without root.

`call` runs a command in network and mount namespaces of its own (and a user namespace, for who is
not root). There `Network` gives every node a network namespace, joined by a router, which is
the namespace of the test and of its clients. A cut is a rule of the router's that discards packets
by source and destination: whoever sends them learns nothing, as with a cable that is broken.
"""

import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

MARK = "ODRADEK_PRIVATE_NETWORK"
TOOLS = ("ip", "mount", "nsenter", "unshare")
_IN_NAMESPACE = ["unshare", "--net", "--mount"]


def lacking() -> str | None:
    """One sentence on what this machine lacks for a private network, or None."""
    missing = [tool for tool in TOOLS if shutil.which(tool) is None]
    if missing:
        return f"a private network needs {', '.join(missing)} (Debian: iproute2, util-linux)"
    probe = "mount -t tmpfs none /run && ip netns add probe && ip rule add to 10.0.0.1 blackhole"
    done = subprocess.run(
        [*_unshare(), "sh", "-c", probe], capture_output=True, text=True, check=False
    )
    if done.returncode:
        return f"this machine does not let us have a private network: {done.stderr.strip()}"
    return None


def _unshare() -> list[str]:
    return _IN_NAMESPACE if os.geteuid() == 0 else [*_IN_NAMESPACE, "--map-root-user"]


def inside() -> bool:
    """Whether this process has namespaces of its own."""
    return MARK in os.environ


def call(module: str, arguments: Sequence[str]) -> int:
    """Run `python -m module` in namespaces of its own; its exit status."""
    command = [*_unshare(), sys.executable, "-m", module, *arguments]
    return subprocess.run(command, env={**os.environ, MARK: "yes"}, check=False).returncode


class Network:
    """Nodes named `names`; made once in what `call` runs."""

    def __init__(self, names: Sequence[str]) -> None:
        assert inside(), "not in a namespace of its own"
        self._numbers = {name: number for number, name in enumerate(names, 1)}
        self._dropped: set[tuple[str, str]] = set()
        _do("mount", "-t", "tmpfs", "none", "/run")
        _do("ip", "link", "set", "lo", "up")
        Path("/proc/sys/net/ipv4/ip_forward").write_text("1")
        for name, number in self._numbers.items():
            self._add(name, f"10.77.{number}.1", f"to-{number}")

    def _add(self, name: str, router: str, link: str) -> None:
        _do("ip", "netns", "add", name)
        _do("ip", "link", "add", link, "type", "veth", "peer", "name", "eth0", "netns", name)
        _do("ip", "address", "add", f"{router}/24", "dev", link)
        _do("ip", "link", "set", link, "up")
        inside = ("ip", "-n", name)
        _do(*inside, "address", "add", f"{self.address(name)}/24", "dev", "eth0")
        _do(*inside, "link", "set", "lo", "up")
        _do(*inside, "link", "set", "eth0", "up")
        _do(*inside, "route", "add", "default", "via", router)

    def address(self, name: str) -> str:
        """A node's address."""
        return f"10.77.{self._numbers[name]}.2"

    def at(self, name: str) -> list[str]:
        """What to put before a command so that it runs at a node."""
        return ["nsenter", f"--net=/run/netns/{name}"]

    def drop(self, source: str, target: str) -> None:
        """Discard from now on what one node sends to another."""
        if (source, target) not in self._dropped:
            self._dropped.add((source, target))
            _do("ip", "rule", "add", *self._rule(source, target))

    def cut(self, one: str, other: str) -> None:
        """Discard what two nodes send to each other."""
        self.drop(one, other)
        self.drop(other, one)

    def heal(self) -> None:
        """Discard nothing any more."""
        for source, target in self._dropped:
            _do("ip", "rule", "delete", *self._rule(source, target))
        self._dropped.clear()

    def _rule(self, source: str, target: str) -> list[str]:
        return ["from", self.address(source), "to", self.address(target), "blackhole"]


def _do(*command: str) -> None:
    subprocess.run(command, check=True, stdin=subprocess.DEVNULL)
