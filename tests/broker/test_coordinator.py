"""The coordinators' shell over real logs in memory, with a machine that keeps words."""

import asyncio
from typing import Any

import pytest

from broker.coordinator import NOTHING, Coordinator, Outcome, StoredRecord, Waiting
from broker.timers import Timers
from protocol.errors import ErrorCode
from tests.kit.hosted import OTHER, HostedNode

TOPIC = "__consumer_offsets"


class Words:
    """Keeps the words it is told, those of a transaction apart until its end."""

    def __init__(self, index: int, timers: Timers) -> None:
        self.index = index
        self.timers = timers
        self.words: dict[bytes, bytes | None] = {}
        self.pending: dict[int, list[bytes]] = {}
        self.ends: list[tuple[int, bool]] = []
        self.offsets: list[int] = []
        self.began_at: int | None = None

    def replay(
        self, key: bytes, value: bytes | None, producer_id: int, producer_epoch: int, offset: int
    ) -> None:
        self.offsets.append(offset)
        if producer_id >= 0:
            self.pending.setdefault(producer_id, []).append(key)
        else:
            self.words[key] = value

    def replay_end(self, producer_id: int, producer_epoch: int, committed: bool) -> None:
        self.ends.append((producer_id, committed))
        for key in self.pending.pop(producer_id, []):
            if committed:
                self.words[key] = b""

    def loaded(self, now_ms: int) -> Outcome:
        self.began_at = now_ms
        return NOTHING

    def expired(self, timer: Any, now_ms: int) -> Outcome:
        return Outcome([StoredRecord(b"expired", str(timer).encode())])


def say(*words: str, **more: Any) -> Any:
    records = [StoredRecord(word.encode(), b"") for word in words]
    return lambda machine, who, now: Outcome(records, [(who, "said")], **more)


class Shell:
    """A coordinator of one partition."""

    def __init__(self, **config: str) -> None:
        self.hosted = HostedNode()
        self.config = config
        self.new()
        self.log = self.host(0)

    def host(self, epoch: int, **more: Any) -> Any:
        return self.hosted.host(TOPIC, leader_epoch=epoch, **more, **self.config)

    def new(self, patience_ms: int = 60_000) -> None:
        h = self.hosted
        self.coordinator = Coordinator(
            TOPIC, h.replicas, h.metadata, h.clock, Words, patience_ms=patience_ms
        )

    @property
    def machine(self) -> Words:
        found = self.coordinator.find("any")
        assert isinstance(found, Words)
        return found

    def write(self, decide: Any) -> Any:
        return self.coordinator.write("any", decide, lambda code: code)

    async def settled(self, waiting: Any) -> Any:
        """The answer after the write that ends the turn."""
        if isinstance(waiting, Waiting):
            answered: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
            if waiting.done:
                return waiting.response
            waiting.start(answered.set_result)
            return await asyncio.wait_for(answered, 5)
        return waiting

    async def loaded(self) -> None:
        while self.coordinator.loading:
            await asyncio.sleep(0)


async def test_an_answer_without_records_is_there_at_once() -> None:
    shell = Shell()
    assert shell.write(lambda machine, who, now: Outcome(replies=[(who, 7)])) == 7


async def test_records_are_replayed_at_once_and_answered_when_replicated() -> None:
    shell = Shell()
    waiting = shell.write(say("a", "b"))
    assert isinstance(waiting, Waiting) and not waiting.done
    assert list(shell.machine.words) == [b"a", b"b"]
    assert shell.log.end_offset == 0, "written when the turn ends"
    assert await shell.settled(waiting) == "said"
    assert shell.log.high_watermark == 2
    assert shell.machine.offsets == [0, 1]


async def test_answers_wait_for_replicas_in_order() -> None:
    shell = Shell()
    shell.host(1, isr=(0, OTHER))
    first, second = shell.write(say("a")), shell.write(say("b"))
    look = shell.coordinator.read("any", lambda machine: sorted(machine.words), lambda code: code)
    await asyncio.sleep(0)
    assert shell.log.end_offset == 2 and not first.done
    shell.log.advance_high_watermark(1)
    shell.hosted.partition(TOPIC).notify()
    assert (first.done, second.done, look.done) == (True, False, False)
    shell.log.advance_high_watermark(2)
    shell.hosted.partition(TOPIC).notify()
    assert (second.done, look.response) == (True, [b"a", b"b"])
    after = shell.coordinator.read("any", lambda machine: len(machine.words), lambda code: code)
    assert after == 2


async def test_a_restart_replays_the_log() -> None:
    shell = Shell()
    await shell.settled(shell.write(say("a")))
    await shell.settled(shell.write(say("kept", producer=(5, 0))))
    await shell.settled(shell.write(say("lost", producer=(6, 0))))
    await shell.settled(shell.write(say("open", producer=(7, 0))))
    codes: list[ErrorCode] = []
    for producer_id, committed in ((5, True), (6, False)):
        shell.coordinator.write_marker(0, producer_id, 0, 0, committed=committed, done=codes.append)
    await asyncio.sleep(0)
    assert codes == [ErrorCode.NONE] * 2
    before = shell.machine
    assert before.words.keys() == {b"a", b"kept"}
    await shell.coordinator.close()
    shell.new()
    assert shell.coordinator.find("any") == ErrorCode.NOT_COORDINATOR
    shell.host(1, leader=OTHER)
    shell.host(2)
    assert shell.write(say("x")) == ErrorCode.COORDINATOR_LOAD_IN_PROGRESS
    await shell.loaded()
    after = shell.machine
    assert after is not before
    assert (after.words, after.pending, after.ends) == (before.words, before.pending, before.ends)
    assert after.began_at == shell.hosted.clock.now_ms()


async def test_what_is_appended_while_loading_is_replayed_too() -> None:
    shell = Shell()
    await shell.settled(shell.write(say("a")))
    shell.host(1, leader=OTHER)
    shell.host(2)
    assert shell.coordinator.loading
    shell.hosted.append(TOPIC, [1, 2])
    await shell.loaded()
    assert shell.machine.words.keys() == {b"a", b"k0", b"k1"}


async def test_a_new_epoch_of_the_same_leader_keeps_the_machine() -> None:
    """A follower died: the controller raised the epoch, the log is the same."""
    shell = Shell()
    await shell.settled(shell.write(say("a")))
    before = shell.machine
    shell.host(1)
    assert shell.machine is before
    assert await shell.settled(shell.write(say("b"))) == "said"
    assert shell.log.latest_epoch == 1


async def test_a_lost_partition_answers_whoever_waits() -> None:
    shell = Shell()
    shell.host(1, isr=(0, OTHER))
    waiting = shell.write(say("a"))
    never = shell.write(lambda machine, who, now: NOTHING)
    shell.host(2, leader=OTHER)
    assert waiting.response == never.response == ErrorCode.NOT_COORDINATOR
    assert shell.write(say("b")) == ErrorCode.NOT_COORDINATOR


async def test_no_topic_no_coordinator() -> None:
    hosted = HostedNode()
    coordinator = Coordinator(TOPIC, hosted.replicas, hosted.metadata, hosted.clock, Words)
    assert coordinator.find("any") == ErrorCode.NOT_COORDINATOR
    assert list(coordinator.machines()) == []


async def test_a_refused_append_leaves_the_machine_as_it_was() -> None:
    shell = Shell(max_message_bytes="200")
    long = "w" * 300
    assert shell.write(say(long)) == ErrorCode.UNKNOWN_SERVER_ERROR
    assert shell.machine.words == {}
    waiting: list[Waiting] = []

    def decide(machine: Words, who: Waiting, now: int) -> Outcome:
        waiting.append(who)
        record = StoredRecord(long.encode(), b"")
        return Outcome([record], [(who, "said")], refused=lambda code: [(who, ("told", code))])

    assert shell.write(decide) == ("told", ErrorCode.UNKNOWN_SERVER_ERROR)
    assert await shell.settled(shell.write(say("short"))) == "said"


@pytest.mark.parametrize("isr", [(0,), (0, OTHER)])
async def test_too_few_replicas_refuse_the_append(isr: tuple[int, ...]) -> None:
    shell = Shell(min_insync_replicas="2")
    shell.host(1, isr=isr, replicas=(OTHER,))
    code = shell.write(say("a"))
    if len(isr) == 1:
        assert code == ErrorCode.COORDINATOR_NOT_AVAILABLE
        assert shell.machine.words == {}
    else:
        assert isinstance(code, Waiting)


async def test_memory_that_is_ahead_of_its_records() -> None:
    shell = Shell()
    await shell.settled(shell.write(say("a", replay=False)))
    assert shell.machine.words == {}
    assert shell.log.end_offset == 1


async def test_a_timer_is_an_input() -> None:
    shell = Shell()
    shell.machine.timers.set("t", shell.hosted.clock.now_ms())
    while not shell.machine.words:
        await asyncio.sleep(0)
    assert shell.machine.words == {b"expired": b"t"}
    shell.machine.timers.set("u", shell.hosted.clock.now_ms() + 10_000)
    shell.host(1, leader=OTHER)


async def test_a_client_that_goes_is_not_answered() -> None:
    shell = Shell()
    waiting = shell.write(say("a"))
    waiting.start(lambda response: pytest.fail("answered"))
    waiting.cancel()
    await asyncio.sleep(0)
    assert waiting.done


async def test_answers_that_tell_of_the_state_wait_for_what_it_rests_on() -> None:
    shell = Shell()

    def told(behind: bool) -> Any:
        return lambda machine, who, now: Outcome(replies=[(who, "known")], behind=behind)

    assert shell.write(told(True)) == "known"
    shell.host(1, isr=(0, OTHER))
    first = shell.write(say("a"))
    after = shell.write(told(True))
    assert shell.write(told(False)) == "known"
    await asyncio.sleep(0)
    assert (first.done, after.done) == (False, False)
    shell.log.advance_high_watermark(1)
    shell.hosted.partition(TOPIC).notify()
    assert (first.response, after.response) == ("said", "known")


async def test_work_is_done_when_the_records_are_replicated() -> None:
    shell = Shell()
    done: list[tuple[int, Any]] = []
    shell.coordinator._work = lambda index, what: done.append((index, what))
    shell.host(1, isr=(0, OTHER))
    waiting = shell.write(say("a", work=["later"]))
    await asyncio.sleep(0)
    assert done == [] and not waiting.done
    shell.log.advance_high_watermark(1)
    shell.hosted.partition(TOPIC).notify()
    assert done == [(0, "later")] and waiting.done
    shell.write(lambda machine, who, now: Outcome(work=["now"]))
    assert done[1:] == [(0, "now")]
    shell.write(say("b", work=["never"]))
    shell.host(2, leader=OTHER)
    shell.write(say("w" * 300, work=["never"]))
    assert len(done) == 2


async def test_work_of_a_refused_append_is_not_done() -> None:
    shell = Shell(max_message_bytes="200")
    done: list[tuple[int, Any]] = []
    shell.coordinator._work = lambda index, what: done.append((index, what))
    assert shell.write(say("w" * 300, work=["never"])) == ErrorCode.UNKNOWN_SERVER_ERROR
    assert done == []


async def test_an_answer_may_be_waited_for_late() -> None:
    shell = Shell()
    waiting, other = shell.write(say("a")), shell.write(say("b"))
    await asyncio.sleep(0)
    assert waiting.done
    answers: list[Any] = []
    waiting.start(answers.append)
    other.start(answers.append)
    assert answers == [], "not before start returns"
    other.cancel()
    await asyncio.sleep(0)
    assert answers == ["said"]


# --- replicas that are slow or unknown


async def test_an_answer_that_is_late() -> None:
    """Who waits is told to ask again; what was decided stays, and counts once it is replicated."""
    shell = Shell()
    await shell.coordinator.close()
    shell.new(patience_ms=1)
    shell.host(1, leader=OTHER)
    shell.host(2, isr=(0, OTHER))
    done: list[Any] = []
    shell.coordinator._work = lambda index, what: done.append(what)
    waiting = shell.write(say("a", work=["later"]))
    look = shell.coordinator.read("any", lambda machine: len(machine.words), lambda code: code)
    late = ErrorCode.COORDINATOR_NOT_AVAILABLE
    assert await shell.settled(waiting) == await shell.settled(look) == late
    assert shell.machine.words.keys() == {b"a"} and done == []
    second = shell.write(say("b"))
    assert await shell.settled(second) == late, "looked after anew"
    shell.log.advance_high_watermark(2)
    shell.hosted.partition(TOPIC).notify()
    assert done == ["later"]
    shell.host(3)
    assert await shell.settled(shell.write(say("c"))) == "said"


async def test_a_new_leader_tells_nothing_that_may_be_lost_yet() -> None:
    """Its log ends above the high watermark: another one may know nothing of what is there."""
    shell = Shell()
    shell.host(1, isr=(0, OTHER))
    shell.write(say("a"))
    await asyncio.sleep(0)
    done: list[Any] = []
    shell.coordinator._work = lambda index, what: done.append(what)
    shell.host(2, leader=OTHER)
    shell.host(3, isr=(0, OTHER))
    loaded = Words.loaded
    try:
        Words.loaded = lambda *_: Outcome(work=["resumed"])  # type: ignore[method-assign]
        await shell.loaded()
    finally:
        Words.loaded = loaded  # type: ignore[method-assign]
    assert shell.machine.words.keys() == {b"a"} and done == []
    look = shell.coordinator.read("any", lambda machine: len(machine.words), lambda code: code)
    assert isinstance(look, Waiting) and not look.done
    shell.log.advance_high_watermark(1)
    shell.hosted.partition(TOPIC).notify()
    assert (look.response, done) == (1, ["resumed"])


async def test_who_coordinates_elsewhere() -> None:
    shell = Shell()
    assert shell.coordinator.broker_of("any") == 0
    hosted = HostedNode()
    there = Coordinator(TOPIC, hosted.replicas, hosted.metadata, hosted.clock, Words)
    assert there.broker_of("any") == -1, "no topic"
    hosted.know(TOPIC, leader=OTHER)
    assert there.broker_of("any") == OTHER
    hosted.know(TOPIC, leader=7)
    assert there.broker_of("any") == -1, "it is dead"
