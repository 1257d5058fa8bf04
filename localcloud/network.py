"""Addresses, and what reaches them.

Two ways, one interface (``Bridge`` and ``Forward``):

- *bridge*: the machines are on a podman network of their own, and an instance's public address is its container's.
  Security groups are a packet filter inside the container's network namespace, set from here. Needs root.
- *forward*: an instance's public address is one of 127.0.1.0/24, where this process listens on a few ports and passes
  connections on, as far as a security group lets it. Works without root; no instance metadata, no other ports.
"""

from __future__ import annotations

import contextlib
import errno
import ipaddress
import os
import re
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from localcloud import podman
from localcloud.firewall import Rule, ruleset
from localcloud.settings import CloudError, claim

#: Ports that *forward* offers on an instance's address: ssh, HTTP, HTTPS, Jupyter.
FORWARDED = (22, 80, 443, 8888)

METADATA_ADDRESS = "169.254.169.254"


class Network(Protocol):
    """How machines are reached."""

    #: Its name among the settings: ``bridge`` or ``forward``.
    kind: str
    #: The address of this computer as the machines see it: for downloads, and for `checkip`.
    gateway: str
    #: Words for `podman run`, but for the address.
    options: list[str]

    def open(self) -> None:
        """Make what the machines need; called once, before the first machine."""

    def close(self) -> None:
        """Take it away."""

    def new_address(self) -> str:
        """A public address that no machine had before."""

    def address_options(self, address: str | None, mac: str) -> list[str]:
        """Words for `podman run` that give a machine this address, and its network interface this one."""

    def moved(self, container: str, address: str | None, mac: str) -> None:
        """A machine gets another address, before it starts or while it runs."""

    def up(
        self, container: str, pid: int, address: str | None, rules: list[Rule], inside: ipaddress.IPv4Interface | None
    ) -> socket.socket | None:
        """A machine runs: guard it, and give it its private address, where it has one and there can be one.

        Returns:
            a listening socket for its metadata service, where there can be one.
        """

    def guard(self, container: str, rules: list[Rule]) -> None:
        """The rules of a running machine changed."""

    def down(self, container: str) -> None:
        """A machine stopped."""


def _addresses(prefix: str) -> Iterator[str]:
    yield from (f"{prefix}{last}" for last in range(10, 250))


class _Pool:
    """Addresses, each given out anew only when all others were: a new machine is not mistaken for an old one."""

    def __init__(self, prefix: str) -> None:
        self._prefix = prefix
        self._rest = _addresses(prefix)
        self._lock = threading.Lock()

    def __call__(self) -> str:
        with self._lock:
            for address in self._rest:
                return address
            self._rest = _addresses(self._prefix)
            return next(self._rest)


class Bridge:
    """A podman network of our own on a subnet that nothing else on this computer uses."""

    kind = "bridge"

    def __init__(self, name: str) -> None:
        self.name = f"localcloud-{name}"
        self.options = ["--network", self.name]
        self._pids: dict[str, int] = {}
        self._private: dict[str, tuple[int, str]] = {}
        self.gateway = ""

    def open(self) -> None:
        podman.run("network", "rm", "--force", self.name, check=False)
        subnet = self._create()
        self.gateway = str(next(subnet.hosts()))
        self.new_address = _Pool(self.gateway.rpartition(".")[0] + ".")
        self._make_bridge()

    def _create(self) -> ipaddress.IPv4Network:
        """Make the network on the first subnet that is free; another cloud may look for one at the same moment."""
        taken = list(_taken_networks())
        for third in range(7, 256):
            subnet = ipaddress.IPv4Network(f"10.213.{third}.0/24")
            if any(subnet.overlaps(other) for other in taken):
                continue
            try:
                podman.run("network", "create", "--disable-dns", "--subnet", str(subnet), self.name)
            except podman.PodmanError as error:
                if "already used" not in str(error):
                    raise
                continue
            return subnet
        raise CloudError("every network of 10.213.0.0/16 is in use on this computer: there is no room for machines")

    def _make_bridge(self) -> None:
        """Podman makes the bridge with the first container; we listen on its address before that."""
        podman.run("run", "--rm", *self.options, "--rootfs", _empty_root(), "/nothing", check=False)

    def close(self) -> None:
        podman.run("network", "rm", "--force", self.name, check=False)

    def address_options(self, address: str | None, mac: str) -> list[str]:
        # A machine without a public address still needs one of its own; the pool's are nobody else's. A new hardware
        # address at each boot would make it deaf for half a minute, until its neighbors have noticed.
        return ["--ip", address or self.new_address(), "--mac-address", mac]

    def moved(self, container: str, address: str | None, mac: str) -> None:
        # Podman takes back each address that it finds, and fails at one that it has not given.
        pid, private = self._private.pop(container, (0, ""))
        if Path(f"/proc/{pid}/ns/net").exists():  # a stopped machine has none
            _inside(pid, ["ip", "address", "delete", private, "dev", "eth0"])
        podman.run("network", "disconnect", self.name, container)
        podman.run("network", "connect", *self.address_options(address, mac), self.name, container)
        if address:
            subprocess.run(["ip", "neighbor", "flush", "to", address], capture_output=True, check=False)

    def up(
        self, container: str, pid: int, address: str | None, rules: list[Rule], inside: ipaddress.IPv4Interface | None
    ) -> socket.socket | None:
        self._pids[container] = pid
        self._private.pop(container, None)
        self.guard(container, rules)
        # Machines talk to each other by their private addresses. Where this computer needs one of that network for
        # itself, its name server for instance, they would lose it: they have the public ones, too.
        if inside and not any(inside.network.overlaps(other) for other in _taken_networks()):
            _inside(pid, ["ip", "address", "replace", str(inside), "dev", "eth0"])
            self._private[container] = pid, str(inside)
        _inside(pid, ["ip", "address", "replace", f"{METADATA_ADDRESS}/32", "dev", "lo"])
        return _listen_inside(pid, METADATA_ADDRESS, 80)

    def guard(self, container: str, rules: list[Rule]) -> None:
        _inside(self._pids[container], ["nft", "--file", "-"], ruleset(rules))

    def down(self, container: str) -> None:
        self._pids.pop(container, None)


class Forward:
    """Loopback addresses and a small proxy."""

    kind = "forward"
    gateway = "127.0.0.1"

    def __init__(self) -> None:
        # The machines reach this computer's loopback under the name host.containers.internal.
        self.options = ["--network", "slirp4netns:allow_host_loopback=true"] if not podman.rootful() else []
        self._doors: dict[str, list[Door]] = {}
        self._claim: socket.socket | None = None

    def open(self) -> None:
        """Take 254 loopback addresses that no other cloud has, and see whether we may listen on them."""
        for third in range(1, 256):
            self._claim = claim(f"forward-{third}")
            if self._claim:
                break
        else:
            raise CloudError("there are 255 local clouds on this computer's loopback addresses: stop one")
        self.new_address = _Pool(f"127.0.{third}.")
        for port in FORWARDED:
            with _listen(f"127.0.{third}.254", port):
                """It works."""

    def close(self) -> None:
        for container in list(self._doors):
            self.down(container)
        if self._claim:
            self._claim.close()

    def address_options(self, address: str | None, mac: str) -> list[str]:
        if podman.rootful():
            return []
        # Without root a container has no address that we could connect to: podman publishes each port on loopback.
        return [word for port in FORWARDED for word in ("--publish", f"127.0.0.1::{port}")]

    def moved(self, container: str, address: str | None, mac: str) -> None:
        """The doors move with the next `up`."""

    def up(
        self, container: str, pid: int, address: str | None, rules: list[Rule], inside: ipaddress.IPv4Interface | None
    ) -> socket.socket | None:
        self.down(container)
        if address:
            targets = self._targets(container)
            self._doors[container] = [
                Door(address, port, targets[port], rules) for port in FORWARDED if port in targets
            ]
        return None

    @staticmethod
    def _targets(container: str) -> dict[int, tuple[str, int]]:
        """Where each port of a machine really is."""
        if podman.rootful():
            there = podman.run("inspect", "--format", "{{.NetworkSettings.IPAddress}}", container).strip()
            return {port: (there, port) for port in FORWARDED}
        found = re.findall(r"^(\d+)/tcp -> 127\.0\.0\.1:(\d+)$", podman.run("port", container), re.MULTILINE)
        return {int(port): ("127.0.0.1", int(published)) for port, published in found}

    def guard(self, container: str, rules: list[Rule]) -> None:
        for door in self._doors.get(container, []):
            door.rules = rules

    def down(self, container: str) -> None:
        for door in self._doors.pop(container, []):
            door.close()


@dataclass
class Door:
    """One port of one loopback address, passed on to a machine while a rule lets it in."""

    address: str
    port: int
    target: tuple[str, int]
    rules: list[Rule]

    def __post_init__(self) -> None:
        self._listener = _listen(self.address, self.port)
        threading.Thread(target=self._serve, name=f"door-{self.address}:{self.port}", daemon=True).start()

    def close(self) -> None:
        """Stop listening; connections that are open live on."""
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _serve(self) -> None:
        while True:
            try:
                visitor, (source, _port) = self._listener.accept()
            except OSError:
                return
            if any(rule.admits("tcp", self.port, source) for rule in self.rules):
                threading.Thread(target=self._pass_on, args=(visitor,), daemon=True).start()
            else:
                _reset(visitor)

    def _pass_on(self, visitor: socket.socket) -> None:
        try:
            machine = socket.create_connection(self.target, timeout=10)
        except OSError:
            _reset(visitor)
            return
        machine.settimeout(None)
        back = threading.Thread(target=_pump, args=(machine, visitor), daemon=True)
        back.start()
        _pump(visitor, machine)
        back.join()
        visitor.close()
        machine.close()


def _pump(source: socket.socket, sink: socket.socket) -> None:
    """Carry bytes until the source ends; then tell the sink."""
    with contextlib.suppress(OSError):
        while data := source.recv(1 << 16):
            sink.sendall(data)
    with contextlib.suppress(OSError):
        sink.shutdown(socket.SHUT_WR)


def _listen(address: str, port: int) -> socket.socket:
    """A listening socket.

    Raises:
        CloudError: it cannot be had; the text says what to do.
    """
    try:
        return socket.create_server((address, port), backlog=64)
    except OSError as error:
        hint = {
            errno.EACCES: f". Let every user listen on it: sudo sysctl net.ipv4.ip_unprivileged_port_start={port}",
            errno.EADDRINUSE: ". A server that listens on all addresses, as sshd does, holds it: see `ss -tlnp`",
        }
        raise CloudError(
            f"network 'forward' cannot listen on {address}:{port}: {error.strerror}{hint.get(error.errno, '')}"
        ) from error


def _reset(connection: socket.socket) -> None:
    """Refuse, as a closed port does."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")
    connection.close()


def _empty_root() -> str:
    """A folder that serves as a container's empty root."""
    folder = podman.CACHE / "empty"
    folder.mkdir(parents=True, exist_ok=True)
    return str(folder)


def _taken_networks() -> Iterator[ipaddress.IPv4Network]:
    """Everything that this computer reaches in a way of its own: routes, name servers, proxies."""
    routes = subprocess.run(["ip", "-4", "route"], capture_output=True, text=True, check=False).stdout
    proxies = " ".join(value for key, value in os.environ.items() if key.lower().endswith("_proxy"))
    try:
        with open("/etc/resolv.conf", encoding="utf-8") as file:  # noqa: PTH123
            servers = file.read()
    except OSError:
        servers = ""
    for text in (routes, servers, proxies):
        for found in re.findall(r"\b\d{1,3}(?:\.\d{1,3}){3}(?:/\d+)?\b", text):
            try:
                yield ipaddress.IPv4Network(found, strict=False)
            except ValueError:
                continue


def _inside(pid: int, command: list[str], text: str | None = None) -> None:
    """Run one of this computer's programs in the network namespace of a process."""
    done = subprocess.run(
        ["nsenter", "--target", str(pid), "--net", *command], input=text, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise CloudError(f"{command[0]} in a machine's network: {done.stderr.strip()}")


def _listen_inside(pid: int, address: str, port: int) -> socket.socket:
    """A socket that listens in another process's network namespace, and is served from here.

    A socket stays in the namespace that it was made in; so a thread goes there, makes one, and ends.
    """
    made: list[socket.socket | OSError] = []

    def make() -> None:
        try:
            with open(f"/proc/{pid}/ns/net") as namespace:  # noqa: PTH123
                os.setns(namespace.fileno(), os.CLONE_NEWNET)
            made.append(socket.create_server((address, port), backlog=16))
        except OSError as error:
            made.append(error)

    thread = threading.Thread(target=make, name="listen-inside")
    thread.start()
    thread.join()
    if isinstance(made[0], OSError):
        raise CloudError(f"cannot serve instance metadata: {made[0]}")
    return made[0]


def choose(name: str, wish: str | None = None) -> Network:
    """The network for a cloud: what is wished for (``bridge`` or ``forward``), or what this user can have."""
    kind = wish or os.environ.get("LOCALCLOUD_NETWORK") or ("bridge" if podman.rootful() else "forward")
    makers: dict[str, Callable[[], Any]] = {"bridge": lambda: Bridge(name), "forward": Forward}
    if kind not in makers:
        raise CloudError(f"network: '{kind}' is unknown; it is one of {', '.join(makers)}")
    if kind == "bridge" and not podman.rootful():
        raise CloudError("network: 'bridge' needs root; without root use 'forward' (the default)")
    return makers[kind]()
