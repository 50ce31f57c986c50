"""Settings of the brokers that the tests of groups and transactions start."""

QUICK = {
    "group.initial.rebalance.delay.ms": "0",
    "group.min.session.timeout.ms": "500",
    "group.consumer.min.session.timeout.ms": "500",
    "group.consumer.session.timeout.ms": "3000",
    "group.consumer.min.heartbeat.interval.ms": "100",
    "group.consumer.heartbeat.interval.ms": "200",
    "group.consumer.assignment.interval.ms": "0",
    "group.share.min.session.timeout.ms": "500",
    "group.share.session.timeout.ms": "3000",
    "group.share.min.heartbeat.interval.ms": "100",
    "group.share.heartbeat.interval.ms": "200",
    "group.share.assignment.interval.ms": "0",
    "group.share.min.record.lock.duration.ms": "1000",
    "group.share.record.lock.duration.ms": "1500",
    "transaction.abort.timed.out.transaction.cleanup.interval.ms": "500",
}
"""What makes groups and time-outs quick; a broker named by `ODRADEK_BOOTSTRAP` needs them too."""


def arguments(**more: str) -> list[str]:
    """These settings, and more with underscores in their names, for the command line."""
    settings = {**QUICK, **{name.replace("_", "."): value for name, value in more.items()}}
    return [part for pair in settings.items() for part in ("--set", "=".join(pair))]
