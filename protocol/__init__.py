"""Kafka's wire protocol: bytes to values and back, nothing else.

What lives here: the declarations of all messages (`messages`) and of the records in the
coordinators' topics (`stored`), the compiler that makes codecs of them, headers, error
codes, record batches and compression. What it may import: the standard library's pure parts and
the compression libraries; no socket, file, clock, thread or randomness.

What it promises: whatever bytes come in, decoding returns a value or raises
`protocol.errors.Malformed` (`CorruptRecord` for what is inside record batches), and reserves
nothing on the word of a length alone: counts and lengths are held against the bytes that are there.
Nothing is kept between calls but compiled functions.
"""
