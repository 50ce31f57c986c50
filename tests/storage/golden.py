"""Log directories that Apache Kafka 3.9.2 wrote, kept beside the tests.

`kafka-3.9.2-clean` ended by SIGTERM, `-killed` (the same, started and written to once more) by
SIGKILL, `-old-formats-clean` holds message formats 0, 1 and 2. Beside each: what a consumer read
just before, and what Kafka's DumpLogSegments printed for some of the files.
"""

import gzip
import json
import tarfile
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent / "golden_format"


def unpack(name: str, target: Path) -> Path:
    """Unpacks one directory under `target`; where it is now."""
    folder = target / name
    with tarfile.open(FOLDER / f"kafka-{name}.tar.gz") as archive:
        archive.extractall(folder, filter="data")
    return folder


def reads(name: str) -> dict[str, dict[str, Any]]:
    """What a consumer read: "topic-partition isolation" -> low, high, records."""
    found = json.loads(gzip.decompress((FOLDER / f"kafka-{name}-read.json.gz").read_bytes()))
    for key, value in found.items():
        if value == "same as read_uncommitted":
            found[key] = found[key.split(" ")[0] + " read_uncommitted"]
    return dict(found)


def dumps(name: str) -> list[tuple[list[str], str, list[str]]]:
    """What Kafka's tool printed: (options, file, lines)."""
    text = gzip.decompress((FOLDER / f"kafka-{name}.dump.txt.gz").read_bytes()).decode()
    found = []
    for block in text.split("\n# "):
        head, _, body = block.removeprefix("# ").partition("\n")
        *options, path = head.split()
        lines = [
            line
            for line in body.rstrip("\n").split("\n")
            if not line.startswith(("[20", "Dumping "))
        ]
        found.append((options, path, lines))
    return found
