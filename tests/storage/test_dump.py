"""dump-log against what Apache Kafka's own tool printed, and against damaged files."""

import io
import shutil
from pathlib import Path
from struct import pack, pack_into

import pytest

from storage.dump import dump
from tests.storage import golden


@pytest.fixture(scope="module")
def clean(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return golden.unpack("3.9.2-clean", tmp_path_factory.mktemp("golden"))


@pytest.fixture
def copy(clean: Path, tmp_path: Path) -> Path:
    """One partition to damage."""
    return Path(shutil.copytree(clean / "segments-0", tmp_path / "segments-0"))


def run(*arguments: object) -> tuple[int, list[str]]:
    out = io.StringIO()
    status = dump([str(argument) for argument in arguments], out)
    return status, out.getvalue().splitlines()


def first_segment(folder: Path, ending: str) -> Path:
    return folder / f"{'0' * 20}.{ending}"


CASES = [
    (name, *case)
    for name in ("3.9.2-clean", "3.9.2-old-formats")
    for case in golden.dumps(name)
    if not any("decoder" in option for option in case[0])
]


@pytest.mark.parametrize(
    ("name", "options", "path", "lines"), CASES, ids=[f"{case[0]}/{case[2]}" for case in CASES]
)
def test_lines_are_those_of_kafkas_tool(
    name: str,
    options: list[str],
    path: str,
    lines: list[str],
    clean: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    folder = clean
    if name != "3.9.2-clean":
        folder = golden.unpack(f"{name}-clean", tmp_path_factory.mktemp("old"))
        options = ["--print-data-log"]
    status, printed = run(*options, folder / path)
    gaps = [n for n, line in enumerate(printed) if line.startswith("Non-consecutive offsets in ")]
    if gaps:  # Kafka's tool says those on standard error
        assert all(" is followed by " in line for line in printed[gaps[0] + 1 :])
        printed = printed[: gaps[0]]
    assert printed == [f"Dumping {folder / path}", *lines]
    assert status == 0


def test_every_file_of_a_clean_directory_is_found_right(clean: Path) -> None:
    files = [
        path
        for path in sorted(clean.rglob("*"))
        if path.suffix in {".log", ".index", ".timeindex", ".txnindex", ".snapshot"}
        or path.name.endswith(("-offset-checkpoint", "leader-epoch-checkpoint"))
    ]
    assert len(files) > 100
    status, printed = run(*files)
    assert status == 0, printed


def test_a_killed_brokers_preallocated_indexes_end_at_the_zeros(tmp_path: Path) -> None:
    folder = golden.unpack("3.9.2-killed", tmp_path)
    indexes = [path for path in sorted(folder.rglob("*index")) if path.parent != folder]
    assert any(path.stat().st_size > 60_000 for path in indexes)
    status, printed = run(*indexes)
    assert status == 0, printed
    assert len(printed) < 1000


def test_batches_without_records_by_default(clean: Path) -> None:
    _, printed = run(clean / "idem-0" / f"{'0' * 20}.log")
    assert len(printed) == 12
    assert not any(line.startswith("|") for line in printed)
    _, deep = run("--deep-iteration", clean / "idem-0" / f"{'0' * 20}.log")
    assert next(line for line in deep if line.startswith("|")) == (
        "| offset: 0 CreateTime: 1700000000000 keySize: 5 valueSize: 2 sequence: 0 headerKeys: []"
    )
    _, bare = run(
        "--print-data-log", "--skip-record-metadata", clean / "idem-0" / f"{'0' * 20}.log"
    )
    assert "| key: key-0 payload: v0" in bare


def test_files_may_come_in_one_argument(clean: Path) -> None:
    log = clean / "idem-0" / f"{'0' * 20}.log"
    status, printed = run(f"{log},{log}")
    assert status == 0
    assert sum(line.startswith("Dumping ") for line in printed) == 2


# --- damage


def test_a_wrong_crc(copy: Path) -> None:
    log = first_segment(copy, "log")
    data = bytearray(log.read_bytes())
    data[100] ^= 1
    log.write_bytes(data)
    status, printed = run(log)
    assert status == 1
    assert "isvalid: false" in printed[2]
    assert "The batch at position 0 is corrupt: its CRC is wrong." in printed
    # What follows is printed all the same.
    assert sum("isvalid: true" in line for line in printed) > 5


def test_a_torn_tail(copy: Path) -> None:
    log = first_segment(copy, "log")
    log.write_bytes(log.read_bytes()[:-7])
    status, printed = run(log)
    assert status == 1
    assert any(line.startswith("Found ") and "invalid bytes" in line for line in printed)


def test_offsets_that_step_back(copy: Path) -> None:
    log = first_segment(copy, "log")
    data = log.read_bytes()
    log.write_bytes(data + data)
    status, printed = run(log)
    assert status == 1
    assert "The offset 0 at position 3825 is out of order: 29 came before." in printed


def test_a_record_count_that_is_not_true(copy: Path) -> None:
    from protocol.crc import crc32c

    log = first_segment(copy, "log")
    data = bytearray(log.read_bytes())
    size = 12 + int.from_bytes(data[8:12], "big")
    pack_into(">i", data, 57, 9)
    pack_into(">I", data, 17, crc32c(bytes(data[21:size])))
    log.write_bytes(data)
    status, printed = run(log)
    assert status == 1
    assert any(line.startswith("The batch at position 0 is corrupt: ") for line in printed)


@pytest.mark.parametrize(
    ("entry", "sentence"),
    [
        (pack(">ii", 3, 482), "points at no batch"),
        (pack(">ii", 3, 1 << 30), "points at no batch"),
        (pack(">ii", 1, 481), "Mismatches in :"),
        (pack(">ii", 7, 481), "is not above the one before it"),
    ],
)
def test_offset_index_entries_that_lead_astray(copy: Path, entry: bytes, sentence: str) -> None:
    index = first_segment(copy, "index")
    index.write_bytes(entry + index.read_bytes()[8:])
    status, printed = run("--verify-index-only", index)
    assert status == 1
    assert any(sentence in line for line in printed)
    assert not any(line.startswith("offset: ") for line in printed)


def test_an_index_of_odd_length_and_one_without_its_log(copy: Path) -> None:
    index = first_segment(copy, "index")
    assert run("--index-sanity-check", index) == (
        0,
        [f"Dumping {index}", f"{index} passed sanity check."],
    )
    index.write_bytes(index.read_bytes() + b"\0")
    status, printed = run("--index-sanity-check", index)
    assert status == 1
    assert f"{index} has 73 bytes, not a multiple of 8." in printed
    first_segment(copy, "log").unlink()
    status, printed = run(first_segment(copy, "timeindex"))
    assert status == 1
    assert any("is missing" in line for line in printed)


def test_time_index_entries_that_are_wrong(copy: Path) -> None:
    index = first_segment(copy, "timeindex")
    good = index.read_bytes()
    index.write_bytes(good[12:24] + good)
    status, printed = run(index)
    assert status == 1
    assert any(line.startswith("Found out of order timestamp") for line in printed)
    index.write_bytes(pack(">qi", 1700000000500, 9) + good[12:])
    status, printed = run(index)
    assert status == 1
    assert any(line.startswith("Found timestamp mismatch") for line in printed)


def test_a_damaged_snapshot_and_transaction_index(clean: Path, tmp_path: Path) -> None:
    snapshot = tmp_path / f"{19:020d}.snapshot"
    good = (clean / "tx-0" / snapshot.name).read_bytes()
    snapshot.write_bytes(good[:-1] + b"\1")
    assert run(snapshot) == (
        1,
        [f"Dumping {snapshot}", f"{snapshot}: The CRC of the producer snapshot is wrong."],
    )
    txn = tmp_path / f"{2:020d}.txnindex"
    good = (clean / "tx-0" / txn.name).read_bytes()
    txn.write_bytes(good[34:] + good[:34] + b"\0")
    status, printed = run(txn)
    assert status == 1
    assert f"The entry before this line in {txn} is out of order." in printed


@pytest.mark.parametrize(
    "text", ["1\n1\nx 0 5\n", "0\n2\nx 0 5\n", "0\n1\nx 0\n", "0\n1\nx 0 five\n", "0\n"]
)
def test_damaged_checkpoints(text: str, tmp_path: Path) -> None:
    file = tmp_path / "recovery-point-offset-checkpoint"
    file.write_text("0\n1\nx 0 5\n")
    assert run(file) == (0, [f"Dumping {file}", "0", "1", "x 0 5"])
    file.write_text(text)
    status, _ = run(file)
    assert status == 1


def test_unknown_files_options_and_missing_files(tmp_path: Path) -> None:
    assert run("--what", "x.log")[0] == 1
    status, printed = run(tmp_path / "notes.txt")
    assert (status, printed[-1]) == (1, f"Ignoring unknown file {tmp_path / 'notes.txt'}")
    status, printed = run(tmp_path / "00000000000000000000.log")
    assert status == 1
    assert "No such file" in printed[-1]
