"""partition.metadata: the topic id of a partition's directory.

version: 0
topic_id: <22 characters of URL-safe base64>      no line end after it
"""

from __future__ import annotations

from base64 import urlsafe_b64decode, urlsafe_b64encode
from binascii import Error as Base64Error
from typing import Final

from storage.filesystem import FileSystem

PARTITION_METADATA: Final = "partition.metadata"


def encode(topic_id: bytes) -> bytes:
    """The file's content."""
    return b"version: 0\ntopic_id: " + urlsafe_b64encode(topic_id).rstrip(b"=")


def decode(data: bytes) -> bytes | None:
    """The topic id (16 bytes); None when it cannot be read or is zero."""
    fields = dict(line.split(b": ", 1) for line in data.splitlines() if b": " in line)
    if fields.get(b"version") != b"0":
        return None
    try:
        topic_id = urlsafe_b64decode(fields.get(b"topic_id", b"") + b"==")
    except (Base64Error, ValueError):
        return None
    return topic_id if len(topic_id) == 16 and any(topic_id) else None


def write_topic_id(fs: FileSystem, directory: str, topic_id: bytes) -> None:
    """Writes the file, synced by nobody: whoever knows the topic can tell the id again."""
    file = fs.open(f"{directory}/{PARTITION_METADATA}", create=True, truncate=True)
    file.append([encode(topic_id)])
    file.close()
