"""Fetch: incremental sessions (KIP-227)."""

from typing import Any

from compat.batches import batch
from compat.corpus.fetching import API, wanted
from compat.script import Run, Topic, case

SESSIONS = (7, 18)


def _go(run: Run, session: int, epoch: int, *topics: dict[str, Any], **more: Any) -> Any:
    fields = {"max_wait_ms": 0, "min_bytes": 0, "session_id": session, "session_epoch": epoch}
    return run.call(**fields, topics=list(topics), **more)


def _forget(run: Run, alias: str, *partitions: int) -> list[dict[str, Any]]:
    name, topic_id = run.name(alias), run.topic_id(alias)
    return [{"topic": name, "topic_id": topic_id, "partitions": list(partitions)}]


@case(API, SESSIONS)
def whole_life(run: Run) -> None:
    "Made, asked again, changed, something forgotten, closed, and asked once more."
    places = (wanted(run, "filled"), wanted(run, "filled", 1), wanted(run, "empty"))
    made = _go(run, 0, 0, *places, step="made")
    number = made.session_id
    _go(run, number, 1, step="nothing said")
    _go(run, number, 2, wanted(run, "filled", offset=3), step="offset changed")
    _go(run, number, 3, wanted(run, "filled", offset=9), step="at the end")
    _go(run, number, 4, wanted(run, "codecs"), step="added")
    _go(run, number, 5, forgotten_topics_data=_forget(run, "codecs", 0), step="forgotten")
    _go(run, number, 6, forgotten_topics_data=_forget(run, "codecs", 0), step="forgotten again")
    _go(run, number, 7, step="nothing new")
    _go(run, number, -1, step="closed")
    _go(run, number, 8, step="after the end")


@case(API, SESSIONS, topics={"t": Topic(2)})
def new_data(run: Run) -> None:
    "Only partitions with news are answered."
    number = _go(run, 0, 0, wanted(run, "t"), wanted(run, "t", 1), step="made").session_id
    _go(run, number, 1, step="nothing new")
    run.ask_produce("t", batch(b"a"), partition=1)
    _go(run, number, 2, step="data in 1")
    _go(run, number, 3, step="data in 1 again")
    _go(run, number, 4, wanted(run, "t", 1, 1), step="moved on")
    _go(run, number, 5, step="nothing new again")


@case(API, SESSIONS, topics={"t": Topic(2)})
def start_moves(run: Run) -> None:
    "A log start that moved is news."
    run.ask_produce("t", batch(b"a", b"b"))
    number = _go(run, 0, 0, wanted(run, "t", 0, 2), wanted(run, "t", 1), step="made").session_id
    _go(run, number, 1, step="nothing new")
    partition = {"partition_index": 0, "offset": 1}
    topic = {"name": run.name("t"), "partitions": [partition]}
    run.ask("DeleteRecords", 1, topics=[topic], timeout_ms=5000)
    _go(run, number, 2, step="log start moved")
    _go(run, number, 3, step="told already")


@case(API, SESSIONS)
def wrong_numbers(run: Run) -> None:
    place = wanted(run, "filled")
    number = _go(run, 0, 0, place, step="made").session_id
    _go(run, number, 5, step="epoch 5 instead of 1")
    _go(run, number, 2, step="epoch 2")
    _go(run, number, 1, step="epoch 1 all the same")
    _go(run, number, 1, step="epoch 1 again")
    _go(run, number + 1, 1, place, step="another id")
    _go(run, 123456789, 1, place, step="unknown id")
    _go(run, -1, 1, place, step="id -1")
    _go(run, 0, 1, place, step="epoch 1 without a session")
    _go(run, 0, -1, place, step="no session wanted")
    _go(run, 0, -2, place, step="epoch -2")
    _go(run, 123456789, -1, place, step="unknown id closed")
    _go(run, number, 0, place, step="id with epoch 0")
    _go(run, number, 2, step="is the old one there")


@case(API, SESSIONS)
def errors_inside(run: Run) -> None:
    "Partitions with errors are told again and again."
    entry = {"partition": 0, "fetch_offset": 0, "partition_max_bytes": 1000}
    unknown = {"topic": run.fresh("never"), "topic_id": run.other_id(), "partitions": [entry]}
    places = (
        wanted(run, "filled", offset=99),
        unknown,
        wanted(run, "filled", 9),
        wanted(run, "empty"),
    )
    number = _go(run, 0, 0, *places, step="made").session_id
    _go(run, number, 1, step="again")
    _go(run, number, 2, wanted(run, "filled", offset=9), step="one is right now")
    _go(run, number, 3, step="nothing new")


@case(API, SESSIONS)
def empty_ones(run: Run) -> None:
    made = _go(run, 0, 0, step="nothing in it")
    if made.session_id:
        _go(run, made.session_id, 1, step="asked again")
        _go(run, made.session_id, 2, wanted(run, "filled"), step="something added")
    one = _go(run, 0, 0, wanted(run, "filled"), step="one").session_id
    _go(run, one, 1, forgotten_topics_data=_forget(run, "filled", 0), step="forgotten")
    _go(run, one, 2, wanted(run, "filled"), step="is it there")


@case(API, SESSIONS)
def forget_odd_things(run: Run) -> None:
    number = _go(run, 0, 0, wanted(run, "filled"), wanted(run, "empty"), step="made").session_id
    _go(run, number, 1, forgotten_topics_data=_forget(run, "codecs", 0), step="not in it")
    _go(run, number, 2, forgotten_topics_data=_forget(run, "filled", 5), step="not that partition")
    both = {"forgotten_topics_data": _forget(run, "filled", 0)}
    _go(run, number, 3, wanted(run, "filled", offset=3), **both, step="asked for and forgotten")
    _go(run, number, 4, step="what is left")
    unknown = [{"topic": run.fresh("never"), "topic_id": run.other_id(), "partitions": [0]}]
    _go(run, number, 5, forgotten_topics_data=unknown, step="unknown topic")


@case(API, SESSIONS)
def forgotten_without_session(run: Run) -> None:
    data = {"forgotten_topics_data": _forget(run, "filled", 0)}
    _go(run, 0, -1, wanted(run, "filled"), **data, step="no session")
    _go(run, 0, 0, wanted(run, "filled"), **data, step="new session")


@case(API, SESSIONS)
def waits_in_a_session(run: Run) -> None:
    places = (wanted(run, "filled", offset=9), wanted(run, "empty"))
    number = _go(run, 0, 0, *places, step="made").session_id
    fields = {"max_wait_ms": 60, "min_bytes": 1, "session_id": number, "topics": []}
    run.call(**fields, session_epoch=1, step="nothing comes")
    run.call(**fields, session_epoch=2, step="nothing comes again")


@case(API, SESSIONS, topics={"t": Topic()})
def deleted_in_a_session(run: Run) -> None:
    number = _go(run, 0, 0, wanted(run, "t"), wanted(run, "filled"), step="made").session_id
    run.ask("DeleteTopics", 3, topic_names=[run.name("t")], timeout_ms=10_000)
    run.gone("t")
    _go(run, number, 1, step="after deletion")
    _go(run, number, 2, step="again")


@case(API, SESSIONS)
def order_of_answers(run: Run) -> None:
    "Partitions with data go to the back of the session's order."
    places = [wanted(run, a, limit=100) for a in ("filled", "codecs", "unsorted", "headers")]
    number = _go(run, 0, 0, *places, max_bytes=400, step="made").session_id
    for epoch in range(1, 6):
        _go(run, number, epoch, max_bytes=400, step=f"round {epoch}")
