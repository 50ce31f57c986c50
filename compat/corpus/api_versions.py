"""ApiVersions: what is offered, and the one request that is answered in any version."""

import struct

from compat.script import Run, case

API = "ApiVersions"
NAME = {"client_software_name": "compat", "client_software_version": "1.0"}


def _named(run: Run) -> dict[str, str]:
    return NAME if run.version >= 3 else {}


@case(API)
def plain(run: Run) -> None:
    run.call(**_named(run))


@case(API)
def twice_on_one_connection(run: Run) -> None:
    run.call(**_named(run))
    run.call(**_named(run))


@case(API, (3, 5))
def software_names(run: Run) -> None:
    "Letters, digits, dots and dashes may be in a name, but not at its ends."
    for number, name in enumerate(
        ("", "a", "a-b.c", "-a", "a-", ".a", "a.", "bad name!", "\u00e4", "a_b", "x" * 500, "a\n")
    ):
        run.call(client_software_name=name, client_software_version="1", step=f"name {number}")
        run.call(client_software_name="a", client_software_version=name, step=f"version {number}")


@case(API)
def unknown_versions(run: Run) -> None:
    "Answered in version 0 form with error 35; the connection stays usable."
    for version in (6, 99, 32767):
        head = struct.pack(">hhih", 18, version, 7, 2) + b"me"
        run.raw_answer(API, run.version, head + b"\0", 7, step=f"version {version}")
        run.raw_answer(API, run.version, head, 7, step=f"version {version} without a body")
    run.call(**_named(run))


@case(API)
def negative_version(run: Run) -> None:
    run.raw_answer(API, run.version, struct.pack(">hhihb", 18, -1, 7, -1, 0), 7)


@case(API)
def truncated(run: Run) -> None:
    "Two bytes that end a string, or a body, in the middle."
    run.send_body(API, run.version, b"\x05ab" if run.version >= 3 else b"")
    run.send_body(API, run.version, b"" if run.version >= 3 else b"\x00")


@case(API)
def bytes_after_the_body(run: Run) -> None:
    body = b"\x02a\x02b" + (b"\0\xff\xff\xff\xff" if run.version >= 5 else b"") + b"\0"
    run.send_body(API, run.version, (body if run.version >= 3 else b"") + b"more bytes")


@case(API, (5, 5))
def meant_for_another(run: Run) -> None:
    "Version 5 names the cluster and node that are meant (KIP-1242)."
    cluster = run.ask("DescribeCluster", 1).cluster_id
    run.call(**NAME, cluster_id="another cluster", step="wrong cluster")
    run.call(**NAME, cluster_id=cluster, step="right cluster")
    run.call(**NAME, cluster_id=cluster, node_id=1, step="right cluster and node")
    run.call(**NAME, cluster_id=cluster, node_id=77, step="wrong node")
    run.call(**NAME, node_id=1, step="node without a cluster")
    run.call(**NAME, node_id=77, step="wrong node without a cluster")
    run.call(**NAME, cluster_id="", step="empty cluster")
    run.call(client_software_name="", client_software_version="", cluster_id="x", step="both wrong")
