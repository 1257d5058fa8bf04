# Copyright: The Lightsout authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What can be said about the settings without asking AWS.

Every check returns sentences that name the variable, its value and what is right.
"""

from __future__ import annotations

import ipaddress
import re
from typing import Any

try:
    from botocore.loaders import create_loader
except ImportError:  # AnsibleAWSModule says it when the module starts
    create_loader = None

from ansible_collections.lightsout.aws.plugins.module_utils.budgets import (
    EMAIL,
    MOST_EMAILS,
    differences,
    wanted_alerts,
)
from ansible_collections.lightsout.aws.plugins.module_utils.images import IMAGES, is_ami_id, login_user_of
from ansible_collections.lightsout.aws.plugins.module_utils.naming import parse_lease, project_problem
from ansible_collections.lightsout.aws.plugins.module_utils.sentences import LightsoutError, did_you_mean, explain

#: The word that asks for the caller's own address.
AUTO = "auto"

#: Networks wider than this are the whole world for practical purposes.
_WORLD_V4, _WORLD_V6 = 8, 16

#: gp3's own limits, in GiB.
SMALLEST_VOLUME, LARGEST_VOLUME = 1, 16384

#: More machines than this are a slip of the pen.
LARGEST_COUNT = 100

#: How machines are placed in relation to each other.
PLACEMENTS = ("cluster", "none")

_INSTANCE_TYPE = re.compile(r"[a-z][a-z0-9-]*\.[a-z0-9-]+")
_TAG_VALUE = re.compile(r"[\w\s.:/=+\-@]{1,256}")
_SUBNET_ID = re.compile(r"subnet-[0-9a-f]{8,17}")


def known_regions() -> set[str]:
    """Every region of every partition that this botocore knows, without a network call."""
    partitions = create_loader().load_data("partitions")["partitions"]
    return {name for partition in partitions for name in partition["regions"] if not name.endswith("-global")}


def region_problems(region: str | None, inventory_region: str | None) -> list[str]:
    """A region that does not exist, or one where the inventory will not look.

    Args:
        region: the setting.
        inventory_region: AWS_REGION of the environment, None or empty when it is not set.
    """
    if not region:
        return ["lightsout_region is empty: give a region such as 'us-east-1'."]
    regions = known_regions()
    if region not in regions:
        hint = did_you_mean(region, regions) or ", for example 'us-east-1'."
        return [f"lightsout_region is '{region}', which is not an AWS region{hint}"]
    if inventory_region and inventory_region != region:
        return [
            f"lightsout_region is '{region}', but AWS_REGION is '{inventory_region}', and that is where the inventory "
            f"looks for machines: export AWS_REGION={region}, or leave lightsout_region out."
        ]
    return []


def project_problems(project: str, owner: str | None, lease: str | None) -> list[str]:
    """Names and times that AWS or a human could not read."""
    problems = []
    wrong = project_problem(project)
    if wrong:
        problems.append(
            f"lightsout_project {wrong}." if not project else f"lightsout_project is '{project}', which {wrong}."
        )
    if owner is not None and not _TAG_VALUE.fullmatch(owner):
        problems.append(
            f"lightsout_owner is '{owner}': give a name or an e-mail address of letters, digits and . : / = + - @ _"
        )
    if lease is not None:
        try:
            parse_lease(lease)
        except ValueError as error:
            problems.append(f"lightsout_lease is '{lease}', which {error}.")
    return problems


def network(cidr: str, allow_world: bool) -> str:
    """A CIDR in AWS's spelling; a plain address is a network of one.

    Raises:
        LightsoutError: it is not a CIDR, or it is the whole world and nobody said so by name.
    """
    text = str(cidr).strip()
    said = f"lightsout_access_cidr is '{cidr}'"
    try:
        found = ipaddress.ip_network(text, strict=False)
    except ValueError:
        raise LightsoutError(
            f"{said}, which is not a CIDR: give 'auto', an address such as '203.0.113.7', or a network such as "
            "'203.0.113.0/24'."
        ) from None
    host = ipaddress.ip_interface(text).ip
    if host != found.network_address:
        raise LightsoutError(f"{said}, which is an address inside a network: write '{host}' or '{found}'.")
    if found.prefixlen < (_WORLD_V4 if found.version == 4 else _WORLD_V6) and not allow_world:
        raise LightsoutError(
            f"{said}, which lets the whole internet try the machine: give your own address or 'auto'. If you do mean "
            "it, add `-e ec2_machine_allow_world=true`."
        )
    return str(found)


def access_problems(cidrs: list[str], allow_world: bool) -> tuple[list[str], list[str]]:
    """Read the list of who may reach the machine.

    Returns:
        the networks (``auto`` stays as it is), and the problems.
    """
    networks, problems = [], []
    if not cidrs:
        problems.append("lightsout_access_cidr is empty: give 'auto', an address or a network; nobody could log in.")
    for cidr in cidrs:
        if str(cidr).strip() == AUTO:
            networks.append(AUTO)
            continue
        try:
            networks.append(network(cidr, allow_world))
        except LightsoutError as error:
            problems.append(str(error))
    return list(dict.fromkeys(networks)), problems


def is_subnet_id(value: str) -> bool:
    """True for a subnet's id, such as ``subnet-0123abcd``."""
    return bool(_SUBNET_ID.fullmatch(value))


def count_of(value: Any) -> int | None:
    """How many machines are asked for; None for what is no such number."""
    text = str(value).strip()
    return int(text) if re.fullmatch(r"[1-9]\d{0,3}", text, re.ASCII) and int(text) <= LARGEST_COUNT else None


def machine_problems(machine: dict[str, Any]) -> list[str]:
    """What is wrong with the machine's settings by themselves."""
    problems = []
    if count_of(machine["count"]) is None:
        problems.append(
            f"ec2_machine_count is {machine['count']!r}: give a whole number of machines from 1 to {LARGEST_COUNT}."
        )
    if machine["placement"] not in PLACEMENTS:
        problems.append(f"ec2_machine_placement is '{machine['placement']}': one of {', '.join(PLACEMENTS)}.")
    instance_type, image, size = machine["instance_type"], machine["image"], machine["volume_size"]
    if not _INSTANCE_TYPE.fullmatch(instance_type or ""):
        problems.append(
            f"ec2_machine_instance_type is '{instance_type}', which is not an instance type: they look like "
            "'t3.medium'."
        )
    if image not in IMAGES and not is_ami_id(image):
        hint = did_you_mean(image, IMAGES) or f": one of {', '.join(IMAGES)}, or an AMI id (ami-…)."
        problems.append(f"ec2_machine_image is '{image}', which is not an image that we know{hint}")
    if not SMALLEST_VOLUME <= size <= LARGEST_VOLUME:
        problems.append(
            f"ec2_machine_volume_size is {size}: a disk has {SMALLEST_VOLUME} to {LARGEST_VOLUME} GiB (a whole number)."
        )
    price = machine["spot_max_price"]
    if price is not None and price <= 0:
        problems.append(f"ec2_machine_spot_max_price is {price:g}: give USD per hour above 0, or leave it out.")
    if price is not None and not machine["spot"]:
        problems.append(
            f"ec2_machine_spot_max_price is {price:g}, but ec2_machine_spot is false: set ec2_machine_spot=true."
        )
    if machine["subnet_id"] and not is_subnet_id(machine["subnet_id"]):
        problems.append(
            f"ec2_machine_subnet_id is '{machine['subnet_id']}': a subnet's id looks like 'subnet-0123abcd'."
        )
    if not 1 <= machine["metadata_hop_limit"] <= 64:
        problems.append(
            f"ec2_machine_metadata_hop_limit is {machine['metadata_hop_limit']}: give a number from 1 to 64."
        )
    wrong = [str(port) for port in machine["ports"] if not 1 <= port <= 65535]
    if wrong:
        problems.append(f"ec2_machine_ports holds {', '.join(wrong)}: a port is a number from 1 to 65535.")
    if 22 not in machine["ports"]:
        problems.append("ec2_machine_ports lacks 22, without which nobody can configure the machine.")
    for policy in machine["policies"]:
        if not policy.startswith("arn:"):
            problems.append(
                f"ec2_machine_policies holds '{policy}', which is not a policy's ARN: they look like "
                "'arn:aws:iam::aws:policy/AmazonS3ReadOnlyAccess'."
            )
    if machine["instance_profile"] and (machine["policies"] or machine["policy_document"]):
        problems.append(
            f"ec2_machine_instance_profile is '{machine['instance_profile']}' and ec2_machine_policies or "
            "ec2_machine_policy_document is given too: a machine has one profile, so use one or the other."
        )
    return problems


def budget_problems(budget: dict[str, Any]) -> list[str]:
    """What is wrong with the budget's settings by themselves."""
    problems = []
    limit, emails = budget["limit"], budget["emails"]
    if not is_amount(limit):
        problems.append(f"cost_guard_monthly_limit is '{limit}': give USD a month, such as 50, or 0 for no budget.")
    if len(emails) > MOST_EMAILS:
        problems.append(f"cost_guard_email holds {len(emails)} addresses: AWS tells at most {MOST_EMAILS}.")
    problems += [
        f"cost_guard_email is '{email}', which is no e-mail address: they look like 'ada@example.org'."
        for email in emails
        if not EMAIL.fullmatch(email)
    ]
    return problems


def is_amount(limit: str | None) -> bool:
    """Whether it is an amount of money, or nothing."""
    return limit is None or bool(re.fullmatch(r"\d{1,9}(\.\d*)?", str(limit).strip()))


def missing_budget_problems(budget: dict[str, Any], project: str) -> list[str]:
    """What is to be said so that a budget can be made."""
    if budget["limit"] is None:
        return [
            f"cost_guard_monthly_limit is empty and the account has no budget lightsout-{project}: say what a month "
            "may cost and who is told, for example `-e cost_guard_monthly_limit=50 -e cost_guard_email=you@example.org`"
            "; or, if nobody shall be told, `-e cost_guard_monthly_limit=0`."
        ]
    if not budget["emails"] and not budget["alerts"]:
        return [
            f"cost_guard_email is empty, so that nobody would be told when USD {budget['limit']:g} are spent: give an "
            "address, for example `-e cost_guard_email=you@example.org`."
        ]
    return []


def budget_against(now: Any, wish: dict[str, Any], project: str) -> tuple[list[str], Any]:
    """The budget that is wanted against the one that there is.

    Args:
        now: a Budget; None for none; the exception that came when it was asked for.
        wish: with ``limit``, ``emails``, ``alerts`` and ``count``.
        project: whose it is.

    Returns:
        the problems; and what would be done, C(create) or what differs, None for nothing.
    """
    if isinstance(now, Exception):
        problem = (
            f"{explain(now, 'look for a budget')} Without one, a forgotten machine is noticed with the bill; if you do "
            "want none, say so: -e cost_guard_monthly_limit=0"
        )
        return [problem], None
    if now is None:
        return missing_budget_problems(wish, project), "create"
    counted = project if wish["count"] == "project" else None
    changes = differences(now, wish["limit"], counted, wanted_alerts(wish["emails"], wish["alerts"]))
    return [], {key: list(change) for key, change in changes.items()} or None


def login_user(image: str, ami_name: str, given: str | None) -> str:
    """Who logs in on an image.

    Raises:
        LightsoutError: an AMI of unknown making, and nobody said it.
    """
    user = given or (IMAGES[image].user if image in IMAGES else login_user_of(ami_name))
    if not user:
        raise LightsoutError(
            f"ec2_machine_image is '{image}' ('{ami_name}'), whose login user we cannot tell: "
            "give it, for example `-e ec2_machine_login_user=ubuntu`."
        )
    return user
