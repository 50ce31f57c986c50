"""ListConfigResources (KIP-1142); version 0 knows client metrics only (KIP-714)."""

from compat.corpus.resources import BROKER, CLIENT_METRICS, GROUP, LOGGER, TOPIC
from compat.script import Run, case

API = "ListConfigResources"


@case(API, (0, 0))
def client_metrics(run: Run) -> None:
    run.call()
    run.extra(b"x")


@case(API, (1, 1), alone=True)
def by_type(run: Run) -> None:
    for kinds in (
        [],
        [TOPIC],
        [BROKER],
        [LOGGER],
        [CLIENT_METRICS],
        [GROUP],
        [TOPIC, BROKER],
        [BROKER, BROKER],
    ):
        run.call(resource_types=kinds, step=f"types {kinds}")


@case(API, (1, 1))
def unknown_types(run: Run) -> None:
    for kinds in ([0], [1], [64], [-1], [TOPIC, 3]):
        run.call(resource_types=kinds, step=f"types {kinds}")


@case(API)
def malformed(run: Run) -> None:
    run.send_body(API, run.version, b"", step="no body", link="1")
    run.send_body(API, run.version, b"\x05", step="one byte", link="2")
    run.send_body(API, run.version, b"\xff\xff\xff\xff\xff\xff", step="six bytes", link="3")
