"""InitProducerId, for idempotent producers."""

from compat.script import Run, case

API = "InitProducerId"


@case(API)
def idempotent(run: Run) -> None:
    run.call(transactional_id=None, transaction_timeout_ms=60_000, step="first")
    run.call(transactional_id=None, transaction_timeout_ms=60_000, step="second")
    for timeout in (0, -1, 2**31 - 1):
        run.call(transactional_id=None, transaction_timeout_ms=timeout, step=f"timeout {timeout}")


@case(API, (3, 5))
def with_id_and_epoch(run: Run) -> None:
    "An idempotent producer that tells its old id gets a new one."
    mine = run.call(transactional_id=None, transaction_timeout_ms=0, step="mine")
    for step, pid, epoch in (
        ("mine again", mine.producer_id, mine.producer_epoch),
        ("mine with epoch 5", mine.producer_id, 5),
        ("unknown", 123456789, 0),
        ("id without an epoch", mine.producer_id, -1),
        ("epoch without an id", -1, 0),
        ("id -2", -2, 0),
        ("epoch -2", mine.producer_id, -2),
    ):
        fields = {"producer_id": pid, "producer_epoch": epoch, "transaction_timeout_ms": 0}
        run.call(transactional_id=None, **fields, step=step)


@case(API)
def refused_transactional(run: Run) -> None:
    "What is refused before a coordinator is asked."
    for timeout in (0, -1, 60_000):
        fields = {"transactional_id": "", "transaction_timeout_ms": timeout}
        run.call(**fields, step=f"empty id, timeout {timeout}")
    if run.version >= 3:
        fields = {"transactional_id": "", "transaction_timeout_ms": 5, "producer_id": 5}
        run.call(**fields, step="empty id, id without an epoch")
        fields = {"transactional_id": "compat-x", "transaction_timeout_ms": 5, "producer_id": 5}
        run.call(**fields, step="id without an epoch")


@case(API)
def malformed(run: Run) -> None:
    run.send_body(API, run.version, b"", step="no body", link="1")
    run.send_body(API, run.version, b"\x7f\xff", step="two bytes", link="2")


@case(API)
def bytes_after_the_body(run: Run) -> None:
    run.extra(b"x", transactional_id=None, transaction_timeout_ms=0)
