"""kcat, the Debian package. It has no admin calls: topics come from auto-creation or another
client.
"""

import base64
import json
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from tests.e2e.clients.base import DEADLINE, Adapter
from tests.e2e.corpus import Item


class Kcat(Adapter):
    @classmethod
    def fit(cls, item: Item) -> Item:
        # its headers are text for a whole run, its timestamps its own
        return replace(item, timestamp=0, headers=(("name", b"text"), ("name", b"again")))

    @staticmethod
    def available() -> bool:
        """Whether the program is installed."""
        return shutil.which("kcat") is not None

    def run(self, *arguments: str, data: bytes = b"") -> bytes:
        """One kcat run; its standard output. Fails the test on a non-zero status."""
        done = subprocess.run(
            ["kcat", "-b", self.bootstrap, "-X", "fetch.wait.max.ms=20", *arguments],
            input=data,
            capture_output=True,
            timeout=DEADLINE,
            check=False,
        )
        assert done.returncode == 0, done.stderr.decode()
        return done.stdout

    def produce(
        self,
        topic: str,
        items: Sequence[Item],
        codec: str = "none",
        *,
        idempotent: bool = False,
        acks: str = "all",
    ) -> list[int] | None:
        """kcat takes text records, and sets partition and headers for a whole run: one run a
        partition and header set.

        Timestamps are its own. Keys and values travel as base64 text so that any bytes fit; an
        empty text is null (-Z).
        """
        runs: dict[tuple[int, Any], list[Item]] = {}
        for item in items:
            runs.setdefault((item.partition, item.headers), []).append(item)
        for (partition, headers), group in runs.items():
            lines = [_text(item.key) + b"\t" + _text(item.value) for item in group]
            options = ["-P", "-t", topic, "-p", str(partition), "-K", "\t", "-Z"]
            options += ["-X", f"acks={acks}", "-X", f"enable.idempotence={str(idempotent).lower()}"]
            if codec != "none":
                options += ["-z", codec]
            for name, value in headers:
                options += ["-H", f"{name}={'' if value is None else value.decode()}"]
            self.run(*options, data=b"\n".join(lines))
        return None

    def consume(
        self, topic: str, starts: Mapping[int, int], count: int, *, committed: bool = False
    ) -> list[Item]:
        got: list[Item] = []
        for partition, offset in starts.items():
            start = "beginning" if offset == -2 else str(offset)
            place = ["-t", topic, "-p", str(partition), "-o", start]
            level = f"isolation.level={'read_committed' if committed else 'read_uncommitted'}"
            lines = self.run("-C", *place, "-e", "-q", "-J", "-X", level).splitlines()
            got += [_item(json.loads(line)) for line in lines]
        assert len(got) == count
        return got

    def consume_since(self, topic: str, partition: int, timestamp: int) -> list[Item]:
        """`-o s@timestamp`: kcat's own way of starting at a time."""
        place = ["-t", topic, "-p", str(partition), "-o", f"s@{timestamp}"]
        return [
            _item(json.loads(line))
            for line in self.run("-C", *place, "-e", "-q", "-J").splitlines()
        ]

    def offsets_for_time(
        self, topic: str, partitions: Sequence[int], timestamp: int
    ) -> dict[int, int]:
        return {p: self._query(topic, p, timestamp) for p in partitions}

    def ends(self, topic: str, partitions: Sequence[int]) -> dict[int, tuple[int, int]]:
        return {p: (self._query(topic, p, -2), self._query(topic, p, -1)) for p in partitions}

    def _query(self, topic: str, partition: int, timestamp: int) -> int:
        # prints: topic [partition] offset N
        answer = self.run("-Q", "-t", f"{topic}:{partition}:{timestamp}").decode()
        assert answer.startswith(f"{topic} [{partition}] offset "), answer
        return int(answer.split()[3])

    def partitions(self, topic: str) -> int | None:
        for found in json.loads(self.run("-L", "-J"))["topics"]:
            if found["topic"] == topic:
                return len(found["partitions"])
        return None


def _text(value: bytes | None) -> bytes:
    return b"" if value is None else b"=" + base64.b64encode(value)


def _bytes(text: str | None) -> bytes | None:
    if not text:
        return None
    return base64.b64decode(text[1:]) if text.startswith("=") else text.encode()


def _item(found: dict[str, Any]) -> Item:
    names = found.get("headers", [])
    headers = tuple(
        (name, None if value is None else str(value).encode())
        for name, value in zip(names[::2], names[1::2], strict=True)
    )
    return Item(
        found["partition"], found["ts"], _bytes(found["key"]), _bytes(found["payload"]), headers
    )
