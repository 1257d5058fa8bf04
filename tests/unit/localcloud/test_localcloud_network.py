"""Addresses, subnets, and the doors that pass connections on."""

from __future__ import annotations

import ipaddress
import os
import socket
import threading
from collections.abc import Iterator

import pytest

from localcloud import network
from localcloud.firewall import Rule
from localcloud.podman import PodmanError
from localcloud.settings import CloudError

LOCAL = Rule("tcp", None, None, ("127.0.0.0/8",))


def test_an_address_comes_back_only_after_all_others():
    pool = network._Pool("10.0.0.")
    first = [pool() for _ in range(240)]
    assert first[0] == "10.0.0.10"
    assert len(set(first)) == 240
    assert pool() == "10.0.0.10"


def test_a_machine_without_a_public_address_gets_one_that_nobody_else_has(pod):
    bridge = network.Bridge("lab")
    bridge.new_address = network._Pool("10.213.7.")
    mac = "02:00:00:00:00:01"
    assert bridge.address_options("10.213.7.99", mac) == ["--ip", "10.213.7.99", "--mac-address", mac]
    assert bridge.address_options(None, mac) == ["--ip", "10.213.7.10", "--mac-address", mac]
    assert bridge.new_address() == "10.213.7.11"


def test_a_private_address_is_given_where_this_computer_needs_none_of_its_network(monkeypatch, taken, pod):
    commands: list[list[str]] = []
    monkeypatch.setattr(network, "_inside", lambda _pid, command, *_: commands.append(command))
    monkeypatch.setattr(network, "_listen_inside", lambda *_: None)
    private, given = (
        ipaddress.IPv4Interface("172.31.0.5/16"),
        ["ip", "address", "replace", "172.31.0.5/16", "dev", "eth0"],
    )
    bridge = network.Bridge("lab")
    bridge.up("one", os.getpid(), "10.213.7.10", [], private)
    commands.clear()
    bridge.moved("one", "10.213.7.99", "02:00:00:00:00:01")
    assert commands == [["ip", "address", "delete", "172.31.0.5/16", "dev", "eth0"]], "podman has not given it"
    commands.clear()
    taken.append(ipaddress.IPv4Network("172.31.0.2/32"))
    network.Bridge("lab").up("two", 2, "10.213.7.11", [], private)
    assert commands and given not in commands


@pytest.fixture
def taken(monkeypatch, tmp_path) -> list[ipaddress.IPv4Network]:
    """Networks that this computer uses."""
    used: list[ipaddress.IPv4Network] = []
    monkeypatch.setattr(network, "_taken_networks", lambda: iter(used))
    monkeypatch.setattr(network.podman, "CACHE", tmp_path)
    return used


def test_the_bridge_takes_the_first_subnet_that_nothing_overlaps(pod, taken):
    taken += [ipaddress.IPv4Network("10.213.7.0/24"), ipaddress.IPv4Network("10.213.8.77/32")]
    bridge = network.Bridge("lab")
    bridge.open()
    assert bridge.gateway == "10.213.9.1"
    assert bridge.new_address() == "10.213.9.10"
    (created,) = pod.called("network", "create")
    assert created[-1] == "localcloud-lab"


def test_a_subnet_that_another_cloud_has_just_taken_is_passed_over(pod, taken, monkeypatch):
    def run(*words: str, **others: bool) -> str:
        if words[:2] == ("network", "create") and "10.213.7.0/24" in words:
            raise PodmanError("podman network: subnet 10.213.7.0/24 is already used on the host or by another config")
        return pod.run(*words, **others)

    monkeypatch.setattr(network.podman, "run", run)
    bridge = network.Bridge("lab")
    bridge.open()
    assert bridge.gateway == "10.213.8.1"


def test_no_room_and_other_failures_are_told(pod, taken):
    pod.answers["network", "create"] = PodmanError("podman network: permission denied")
    with pytest.raises(PodmanError, match="permission denied"):
        network.Bridge("lab").open()
    taken.append(ipaddress.IPv4Network("10.0.0.0/8"))
    with pytest.raises(CloudError, match="there is no room for machines"):
        network.Bridge("lab").open()


def test_routes_name_servers_and_proxies_are_taken(monkeypatch):
    monkeypatch.setenv("HTTPS_PROXY", "http://10.213.7.5:3128")
    monkeypatch.setenv("other_proxy", "http://not.an.address:1")
    assert ipaddress.IPv4Network("10.213.7.5/32") in list(network._taken_networks())


def test_the_kind_of_network_is_wished_for_or_what_the_user_can_have(monkeypatch):
    monkeypatch.delenv("LOCALCLOUD_NETWORK", raising=False)
    monkeypatch.setattr(network.podman, "rootful", lambda: False)
    assert network.choose("lab").kind == "forward"
    with pytest.raises(CloudError, match="'bridge' needs root"):
        network.choose("lab", "bridge")
    with pytest.raises(CloudError, match="'carrier-pigeon' is unknown; it is one of bridge, forward"):
        network.choose("lab", "carrier-pigeon")
    monkeypatch.setattr(network.podman, "rootful", lambda: True)
    assert network.choose("lab").kind == "bridge"
    monkeypatch.setenv("LOCALCLOUD_NETWORK", "forward")
    assert network.choose("lab").kind == "forward"


def test_without_root_podman_publishes_and_the_doors_lead_there(pod, monkeypatch):
    monkeypatch.setattr(network.podman, "rootful", lambda: False)
    forward = network.Forward()
    assert forward.options == ["--network", "slirp4netns:allow_host_loopback=true"]
    published = forward.address_options("127.0.1.10", "02:00:00:00:00:01")
    assert published[:2] == ["--publish", "127.0.0.1::22"]
    pod.answers["port",] = "22/tcp -> 127.0.0.1:40001\n8888/tcp -> 127.0.0.1:40002\n"
    assert forward._targets("c") == {22: ("127.0.0.1", 40001), 8888: ("127.0.0.1", 40002)}


def test_two_clouds_take_different_loopback_addresses(monkeypatch):
    monkeypatch.setattr(network, "FORWARDED", (0,))
    first, second = network.Forward(), network.Forward()
    first.open()
    second.open()
    assert first.new_address().rpartition(".")[0] != second.new_address().rpartition(".")[0]
    first.close()
    second.close()


@pytest.fixture
def echo() -> Iterator[tuple[str, int]]:
    """A server that sends back what it gets, in capitals, when the visitor has finished."""
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        while True:
            try:
                visitor, _ = listener.accept()
            except OSError:
                return
            with visitor:
                text = b""
                while data := visitor.recv(1024):
                    text += data
                visitor.sendall(text.upper())

    threading.Thread(target=serve, daemon=True).start()
    yield listener.getsockname()
    listener.shutdown(socket.SHUT_RDWR)
    listener.close()


def test_a_door_passes_on_what_a_rule_lets_in_and_resets_the_rest(echo):
    door = network.Door("127.0.0.1", 0, echo, [LOCAL])
    address = door._listener.getsockname()

    def say(text: bytes) -> bytes:
        with socket.create_connection(address, timeout=5) as connection:
            connection.sendall(text)
            connection.shutdown(socket.SHUT_WR)
            return connection.recv(1024)

    assert say(b"hello") == b"HELLO"
    door.rules = []
    with pytest.raises(OSError):
        say(b"hello")
    door.rules = [LOCAL]
    assert say(b"again") == b"AGAIN"
    door.close()
    with pytest.raises(ConnectionRefusedError):
        say(b"hello")


def test_a_port_that_cannot_be_had_is_told_with_what_to_do():
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with pytest.raises(CloudError, match=rf"cannot listen on 127.0.0.1:{port}: .*see `ss -tlnp`"):
            network._listen("127.0.0.1", port)
