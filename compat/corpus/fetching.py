"""How the Fetch cases say what they want."""

from typing import Any

from compat.script import Run

API = "Fetch"


def wanted(
    run: Run, alias: str, partition: int = 0, offset: int = 0, limit: int = 1 << 20, **more: Any
) -> dict[str, Any]:
    """One partition, by whatever the version names topics with."""
    entry = {"partition": partition, "fetch_offset": offset, "partition_max_bytes": limit, **more}
    return {"topic": run.name(alias), "topic_id": run.topic_id(alias), "partitions": [entry]}


def fetch(run: Run, *topics: dict[str, Any], **more: Any) -> Any:
    """Fetches without waiting, outside of sessions, unless told otherwise."""
    fields = {"max_wait_ms": 0, "min_bytes": 0, "topics": list(topics), **more}
    return run.call(**fields)
