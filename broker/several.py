"""Several brokers in one process: each broker's settings, made from those given for all.

They share the first one's embedded store. Ports count up from the given ones, each broker has
directories of its own below those given.
"""

from collections.abc import Mapping

from broker.config import ALONE, DEFAULT_PORT, ConfigError

LISTENERS = ("listeners", "advertised.listeners")
DIRECTORIES = ("log.dirs", "log.dir")
DEFAULT_DIRECTORY = "/tmp/kafka-logs"
REPLICATED = {
    "offsets.topic.replication.factor": 3,
    "share.coordinator.state.topic.min.isr": 2,
    "share.coordinator.state.topic.replication.factor": 3,
    "transaction.state.log.min.isr": 2,
    "transaction.state.log.replication.factor": 3,
}
"""What Apache Kafka has by default, and more brokers than that are not needed for."""


def settings_of_each(given: Mapping[str, str], count: int) -> list[dict[str, str]]:
    """Settings of the brokers. Raises ConfigError."""
    if given.get("zookeeper.connect"):
        raise ConfigError(
            "--brokers starts brokers over an embedded store: with zookeeper.connect each broker "
            "is a process of its own."
        )
    first = given.get("broker.id", given.get("node.id", "-1")).strip()
    if first == "-1":
        first = ALONE["broker.id"]
    if not first.isdigit():
        raise ConfigError(f"broker.id is {first}, which is not a number.")
    return [_settings_of(given, number, int(first) + number, count) for number in range(count)]


def _settings_of(
    given: Mapping[str, str], number: int, broker_id: int, count: int
) -> dict[str, str]:
    own = dict(given)
    own["broker.id"] = own["node.id"] = str(broker_id)
    own.setdefault("listeners", f"PLAINTEXT://127.0.0.1:{DEFAULT_PORT}")
    for name in LISTENERS:
        if name in own:
            own[name] = ",".join(_with_port(text, number) for text in own[name].split(","))
    if not any(name in own for name in DIRECTORIES):
        own["log.dirs"] = DEFAULT_DIRECTORY
    for name in DIRECTORIES:
        if name in own:
            own[name] = ",".join(
                f"{path.strip()}/broker-{broker_id}" for path in own[name].split(",")
            )
    for name, wanted in REPLICATED.items():
        own.setdefault(name, str(min(wanted, count)))
    return own


def _with_port(listener: str, number: int) -> str:
    """The port counted up; 0 takes any free one, and stays."""
    address, _, port = listener.rpartition(":")
    if port.isascii() and port.isdigit() and int(port):
        return f"{address}:{int(port) + number}"
    return listener
