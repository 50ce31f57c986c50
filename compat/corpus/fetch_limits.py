"""Fetch: how much is given under the limits of request, partition and broker."""

from compat.batches import batch
from compat.corpus.fetching import API, fetch, wanted
from compat.script import Run, case

SMALL = len(batch(b"a0", b"a1", b"a2"))
"""Size of one of the three batches of the shared topic `filled`."""

LIMITS = (-1, 0, 1, SMALL - 1, SMALL, SMALL + 1, SMALL + 60, 2 * SMALL, 2 * SMALL + 17, 3 * SMALL)


@case(API)
def partition_limits(run: Run) -> None:
    "From version 3 the first batch comes whole, and only as the first of the answer."
    for limit in LIMITS:
        fetch(run, wanted(run, "filled", limit=limit), step=f"limit {limit}")
    for limit in (1, 5000):
        place = wanted(run, "one-large", limit=limit)
        fetch(run, place, step=f"large batch, limit {limit}")


@case(API)
def two_partitions(run: Run) -> None:
    for limit in (0, 1, SMALL, SMALL + 5):
        places = [wanted(run, "filled", limit=limit), wanted(run, "unsorted", limit=limit)]
        fetch(run, *places, step=f"limit {limit} each")
        places = [wanted(run, "empty", limit=limit), wanted(run, "filled", limit=limit)]
        fetch(run, *places, step=f"limit {limit}, first is empty")
        places = [
            wanted(run, "filled", offset=99),
            wanted(run, "filled", 1),
            wanted(run, "codecs", limit=limit),
        ]
        fetch(run, *places, step=f"limit {limit}, first is out of range")


@case(API, (3, 18))
def request_limits(run: Run) -> None:
    for limit in (*LIMITS, -(2**31), 2**31 - 1):
        fetch(run, wanted(run, "filled"), max_bytes=limit, step=f"limit {limit}")
    for limit in (1, SMALL, 3 * SMALL, 3 * SMALL + 1, 4 * SMALL):
        places = [wanted(run, "filled"), wanted(run, "codecs"), wanted(run, "unsorted")]
        fetch(run, *places, max_bytes=limit, step=f"three topics, limit {limit}")
        places = [wanted(run, "one-large"), wanted(run, "filled")]
        fetch(run, *places, max_bytes=limit, step=f"large first, limit {limit}")
        places = [wanted(run, "filled"), wanted(run, "one-large")]
        fetch(run, *places, max_bytes=limit, step=f"large second, limit {limit}")


@case(API, (3, 18))
def both_limits(run: Run) -> None:
    for request, partition in ((SMALL, 10), (10, SMALL), (2 * SMALL, SMALL + 3), (0, 0)):
        places = [wanted(run, "filled", limit=partition), wanted(run, "unsorted", limit=partition)]
        fetch(run, *places, max_bytes=request, step=f"request {request}, partition {partition}")


@case(API, (3, 18))
def minimum_and_limits(run: Run) -> None:
    "Bytes beyond the partition's limit do not count towards the minimum."
    place = wanted(run, "filled", limit=SMALL)
    fetch(run, place, max_wait_ms=60, min_bytes=SMALL, step="enough")
    fetch(run, place, max_wait_ms=60, min_bytes=2 * SMALL, step="less than wanted")
    both = (wanted(run, "filled"), wanted(run, "codecs"))
    fetch(run, *both, max_wait_ms=60, min_bytes=4 * SMALL, step="together")
