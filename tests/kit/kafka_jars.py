"""The published jars of Apache Kafka, for the tests that read facts out of them.

They are looked for in $KAFKA_JARS/<release>/ and in ~/.cache/kafka-jars/<release>/; what is missing
there is fetched into the latter by Maven.
"""

import functools
import os
import shutil
import subprocess
from pathlib import Path

import pytest

_COPY = "org.apache.maven.plugins:maven-dependency-plugin:3.6.1:copy"
_SECONDS = 90


@functools.cache
def jar(release: str, artifact: str, group: str = "org.apache.kafka", version: str = "") -> Path:
    """A jar of a release (or one beside it, of another group and version).

    Skips the test where the jar is neither there nor to be had.
    """
    version = version or release
    name = f"{artifact}-{version}.jar"
    cache = Path.home() / ".cache" / "kafka-jars" / release
    places = [cache]
    if "KAFKA_JARS" in os.environ:
        places.insert(0, Path(os.environ["KAFKA_JARS"]) / release)
    for place in places:
        if (place / name).exists():
            return place / name
    if shutil.which("mvn") is None:
        pytest.skip(f"{name} is missing, and so is Maven (mvn), which would fetch it")
    cache.mkdir(parents=True, exist_ok=True)
    command = ["mvn", "-q", "-B", _COPY, f"-Dartifact={group}:{artifact}:{version}"]
    command.append(f"-DoutputDirectory={cache}")
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_SECONDS)
    except subprocess.TimeoutExpired:
        pytest.skip(f"{name} is missing, and Maven did not fetch it in {_SECONDS} seconds")
    if done.returncode != 0:
        pytest.skip(f"{name} is missing, and Maven could not fetch it: {done.stdout.strip()[:200]}")
    return cache / name
