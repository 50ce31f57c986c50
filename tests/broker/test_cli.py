"""The command line: what it asks for, and how it refuses."""

import argparse
import os
import subprocess
import sys
import types
from pathlib import Path
from typing import Any

import pytest

from broker import cli
from broker.config import BrokerConfig, ConfigError, TopicSpec
from storage.config import LogConfig

REPOSITORY = Path(__file__).parents[2]


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[tuple[BrokerConfig, bool, list[TopicSpec]]]:
    """What the server would have been run with, broker by broker; the server is left out."""
    calls: list[tuple[BrokerConfig, bool, list[TopicSpec]]] = []

    def run(configs: list[BrokerConfig], *, memory: bool, topics: list[TopicSpec]) -> int:
        calls.extend((config, memory, topics) for config in configs)
        return 0

    server = types.ModuleType("broker.server")
    server.run = run  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "broker.server", server)
    monkeypatch.setattr("broker.logging_setup.configure", lambda: None)
    return calls


def test_start_without_anything(started: Any) -> None:
    assert cli.main(["start"]) == 0
    ((config, memory, topics),) = started
    assert str(config.listeners[0]) == "PLAINTEXT://127.0.0.1:9092"
    assert config.log_dirs == (str(Path("odradek-data").absolute()),)
    assert config.group_initial_rebalance_delay_ms == 0
    assert (memory, topics) == (False, [])


def test_start_with_everything(started: Any, tmp_path: Path) -> None:
    path = tmp_path / "server.properties"
    path.write_text(
        "num.partitions=2\nlog.dirs=/from-file\nmessage.max.bytes=9\n"
        "listeners=SSL://h:1\nadvertised.listeners=SSL://x:2\nsecurity.inter.broker.protocol=SSL\n"
    )
    arguments = f"start {path} --port 0 --host ::1 --data-dir {tmp_path} --set message.max.bytes=10"
    topic = "a.b:3:retention.ms=5:cleanup.policy=compact,delete"
    assert cli.main([*arguments.split(), "--topic", topic, "--topic", "c:1"]) == 0
    ((config, memory, topics),) = started
    assert (config.num_partitions, config.message_max_bytes) == (2, 10)
    assert config.log_dirs == (str(tmp_path),)
    assert [str(e) for e in config.advertised_listeners] == ["PLAINTEXT://[::1]:0"]
    assert config.group_initial_rebalance_delay_ms == 3000
    assert topics == [
        TopicSpec("a.b", 3, {"retention.ms": "5", "cleanup.policy": "compact,delete"}),
        TopicSpec("c", 1, {}),
    ]
    assert memory is False


def test_every_interface(started: Any) -> None:
    assert cli.main(["start", "--host", "0.0.0.0", "--memory"]) == 0
    ((config, memory, _),) = started
    assert config.listeners[0].host == ""
    assert config.advertised_listeners[0].host
    assert memory is True


def test_own_settings_before_the_ready_made_ones(started: Any) -> None:
    given = ["log.dir=/x", "group.initial.rebalance.delay.ms=7", " num.partitions =3"]
    assert cli.main(["start", *(f"--set={text}" for text in given)]) == 0
    ((config, _, _),) = started
    assert config.log_dirs == ("/x",)
    assert config.group_initial_rebalance_delay_ms == 7
    assert config.num_partitions == 3


def test_a_value_with_a_colon() -> None:
    text = "t:1:leader.replication.throttled.replicas=0:1,1:1:retention.ms=5"
    assert cli.parse_topic(text, LogConfig()).configs == {
        "leader.replication.throttled.replicas": "0:1,1:1",
        "retention.ms": "5",
    }


def test_topics_are_checked_over_the_brokers_settings() -> None:
    base = LogConfig.from_strings({"max.compaction.lag.ms": "3"})
    with pytest.raises(ConfigError, match=r"max\.compaction\.lag\.ms"):
        cli.parse_topic("t:1:min.compaction.lag.ms=9", base)


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        ([], "No command is given"),
        (["strat"], "invalid choice: 'strat'"),
        (["start", "--bogus"], "Unrecognized arguments: --bogus"),
        (["start", "--dat", "x"], "Unrecognized arguments"),
        (["start", "a", "b"], "Unrecognized arguments: b"),
        (["start", "--port"], "expected one argument"),
        (["start", "--port", "x"], "--port x is not a port"),
        (["start", "--port", "65536"], "is not a port"),
        (["start", "--port", "-1"], "--port"),
        (["start", "--host", "a b"], "not of the form"),
        (["start", "no-such-file"], "Cannot read no-such-file: No such file"),
        (["start", "--set", "x"], "not of the form name=value"),
        (["start", "--set", "=x"], "not of the form name=value"),
        (["start", "--set", "num.partitions=0"], "num.partitions=0 must be at least 1"),
        (["start", "--memory", "--data-dir", "x"], "Only one of --memory and --data-dir"),
        (["start", "--data-dir", ""], "must name one directory"),
        (["start", "--data-dir", "a,b"], "must name one directory"),
        (["start", "--topic", "t"], "NAME:PARTITIONS"),
        (["start", "--topic", "t:0"], "has '0' where the partitions"),
        (["start", "--topic", "t:x"], "has 'x' where the partitions"),
        (["start", "--topic", "a b:1"], "no usable name"),
        (["start", "--topic", ":1"], "no usable name"),
        (["start", "--topic", "t:1:x"], "has 'x' where a key=value belongs"),
        (["start", "--topic", "t:1:x=1"], "Unknown topic config name: x"),
        (
            ["start", "--topic", "t:1:retention.ms=x"],
            "Invalid value x for configuration retention.ms: Value must be a number",
        ),
        (["start", "--topic", "t:1", "--topic", "t:2"], "names t twice"),
        (["start", "--set", "listeners=SSL://h:1"], "not among the advertised"),
    ],
)
def test_mistakes_are_one_sentence(
    arguments: list[str], part: str, started: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(arguments) == 1
    told = capsys.readouterr()
    assert told.out == ""
    assert told.err.startswith("odradek: ")
    assert told.err.count("\n") == 1
    assert part in told.err
    assert started == []


def test_help(capsys: pytest.CaptureFixture[str]) -> None:
    for arguments in (["--help"], ["start", "--help"]):
        with pytest.raises(SystemExit) as ended:
            cli.main(arguments)
        assert ended.value.code == 0
    told = capsys.readouterr().out
    for word in ("start", "version", "dump-log", "--data-dir", "--port", "--memory", "--topic"):
        assert word in told


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["version"]) == 0
    assert capsys.readouterr().out.startswith("odradek ")


def test_dump_log_passes_everything_on(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    dump = types.ModuleType("storage.dump")
    dump.dump = lambda arguments, out: out.write(" ".join(arguments)) and 7  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "storage.dump", dump)
    assert cli.main(["dump-log", "--print-data-log", "00.log"]) == 7
    assert capsys.readouterr().out == "--print-data-log 00.log"
    assert cli.main(["dump-log"]) == 1
    assert cli.main(["dump-log", "--help"]) == 0


def test_notes_are_logged(started: Any, caplog: pytest.LogCaptureFixture) -> None:
    assert cli.main(["start", "--set", "no.such=1"]) == 0
    assert "settings without meaning here: no.such" in caplog.text
    assert len(started) == 1


def test_the_server_is_imported_last() -> None:
    """A mistake is answered without the cost of a start."""
    code = (
        "import sys; from broker.cli import main\n"
        "main(['start', '--port', 'x']); print(*sys.modules)"
    )
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=True
    )
    loaded = set(done.stdout.split())
    assert not loaded & {
        "asyncio",
        "broker.server",
        "broker.logging_setup",
        "sqlite3",
        "dataclasses",
    }
    assert "broker.config" in loaded


def test_the_module_is_the_command() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "broker", "start", "--port", "x"],
        capture_output=True,
        text=True,
        cwd=REPOSITORY,
    )
    assert done.returncode == 1
    assert done.stderr == "odradek: --port x is not a port: a number from 0 to 65535.\n"


def test_options_are_what_configuration_reads() -> None:
    options = argparse.Namespace(
        properties=None,
        set=["log.dirs=/a,/b"],
        host=None,
        port=None,
        data_dir=None,
        memory=False,
        brokers=None,
    )
    (config,) = cli.configurations(options)
    assert config.log_dirs == ("/a", "/b")


def test_several_brokers_have_ports_and_directories_of_their_own(started: Any) -> None:
    arguments = "start --brokers 3 --port 9192 --data-dir /d --set offsets.topic.num.partitions=7"
    assert cli.main([*arguments.split(), "--topic", "t:4"]) == 0
    configs = [config for config, _, _ in started]
    assert [c.broker_id for c in configs] == [0, 1, 2]
    assert [str(c.advertised_listeners[0]) for c in configs] == [
        f"PLAINTEXT://127.0.0.1:{port}" for port in (9192, 9193, 9194)
    ]
    assert [c.log_dirs for c in configs] == [(f"/d/broker-{i}",) for i in range(3)]
    for config in configs:
        assert config.offsets_topic_num_partitions == 7
        assert config.offsets_topic_replication_factor == 3
        assert config.transaction_state_log_min_isr == 2
    assert all(topics == [TopicSpec("t", 4, {})] for _, _, topics in started)


def test_two_brokers_keep_two_replicas_of_what_is_internal(started: Any) -> None:
    listeners = "listeners=A://:0,B://h:7"
    protocols = "listener.security.protocol.map=A:PLAINTEXT,B:PLAINTEXT"
    told = "advertised.listeners=A://a:5,B://b:6"
    given = ["broker.id=4", listeners, protocols, told, "inter.broker.listener.name=A"]
    settings = [f"--set={text}" for text in [*given, "log.dirs=/a,/b"]]
    assert cli.main(["start", "--brokers", "2", *settings]) == 0
    second = started[1][0]
    assert second.broker_id == 5
    assert [str(e) for e in second.listeners] == ["A://:0", "B://h:8"]
    assert [str(e) for e in second.advertised_listeners] == ["A://a:6", "B://b:7"]
    assert second.log_dirs == ("/a/broker-5", "/b/broker-5")
    assert second.offsets_topic_replication_factor == 2


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ("--brokers 0", "--brokers 0 is not a number from 1 to 100."),
        ("--brokers x", "--brokers x is not a number from 1 to 100."),
        (
            "--brokers 2 --set zookeeper.connect=h:1",
            "--brokers starts brokers over an embedded store: with zookeeper.connect each broker "
            "is a process of its own.",
        ),
        ("--brokers 2 --set broker.id=a", "broker.id is a, which is not a number."),
    ],
)
def test_several_brokers_refused(
    arguments: str, sentence: str, started: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["start", *arguments.split()]) == 1
    assert capsys.readouterr().err == f"odradek: {sentence}\n"
