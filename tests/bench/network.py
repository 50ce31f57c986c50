"""A private network namespace with reno on its loopback, where the machine lets us have one.

The default congestion control of some machines (bbr) paces loopback and takes most of the CPU of a
fetch itself; in a namespace of its own the benchmark can choose another for both sides.
"""

import fcntl
import os
import shutil
import socket
import struct
import sys

MARK = "ODRADEK_BENCH_NAMESPACE"
CHOICE = "/proc/sys/net/ipv4/tcp_congestion_control"
SIOCGIFFLAGS, SIOCSIFFLAGS, IFF_UP = 0x8913, 0x8914, 1


def enter(module: str, arguments: list[str]) -> None:
    """Start this command (`python -m module`) again inside a new namespace; returns only when that
    is not possible.

    Without root a user namespace is tried. Set ODRADEK_BENCH_NAMESPACE=no to stay outside.
    """
    if MARK in os.environ or not sys.platform.startswith("linux"):
        return
    unshare = shutil.which("unshare")
    if unshare is None:
        return
    options = ["-n"] if os.geteuid() == 0 else ["-r", "-n"]
    if os.spawnv(os.P_WAIT, unshare, [unshare, *options, "true"]) != 0:
        return
    os.environ[MARK] = "yes"
    command = [unshare, *options, sys.executable, "-m", module, *arguments]
    os.execv(unshare, command)


def prepare() -> str:
    """Bring loopback up and choose reno inside the namespace; says what network is used."""
    if os.environ.get(MARK) != "yes":
        return f"the machine's loopback, {_algorithm()} (reno on the load generator's side)"
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        request = struct.pack("16sh22x", b"lo", 0)
        answer = fcntl.ioctl(any_socket, SIOCGIFFLAGS, request)
        flags = struct.unpack("16sh22x", answer)[1] | IFF_UP
        fcntl.ioctl(any_socket, SIOCSIFFLAGS, struct.pack("16sh22x", b"lo", flags))
    try:
        with open(CHOICE, "w") as file:
            file.write("reno")
    except OSError:
        pass
    return f"a private network namespace, {_algorithm()} on both sides"


def choose_reno(connection: socket.socket) -> None:
    """Use reno for what this side sends, where the kernel allows it."""
    option = getattr(socket, "TCP_CONGESTION", None)
    if option is None:
        return
    try:
        connection.setsockopt(socket.IPPROTO_TCP, option, b"reno")
    except OSError:
        pass


def _algorithm() -> str:
    try:
        with open(CHOICE) as file:
            return file.read().strip()
    except OSError:
        return "default congestion control"
