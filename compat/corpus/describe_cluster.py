"""DescribeCluster."""

from compat.script import Run, case

API = "DescribeCluster"


@case(API)
def accepted(run: Run) -> None:
    run.call(include_cluster_authorized_operations=False, step="plain")
    run.call(include_cluster_authorized_operations=True, step="operations")
    if run.version >= 2:
        run.call(include_fenced_brokers=True, step="fenced brokers too")


@case(API, (1, 2))
def endpoint_types(run: Run) -> None:
    for kind in (0, 1, 2, 3, -1, 127):
        run.call(endpoint_type=kind, step=f"type {kind}")


@case(API)
def malformed(run: Run) -> None:
    run.send_body(API, run.version, b"", step="no body", link="1")
    run.send_body(API, run.version, b"\x01" if run.version else b"", step="one byte", link="2")


@case(API)
def other_bytes(run: Run) -> None:
    run.extra(b"more")
    run.send_body(API, run.version, b"\x05\x01\x00\x00"[: 2 + run.version], step="a boolean of 5")
