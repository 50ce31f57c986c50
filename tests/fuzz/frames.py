"""`python -m tests.fuzz.frames [--count N] [--seed S] [--bootstrap HOST:PORT]`: mutated frames.

Every frame must lead to an answer that decodes (where one is due) or to a closed connection. At the
end the broker still answers, its resident memory has grown by less than 50 MB, its log holds no
traceback and at most one line a connection that it closed. A failing frame is printed in hex.
"""

import argparse
import random
import struct
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from protocol.apis import API_BY_KEY, request_class
from protocol.compiler import decoder
from protocol.errors import Malformed
from protocol.header import decode_request_header, decode_response_header, response_header_version
from protocol.messages.api_versions import ApiVersionsRequest
from protocol.messages.create_topics import (
    CreatableTopic,
    CreatableTopicConfig,
    CreateTopicsRequest,
)
from protocol.messages.delete_topics import DeleteTopicsRequest
from protocol.messages.fetch import FetchRequest
from protocol.messages.metadata import MetadataRequest, MetadataRequestTopic
from protocol.messages.produce import ProduceRequest
from tests.fuzz.generate import PRODUCE, SLOW, TOPICS, Generator, mutate
from tests.kit.server import Server
from tests.kit.wire import ConnectionClosed, NoAnswer, Wire, decode_answer, frame

BURST = 12
SENTINEL = 0x5EAF00D
PATIENCE = 10.0
GROWTH = 50e6
FRESH_TOPICS = 3000
"""Frames after which the topics are made again: damaged admin requests may have changed them."""

ALONE = ("late", "cut")
API_VERSIONS = 18
UNSUPPORTED_VERSION = 35
ARGUMENTS = ("--set", "auto.create.topics.enable=false")


class Failure(AssertionError):
    """A frame led to something else than an answer or a closed connection."""


@dataclass(slots=True)
class Shot:
    """One damaged frame and what can be said about it beforehand."""

    data: bytes
    key: int
    version: int
    correlation_id: int
    answered: str
    """yes, no (acks=0), late (the answer may rightly wait, so that nobody waits for it), or cut
    (its length does not fit its bytes: what follows would be taken for something else)"""


@dataclass(slots=True)
class Report:
    """Counts of a run."""

    frames: int = 0
    answers: int = 0
    closed: int = 0
    alone: int = 0
    seconds: float = 0.0
    growth: float = 0.0
    log_lines: int = 0
    codes: Counter[str] = field(default_factory=Counter)


BELIEVED = (4, 5, 6, 7)
"""LeaderAndIsr, StopReplica, UpdateMetadata, ControlledShutdown: whoever gets the epochs right is
taken for the controller, and may wreck the broker. Their bytes are mutated in tests/protocol."""


def offered(bootstrap: str) -> list[tuple[int, int]]:
    """Every (API, version) that the broker offers and that we can build, but those that a broker
    believes."""
    with Wire(bootstrap) as wire:
        answer = wire.call(ApiVersionsRequest(), 0)
    return [
        (entry.api_key, version)
        for entry in answer.api_keys
        for version in range(entry.min_version, entry.max_version + 1)
        if entry.api_key in API_BY_KEY
        and entry.api_key not in BELIEVED
        and version <= API_BY_KEY[entry.api_key].max_version
    ]


def classify(data: bytes) -> Shot:
    """What answer a frame may expect, found out with our own decoder."""
    body = memoryview(data)[4:]
    size = struct.unpack_from(">i", data)[0]
    if 0 < size != len(body):
        return Shot(data, -1, -1, -1, "cut")
    try:
        header, pos = decode_request_header(body, 0)
    except Malformed:
        return Shot(data, -1, -1, -1, "yes")
    shot = Shot(data, header.api_key, header.api_version, header.correlation_id, "yes")
    api = API_BY_KEY.get(header.api_key)
    if api is None or not api.min_version <= header.api_version <= api.max_version:
        return shot
    if header.api_key in (PRODUCE, *SLOW):
        shot.answered = _due(body, pos, header.api_key, header.api_version)
    return shot


def _due(body: memoryview, pos: int, key: int, version: int) -> str:
    try:
        request, _ = decoder(request_class(key), version)(body, pos)
    except Malformed:
        return "yes"
    if isinstance(request, ProduceRequest):
        return "no" if request.acks == 0 else "yes"
    if isinstance(request, FetchRequest):
        return "late" if request.max_wait_ms > 50 else "yes"
    return "late"


def check_answer(shot: Shot, data: bytes) -> str:
    """Decode an answer whole; its error class for the statistics."""
    key, version = shot.key, shot.version
    head = response_header_version(key, version)
    _, start = decode_response_header(head, data, 0)
    api = API_BY_KEY.get(key)
    if key == API_VERSIONS and data[start : start + 2] == struct.pack(">h", UNSUPPORTED_VERSION):
        version = 0
    elif api is None or not api.min_version <= version <= api.max_version:
        raise Failure(f"an answer to {key} version {version}: {shot.data.hex()}")
    try:
        _, body = decode_answer(key, version, data)
    except Malformed as error:
        raise Failure(
            f"{api.name if api else key} {version}: the answer does not decode ({error}): "
            f"{shot.data.hex()} -> {data.hex()}"
        ) from None
    code = getattr(body, "error_code", "")
    return f"{API_BY_KEY[key].name} {code}"


class Fuzzer:
    """Sends bursts of shots over one connection after another and accounts for every frame."""

    def __init__(self, bootstrap: str) -> None:
        self.bootstrap = bootstrap
        self.report = Report()
        self.sentinel = frame(ApiVersionsRequest(), 0, SENTINEL)

    def fire(self, shots: list[Shot]) -> None:
        """Account for all shots; those behind one that closed the connection are sent again."""
        while shots:
            done = self._burst(shots[:BURST])
            self.report.frames += done
            shots = shots[done:]

    def alone(self, shot: Shot) -> None:
        """On a connection of its own: close without waiting for a late answer; after a cut frame
        say that nothing more comes, and the broker must close as well.
        """
        with Wire(self.bootstrap, timeout=PATIENCE) as wire:
            try:
                wire.send_bytes(shot.data)
                if shot.answered == "cut":
                    wire.half_close()
                    wire.wait_closed()
            except ConnectionClosed:
                pass
            except NoAnswer:
                self._silent([shot])
        self.report.frames += 1
        self.report.alone += 1

    def _burst(self, shots: list[Shot]) -> int:
        """How many of the shots are accounted for: all, or up to the one that closed."""
        with Wire(self.bootstrap, timeout=PATIENCE) as wire:
            try:
                wire.send_bytes(b"".join(shot.data for shot in shots) + self.sentinel)
            except ConnectionClosed:
                pass
            place = 0
            while True:
                try:
                    data = wire.receive_frame()
                except ConnectionClosed:
                    self.report.closed += 1
                    return self._culprit(shots, place)
                except NoAnswer:
                    self._silent(shots[place:])
                (correlation_id,) = struct.unpack_from(">i", data)
                if correlation_id == SENTINEL:
                    self._all_answered(shots[place:])
                    return len(shots)
                place = self._match(shots, place, correlation_id, data) + 1

    def _match(self, shots: list[Shot], place: int, correlation_id: int, data: bytes) -> int:
        """Which shot this answer belongs to: the next one that is due an answer."""
        for number in range(place, len(shots)):
            shot = shots[number]
            if shot.answered == "no":
                continue
            if shot.correlation_id == correlation_id:
                self.report.answers += 1
                self.report.codes[check_answer(shot, data)] += 1
                return number
            break
        raise Failure(
            f"an answer with correlation id {correlation_id} where that of "
            f"{shots[place].data.hex()} was due: {data[:100].hex()}"
        )

    @staticmethod
    def _culprit(shots: list[Shot], place: int) -> int:
        """The connection closed: by the first shot behind the answered ones that was due one."""
        for number in range(place, len(shots)):
            if shots[number].answered != "no":
                return number + 1
        return len(shots)

    @staticmethod
    def _all_answered(left: list[Shot]) -> None:
        for shot in left:
            if shot.answered != "no":
                raise Failure(f"never answered, and the connection stays: {shot.data.hex()}")

    @staticmethod
    def _silent(left: list[Shot]) -> None:
        text = "\n".join(shot.data.hex() for shot in left)
        raise Failure(f"no answer within {PATIENCE} s to one of\n{text}")


def shots_of(generator: Generator, count: int) -> Iterator[Shot]:
    """`count` damaged frames; one in ten stays whole, to keep the broker's state moving."""
    chance = generator.chance
    for number in range(count):
        whole = generator.any_frame(number)
        shot = classify(mutate(chance, whole) if chance.random() >= 0.1 else whole)
        while shot.key in BELIEVED:
            shot = classify(mutate(chance, whole))
        yield shot


def make_topics(bootstrap: str) -> list[bytes]:
    """The topics anew; their ids."""
    with Wire(bootstrap, timeout=30) as wire:
        gone = wire.call(DeleteTopicsRequest(topic_names=list(TOPICS), timeout_ms=20_000), 5)
        topics = [
            CreatableTopic(
                name=name,
                num_partitions=4,
                replication_factor=1,
                configs=[CreatableTopicConfig(name="cleanup.policy", value=policy)],
            )
            for name, policy in zip(TOPICS, ("delete", "compact"), strict=True)
        ]
        end = time.monotonic() + 30
        while topics:
            answer = wire.call(CreateTopicsRequest(topics=topics, timeout_ms=20_000), 5)
            # a deletion that a damaged frame began may still go on
            left = {topic.name for topic in answer.topics if topic.error_code}
            topics = [topic for topic in topics if topic.name in left]
            if topics and time.monotonic() > end:
                raise Failure(f"the topics cannot be made again: {gone} {answer}")
        asked = [MetadataRequestTopic(name=name) for name in TOPICS]
        found = wire.call(MetadataRequest(topics=asked), 10).topics
    if any(topic.error_code for topic in found):
        raise Failure(f"topics that were made are not there: {found}")
    return [topic.topic_id for topic in found]


def warm_up(fuzzer: Fuzzer, generator: Generator) -> None:
    """A whole frame of every API and version: what is imported and compiled once is not growth."""
    shots = []
    for number, (key, version) in enumerate(generator.offered * 2):
        shots.append(classify(generator.frame(key, version, number)))
    fuzzer.fire([shot for shot in shots if shot.answered not in ALONE])


def run(bootstrap: str, count: int, seed: int, server: Server | None = None) -> Report:
    """Send `count` frames; raises `Failure` with the frame that did it."""
    generator = Generator(random.Random(seed), make_topics(bootstrap), offered(bootstrap))
    fuzzer = Fuzzer(bootstrap)
    warm_up(fuzzer, generator)
    make_topics(bootstrap)
    before = server.rss_bytes() if server else 0
    lines = _log_lines(server)
    fuzzer.report = report = Report()
    began = time.monotonic()
    waiting: list[Shot] = []
    for number, shot in enumerate(shots_of(generator, count)):
        if number % FRESH_TOPICS == FRESH_TOPICS - 1:
            generator.topic_ids[2:] = make_topics(bootstrap)
        if shot.answered in ALONE:
            fuzzer.alone(shot)
            continue
        waiting.append(shot)
        if len(waiting) == BURST:
            fuzzer.fire(waiting)
            waiting = []
    fuzzer.fire(waiting)
    report.seconds = time.monotonic() - began
    with Wire(bootstrap) as wire:
        assert wire.call(ApiVersionsRequest(), 0).error_code == 0
    if server is not None:
        report.growth = server.rss_bytes() - before
        report.log_lines = _log_lines(server) - lines
        check_log(server, report)
    return report


def _log_lines(server: Server | None) -> int:
    return 0 if server is None else server.log_text().count("\n")


def check_log(server: Server, report: Report) -> None:
    """No traceback, at most one line a bad connection, little growth."""
    text = server.log_text()
    at = text.find("Traceback")
    if at >= 0:
        raise Failure(f"a traceback in the log:\n{text[max(0, at - 500) : at + 3000]}")
    # topics are made again now and then, which may be worth a few lines each time
    allowed = report.closed + report.alone + 40 * (2 + report.frames // FRESH_TOPICS)
    if report.log_lines > allowed:
        raise Failure(f"{report.log_lines} log lines for {report.closed} closed connections")
    if report.growth > GROWTH:
        raise Failure(f"resident memory grew by {report.growth / 1e6:.0f} MB")


def main() -> int:
    """Exit status 1 when a frame led to anything else than a clean outcome."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz.frames", description=__doc__)
    parser.add_argument("--count", type=int, default=1_000_000)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(1 << 32))
    parser.add_argument("--bootstrap", help="a running broker: memory and log are not looked at")
    options = parser.parse_args()
    print(f"seed {options.seed}", flush=True)
    try:
        if options.bootstrap:
            report = run(options.bootstrap, options.count, options.seed)
        else:
            with (
                tempfile.TemporaryDirectory(prefix="odradek-fuzz-") as folder,
                Server(Path(folder) / "data", arguments=ARGUMENTS) as server,
            ):
                report = run(server.bootstrap, options.count, options.seed, server)
    except Failure as error:
        print(f"FAILED: {error}")
        return 1
    for name, number in sorted(report.codes.items()):
        print(f"{number:9} {name}")
    print(
        f"{report.frames} frames in {report.seconds:.1f} s: {report.answers} answers, "
        f"{report.closed} connections closed, {report.alone} on connections of their own, "
        f"{report.growth / 1e6:.1f} MB growth, {report.log_lines} log lines"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
