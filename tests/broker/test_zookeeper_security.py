"""TLS, SASL and access control towards a real ZooKeeper, configured by the broker's settings."""

import asyncio
from collections.abc import AsyncIterator, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from kazoo.protocol.serialization import GetACL

from broker.cluster.membership import Membership
from broker.cluster.store import ConnectionLoss, StoreError, StoreFailed
from broker.cluster.zookeeper import ZooKeeperStore
from broker.cluster.zookeeper_options import options
from broker.config import BrokerConfig, ConfigError
from compat.reference import free_ports
from tests.kit import zookeeper
from tests.kit.certificates import Authority
from tests.kit.nodes import FakeClock
from tests.kit.zookeeper import ZooKeeper

JAAS = """// as the server has it
Server {{
    org.apache.zookeeper.server.auth.DigestLoginModule required
    user_kafka="{password}" user_other="o";
}};
"""
CLIENT = """Client {{
  org.apache.zookeeper.server.auth.DigestLoginModule required username="{user}"
  password="{password}"; }};
"""
PASSWORD = 'se"cr;et=ä'
QUOTED = PASSWORD.replace('"', '\\"')


def settings(address: str, **more: str) -> BrokerConfig:
    given = {"broker.id": "1", "zookeeper.connect": address}
    given |= {"zookeeper.session.timeout.ms": "4000", "zookeeper.connection.timeout.ms": "3000"}
    return BrokerConfig(given | {name.replace("_", "."): text for name, text in more.items()})


@pytest.fixture
async def stores() -> AsyncIterator[list[ZooKeeperStore]]:
    opened: list[ZooKeeperStore] = []
    yield opened
    for store in opened:
        await store.close()


async def connect(
    stores: list[ZooKeeperStore], config: BrokerConfig, environment: Mapping[str, str] = {}
) -> ZooKeeperStore:
    store = ZooKeeperStore(options(config, environment))
    stores.append(store)
    await store.start()
    return store


# --- SASL -----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def sasl_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ZooKeeper]:
    directory = tmp_path_factory.mktemp("sasl")
    login = directory / "server.jaas"
    login.write_text(JAAS.format(password=QUOTED))
    flags = [f"-Djava.security.auth.login.config={login}", "-Dfile.encoding=UTF-8"]
    provider = "org.apache.zookeeper.server.auth.SASLAuthenticationProvider"
    server = ZooKeeper(directory, settings={"authProvider.1": provider}, flags=flags)
    server.start()
    yield server
    server.kill()


def logged_in(directory: Path, user: str = "kafka", password: str = QUOTED) -> dict[str, str]:
    """An environment as Apache Kafka's start scripts have it."""
    login = directory / f"{user} login.jaas"
    login.write_text(CLIENT.format(user=user, password=password))
    return {"KAFKA_OPTS": f"-Xmx1g '-Djava.security.auth.login.config={login}' -Dx"}


async def test_a_login_by_password_and_its_access_control(
    sasl_server: ZooKeeper, stores: list[ZooKeeperStore], tmp_path: Path
) -> None:
    address = sasl_server.address + zookeeper.chroot()
    config = settings(address, zookeeper_set_acl="true")
    ours = await connect(stores, config, logged_in(tmp_path))
    membership = Membership(ours, 1, FakeClock())
    await membership.prepare()
    await membership.register(())
    await ours.create("/config/users/alice", b"a secret")
    await ours.create("/config/topics/t", b"{}")
    await ours.create("/consumers/old")

    for environment in ({}, logged_in(tmp_path, "other", "o")):
        theirs = await connect(stores, settings(address), environment)
        assert (await theirs.get("/config/topics/t"))[0] == b"{}"
        assert "1" in await theirs.children("/brokers/ids")
        with pytest.raises(StoreFailed, match="access control"):
            await theirs.get("/config/users/alice")
        with pytest.raises(StoreFailed, match="access control"):
            await theirs.get_many(["/config/topics/t", "/config/users/alice"])
        with pytest.raises(StoreFailed, match="access control"):
            await theirs.children("/config/brokers")
        for path in ("/config/topics/t", "/brokers/ids/1", "/controller_epoch", "/"):
            with pytest.raises(StoreError):
                await theirs.set(path, b"ours now")
        await theirs.set("/consumers", b"open to all")

    # The same user in another session may do everything.
    again = await connect(stores, config, logged_in(tmp_path))
    assert (await again.get("/config/users/alice"))[0] == b"a secret"
    await again.set("/config/topics/t", b"{1}")

    async def entries(path: str) -> list[tuple[str, str, int]]:
        acls, _ = await again._call(GetACL(again._root + path), path)
        return [(acl.id.scheme, acl.id.id, acl.perms) for acl in acls]

    everything, reading = 31, 1
    owner = ("sasl", "kafka", everything)
    assert await entries("/config/topics/t") == [owner, ("world", "anyone", reading)]
    assert await entries("/config/users/alice") == [owner]
    assert await entries("/consumers") == [("world", "anyone", everything)]


async def test_a_wrong_password_is_told_at_once(
    sasl_server: ZooKeeper, stores: list[ZooKeeperStore], tmp_path: Path
) -> None:
    with pytest.raises(StoreFailed) as caught:
        await connect(stores, settings(sasl_server.address), logged_in(tmp_path, password="wrong"))
    assert "ZooKeeper refused the login as kafka" in caught.value.detail


async def test_a_login_is_made_again_after_a_lost_connection(
    tmp_path: Path, stores: list[ZooKeeperStore]
) -> None:
    login = tmp_path / "server.jaas"
    login.write_text(JAAS.format(password=QUOTED))
    server = ZooKeeper(
        tmp_path / "zk",
        settings={
            "authProvider.1": "org.apache.zookeeper.server.auth.SASLAuthenticationProvider",
            "sessionRequireClientSASLAuth": "true",
        },
        flags=[f"-Djava.security.auth.login.config={login}", "-Dfile.encoding=UTF-8"],
    )
    server.start()
    try:
        config = settings(server.address + "/r", zookeeper_set_acl="true")
        store = await connect(stores, config, logged_in(tmp_path))
        _, made = await store.create("/e", ephemeral=True)
        server.kill()
        server.start()
        await store.set("/e", b"1")
        assert (await store.get("/e"))[1].czxid == made.czxid
        with pytest.raises(StoreFailed, match="demands that its clients log in"):
            await connect(stores, settings(server.address))
    finally:
        server.kill()


# --- TLS ------------------------------------------------------------------------------------------


SUITES = (
    "TLS_AES_128_GCM_SHA256",
    "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256",
    "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384",
)
"""ZooKeeper does not offer those of TLS 1.3 by itself."""


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="module")
def tls_server(
    tmp_path_factory: pytest.TempPathFactory, authority: Authority
) -> Iterator[tuple[ZooKeeper, str]]:
    """A server that demands a key of its clients, and its secure address."""
    directory = tmp_path_factory.mktemp("tls")
    (port,) = free_ports(1)
    server = ZooKeeper(
        directory,
        settings={
            "secureClientPort": str(port),
            "serverCnxnFactory": "org.apache.zookeeper.server.NettyServerCnxnFactory",
            "authProvider.x509": "org.apache.zookeeper.server.auth.X509AuthenticationProvider",
            "ssl.keyStore.location": str(authority.issue("server")),
            "ssl.keyStore.type": "PEM",
            "ssl.trustStore.location": str(authority.certificate),
            "ssl.trustStore.type": "PEM",
            "ssl.clientAuth": "need",
            "ssl.protocol": "TLSv1.3",
            "ssl.enabledProtocols": "TLSv1.2,TLSv1.3",
            "ssl.ciphersuites": ",".join(SUITES),
        },
    )
    server.start()
    yield server, f"127.0.0.1:{port}"
    server.kill()


def tls(authority: Authority, **more: str) -> dict[str, str]:
    return {
        "zookeeper_ssl_client_enable": "true",
        "zookeeper_clientCnxnSocket": "org.apache.zookeeper.ClientCnxnSocketNetty",
        "zookeeper_ssl_keystore_location": str(authority.issue("broker")),
        "zookeeper_ssl_keystore_type": "PEM",
        "zookeeper_ssl_truststore_location": str(authority.certificate),
        "zookeeper_ssl_truststore_type": "PEM",
    } | more


HASTE = {"zookeeper_connection_timeout_ms": "700"}


@pytest.mark.parametrize(
    "more",
    [
        {},
        {"zookeeper_ssl_enabled_protocols": "TLSv1.3"},
        {
            "zookeeper_ssl_enabled_protocols": "TLSv1.2",
            "zookeeper_ssl_cipher_suites": "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384",
        },
    ],
)
async def test_mutual_tls(
    tls_server: tuple[ZooKeeper, str],
    authority: Authority,
    stores: list[ZooKeeperStore],
    more: dict[str, str],
) -> None:
    server, address = tls_server
    root = zookeeper.chroot()
    config = settings(address + root, zookeeper_set_acl="true", **tls(authority, **more))
    store = await connect(stores, config)
    link: Any = store._client._connection._socket
    assert link.version() == more.get("zookeeper_ssl_enabled_protocols", "TLSv1.2")
    if "zookeeper_ssl_cipher_suites" in more:
        assert link.cipher()[0] == "ECDHE-ECDSA-AES256-GCM-SHA384"
    paths = [f"/n{i}" for i in range(300)]
    async with asyncio.timeout(10):
        await asyncio.gather(*(store.create(path, b"x" * 1000) for path in paths))
    found = await store.get_many(paths)
    assert [node and node[0] for node in found] == [b"x" * 1000] * 300
    # Who has no key may look, by the door without TLS, but not touch.
    plain = await connect(stores, settings(server.address + root))
    assert (await plain.get("/n0"))[0] == b"x" * 1000
    with pytest.raises(StoreFailed, match="access control"):
        await plain.set("/n0", b"")


async def test_a_server_that_is_not_trusted(
    tls_server: tuple[ZooKeeper, str],
    authority: Authority,
    stores: list[ZooKeeperStore],
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    other = Authority(tmp_path)
    given = tls(authority, zookeeper_ssl_truststore_location=str(other.certificate))
    with pytest.raises(ConnectionLoss) as caught:
        await connect(stores, settings(tls_server[1], **given, **HASTE))
    assert "TLS failed: unable to get local issuer certificate" in caught.value.detail
    assert caplog.text.count("TLS failed") == 1, "told once, not at every attempt"


async def test_a_client_that_is_not_trusted(
    tls_server: tuple[ZooKeeper, str],
    authority: Authority,
    stores: list[ZooKeeperStore],
    tmp_path: Path,
) -> None:
    other = Authority(tmp_path)
    given = tls(authority, zookeeper_ssl_keystore_location=str(other.issue("stranger")))
    with pytest.raises(ConnectionLoss):
        await connect(stores, settings(tls_server[1], **given, **HASTE))


async def test_the_servers_name_is_checked(
    authority: Authority, stores: list[ZooKeeperStore], tmp_path: Path
) -> None:
    (port,) = free_ports(1)
    server = ZooKeeper(
        tmp_path,
        settings={
            "secureClientPort": str(port),
            "serverCnxnFactory": "org.apache.zookeeper.server.NettyServerCnxnFactory",
            "ssl.keyStore.location": str(authority.issue("elsewhere", "DNS:elsewhere.test")),
            "ssl.keyStore.type": "PEM",
            "ssl.clientAuth": "none",
        },
    )
    server.start()
    try:
        address = f"127.0.0.1:{port}"
        with pytest.raises(ConnectionLoss, match="IP address mismatch"):
            await connect(stores, settings(address, **tls(authority), **HASTE))
        unchecked = tls(authority, zookeeper_ssl_endpoint_identification_algorithm="")
        store = await connect(stores, settings(address, **unchecked))
        assert await store.exists("/none") is None
    finally:
        server.kill()


# --- settings that cannot be ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("more", "sentence"),
    [
        ({"zookeeper_set_acl": "true"}, "ZooKeeper would not know this broker"),
        ({"zookeeper_connect": "a:b"}, "is not host:port"),
        ({"zookeeper_connect": "a:1,,b:2"}, "is not host:port"),
        ({"zookeeper_connect": "a:1/x//y"}, "no path of ZooKeeper"),
        ({"zookeeper_connect": "a:1/x/../y"}, "no path of ZooKeeper"),
        (
            {"zookeeper_ssl_client_enable": "true", "zookeeper_ssl_crl_enable": "true"},
            "revocation cannot be checked",
        ),
        (
            {"zookeeper_ssl_client_enable": "true", "zookeeper_ssl_protocol": "SSLv3"},
            "no version SSLv3 of TLS",
        ),
        (
            {
                "zookeeper_ssl_client_enable": "true",
                "zookeeper_ssl_truststore_location": "/none/at/all.pem",
            },
            "TLS to ZooKeeper cannot be set up: No such file",
        ),
        (
            {
                "zookeeper_ssl_client_enable": "true",
                "zookeeper_ssl_truststore_location": "/none/trust.jks",
            },
            "is of type JKS: towards ZooKeeper only PEM files are read",
        ),
        (
            {
                "zookeeper_ssl_client_enable": "true",
                "zookeeper_ssl_cipher_suites": "TLS_NONE_WITH_NONE",
            },
            "no suite known here",
        ),
    ],
)
def test_settings_that_cannot_be(more: dict[str, str], sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence):
        options(settings("a:1", **more), {})


def test_addresses_and_times() -> None:
    made = options(settings(" a:1, [::1]:2 ,c/x/y/ "), {})
    assert (made.servers, made.root) == ("a:1,[::1]:2,c:2181", "/x/y")
    assert (made.session_ms, made.connection_ms, made.in_flight) == (4000, 3000, 10)
    bare = BrokerConfig({"broker.id": "1", "zookeeper.connect": "a"})
    assert options(bare, {})[:5] == ("a:2181", "", 18_000, 18_000, 10)


def test_login_files(tmp_path: Path) -> None:
    config = settings("a:1")

    def login(text: str, more: str = "") -> object:
        path = tmp_path / "jaas"
        path.write_text(text)
        environment = {"KAFKA_OPTS": f"-Djava.security.auth.login.config={path} {more}"}
        return options(config, environment).login

    text = CLIENT.format(user="u", password="p")
    assert login(text) == ("u", "p")
    assert login("/* no client */ Server { a.DigestLoginModule required; };") is None
    assert login(text, "-Dzookeeper.sasl.client=false") is None
    assert login(text.replace("Client", "Zoo"), "-Dzookeeper.sasl.clientconfig=Zoo") == ("u", "p")
    with pytest.raises(ConfigError, match="only DigestLoginModule"):
        login("Client { com.sun.security.auth.module.Krb5LoginModule required; };")
    for broken in ('Client { a required x="1', "Client { a sometimes; };", "Client a", "Client {"):
        with pytest.raises(ConfigError, match="cannot be used"):
            login(broken)
    with pytest.raises(ConfigError, match="Cannot read the login file"):
        options(config, {"KAFKA_OPTS": "-Djava.security.auth.login.config=/none/at/all"})
