# Copyright: The Lightsout authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What of ours nobody uses any more: all that a dead project has left, and what a living one has lost sight of."""

from __future__ import annotations

import datetime
import re
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from ansible_collections.lightsout.aws.plugins.module_utils.naming import TAG_EXPIRES, TAG_OWNER
from ansible_collections.lightsout.aws.plugins.module_utils.prices import HOURS_PER_MONTH
from ansible_collections.lightsout.aws.plugins.module_utils.resources import KINDS, Resource, as_dict


@dataclass(frozen=True)
class Leftover:
    """One thing that nobody uses.

    Attributes:
        why: the reason, for people.
    """

    resource: Resource
    why: str

    @property
    def month(self) -> float:
        """What it costs in a month, in USD; nothing where nobody knows."""
        return KINDS[self.resource.kind].month(self.resource) or 0.0

    def as_dict(self) -> dict[str, Any]:
        """For a module's result."""
        return {**described(self.resource), "why": self.why}


def described(resource: Resource, now: datetime.datetime | None = None) -> dict[str, Any]:
    """A thing for a module's result, with whose it is, its age and its cost."""
    kind, since = KINDS[resource.kind], since_when(resource)
    cost = kind.month(resource)
    hour = None if cost is None else cost / HOURS_PER_MONTH
    age = ((now or datetime.datetime.now(datetime.UTC)) - since).total_seconds() / 3600 if since else None
    return {
        **as_dict(resource),
        "size": kind.size(resource),
        "owner": resource.tags.get(TAG_OWNER),
        "expires": resource.tags.get(TAG_EXPIRES),
        "since": since.astimezone(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ") if since else None,
        "cost_hour": None if hour is None else round(hour, 5),
        "cost_month": None if cost is None else round(cost, 2),
        "spent": None if hour is None or age is None else round(hour * max(age, 0.0), 4),
    }


def since_when(resource: Resource) -> datetime.datetime | None:
    """Since when it is in its present state, as far as AWS says; else since when it exists."""
    stopped = re.search(r"\((\d{4}-\d\d-\d\d \d\d:\d\d:\d\d) \w+\)", resource.raw.get("StateTransitionReason") or "")
    if resource.kind == "instance" and resource.state == "stopped" and stopped:
        return datetime.datetime.fromisoformat(stopped[1]).replace(tzinfo=datetime.UTC)
    return born(resource)


def born(resource: Resource) -> datetime.datetime | None:
    """When it was made, or last started; None when AWS does not say."""
    member = KINDS[resource.kind].born
    when = resource.raw.get(member) if member else None
    when = datetime.datetime.fromisoformat(when) if isinstance(when, str) else when
    return when.replace(tzinfo=datetime.UTC) if when and not when.tzinfo else when


def leftovers(
    found: Iterable[Resource], now: datetime.datetime, min_age: datetime.timedelta
) -> tuple[list[Leftover], list[str]]:
    """What nobody uses.

    A project lives in a region while it has a machine, running or stopped, or whatever else it is kept for there. What
    was made less than ``min_age`` ago may be half of something that is being made.

    Args:
        found: everything of ours, of all projects and regions.
        now: the time, with its zone.

    Returns:
        the leftovers, and the names of projects that are too young to be judged.
    """
    places: dict[tuple[str, str], list[Resource]] = defaultdict(list)
    for resource in found:
        places[resource.project, resource.region].append(resource)
    left, young = [], []
    for (project, _region), mine in sorted(places.items()):
        alive = any(KINDS[resource.kind].alive and not resource.leaving for resource in mine)
        dates = {resource.key: born(resource) for resource in mine}
        recent = {key for key, date in dates.items() if date and now - date < min_age}
        if not alive and recent:
            young.append(project)
            continue
        for resource in mine:
            why = KINDS[resource.kind].unused(resource, mine) if alive else "its project has no machine any more"
            if why and not resource.leaving and resource.key not in recent:
                left.append(Leftover(resource, why))
    return left, sorted(set(young))
