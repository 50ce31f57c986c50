"""Three Odradek brokers on one ZooKeeper against recorded answers of three of Apache Kafka, and
what the scenarios are played with.
"""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from kazoo.client import KazooClient

from compat.cluster.place import session_password
from compat.cluster.script import ClusterAliases, changes
from tests.kit import zookeeper

ROOT = Path(__file__).parents[2]


@pytest.mark.timeout(300)
@pytest.mark.skipif(zookeeper.lacking() is not None, reason=str(zookeeper.lacking()))
def test_recorded_answers() -> None:
    command = [sys.executable, "-m", "compat.differential", "--cluster", "--recorded"]
    done = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, timeout=280, check=False
    )
    assert done.returncode == 0, done.stdout[-8000:] + done.stderr[-4000:]
    assert " 0 unexplained" in done.stdout


def test_the_password_of_a_session_follows_from_its_id() -> None:
    server = zookeeper.standalone()
    client = KazooClient(server.address)
    client.start()
    try:
        session_id, password = client.client_id
        assert session_password(session_id) == password
    finally:
        client.stop()
        client.close()


def node(data: Any = None, version: int = 0, cversion: int = 0) -> dict[str, Any]:
    return {"data": data, "version": version, "cversion": cversion, "ephemeral": False}


def test_changes_of_a_tree() -> None:
    before = {
        "/a": node("x", 3, 7),
        "/config/changes/config_change_0000000004": node("old"),
        "/gone": node(),
        "/same": node("s", 9, 9),
    }
    after = {
        "/a": node("y", 5, 8),
        "/a/new": node({"k": 1}),
        "/config/changes/config_change_0000000004": node("old"),
        "/config/changes/config_change_0000000005": node("one"),
        "/config/changes/config_change_0000000006": node("two"),
        "/same": node("s", 9, 9),
    }
    assert changes(before, after) == {
        "/a": {"data": "y", "version": "+2", "cversion": "+1"},
        "/a/new": node({"k": 1}),
        "/config/changes/config_change_<1>": node("one"),
        "/config/changes/config_change_<2>": node("two"),
        "/gone": "gone",
    }
    assert changes(after, after) == {}
    assert changes({}, before).keys() >= {"/a", "/gone", "/same"}


def test_ports_of_all_brokers_are_symbols() -> None:
    aliases = ClusterAliases({0: 5000, 1: 5001})
    for each in (aliases, aliases.copy()):
        told = [each.address(value) for value in ("127.0.0.1", 5000, 5001, 5002, "elsewhere")]
        assert told == ["<host>", "<port of 0>", "<port of 1>", 5002, "elsewhere"]
