"""The table of error codes, also against the one in Apache Kafka's jar."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from protocol.errors import CorruptRecord, ErrorCode, Malformed, UnsupportedField
from tests.kit.kafka_jars import jar

PRINT_CODES = """
import org.apache.kafka.common.errors.RetriableException;
import org.apache.kafka.common.protocol.Errors;
public class Codes {
    public static void main(String[] arguments) {
        for (Errors error : Errors.values()) {
            boolean retriable = error.exception() instanceof RetriableException;
            System.out.println(error.code() + " " + error.name() + " " + retriable);
        }
    }
}
"""


def test_codes_are_without_gaps() -> None:
    assert [code.value for code in ErrorCode] == list(range(-1, 137))
    assert ErrorCode.UNKNOWN_TOPIC_OR_PARTITION == 3
    assert ErrorCode(0) is ErrorCode.NONE


def test_every_code_has_a_sentence_of_its_own() -> None:
    sentences = [code.message for code in ErrorCode]
    assert len(set(sentences)) == len(sentences)
    assert all(text.endswith(".") and text[0].isalpha() for text in sentences)


def test_what_may_be_retried() -> None:
    assert ErrorCode.NOT_LEADER_OR_FOLLOWER.retriable
    assert not ErrorCode.INVALID_TOPIC_EXCEPTION.retriable
    assert not ErrorCode.NONE.retriable


def test_exceptions() -> None:
    assert issubclass(UnsupportedField, ValueError)
    assert not issubclass(Malformed, ValueError)
    assert issubclass(CorruptRecord, Exception)


@pytest.mark.java
def test_codes_are_those_of_kafka(tmp_path: Path) -> None:
    if shutil.which("java") is None:
        pytest.skip("needs Java to ask Apache Kafka's own class for its codes")
    logging = jar("4.4.0", "slf4j-api", "org.slf4j", "1.7.36")
    jars = [jar("4.4.0", "kafka-clients"), logging]
    source = tmp_path / "Codes.java"
    source.write_text(PRINT_CODES)
    command = ["java", "-cp", os.pathsep.join(map(str, jars)), str(source)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    published = sorted(done.stdout.splitlines())
    mine = [f"{code.value} {code.name} {str(code.retriable).lower()}" for code in ErrorCode]
    assert published == sorted(mine)
