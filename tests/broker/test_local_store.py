"""What is LocalStore's own: the file, restarts, several openings, size."""

import asyncio
import gc
import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from broker.cluster.local import LocalStore
from broker.cluster.store import (
    Check,
    Create,
    Delete,
    MultiFailed,
    Op,
    SetData,
    StoreError,
    StoreFailed,
)


async def dump(store: LocalStore, path: str = "/") -> dict[str, tuple[object, ...]]:
    found: dict[str, tuple[object, ...]] = {}
    for name in await store.children(path):
        child = f"{path.rstrip('/')}/{name}"
        data, stat = await store.get(child)
        found[child] = (data, stat)
        found |= await dump(store, child)
    return found


async def test_a_restart_finds_what_was_acknowledged(tmp_path: Path) -> None:
    path = str(tmp_path / "s.sqlite")
    store = LocalStore(path)
    await store.start()
    await store.create("/a", b"1")
    await store.create("/a/n", None)
    await store.set("/a", b"2")
    await store.create("/a/s_", sequential=True)
    await store.delete("/a/n")
    _, ephemeral = await store.create("/e", b"gone", ephemeral=True)
    before = await dump(store)
    await store.close()

    again = LocalStore(path)
    await again.start()
    del before["/e"]
    assert await dump(again) == before
    # A creation id never comes twice, not even after an ephemeral that left no trace.
    _, stat = await again.create("/e", ephemeral=True)
    assert stat.czxid > ephemeral.czxid
    made, _ = await again.create("/a/s_", sequential=True)
    assert made == "/a/s_0000000002"
    await again.close()


async def test_a_killed_process_loses_nothing(tmp_path: Path) -> None:
    """Nothing but what is in the files at that moment is taken over."""
    path = tmp_path / "s.sqlite"
    store = LocalStore(str(path))
    await store.start()
    await store.multi([Create("/a"), Create("/a/b", b"x")])
    await store.set("/a/b", b"y")
    copy = tmp_path / "copy"
    copy.mkdir()
    for file in tmp_path.glob("s.sqlite*"):
        (copy / file.name).write_bytes(file.read_bytes())
    expected = await dump(store)
    await store.close()
    again = LocalStore(str(copy / "s.sqlite"))
    await again.start()
    assert await dump(again) == expected
    await again.close()


async def test_a_file_that_is_no_store_is_refused_with_a_sentence(tmp_path: Path) -> None:
    path = tmp_path / "s.sqlite"
    path.write_bytes(b"this is not a database, " * 100)
    with pytest.raises(StoreFailed, match="cannot be opened"):
        await LocalStore(str(path)).start()
    with pytest.raises(StoreFailed, match="cannot be opened"):
        await LocalStore(str(tmp_path / "no" / "such" / "directory")).start()


async def test_a_file_of_another_release_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "s.sqlite"
    db = sqlite3.connect(path)
    db.execute("PRAGMA user_version=99")
    db.commit()
    db.close()
    with pytest.raises(StoreFailed, match="another release"):
        await LocalStore(str(path)).start()


async def test_two_processes_cannot_share_a_file(tmp_path: Path) -> None:
    path = str(tmp_path / "s.sqlite")
    store = LocalStore(path)
    await store.start()
    with pytest.raises(StoreFailed, match="cannot be opened"):
        await LocalStore(path).start()
    await store.create("/a")
    await store.close()


async def test_a_write_that_fails_leaves_the_tree_as_it_was(tmp_path: Path) -> None:
    store = LocalStore(str(tmp_path / "s.sqlite"))
    await store.start()
    await store.create("/a", b"1")
    before = await dump(store)
    db = store._tree._db
    assert db is not None
    db.execute("PRAGMA query_only=ON")  # the disk refuses
    with pytest.raises(StoreFailed):
        await store.multi([SetData("/a", b"2"), Create("/a/b")])
    assert await dump(store) == before
    db.execute("PRAGMA query_only=OFF")
    await store.set("/a", b"3", 0)
    await store.close()


@pytest.fixture
def no_collection() -> Iterator[None]:
    """What a test measures is its own cost, not a look through everything that other tests left."""
    gc.disable()
    yield
    gc.enable()


@pytest.mark.usefixtures("no_collection")
async def test_25000_nodes_load_and_large_multis_are_quick(tmp_path: Path) -> None:
    path = str(tmp_path / "s.sqlite")
    store = LocalStore(path)
    await store.start()
    await store.create("/t")
    started = time.process_time()
    await store.multi([Create(f"/t/{i}", b"x" * 80) for i in range(10_000)])
    assert time.process_time() - started < 0.5
    await store.multi([Create(f"/t/{i}", b"x" * 80) for i in range(10_000, 25_000)])
    await store.close()
    again = LocalStore(path)
    started = time.process_time()
    await again.start()
    assert time.process_time() - started < 0.6
    assert len(await again.children("/t")) == 25_000
    await again.close()


NAMES = st.sampled_from(["/a", "/b", "/a/x", "/a/y", "/a/x/z", "/b/s_"])
OPS = st.one_of(
    st.builds(Create, NAMES, st.binary(max_size=2), st.just(False), st.booleans()),
    st.builds(SetData, NAMES, st.binary(max_size=2), st.integers(-1, 2)),
    st.builds(Delete, NAMES, st.integers(-1, 1)),
    st.builds(Check, NAMES, st.integers(0, 2)),
)


@settings(max_examples=150, deadline=None, derandomize=True)
@given(st.lists(st.lists(OPS, min_size=1, max_size=4), max_size=20))
def test_file_and_memory_agree_after_any_transactions(
    tmp_path_factory: pytest.TempPathFactory, transactions: list[list[Op]]
) -> None:
    """Applied or rolled back, written through or not: the same tree, also after a restart."""

    async def run() -> None:
        path = str(tmp_path_factory.mktemp("s") / "s.sqlite")
        memory, file = LocalStore(), LocalStore(path)
        await memory.start()
        await file.start()
        for ops in transactions:
            outcomes = []
            for store in (memory, file):
                try:
                    outcomes.append(repr(await store.multi(ops)))
                except MultiFailed as failed:
                    outcomes.append(f"{failed.index} {type(failed.error).__name__}")
            assert outcomes[0] == outcomes[1]
        before = await dump(file)
        assert await dump(memory) == before
        await file.close()
        again = LocalStore(path)
        await again.start()
        assert await dump(again) == before
        await again.close()
        await memory.close()

    asyncio.run(run())


async def test_bad_paths_are_refused() -> None:
    store = LocalStore()
    await store.start()
    for path in ("a", "/a/", "//a", ""):
        with pytest.raises(StoreError):
            await store.create(path)
    assert await store.children("/") == []
    await store.close()
