# Copyright: The Lightsout authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Names, tags and leases: how a thing on AWS says that it is ours, whose it is and until when.

There is no state file. These names and tags are all that a second run, another laptop or a teardown has to go by.
"""

from __future__ import annotations

import datetime
import re

TAG_PROJECT = "lightsout:project"
TAG_OWNER = "lightsout:owner"
TAG_EXPIRES = "lightsout:expires"
TAG_SCHEMA = "lightsout:schema"
TAG_USER = "lightsout:user"
TAG_IMAGE = "lightsout:image"
#: How people reach Jupyter (role access), and the machine's ssh host key, as known_hosts has it without the name.
TAG_ACCESS = "lightsout:access"
TAG_HOST_KEY = "lightsout:hostkey"

#: Raised when the meaning of the tags changes, so that an old controller can tell.
SCHEMA = "1"

_PROJECT = re.compile(r"[a-z](?:[a-z0-9]|-(?!-)){0,30}[a-z0-9]")
_SPAN = re.compile(r"(\d+)\s*([smhd])")
_SPAN_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}

#: A lease shorter than this is over before a machine is configured; one longer than a year is a slip of the pen.
SHORTEST_LEASE = datetime.timedelta(minutes=10)
LONGEST_LEASE = datetime.timedelta(days=366)


def project_problem(project: str) -> str | None:
    """What is wrong with a project's name, as the end of a sentence; None when nothing is."""
    if not project:
        return "is empty; give the project a name of lower-case letters, digits and single hyphens, for example 'lab'"
    if _PROJECT.fullmatch(project):
        return None
    return (
        "is not a project name: use 2 to 32 lower-case letters, digits and single hyphens, "
        "beginning with a letter and not ending with a hyphen, for example 'my-lab'"
    )


def resource_name(project: str, noun: str) -> str:
    """The AWS name of one of a project's things, for example ``lightsout-lab-key``."""
    return f"lightsout-{project}-{noun}"


def machine_name(project: str, number: int = 1) -> str:
    """The name of one of a project's machines, counted from 1."""
    return resource_name(project, f"machine-{number}")


def machine_number(project: str, name: str) -> int | None:
    """The number in a name that ``machine_name`` gave; None for any other name."""
    found = re.fullmatch(re.escape(resource_name(project, "machine-")) + r"([1-9]\d*)", name)
    return int(found[1]) if found else None


def by_number(name: str) -> tuple[tuple[str, int], ...]:
    """The key that sorts names as people count: machine-2 comes before machine-10."""
    return tuple((text, int(digits or 0)) for text, digits in re.findall(r"(\D*)(\d*)", name))


def iam_path(region: str) -> str:
    """The IAM path of a region's roles and profiles.

    IAM is global and everything else is not: the path says which region's teardown may take them.
    """
    return f"/lightsout/{region}/"


def span_of(text: str) -> datetime.timedelta | None:
    """A length of time such as ``12h`` or ``90m``; None for what is none."""
    found = _SPAN.fullmatch(str(text).strip())
    # More than a hundred million of anything is as good as for ever, and more than a timedelta holds.
    return datetime.timedelta(**{_SPAN_UNITS[found[2]]: min(int(found[1]), 10**8)}) if found else None


def parse_lease(lease: str) -> datetime.timedelta:
    """Read a lease such as ``12h`` or ``90m``.

    Raises:
        ValueError: not a lease; the message is the end of a sentence.
    """
    length = span_of(lease)
    if length is None:
        raise ValueError("is not a length of time: write a number and s, m, h or d, for example '12h'")
    if not SHORTEST_LEASE <= length <= LONGEST_LEASE:
        raise ValueError("is out of range: a lease lasts at least 10 minutes (10m) and at most a year (366d)")
    return length


def expires_at(lease: str, now: datetime.datetime | None = None) -> str:
    """The end of a lease that begins now, ISO 8601 in UTC to the second."""
    now = now or datetime.datetime.now(datetime.UTC)
    return (now + parse_lease(lease)).strftime("%Y-%m-%dT%H:%M:%SZ")


def common_tags(project: str, owner: str) -> dict[str, str]:
    """The tags that everything of a project carries, but for the end of its lease."""
    return {TAG_PROJECT: project, TAG_OWNER: owner, TAG_SCHEMA: SCHEMA}


def tags_as_dict(tags: list[dict[str, str]] | None) -> dict[str, str]:
    """AWS's list of Key and Value as a dictionary."""
    return {tag["Key"]: tag["Value"] for tag in tags or []}


def tags_as_list(tags: dict[str, str]) -> list[dict[str, str]]:
    """A dictionary as AWS's list of Key and Value."""
    return [{"Key": key, "Value": value} for key, value in tags.items()]


def tags_to_set(current: dict[str, str], wanted: dict[str, str]) -> dict[str, str]:
    """Those of the wanted tags that are missing or differ; other people's tags are left alone."""
    return {key: value for key, value in wanted.items() if current.get(key) != value}
