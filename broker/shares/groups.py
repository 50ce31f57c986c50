"""What concerns the group coordinator and the states of share partitions both: states are made for
the partitions of a group's topics, and go with the group or its offsets.

The group coordinator's records say first what is under way, then the share coordinator does it, and
then the records say that it is done; whatever stops in between is taken up again by the next
request. Both coordinators answer when their records are replicated, so everything here goes on in
callbacks.
"""

import logging
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

from broker.coordinator import Outcome, Waiting
from broker.groups.share_states import InitializeStates, Partitions
from broker.shares.common import Refused, ShareKey
from broker.shares.persister import Done, Persister
from broker.shares.state import Answer
from broker.waiting import then
from protocol.errors import ErrorCode

if TYPE_CHECKING:
    from broker.context import Node
    from broker.groups.machine import GroupMachine

log = logging.getLogger("odradek.shares")

Answers = dict[ShareKey, Answer]
Decide = Callable[["GroupMachine", Waiting, int], Outcome]


class ShareGroupStates:
    """See the module."""

    def __init__(self, node: "Node", persister: Persister) -> None:
        self._node = node
        self._persister = persister

    # --- asking the share coordinator about many partitions

    def ask_all(
        self,
        keys: Iterable[ShareKey],
        ask: Callable[[ShareKey, Done], None],
        done: Callable[[Answers], None],
    ) -> None:
        """Ask about each partition; `done` with all answers, in the order of the keys."""
        wanted = list(dict.fromkeys(keys))
        answers: Answers = {}

        def answered(key: ShareKey, answer: Answer) -> None:
            answers[key] = answer
            if len(answers) == len(wanted):
                done({key: answers[key] for key in wanted})

        if not wanted:
            done({})
        for key in wanted:
            ask(key, partial(answered, key))

    def summaries(self, keys: Iterable[ShareKey], done: Callable[[Answers], None]) -> None:
        """Where share partitions stand."""
        self.ask_all(keys, self._persister.summary, done)

    # --- states that are made

    def initialize(
        self, work: InitializeStates, done: Callable[[Answers], None] = lambda _: None
    ) -> None:
        """Make states, and have the group's records say how that went; `done` then."""
        group_id = work.group_id
        offsets = {
            ShareKey(group_id, topic_id, index): offset
            for topic_id, of_topic in work.offsets.items()
            for index, offset in of_topic.items()
        }
        if not offsets:
            done({})
            return

        def made(answers: Answers) -> None:
            failed = next((answer for answer in answers.values() if answer.code), None)
            if failed is not None:
                log.error("states of group %s cannot be made: %s", group_id, failed.message)

            def tell(machine: "GroupMachine", who: Waiting, now_ms: int) -> Outcome:
                states = machine.share.states
                tell = states.initialized if failed is None else states.uninitialized
                outcome = tell(group_id, work.offsets)
                return Outcome(outcome.records, ((who, None),))

            self.write(group_id, tell, lambda _: None, lambda _: done(answers))

        self.ask_all(
            offsets,
            lambda key, answered: self._persister.initialize(
                key, work.state_epoch, offsets[key], answered
            ),
            made,
        )

    # --- states that go

    def delete(
        self, group_id: str, partitions: Partitions, done: Callable[[Answers], None]
    ) -> None:
        """Have the states of these partitions deleted."""
        keys = [
            ShareKey(group_id, topic, index) for topic in partitions for index in partitions[topic]
        ]
        self.ask_all(keys, self._persister.delete, done)

    def delete_states(self, group_id: str) -> Any:
        """Before a group is deleted, its states are: NONE or the code that forbids it, or a
        `Waiting` that will have that. Groups of other kinds have none."""
        result = Waiting(lambda code: code)

        def decide(machine: "GroupMachine", who: Waiting, now_ms: int) -> Outcome:
            try:
                records, partitions = machine.share.states.begin_deletion(group_id)
            except Refused as refused:
                return Outcome(replies=((who, refused.code),))
            return Outcome(records, ((who, partitions),))

        def begun(partitions: "Mapping[bytes, Iterable[int]] | ErrorCode") -> None:
            if isinstance(partitions, ErrorCode):
                result.answer(partitions)
                return
            self.delete(
                group_id,
                partitions,
                lambda answers: result.answer(
                    next((a.code for a in answers.values() if a.code), ErrorCode.NONE)
                ),
            )

        self.write(group_id, decide, lambda code: code, begun)
        return result.response if result.done else result

    # --- the group coordinator

    def write(
        self,
        group_id: str,
        decide: Decide,
        refuse: Callable[[ErrorCode], Any],
        done: Callable[[Any], None],
    ) -> None:
        """A decision of the group's machine; `done` with the answer."""
        answer = then(self._node.groups.write(group_id, decide, refuse), lambda value: value)
        if hasattr(answer, "start"):
            answer.start(done)
        else:
            done(answer)
