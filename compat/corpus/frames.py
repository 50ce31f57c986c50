"""What is no right request: lengths, headers, keys, versions, bodies cut short or too long."""

import struct

from compat.script import Run, case

API = "ApiVersions"
BROKEN = {
    "negative length": struct.pack(">i", -1),
    "empty frame": struct.pack(">i", 0),
    "least int32 as length": struct.pack(">i", -(2**31)),
    "length just above the limit": struct.pack(">i", 104857601),
    "largest length": struct.pack(">i", 2**31 - 1),
    "one byte": struct.pack(">ib", 1, 0),
    "half a header": struct.pack(">ihh", 4, 18, 0),
    "no client id": struct.pack(">ihhi", 8, 18, 0, 1),
    "client id longer than the frame": struct.pack(">ihhih", 10, 18, 0, 1, 500),
    "unknown key": struct.pack(">ihhih", 10, 999, 0, 1, -1),
    "negative key": struct.pack(">ihhih", 10, -1, 0, 1, -1),
    "metadata of a version to come": struct.pack(">ihhih", 10, 3, 99, 1, -1),
    "metadata of version -1": struct.pack(">ihhih", 10, 3, -1, 1, -1),
    "text instead of a frame": b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
    "tls hello": bytes.fromhex("1603010200010001fc0303"),
}


@case(API, (0, 0))
def broken_frames(run: Run) -> None:
    "Each closes its connection and no other."
    run.call(link="neighbour")
    for name, data in BROKEN.items():
        run.raw_bytes(data, step=name, link=name)
    run.call(link="neighbour")


@case(API, (0, 0))
def header_texts(run: Run) -> None:
    "A client id may be null, empty, or no text at all."
    for name, client in (("null", None), ("empty", b""), ("long", b"x" * 30000)):
        head = struct.pack(">hhi", 18, 0, 9)
        head += struct.pack(">h", -1) if client is None else struct.pack(">h", len(client)) + client
        run.raw_answer(API, 0, head, 9, step=name)
    head = struct.pack(">hhih", 18, 0, 9, 3) + b"\xff\xfe\xfd"
    run.raw_answer(API, 0, head, 9, step="no utf-8")


@case(API, (3, 3))
def header_tags(run: Run) -> None:
    "Unknown tagged fields in the header of a flexible version are skipped."
    body = b"\x02a\x02b\0"
    head = struct.pack(">hhih", 18, 3, 9, -1)
    run.raw_answer(API, 3, head + b"\x00" + body, 9, step="none")
    run.raw_answer(API, 3, head + b"\x01\x05\x03abc" + body, 9, step="one unknown")
    run.raw_answer(API, 3, head + b"\x02\x05\x00\x05\x00" + body, 9, step="the same twice")
    run.raw_answer(API, 3, head + b"\x01\x05\x7fabc" + body, 9, step="longer than the frame")
    run.raw_answer(API, 3, head + b"\xff\xff\xff\xff\x0f" + body, 9, step="too many")


@case(API, (3, 3))
def body_tags(run: Run) -> None:
    "Unknown tagged fields in the body too."
    head = struct.pack(">hhih", 18, 3, 9, -1) + b"\0"
    run.raw_answer(API, 3, head + b"\x02a\x02b\x01\x07\x02xy", 9, step="one unknown")
    run.raw_answer(API, 3, head + b"\x02a\x02b\x01\x07\x7fxy", 9, step="longer than the frame")
    run.raw_answer(API, 3, head + b"\x02a\x02b\x02\x09\x00\x07\x00", 9, step="falling order")


@case(API, (0, 0))
def pipelined(run: Run) -> None:
    "Three frames in one piece are answered in order, also behind a fetch that waits."
    first = run.frame("Metadata", 1, {"topics": []})
    second = run.frame("ApiVersions", 0, {})
    run.link().send_raw(b"".join(struct.pack(">i", len(f)) + f for f in (first, second)))
    run.expect("Metadata", 1, 1)
    run.expect("ApiVersions", 0, 2)
    partition = {"partition": 0, "fetch_offset": 0, "partition_max_bytes": 1000}
    wait = {"topic": run.name("empty"), "partitions": [partition]}
    body = {"max_wait_ms": 150, "min_bytes": 1, "topics": [wait]}
    first = run.frame("Fetch", 4, body)
    second = run.frame("ApiVersions", 0, {})
    run.link().send_raw(b"".join(struct.pack(">i", len(f)) + f for f in (first, second)))
    run.expect("Fetch", 4, 3)
    run.expect("ApiVersions", 0, 4)


@case(API, (0, 0))
def byte_by_byte(run: Run) -> None:
    "A frame that comes in pieces is a frame."
    frame = run.frame("Metadata", 1, {"topics": []})
    whole = struct.pack(">i", len(frame)) + frame
    for at in range(len(whole)):
        run.link().send_raw(whole[at : at + 1])
    run.expect("Metadata", 1, 1)


@case(API, (0, 0))
def half_a_frame_then_the_end(run: Run) -> None:
    run.link().send_raw(struct.pack(">ihh", 100, 18, 0))
    run.link().finish_writing()
    run.note_end("main")
    run.call()


@case(API, (0, 0))
def absurd_lengths(run: Run) -> None:
    "Counts and lengths that the frame cannot hold."
    many = struct.pack(">i", 2**31 - 1)
    run.send_body("Metadata", 0, many, step="topics: largest count", link="1")
    run.send_body("Metadata", 0, struct.pack(">i", -2), step="topics: count -2", link="2")
    run.send_body("Metadata", 9, b"\xff\xff\xff\xff\x0f", step="topics: largest varint", link="3")
    run.send_body("Metadata", 9, b"\xff\xff\xff\xff\xff\x01", step="varint too long", link="4")
    run.send_body("Metadata", 1, struct.pack(">ih", 1, -1), step="null name", link="5")
    run.send_body("Metadata", 1, struct.pack(">ih", 1, -5), step="name of length -5", link="6")
    bad = struct.pack(">ih", 1, 2) + b"\xff\xfe"
    run.send_body("Metadata", 1, bad, step="name is no utf-8", link="7")
    run.send_body("Produce", 2, struct.pack(">hi", 1, 1000) + many, step="produce", link="8")
    run.send_body(
        "Fetch", 4, struct.pack(">iiiib", -1, 0, 0, 100, 0) + many, step="fetch", link="9"
    )
    run.send_body("Metadata", 0, b"", step="no body", link="10")


# Each a case of its own, because nothing is compared after an answer that only one side gave.


@case(API, (0, 0))
def negative_client_id(run: Run) -> None:
    run.raw_bytes(struct.pack(">ihhih", 10, 18, 0, 1, -2), step="client id of length -2")


@case(API, (0, 0))
def negative_keys(run: Run) -> None:
    body = struct.pack(">ibh", 1, 2, 1) + b"x" + struct.pack(">i", -2)
    run.send_body("DescribeConfigs", 0, body, step="keys: count -2")


@case(API, (0, 0))
def negative_records(run: Run) -> None:
    topic = struct.pack(">hiih5s", 1, 1000, 1, 5, b"never")
    run.send_body("Produce", 2, topic + struct.pack(">iii", 1, 0, -2), step="length -2")
