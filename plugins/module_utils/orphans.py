# Copyright: The Lightsout authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What nobody needs any more: it carries our tag and belongs to no living project, or hangs on nothing."""

from __future__ import annotations

import datetime
from collections.abc import Iterable
from typing import Any

from ansible_collections.lightsout.aws.plugins.module_utils import prices
from ansible_collections.lightsout.aws.plugins.module_utils.resources import Resource

#: What serves something else and never stands alone. A project that has anything but these in a region lives there:
#: machines of every kind, images, which are kept on purpose, and whatever this list does not know yet.
PARTS = frozenset(
    {
        "address",
        "network_interface",
        "volume",
        "snapshot",
        "security_group",
        "key_pair",
        "instance_profile",
        "schedule_group",
        "role",
    }
)

#: USD for a GiB of a standard snapshot and a month; AWS bills only what differs from earlier ones.
SNAPSHOT_GIB_MONTH = 0.05

#: Members of AWS's descriptions that tell since when a thing exists.
_BORN = ("LaunchTime", "CreateTime", "StartTime", "CreateDate", "CreationDate", "CreationTime", "AttachTime")


def born(resource: Resource) -> datetime.datetime | None:
    """Since when a thing exists; None where AWS does not say."""
    for key in _BORN:
        value = resource.raw.get(key)
        if isinstance(value, str):
            try:
                value = datetime.datetime.fromisoformat(value)
            except ValueError:
                continue
        if isinstance(value, datetime.datetime):
            return value if value.tzinfo else value.replace(tzinfo=datetime.UTC)
    return None


def cost_month(resource: Resource) -> float | None:
    """USD a month at the list prices of our table, at most; None where nobody knows."""
    raw = resource.raw
    match resource.kind:
        case "instance":
            hourly = prices.ON_DEMAND.get(raw.get("InstanceType", ""))
            if resource.state != "running":
                return 0.0
            return None if hourly is None else hourly * prices.HOURS_PER_MONTH
        case "volume":
            return raw["Size"] * prices.GP3_GIB_MONTH
        case "snapshot":
            return raw["VolumeSize"] * SNAPSHOT_GIB_MONTH
        case "address":
            return prices.IPV4_HOUR * prices.HOURS_PER_MONTH
        case kind if kind not in PARTS:
            return None
    return 0.0


def described(resource: Resource, why: str | None = None) -> dict[str, Any]:
    """A thing for a result, with its age and cost, and why nobody needs it where that is so."""
    since, cost = born(resource), cost_month(resource)
    return {
        **resource.as_dict(),
        "since": since.astimezone(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ") if since else None,
        "cost_month": None if cost is None else round(cost, 2),
        **({"why": why} if why else {}),
    }


def loose(resource: Resource, snapshots_in_use: set[str]) -> str:
    """Why a thing of a living project hangs on nothing; empty where it is in use."""
    raw = resource.raw
    match resource.kind:
        case "volume" if resource.state == "available":
            return "a disk that no machine has"
        case "network_interface" if resource.state == "available":
            return "a network interface that no machine has"
        case "address" if not raw.get("AssociationId"):
            return "an address that no machine has"
        case "snapshot" if resource.id not in snapshots_in_use:
            return "a snapshot of no image"
    return ""


def orphans(
    resources: Iterable[Resource], now: datetime.datetime, grace: datetime.timedelta
) -> list[tuple[Resource, str]]:
    """What nobody needs, each with the reason.

    Args:
        resources: everything of ours, of all regions.
        now: the time.
        grace: what is younger may still be being made, and so may its project.
    """
    found: list[tuple[Resource, str]] = []
    groups: dict[tuple[str, str], list[Resource]] = {}
    for resource in resources:
        groups.setdefault((resource.project, resource.region), []).append(resource)
    for (project, region), members in sorted(groups.items()):
        ages = {member.key: now - since for member in members if (since := born(member))}
        if any(member.kind not in PARTS for member in members):
            used = {
                mapping["Ebs"]["SnapshotId"]
                for member in members
                if member.kind == "image"
                for mapping in member.raw.get("BlockDeviceMappings", [])
                if "SnapshotId" in mapping.get("Ebs", {})
            }
            reasons = [(member, loose(member, used)) for member in members]
            found += [(m, why) for m, why in reasons if why and ages.get(m.key, grace) >= grace]
        elif min(ages.values(), default=grace) >= grace:
            why = f"project {project} has no machine in {region}"
            found += [(member, why) for member in members]
    return found
