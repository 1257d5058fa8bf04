"""Rules of security groups, and the packet filter that they become."""

from __future__ import annotations

import shutil
import subprocess
from types import SimpleNamespace
from typing import Any

import pytest

from localcloud.firewall import Rule, rules_of, ruleset

HERE = "10.213.7.1/32"


def instance(*rules: dict[str, Any]) -> SimpleNamespace:
    """As much of moto's instance as is looked at: one interface in one group with these rules."""
    every = [SimpleNamespace(**{"ip_range": None, "source_group": None, **rule}) for rule in rules]
    group = SimpleNamespace(id="sg-1", ingress_rules=every)
    return SimpleNamespace(nics={0: SimpleNamespace(group_set=[group])})


def tcp(first: int | None, last: int | None, *sources: str, protocol: str = "tcp") -> Rule:
    return Rule(protocol, first, last, sources)


def test_ranges_of_addresses_and_of_ports():
    ssh = {"ip_protocol": "tcp", "from_port": 22, "to_port": 25, "ip_range": {"CidrIp": HERE}}
    (rule,) = rules_of(instance(ssh), {})
    assert rule == tcp(22, 25, HERE)
    admitted = [port for port in range(20, 30) if rule.admits("tcp", port, "10.213.7.1")]
    assert admitted == [22, 23, 24, 25]
    assert not rule.admits("udp", 22, "10.213.7.1")
    assert not rule.admits("tcp", 22, "10.213.7.2")


def test_a_group_as_source_means_the_addresses_of_its_machines():
    rule = {"ip_protocol": "-1", "from_port": None, "to_port": None, "source_group": {"GroupId": "sg-1"}}
    assert rules_of(instance(rule), {"sg-1": ["10.213.7.11", "10.213.7.10"]}) == [
        tcp(None, None, "10.213.7.10", "10.213.7.11", protocol="-1")
    ]
    assert rules_of(instance(rule), {}) == []


def test_protocols_by_number_and_ports_that_mean_all():
    numbered = {"ip_protocol": "6", "from_port": 22, "to_port": 22, "ip_range": {"CidrIp": HERE}}
    ping = {"ip_protocol": "icmp", "from_port": -1, "to_port": -1, "ip_range": {"CidrIp": HERE}}
    assert rules_of(instance(numbered, ping), {}) == [tcp(None, None, HERE, protocol="icmp"), tcp(22, 22, HERE)]


def test_ipv6_ranges_open_nothing():
    assert (
        rules_of(instance({"ip_protocol": "tcp", "from_port": 1, "to_port": 2, "ip_range": {"CidrIpv6": "::/0"}}), {})
        == []
    )


@pytest.mark.parametrize(
    ("rule", "line"),
    [
        (tcp(22, 22, HERE), "ip saddr { 10.213.7.1/32 } tcp dport 22-22 accept"),
        (tcp(22, 22, "0.0.0.0/0"), "tcp dport 22-22 accept"),
        (tcp(0, 65535, HERE), "ip saddr { 10.213.7.1/32 } meta l4proto tcp accept"),
        (tcp(None, None, HERE, protocol="udp"), "ip saddr { 10.213.7.1/32 } meta l4proto udp accept"),
        (tcp(8, 0, HERE, protocol="icmp"), "ip saddr { 10.213.7.1/32 } meta l4proto icmp accept"),
        (tcp(None, None, HERE, protocol="-1"), "ip saddr { 10.213.7.1/32 } accept"),
    ],
)
def test_each_rule_is_a_line_before_the_end_that_refuses(rule, line):
    lines = [each.strip() for each in ruleset([rule]).splitlines()]
    assert lines.index(line) < lines.index("meta l4proto tcp reject with tcp reset")
    assert "type filter hook input priority 0; policy drop;" in lines


def test_nothing_opens_nothing():
    assert [line.strip() for line in ruleset([]).splitlines() if line.strip().endswith("accept")] == [
        "ct state established,related accept",
        "iif lo accept",
    ]


def test_nft_understands_it():
    nft = shutil.which("nft", path="/usr/sbin:/sbin:/usr/bin")
    assert nft, "nft is not installed: run `make setup-local`"
    rules = [tcp(22, 22, HERE), tcp(None, None, "0.0.0.0/0", protocol="icmp"), tcp(0, 65535, HERE, "192.0.2.0/24")]
    done = subprocess.run(
        [nft, "--check", "--file", "-"], input=ruleset(rules), capture_output=True, text=True, check=False
    )
    assert done.returncode == 0 or "Operation not permitted" in done.stderr, done.stderr
