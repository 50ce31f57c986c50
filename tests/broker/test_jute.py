"""Encoded requests against kazoo's own encoding; DIGEST-MD5 against the RFC's example."""

import pytest
from kazoo.protocol import serialization as kazoo
from kazoo.security import ACL, OPEN_ACL_UNSAFE, READ_ACL_UNSAFE, Id

from broker.cluster import jute
from broker.cluster.digest_md5 import DigestMd5, DigestMd5Error, read_challenge
from broker.cluster.store import (
    BadVersion,
    Check,
    Create,
    Delete,
    Op,
    SetData,
    Stat,
    StoreError,
    StoreFailed,
)
from broker.cluster.zookeeper_options import brokers_only, everybody

OPS: list[Op] = [
    Check("/controller_epoch", 7),
    Create("/a/é", b"data"),
    Create("/a/n_", None, sequential=True),
    Create("/e", b"", ephemeral=True),
    SetData("/a", None, 3),
    SetData("/a", b"x" * 1000),
    Delete("/a/é", 0),
]


def as_kazoo(op: Op, root: str) -> object:
    path = root + op.path
    if isinstance(op, Create):
        return kazoo.Create(path, op.data, OPEN_ACL_UNSAFE, op.ephemeral + 2 * op.sequential)
    if isinstance(op, SetData):
        return kazoo.SetData(path, op.data, op.version)
    if isinstance(op, Delete):
        return kazoo.Delete(path, op.version)
    return kazoo.CheckVersion(path, op.version)


@pytest.mark.parametrize("root", ["", "/chroot"])
def test_writes_are_encoded_as_by_kazoo(root: str) -> None:
    for op in OPS:
        made, theirs = jute.write(op, root, everybody), as_kazoo(op, root)
        assert made.serialize() == theirs.serialize()  # type: ignore[attr-defined]
        if isinstance(op, Create):
            assert made.type == kazoo.Create2.type
        else:
            assert made.type == theirs.type  # type: ignore[attr-defined]
    whole = kazoo.Transaction([as_kazoo(op, root) for op in OPS])
    assert jute.multi(OPS, root, everybody).serialize() == bytes(whole.serialize())


def test_access_control_is_encoded_by_path() -> None:
    creator = [ACL(31, Id("auth", ""))]
    kinds = {
        "/consumers": OPEN_ACL_UNSAFE,
        "/consumers/c": creator + READ_ACL_UNSAFE,
        "/config/topics/t": creator + READ_ACL_UNSAFE,
        "/config/users": creator,
        "/config/users/u": creator,
        "/config/brokers/1": creator,
        "/delegation_token/tokens/t": creator,
        "/delegation_token": creator + READ_ACL_UNSAFE,
    }
    for path, acl in kinds.items():
        theirs = bytes(kazoo.Create(path, b"x", acl, 0).serialize())
        # kazoo writes an empty text as none.
        theirs = theirs.replace(b"\0\0\0\4auth\xff\xff\xff\xff", b"\0\0\0\4auth\0\0\0\0")
        assert jute.write(Create(path, b"x"), "", brokers_only).serialize() == theirs


def test_replies_of_a_multi() -> None:
    stat = kazoo.stat_struct.pack(11, 22, 1, 1, 3, 4, 5, -66, 7, 8, 9)
    header = kazoo.MultiHeader
    reply = (
        b"head"
        + header(13, False, -1).serialize()
        + header(1, False, -1).serialize()
        + kazoo.write_string("/a/b")
        + header(5, False, -1).serialize()
        + stat
        + header(2, False, -1).serialize()
        + header(-1, True, -1).serialize()
    )
    read = jute.multi([], "", everybody).deserialize
    assert read(bytes(reply), 4) == [True, "/a/b", Stat(3, 11, 22, -66), True]
    refused = b"".join(
        header(-1, False, code).serialize() + kazoo.int_struct.pack(code)
        for code in (0, 0, -103, -2)
    )
    assert read(bytes(refused + header(-1, True, -1).serialize()), 0) == [jute.Refused(2, -103)]


def test_reads_are_cut_into_batches_that_a_server_takes() -> None:
    paths = [f"/{'x' * 1000}/{i}" for i in range(1200)]
    batches = jute.read_many(paths, "")
    assert [first for _, first in batches][:2] == [0, 257]
    assert all(len(request.serialize()) <= jute.MAX_BATCH_BYTES + 9 for request, _ in batches)
    short = jute.read_many([f"/{i}" for i in range(2500)], "/root")
    assert [first for _, first in short] == [0, 1000, 2000]
    assert jute.read_many([], "") == []


def test_paths_outside_of_the_root_are_refused() -> None:
    assert jute.full_path("/r", "/") == "/r"
    assert jute.full_path("", "/") == "/"
    for path in ("", "x"):
        with pytest.raises(StoreError):
            jute.full_path("/r", path)
        with pytest.raises(StoreError):
            jute.write(Create(path), "/r", everybody)


def test_error_codes() -> None:
    assert type(jute.error(-103, "/a")) is BadVersion
    unknown = jute.error(-125, "/a")
    assert type(unknown) is StoreFailed
    assert str(unknown) == "StoreFailed: /a ZooKeeper answered error -125"


def test_digest_md5_as_in_the_rfc() -> None:
    challenge = (
        b'realm="elwood.innosoft.com",nonce="OA6MG9tEQGm2hh",qop="auth",'
        b"algorithm=md5-sess,charset=utf-8"
    )
    login = DigestMd5("chris", "secret", "imap/elwood.innosoft.com", "OA6MHXh6VqTrRk")
    answer = read_challenge(login.answer(challenge))
    assert answer["response"] == "d388dad90d4bbd760a152321f2143af7"
    assert answer["cnonce"] == "OA6MHXh6VqTrRk"
    login.verify(b"rspauth=ea40f60335c427b5527b84dbabcdfffd")
    with pytest.raises(DigestMd5Error):
        login.verify(b"rspauth=ea40f60335c427b5527b84dbabcdfffe")


@pytest.mark.parametrize(
    "challenge",
    [
        b"",
        b"realm=",
        b'nonce="x"',
        b'nonce="x",algorithm=md5',
        b'nonce="x",algorithm=md5-sess,qop="auth-int,auth-conf"',
        b'nonce="x',
        b"=,",
    ],
)
def test_challenges_that_cannot_be_answered(challenge: bytes) -> None:
    with pytest.raises(DigestMd5Error):
        DigestMd5("u", "p", "a/b").answer(challenge)
