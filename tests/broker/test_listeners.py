"""Listeners: how they are written, and how they must fit together."""

import pytest

from broker.listeners import Endpoint, ListenerError, Listeners, read

MAP = "SASL_SSL:SASL_SSL,PLAINTEXT:PLAINTEXT,SSL:SSL,SASL_PLAINTEXT:SASL_PLAINTEXT"


def made(**settings: str) -> Listeners:
    given = {"listener.security.protocol.map": MAP, "listeners": "PLAINTEXT://h:9092"}
    given |= {name.replace("_", "."): text for name, text in settings.items()}
    return read(given.get, lambda: "this-host")


def test_one_listener() -> None:
    found = made()
    assert found.bound == (Endpoint("PLAINTEXT", "PLAINTEXT", "h", 9092),)
    assert found.advertised == found.bound
    assert found.inter_broker == "PLAINTEXT"
    assert found.control_plane is None


def test_names_are_in_capitals_and_mapped() -> None:
    found = made(
        listeners="inside://10.0.0.1:9092, Outside://[::1]:9093",
        listener_security_protocol_map="inside:plaintext,OUTSIDE:SSL",
        inter_broker_listener_name="Inside",
    )
    assert [(e.name, e.protocol, e.host, e.port) for e in found.bound] == [
        ("INSIDE", "PLAINTEXT", "10.0.0.1", 9092),
        ("OUTSIDE", "SSL", "::1", 9093),
    ]
    assert found.inter_broker == "INSIDE"
    assert str(found.bound[1]) == "OUTSIDE://[::1]:9093"


def test_an_empty_host_is_advertised_by_the_name_of_this_one() -> None:
    found = made(listeners="PLAINTEXT://:0")
    assert found.bound[0].host == ""
    assert found.advertised == (Endpoint("PLAINTEXT", "PLAINTEXT", "this-host", 0),)


def test_advertised_addresses() -> None:
    found = made(
        listeners="PLAINTEXT://0.0.0.0:9092", advertised_listeners="PLAINTEXT://example.org:80"
    )
    assert found.advertised == (Endpoint("PLAINTEXT", "PLAINTEXT", "example.org", 80),)


def test_a_port_for_both_address_families() -> None:
    both = "A://127.0.0.1:1,B://[::1]:1"
    names = {"listener_security_protocol_map": "A:PLAINTEXT,B:PLAINTEXT"}
    found = made(listeners=both, inter_broker_listener_name="A", **names)
    assert len(found.bound) == 2


def test_controllers_listeners_are_not_the_brokers() -> None:
    found = made(
        listeners="PLAINTEXT://h:9092,CONTROLLER://h:9093",
        listener_security_protocol_map=f"{MAP},CONTROLLER:PLAINTEXT",
        process_roles="broker,controller",
        controller_listener_names="CONTROLLER",
    )
    assert [e.name for e in found.bound] == ["PLAINTEXT"]


TWO = {"listeners": "A://h:1,B://h:2", "listener_security_protocol_map": "A:PLAINTEXT,B:PLAINTEXT"}


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"listeners": "PLAINTEXT://h"}, "not of the form"),
        ({"listeners": "PLAINTEXT:h:1"}, "not of the form"),
        ({"listeners": "PLAINTEXT://h:x"}, "not of the form"),
        ({"listeners": "PLAINTEXT://h h:1"}, "not of the form"),
        ({"listeners": "PLAINTEXT://h:70000"}, "above 65535"),
        ({"listeners": "NEW://h:1"}, "no security protocol"),
        ({"listeners": ""}, "at least one"),
        ({"listeners": "PLAINTEXT://h:1,PLAINTEXT://h:2"}, "names the listener PLAINTEXT twice"),
        ({"listeners": "PLAINTEXT://h:1,SSL://h:1"}, "port 1 twice"),
        ({"listeners": "PLAINTEXT://127.0.0.1:1,SSL://127.0.0.2:1"}, "port 1 twice"),
        ({"listeners": "PLAINTEXT://0.0.0.0:1"}, "no client can connect"),
        ({"advertised_listeners": "PLAINTEXT://:1"}, "names no host"),
        ({"advertised_listeners": "SSL://h:1"}, "but listeners has only PLAINTEXT"),
        ({"advertised_listeners": "PLAINTEXT://h:1,PLAINTEXT://h:2"}, "twice"),
        ({"listener_security_protocol_map": "PLAINTEXT"}, "NAME:PROTOCOL"),
        ({"listener_security_protocol_map": "PLAINTEXT:TCP"}, "names the protocol 'TCP'"),
        ({"listener_security_protocol_map": "A:SSL,a:SSL"}, "names A twice"),
        ({"inter_broker_listener_name": "X"}, "names no security protocol"),
        ({"inter_broker_listener_name": "SSL"}, "not among the advertised"),
        ({"security_inter_broker_protocol": "SSL"}, "not among the advertised"),
        ({**TWO, "inter_broker_listener_name": "A", "control_plane_listener_name": "A"}, "control"),
        ({**TWO, "inter_broker_listener_name": "A", "control_plane_listener_name": "C"}, "control"),
    ],
)
def test_what_cannot_be(settings: dict[str, str], sentence: str) -> None:
    with pytest.raises(ListenerError, match=sentence):
        made(**settings)


def test_a_listener_for_the_controller() -> None:
    found = made(**TWO, inter_broker_listener_name="A", control_plane_listener_name="b")
    assert found.control_plane == "B"
