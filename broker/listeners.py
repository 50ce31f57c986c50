"""Listeners: reading `listeners`, `advertised.listeners` and what belongs to them, and checking
that they fit together, by Kafka's rules."""

from collections.abc import Callable, Mapping
from typing import NamedTuple

from storage.settings import split_list

PROTOCOLS = ("PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL")
_HOST_CHARACTERS = frozenset(
    "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-%._:",
)


class ListenerError(ValueError):
    """The listeners cannot be used; str() is one sentence."""


class Endpoint(NamedTuple):
    """An address under a listener's name. An empty host means every interface, port 0 any."""

    name: str
    protocol: str
    host: str
    port: int

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.name}://{host}:{self.port}"


class Listeners(NamedTuple):
    """What the settings say: where to listen, what to tell clients, how brokers talk."""

    bound: tuple[Endpoint, ...]
    advertised: tuple[Endpoint, ...]
    """Port 0 where the bound one has it: the server puts in the real port."""
    inter_broker: str
    """Name of the listener between brokers."""
    control_plane: str | None


def parse_protocol_map(text: str) -> dict[str, str]:
    """listener.security.protocol.map: listener name -> security protocol."""
    found: dict[str, str] = {}
    for item in split_list(text):
        name, colon, protocol = (part.strip() for part in item.rpartition(":"))
        name, protocol = name.upper(), protocol.upper()
        if not colon or not name:
            raise ListenerError(
                f"listener.security.protocol.map must be a list of NAME:PROTOCOL, not {item!r}."
            )
        if protocol not in PROTOCOLS:
            raise ListenerError(
                f"listener.security.protocol.map names the protocol {protocol!r} for {name}; "
                f"there are {', '.join(PROTOCOLS)}."
            )
        if name in found:
            raise ListenerError(f"listener.security.protocol.map names {name} twice.")
        found[name] = protocol
    return found


def parse_endpoints(setting: str, text: str, protocols: Mapping[str, str]) -> tuple[Endpoint, ...]:
    """Endpoints of `listeners` or `advertised.listeners`."""
    return tuple(_parse_endpoint(setting, item, protocols) for item in split_list(text))


def _parse_endpoint(setting: str, item: str, protocols: Mapping[str, str]) -> Endpoint:
    name, separator, address = item.partition("://")
    host, colon, port = address.rpartition(":")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    digits = port.isascii() and port.isdigit()
    if not (separator and colon and digits and _HOST_CHARACTERS.issuperset(host)):
        raise ListenerError(f"{setting} holds {item!r}, which is not of the form NAME://host:port.")
    if int(port) > 65535:
        raise ListenerError(f"{setting} holds {item!r}, whose port is above 65535.")
    name = name.upper()
    if name not in protocols:
        raise ListenerError(
            f"{setting} has the listener {name}, for which listener.security.protocol.map names "
            f"no security protocol."
        )
    return Endpoint(name, protocols[name], host, int(port))


def read(value: Callable[[str], str | None], host_name: Callable[[], str]) -> Listeners:
    """Listeners of a broker from its settings (`value(name)`). Raises ListenerError.

    `host_name` is asked what to advertise for a listener on every interface.
    """
    protocols = parse_protocol_map(value("listener.security.protocol.map") or "")
    bound = parse_endpoints("listeners", value("listeners") or "", protocols)
    # Listeners of a KRaft controller are not the broker's.
    if value("process.roles"):
        foreign = {name.upper() for name in split_list(value("controller.listener.names") or "")}
        bound = tuple(endpoint for endpoint in bound if endpoint.name not in foreign)
    if not bound:
        raise ListenerError("listeners must name at least one address to listen on.")
    _check_distinct("listeners", bound)
    _check_ports(bound)
    told = value("advertised.listeners")
    if told is None:
        advertised = tuple(e if e.host else e._replace(host=host_name()) for e in bound)
    else:
        advertised = parse_endpoints("advertised.listeners", told, protocols)
        _check_distinct("advertised.listeners", advertised)
    _check_advertised(bound, advertised)
    inter_broker = _inter_broker(value, protocols, advertised)
    control = value("control.plane.listener.name")
    if control is not None:
        control = control.upper()
        if control == inter_broker or control not in {e.name for e in bound}:
            raise ListenerError(
                f"control.plane.listener.name is {control}, which must be one of the listeners and "
                f"not the one between brokers."
            )
    return Listeners(bound, advertised, inter_broker, control)


def _check_distinct(setting: str, endpoints: tuple[Endpoint, ...]) -> None:
    names = [endpoint.name for endpoint in endpoints]
    for name in names:
        if names.count(name) > 1:
            raise ListenerError(f"{setting} names the listener {name} twice.")


def _check_ports(bound: tuple[Endpoint, ...]) -> None:
    """A port serves one listener; or two, one on an IPv4 and one on an IPv6 address (KIP-797)."""
    by_port: dict[int, list[Endpoint]] = {}
    for endpoint in bound:
        if endpoint.port:
            by_port.setdefault(endpoint.port, []).append(endpoint)
    for port, sharing in by_port.items():
        if len(sharing) == 1:
            continue
        families = sorted(":" in endpoint.host for endpoint in sharing)
        numeric = all(_is_address(endpoint.host) for endpoint in sharing)
        if families != [False, True] or not numeric:
            raise ListenerError(f"listeners uses the port {port} twice.")


def _is_address(host: str) -> bool:
    return ":" in host or (host.count(".") == 3 and host.replace(".", "").isdigit())


def _check_advertised(bound: tuple[Endpoint, ...], advertised: tuple[Endpoint, ...]) -> None:
    names = {endpoint.name for endpoint in bound}
    strange = [endpoint.name for endpoint in advertised if endpoint.name not in names]
    if strange:
        raise ListenerError(
            f"advertised.listeners names {', '.join(strange)}, but listeners has only "
            f"{', '.join(sorted(names))}."
        )
    for endpoint in advertised:
        if endpoint.host in ("0.0.0.0", "::"):
            raise ListenerError(
                f"advertised.listeners cannot tell clients the address {endpoint.host}: no client "
                f"can connect to it; name the host instead."
            )
        if not endpoint.host:
            raise ListenerError(
                f"advertised.listeners names no host for {endpoint.name}: clients need one."
            )


def _inter_broker(
    value: Callable[[str], str | None],
    protocols: Mapping[str, str],
    advertised: tuple[Endpoint, ...],
) -> str:
    name = value("inter.broker.listener.name")
    if name is not None:
        name = name.upper()
        if name not in protocols:
            raise ListenerError(
                f"inter.broker.listener.name is {name}, for which listener.security.protocol.map "
                f"names no security protocol."
            )
    else:
        # Kafka names the listener like the protocol.
        name = value("security.inter.broker.protocol") or "PLAINTEXT"
    if name not in {endpoint.name for endpoint in advertised}:
        raise ListenerError(
            f"The listener between brokers is {name} (inter.broker.listener.name or "
            f"security.inter.broker.protocol), but it is not among the advertised ones."
        )
    return name
