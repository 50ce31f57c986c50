"""How this broker reaches ZooKeeper and what it lets others do there, out of its settings.

SASL is configured as for Apache Kafka: a Java login file whose section `Client` names
DigestLoginModule, a user and a password; KAFKA_OPTS says where it is
(`-Djava.security.auth.login.config=FILE`).
"""

import re
import shlex
import ssl
from collections.abc import Mapping
from typing import NamedTuple

from broker import jaas
from broker.cluster import layout
from broker.cluster.jute import CREATOR_AND_READERS, CREATOR_ONLY, OPEN, AclOf
from broker.config import BrokerConfig, ConfigError

DEFAULT_PORT = 2181
_SERVER = re.compile(r"\s*(\[[0-9a-fA-F:.]+\]|[^\s:/,\[\]]+)(?::(\d+))?\s*")
_VERSIONS = {
    "TLSv1": ssl.TLSVersion.TLSv1,
    "TLSv1.1": ssl.TLSVersion.TLSv1_1,
    "TLSv1.2": ssl.TLSVersion.TLSv1_2,
    "TLSv1.3": ssl.TLSVersion.TLSv1_3,
}


class Login(NamedTuple):
    """For SASL DIGEST-MD5."""

    username: str
    password: str


def everybody(_: str) -> bytes:
    """Access control of nodes where zookeeper.set.acl is false."""
    return OPEN


def brokers_only(path: str) -> bytes:
    """Access control with zookeeper.set.acl, as Apache Kafka sets it."""
    if path == layout.CONSUMERS:
        return OPEN
    if path.startswith(layout.SENSITIVE_PATHS):
        return CREATOR_ONLY
    return CREATOR_AND_READERS


class Options(NamedTuple):
    """What `ZooKeeperStore` wants to know."""

    servers: str
    """host:port, separated by commas."""
    root: str = ""
    """The chroot: a path that does not end in a slash, or nothing."""
    session_ms: int = 18_000
    connection_ms: int = 18_000
    in_flight: int = 10
    acl_of: AclOf = everybody
    tls: ssl.SSLContext | None = None
    login: Login | None = None


def options(config: BrokerConfig, environment: Mapping[str, str]) -> Options:
    """From zookeeper.* settings and KAFKA_OPTS. Raises ConfigError."""
    servers, root = _connect(config.zookeeper_connect or "")
    login = _login(environment)
    tls = _tls(config) if config.zookeeper_ssl_client_enable else None
    if config.zookeeper_set_acl and login is None and not (tls and _own_key(config)):
        raise ConfigError(
            "zookeeper.set.acl is true, but ZooKeeper would not know this broker: neither a login "
            "(section Client of the file that java.security.auth.login.config in KAFKA_OPTS names) "
            "nor a key (zookeeper.ssl.client.enable and zookeeper.ssl.keystore.location) is given."
        )
    session_ms = config.zookeeper_session_timeout_ms
    connection_ms = config.zookeeper_connection_timeout_ms
    return Options(
        servers,
        root,
        session_ms,
        session_ms if connection_ms is None else connection_ms,
        config.zookeeper_max_in_flight_requests,
        brokers_only if config.zookeeper_set_acl else everybody,
        tls,
        login,
    )


def _connect(text: str) -> tuple[str, str]:
    """Servers and chroot of zookeeper.connect."""
    hosts, slash, root = text.partition("/")
    servers: list[str] = []
    for each in hosts.split(","):
        match = _SERVER.fullmatch(each)
        if match is None:
            raise ConfigError(f"zookeeper.connect={text} is not host:port,host:port/path.")
        servers.append(f"{match[1]}:{match[2] or DEFAULT_PORT}")
    root = (slash + root.strip()).rstrip("/")
    if "//" in root or any(part in (".", "..") for part in root.split("/")):
        raise ConfigError(f"zookeeper.connect={text} ends in what is no path of ZooKeeper.")
    return ",".join(servers), root


# --- SASL -----------------------------------------------------------------------------------------


def _login(environment: Mapping[str, str]) -> Login | None:
    try:
        words = shlex.split(environment.get("KAFKA_OPTS", ""))
    except ValueError:
        words = []
    given = dict(w[2:].partition("=")[::2] for w in words if w.startswith("-D"))
    path = given.get("java.security.auth.login.config")
    if path is None or given.get("zookeeper.sasl.client", "true").lower() == "false":
        return None
    try:
        with open(path, encoding="utf-8") as file:
            sections = jaas.parse(file.read())
    except OSError as error:
        raise ConfigError(f"Cannot read the login file {path}: {error.strerror}.") from None
    except ValueError as error:
        raise ConfigError(f"The login file {path} cannot be used: {error}.") from None
    modules = sections.get(given.get("zookeeper.sasl.clientconfig", "Client"))
    if not modules:
        return None
    name, values = modules[0]
    if not name.endswith(".DigestLoginModule"):
        raise ConfigError(f"The login file {path} asks for {name}: only DigestLoginModule is here.")
    return Login(values.get("username", ""), values.get("password", ""))


# --- TLS ------------------------------------------------------------------------------------------


def _own_key(config: BrokerConfig) -> str | None:
    location: str | None = config.zookeeper_ssl_keystore_location
    return location


def _tls(config: BrokerConfig) -> ssl.SSLContext:
    for name in ("zookeeper.ssl.crl.enable", "zookeeper.ssl.ocsp.enable"):
        if getattr(config, name.replace(".", "_")):
            raise ConfigError(f"{name} is true, but revocation cannot be checked here.")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    algorithm = config.zookeeper_ssl_endpoint_identification_algorithm
    context.check_hostname = (algorithm or "").upper() == "HTTPS"
    _set_versions(context, config)
    _set_ciphers(context, config.zookeeper_ssl_cipher_suites)
    try:
        if trusted := config.zookeeper_ssl_truststore_location:
            _check_pem(trusted, config.zookeeper_ssl_truststore_type)
            context.load_verify_locations(trusted)
        else:
            context.load_default_certs(ssl.Purpose.SERVER_AUTH)
        if own := _own_key(config):
            _check_pem(own, config.zookeeper_ssl_keystore_type)
            context.load_cert_chain(own, password=config.zookeeper_ssl_keystore_password or "")
    except OSError as error:
        reason = error.strerror or getattr(error, "reason", None) or error
        raise ConfigError(f"TLS to ZooKeeper cannot be set up: {reason}.") from None
    return context


def _check_pem(path: str, kind: str | None) -> None:
    if kind is None:
        kind = {"jks": "JKS", "p12": "PKCS12"}.get(path.rpartition(".")[2].lower(), "PEM")
    if kind.upper() != "PEM":
        raise ConfigError(
            f"{path} is of type {kind}: towards ZooKeeper only PEM files are read "
            f"(openssl pkcs12 -in STORE -nodes -out FILE.pem makes one)."
        )


def _set_versions(context: ssl.SSLContext, config: BrokerConfig) -> None:
    names = config.zookeeper_ssl_enabled_protocols or [config.zookeeper_ssl_protocol]
    unknown = [name for name in names if name not in _VERSIONS]
    if unknown:
        raise ConfigError(f"There is no version {unknown[0]} of TLS (zookeeper.ssl.protocol).")
    wanted = [_VERSIONS[name] for name in names]
    context.minimum_version, context.maximum_version = min(wanted), max(wanted)


def _set_ciphers(context: ssl.SSLContext, suites: list[str] | None) -> None:
    """Java's names are the standard's; OpenSSL has its own. Those of TLS 1.3 are always on."""
    names = [_openssl_name(suite) for suite in suites or () if "_WITH_" in suite or "-" in suite]
    if not names:
        return
    try:
        context.set_ciphers(":".join(names))
    except ssl.SSLError:
        raise ConfigError("zookeeper.ssl.cipher.suites has no suite known here.") from None


def _openssl_name(suite: str) -> str:
    exchange, found, cipher = suite.removeprefix("TLS_").partition("_WITH_")
    if not found:
        return suite
    cipher = (
        cipher.replace("_CBC", "").replace("AES_", "AES").replace("POLY1305_SHA256", "POLY1305")
    )
    parts = ([] if exchange == "RSA" else [exchange]) + [cipher]
    return "-".join(parts).replace("_", "-")
