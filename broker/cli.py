"""The command line: `odradek start`, `odradek version`, `odradek dump-log`.

Everything is read and checked before the server is imported, so that a mistake is answered at once:
one sentence on standard error, exit status 1.
"""

import argparse
import gc
import sys
from collections.abc import Sequence
from typing import NoReturn

from broker.config import (
    DEFAULT_PORT,
    READY_MADE,
    BrokerConfig,
    ConfigError,
    TopicSpec,
    check_served,
    read_file,
)
from storage.config import LogConfig
from storage.settings import SettingError

PROGRAM = "odradek"
LOCALHOST = "127.0.0.1"
MOST_BROKERS = 100
EVERYWHERE = ("0.0.0.0", "::", "*")

_DESCRIPTION = "A broker that Kafka clients connect to unchanged."
_START = """\
Start a broker and serve until SIGTERM or Ctrl-C.

Settings have Apache Kafka's names. Of a setting given twice the last of these holds: its default,
the property file, --set, then --host, --port and --data-dir. Without a property file the broker
listens on 127.0.0.1:9092 and keeps its data in ./odradek-data.
"""
_EXAMPLES = """\
examples:
  odradek start
  odradek start --port 9192 --data-dir /var/lib/odradek --topic orders:6:retention.ms=3600000
  odradek start server.properties --set num.partitions=3
  odradek start --memory --port 0
  odradek start --brokers 3
"""


class _Parser(argparse.ArgumentParser):
    """Tells a mistake in one sentence."""

    def error(self, message: str) -> NoReturn:
        raise ConfigError(f"{message[:1].upper()}{message[1:]}; see {self.prog} --help.")


def _parser() -> _Parser:
    parser = _Parser(prog=PROGRAM, description=_DESCRIPTION, allow_abbrev=False)
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", title="commands")
    start = commands.add_parser(
        "start",
        help="start a broker",
        description=_START,
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    start.add_argument(
        "properties",
        nargs="?",
        metavar="server.properties",
        help="a property file as Apache Kafka has it",
    )
    start.add_argument("--data-dir", metavar="DIR", help="where the logs are kept (log.dirs)")
    start.add_argument("--host", help="address to listen on; 0.0.0.0 means every one")
    start.add_argument("--port", help=f"port to listen on ({DEFAULT_PORT}); 0 takes a free one")
    start.add_argument(
        "--memory", action="store_true", help="keep everything in memory, lost at the end"
    )
    start.add_argument(
        "--brokers",
        metavar="N",
        help="so many brokers in this one process, on as many ports from the given one on",
    )
    start.add_argument(
        "--topic",
        action="append",
        default=[],
        metavar="NAME:PARTITIONS[:key=value...]",
        help="a topic that exists when the port answers; repeatable",
    )
    start.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="name=value",
        help="one setting; repeatable",
    )
    commands.add_parser("version", help="print the version")
    commands.add_parser(
        "dump-log",
        add_help=False,
        help="print and verify segments, indexes, snapshots and checkpoints",
    )
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit status."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    try:
        return _run(arguments)
    except ConfigError as error:
        print(f"{PROGRAM}: {error}", file=sys.stderr)
        return 1
    except BrokenPipeError:
        # The reader of our output went away (`odradek dump-log ... | head`).
        sys.stderr.close()
        return 1


def _run(arguments: list[str]) -> int:
    if arguments[:1] == ["dump-log"]:
        return _dump_log(arguments[1:])
    options = _parser().parse_args(arguments)
    if options.command is None:
        raise ConfigError(f"No command is given; see {PROGRAM} --help.")
    if options.command == "version":
        print(f"{PROGRAM} {version()}")
        return 0
    configs = configurations(options)
    topics = [parse_topic(text, configs[0].log_config) for text in options.topic]
    _check_names(topics)
    return _start(configs, topics, memory=options.memory)


def version() -> str:
    """Version of the installed distribution."""
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("odradek")
    except PackageNotFoundError:
        return "(not installed)"


def _dump_log(arguments: list[str]) -> int:
    if not arguments or arguments[0] in ("-h", "--help"):
        print(f"usage: {PROGRAM} dump-log [OPTION]... FILE...")
        print("Prints and verifies files of a partition's directory. Options are those of Kafka's")
        print("tool: --print-data-log --deep-iteration --skip-record-metadata")
        print("--verify-index-only --index-sanity-check")
        return 0 if arguments else 1
    from storage.dump import dump

    return dump(arguments, sys.stdout)


def _start(configs: list[BrokerConfig], topics: list[TopicSpec], *, memory: bool) -> int:
    notes = check_served(configs[0])
    from broker import logging_setup

    logging_setup.configure()
    if notes:
        import logging

        log = logging.getLogger("odradek.config")
        for note in notes:
            log.warning("%s", note)
    gc.disable()  # what is imported stays; `run` enables it again
    from broker.server import run

    return run(configs, memory=memory, topics=topics)


def configurations(options: argparse.Namespace) -> list[BrokerConfig]:
    """The settings that the command line asks for, of each broker. Raises ConfigError."""
    given = _given(options)
    count = options.brokers
    if count is None or count == "1":
        return [BrokerConfig(given)]
    if not (count.isascii() and count.isdigit() and 0 < int(count) <= MOST_BROKERS):
        raise ConfigError(f"--brokers {count} is not a number from 1 to {MOST_BROKERS}.")
    from broker.several import settings_of_each

    return [BrokerConfig(own) for own in settings_of_each(given, int(count))]


def _given(options: argparse.Namespace) -> dict[str, str]:
    given: dict[str, str] = {}
    if options.properties is not None:
        given.update(read_file(options.properties))
    for text in options.set:
        name, equals, value = text.partition("=")
        if not equals or not name.strip():
            raise ConfigError(f"--set {text} is not of the form name=value.")
        given[name.strip()] = value
    _apply_listener(options, given)
    _apply_data_dir(options, given)
    if options.properties is None:
        for name, value in READY_MADE.items():
            if name != "log.dirs" or "log.dir" not in given:
                given.setdefault(name, value)
    return given


def _apply_listener(options: argparse.Namespace, given: dict[str, str]) -> None:
    if options.host is None and options.port is None:
        return
    port = str(DEFAULT_PORT) if options.port is None else options.port
    if not (port.isascii() and port.isdigit() and int(port) <= 65535):
        raise ConfigError(f"--port {port} is not a port: a number from 0 to 65535.")
    host = LOCALHOST if options.host is None else options.host
    if host in EVERYWHERE:
        host = ""  # advertised by the name of this machine
    elif ":" in host and not host.startswith("["):
        host = f"[{host}]"
    given["listeners"] = f"PLAINTEXT://{host}:{port}"
    # What a file says of other listeners cannot hold any more.
    for name in (
        "advertised.listeners",
        "inter.broker.listener.name",
        "security.inter.broker.protocol",
        "control.plane.listener.name",
    ):
        given.pop(name, None)
    if "listener.security.protocol.map" in given:
        given["listener.security.protocol.map"] = "PLAINTEXT:PLAINTEXT"


def _apply_data_dir(options: argparse.Namespace, given: dict[str, str]) -> None:
    if options.data_dir is None:
        return
    if options.memory:
        raise ConfigError("Only one of --memory and --data-dir may be given.")
    if not options.data_dir.strip() or "," in options.data_dir:
        raise ConfigError("--data-dir must name one directory, without a comma.")
    given["log.dirs"] = options.data_dir


def parse_topic(text: str, base: LogConfig) -> TopicSpec:
    """NAME:PARTITIONS[:key=value...]. Raises ConfigError."""
    name, *rest = text.split(":")
    if not rest:
        raise ConfigError(f"--topic {text} is not of the form NAME:PARTITIONS[:key=value...].")
    partitions = rest[0]
    if not (partitions.isascii() and partitions.isdigit() and 0 < int(partitions) < 1 << 31):
        raise ConfigError(f"--topic {text} has {partitions!r} where the partitions are counted.")
    configs = _topic_configs(text, rest[1:])
    from broker.controller.topics import name_error

    wrong = name_error(name)
    if wrong is not None:
        raise ConfigError(f"--topic {text} has no usable name: {wrong}.")
    try:
        LogConfig.from_strings(configs, base)
    except SettingError as error:
        raise ConfigError(f"--topic {text} cannot be: {error}.") from None
    return TopicSpec(name, int(partitions), configs)


def _topic_configs(text: str, parts: Sequence[str]) -> dict[str, str]:
    configs: dict[str, str] = {}
    last: str | None = None
    for part in parts:
        key, equals, value = part.partition("=")
        if equals:
            last = key.strip()
            configs[last] = value
        elif last is not None:
            # The value itself has a colon (leader.replication.throttled.replicas=0:1).
            configs[last] += f":{part}"
        else:
            raise ConfigError(f"--topic {text} has {part!r} where a key=value belongs.")
    return configs


def _check_names(topics: Sequence[TopicSpec]) -> None:
    names = [topic.name for topic in topics]
    for name in names:
        if names.count(name) > 1:
            raise ConfigError(f"--topic names {name} twice.")
