"""Other people's record formats: kafka-python's and aiokafka's, which share nothing with ours."""

import warnings

with warnings.catch_warnings():
    # kafka-python reads its schemas in a way that Python 3.11 calls deprecated.
    warnings.simplefilter("ignore")
    from aiokafka.record.default_records import DefaultRecordBatch as AioBatch
    from aiokafka.record.default_records import DefaultRecordBatchBuilder as AioBuilder
    from aiokafka.record.legacy_records import LegacyRecordBatch as AioLegacyBatch
    from aiokafka.record.legacy_records import LegacyRecordBatchBuilder as AioLegacyBuilder
    from kafka import codec as kafka_codec
    from kafka.record.default_records import DefaultRecordBatch as PyBatch
    from kafka.record.default_records import DefaultRecordBatchBuilder as PyBuilder
    from kafka.record.legacy_records import LegacyRecordBatch as PyLegacyBatch
    from kafka.record.legacy_records import LegacyRecordBatchBuilder as PyLegacyBuilder
    from kafka.record.util import decode_varint, encode_varint

__all__ = [
    "AioBatch",
    "AioBuilder",
    "AioLegacyBatch",
    "AioLegacyBuilder",
    "PyBatch",
    "PyBuilder",
    "PyLegacyBatch",
    "PyLegacyBuilder",
    "decode_varint",
    "encode_varint",
    "kafka_codec",
]
