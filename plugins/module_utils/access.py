# Copyright: The Lightsout authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Who reaches a project's machines: the caller's own address, and what a security group lets in."""

from __future__ import annotations

import ipaddress
from contextlib import suppress
from typing import Any

from ansible_collections.lightsout.aws.plugins.module_utils.sentences import LightsoutError

#: What ``rules_of`` calls a rule for all ports of all protocols.
EVERYTHING = "-1 None-None"

#: How long the address service may take, in seconds.
CHECKIP_TIMEOUT = 5

with suppress(ImportError):  # AnsibleAWSModule says that it is missing
    # With the certificates and proxies of all that we ask AWS; ansible.module_utils.urls imports as much as boto3.
    from botocore.awsrequest import AWSRequest
    from botocore.exceptions import BotoCoreError
    from botocore.httpsession import URLLib3Session
    from botocore.utils import get_environ_proxies


def own_address(url: str) -> str:
    """The address that AWS sees us come from, as a network of one.

    Args:
        url: answers with it in plain text.

    Raises:
        LightsoutError: it does not.
    """
    session = URLLib3Session(timeout=CHECKIP_TIMEOUT, proxies=get_environ_proxies(url))
    try:
        text = session.send(AWSRequest("GET", url).prepare()).content[:100].decode("ascii", "replace").strip()
        return str(ipaddress.ip_network(text))
    except (BotoCoreError, ValueError) as error:
        raise LightsoutError(
            f"lightsout_access_cidr is 'auto', but {url} did not tell your address ({error}): give it "
            "yourself, for example `-e lightsout_access_cidr=203.0.113.7`."
        ) from error


def port_of(rule: dict[str, Any]) -> int | str:
    """What a rule is for: one TCP port; anything else is its own description."""
    first, last = rule.get("FromPort"), rule.get("ToPort")
    return first if rule.get("IpProtocol") == "tcp" and first == last else f"{rule.get('IpProtocol')} {first}-{last}"


def rules_of(group: dict[str, Any]) -> set[tuple[Any, str]]:
    """What a security group lets in, as pairs of port and source."""
    rules: set[tuple[Any, str]] = set()
    for rule in group.get("IpPermissions", []):
        sources = [r["CidrIp"] for r in rule.get("IpRanges", [])] + [r["CidrIpv6"] for r in rule.get("Ipv6Ranges", [])]
        sources += [r.get("GroupId", "a group") for r in rule.get("UserIdGroupPairs", [])]
        sources += [r["PrefixListId"] for r in rule.get("PrefixListIds", [])]
        rules |= {(port_of(rule), source) for source in sources}
    return rules


def permission(protocol: str, first: int | None, last: int | None, cidr: str) -> dict[str, Any]:
    """A rule for one network, as EC2 takes it."""
    ports = {"FromPort": first, "ToPort": last} if first is not None else {}
    source = {"Ipv6Ranges": [{"CidrIpv6": cidr}]} if ":" in cidr else {"IpRanges": [{"CidrIp": cidr}]}
    return {"IpProtocol": protocol, **ports, **source}


def corrections(
    group: dict[str, Any], wanted: set[tuple[int, str]]
) -> tuple[dict[tuple[Any, str], dict], dict[tuple[Any, str], dict]]:
    """What opens and what closes so that from outside exactly the wanted pairs of port and network get in.

    Rules for other security groups, such as the one by which the machines reach each other, stay.
    """
    are: dict[tuple[Any, str], dict] = {}
    for rule in group.get("IpPermissions", []):
        cidrs = [r["CidrIp"] for r in rule.get("IpRanges", [])] + [r["CidrIpv6"] for r in rule.get("Ipv6Ranges", [])]
        for cidr in cidrs:
            are[port_of(rule), cidr] = permission(rule["IpProtocol"], rule.get("FromPort"), rule.get("ToPort"), cidr)
    opened = {pair: permission("tcp", pair[0], pair[0], pair[1]) for pair in wanted if pair not in are}
    return opened, {pair: rule for pair, rule in are.items() if pair not in wanted}
