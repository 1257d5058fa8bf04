"""Security groups as a packet filter."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from typing import Any

#: Protocols may be given by number.
NAMES = {"1": "icmp", "6": "tcp", "17": "udp"}


@dataclass(frozen=True)
class Rule:
    """One ingress rule, with groups already replaced by the addresses of their machines.

    Attributes:
        protocol: ``tcp``, ``udp``, ``icmp``, or ``-1`` for every protocol.
        first: lowest port, None for all.
        last: highest port, None for all.
        sources: IPv4 networks that may connect.
    """

    protocol: str
    first: int | None
    last: int | None
    sources: tuple[str, ...]

    def admits(self, protocol: str, port: int, source: str) -> bool:
        """Whether a connection may come in."""
        if self.protocol not in ("-1", protocol):
            return False
        if self.protocol != "-1" and self.first is not None and not self.first <= port <= (self.last or self.first):
            return False
        return any(ipaddress.ip_address(source) in ipaddress.ip_network(net, strict=False) for net in self.sources)


def rules_of(instance: Any, addresses_of_group: dict[str, list[str]]) -> list[Rule]:
    """The ingress rules of a moto instance.

    Args:
        instance: moto's instance; the groups of all its network interfaces count.
        addresses_of_group: the addresses of running machines by security group id.
    """
    groups = {group.id: group for nic in instance.nics.values() for group in nic.group_set}
    rules = []
    for group in groups.values():
        for rule in group.ingress_rules:
            sources = [cidr] if (cidr := (rule.ip_range or {}).get("CidrIp")) else []
            if source_group := (rule.source_group or {}).get("GroupId"):
                sources += addresses_of_group.get(source_group, [])
            if sources:
                ports = (None, None) if rule.from_port in (None, -1) else (rule.from_port, rule.to_port)
                protocol = NAMES.get(str(rule.ip_protocol), str(rule.ip_protocol))
                rules.append(Rule(protocol, *ports, tuple(sorted(sources))))
    return sorted(set(rules), key=repr)


def ruleset(rules: list[Rule]) -> str:
    """The rules for ``nft -f -``: stateful, closed but for what a rule opens.

    Closed means refused (TCP reset) rather than dropped: EC2 drops, but a test that waits for a time-out learns nothing
    more than one that is told at once.
    """
    lines = []
    for rule in rules:
        source = f"ip saddr {{ {', '.join(rule.sources)} }}"
        if "0.0.0.0/0" in rule.sources:
            source = ""
        match rule.protocol:
            case "-1":
                what = ""
            case "icmp":
                what = "meta l4proto icmp"
            case protocol if rule.first is None or (rule.first, rule.last) == (0, 65535):
                what = f"meta l4proto {protocol}"
            case protocol:
                what = f"{protocol} dport {rule.first}-{rule.last}"
        lines.append(" ".join(word for word in (source, what, "accept") if word))
    body = "\n    ".join(lines)
    return f"""
table inet security_groups
delete table inet security_groups
table inet security_groups {{
  chain input {{
    type filter hook input priority 0; policy drop;
    ct state established,related accept
    iif lo accept
    {body}
    meta l4proto tcp reject with tcp reset
    reject
  }}
}}
"""
