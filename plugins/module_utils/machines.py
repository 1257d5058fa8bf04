# Copyright: The Lightsout authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""A project's machines: found by tag, compared with what is wanted.

The image plays no part in finding a machine. Matching by image would launch a second paid machine as soon as the newest
image has moved on.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

from ansible_collections.lightsout.aws.plugins.module_utils.calls import at_once, pages
from ansible_collections.lightsout.aws.plugins.module_utils.images import architecture_of
from ansible_collections.lightsout.aws.plugins.module_utils.naming import (
    TAG_EXPIRES,
    TAG_IMAGE,
    TAG_OWNER,
    TAG_PROJECT,
    TAG_USER,
    tags_as_dict,
    tags_to_set,
)
from ansible_collections.lightsout.aws.plugins.module_utils.prices import estimate

#: States in which a machine exists, or will in a moment.
LIVE = ("pending", "running", "stopping", "stopped")


@dataclass(frozen=True)
class Wanted:
    """How a machine should be. None means: whatever it is."""

    state: str | None = None
    instance_type: str | None = None
    image: str | None = None
    volume_size: int | None = None
    shutdown_behavior: str | None = None
    metadata_hop_limit: int | None = None
    metadata_tags: bool | None = None
    instance_profile: str | None = None
    security_group_ids: list[str] | None = None
    termination_protection: bool | None = None
    spot: bool | None = None
    placement_group: str | None = None
    tags: dict[str, str] = field(default_factory=dict)


def find_machines(ec2, project: str, name: str | None = None) -> list[dict]:
    """The live machines that carry the project's tag, as EC2 describes them, oldest first.

    Args:
        ec2: a boto3 client.
        project: exact; never empty, since an empty filter means every machine of the account.
        name: only those with this Name tag.
    """
    if not project:
        raise ValueError("an empty project name would select machines of other people")
    filters = [
        {"Name": f"tag:{TAG_PROJECT}", "Values": [project]},
        {"Name": "instance-state-name", "Values": list(LIVE)},
    ]
    if name:
        filters.append({"Name": "tag:Name", "Values": [name]})
    reservations = pages(ec2, "describe_instances", "Reservations", Filters=filters)
    found = [instance for reservation in reservations for instance in reservation["Instances"]]
    # EC2's filters know wildcards; a name with one must not widen the search.
    found = [i for i in found if tags_as_dict(i.get("Tags")).get(TAG_PROJECT) == project]
    return sorted(found, key=lambda i: (i["LaunchTime"], i["InstanceId"]))


def too_many(machines: list[dict], name: str) -> str:
    """The sentence for more than one live machine of a name."""
    ids = ", ".join(
        f"{m['InstanceId']} ({m['State']['Name']}, since {m['LaunchTime']:%Y-%m-%d %H:%M})" for m in machines
    )
    return (
        f"{len(machines)} live machines answer to the name {name}: {ids}. Each of them is paid for. Look which one you "
        "need and terminate the others: aws ec2 terminate-instances --instance-ids …"
    )


def root_volume_id(machine: dict) -> str | None:
    """The id of the disk that a machine boots from."""
    for mapping in machine.get("BlockDeviceMappings", []):
        if mapping["DeviceName"] == machine.get("RootDeviceName"):
            return mapping["Ebs"]["VolumeId"]
    return None


def security_group_ids(machine: dict) -> list[str]:
    """The ids of a machine's security groups, from its interfaces where the instance itself lists none."""
    groups = machine.get("SecurityGroups") or [
        group for interface in machine.get("NetworkInterfaces", []) for group in interface.get("Groups", [])
    ]
    return sorted({group["GroupId"] for group in groups})


def observe(ec2, machine: dict, wanted: Wanted) -> dict[str, Any]:
    """The settings of a machine that somebody asked about, under the names of Wanted.

    Asks EC2 only for what ``machine`` does not hold already.
    """
    calls = {}
    instance_id = machine["InstanceId"]
    if wanted.volume_size is not None and root_volume_id(machine):
        calls["volume"] = lambda: ec2.describe_volumes(VolumeIds=[root_volume_id(machine)])["Volumes"][0]
    for key, attribute, name in (
        ("shutdown_behavior", "instanceInitiatedShutdownBehavior", "InstanceInitiatedShutdownBehavior"),
        ("termination_protection", "disableApiTermination", "DisableApiTermination"),
    ):
        if getattr(wanted, key) is not None:
            calls[key] = lambda attribute=attribute, name=name: ec2.describe_instance_attribute(
                InstanceId=instance_id, Attribute=attribute
            )[name]["Value"]
    answers = at_once(calls)
    for answer in answers.values():
        if isinstance(answer, Exception):
            raise answer
    metadata = machine.get("MetadataOptions", {})
    profile = machine.get("IamInstanceProfile", {}).get("Arn", "")
    tags = tags_as_dict(machine.get("Tags"))
    return {
        "state": machine["State"]["Name"],
        "instance_type": machine["InstanceType"],
        "image": tags.get(TAG_IMAGE),
        "volume_size": answers.get("volume", {}).get("Size"),
        "volume_id": root_volume_id(machine),
        "shutdown_behavior": answers.get("shutdown_behavior"),
        "metadata_hop_limit": metadata.get("HttpPutResponseHopLimit"),
        "metadata_tokens": metadata.get("HttpTokens"),
        "metadata_tags": metadata.get("InstanceMetadataTags") == "enabled",
        "instance_profile": profile.rsplit("/", 1)[-1] or None,
        "security_group_ids": security_group_ids(machine),
        "termination_protection": answers.get("termination_protection"),
        "spot": machine.get("InstanceLifecycle") == "spot",
        "placement_group": machine.get("Placement", {}).get("GroupName") or None,
        "tags": tags,
    }


def staying(seen: dict[str, Any], wanted: Wanted, allow_stop: bool) -> Wanted:
    """What is asked for, but that a machine which runs and may not be stopped stays in its placement group.

    Where it is, it works, only farther from its neighbors: no reason to refuse the whole wish.
    """
    runs = seen["state"] in ("running", "pending")
    return replace(wanted, placement_group=None) if runs and not allow_stop else wanted


def differences(seen: dict[str, Any], wanted: Wanted) -> dict[str, tuple[Any, Any]]:
    """What has to change, as ``{setting: (is, shall be)}``; empty for a machine that is right."""
    found: dict[str, tuple[Any, Any]] = {}
    for key in (
        "instance_type",
        "volume_size",
        "shutdown_behavior",
        "metadata_hop_limit",
        "metadata_tags",
        "instance_profile",
        "termination_protection",
        "placement_group",
    ):
        shall = getattr(wanted, key)
        if shall is not None and shall != seen[key]:
            found[key] = (seen[key], shall)
    # IMDSv1 gives a machine's credentials to whoever can make it fetch a URL: never left on, whatever is asked.
    if wanted.metadata_hop_limit is not None and seen["metadata_tokens"] != "required":
        found["metadata_tokens"] = (seen["metadata_tokens"], "required")
    if wanted.security_group_ids is not None and sorted(wanted.security_group_ids) != seen["security_group_ids"]:
        found["security_group_ids"] = (seen["security_group_ids"], sorted(wanted.security_group_ids))
    tags = tags_to_set(seen["tags"], {k: v for k, v in wanted.tags.items() if k != TAG_EXPIRES})
    if tags:
        found["tags"] = ({key: seen["tags"].get(key) for key in tags}, tags)
    settled = {"pending": "running", "stopping": "stopped"}
    if wanted.state is not None and settled.get(seen["state"], seen["state"]) != wanted.state:
        found["state"] = (seen["state"], wanted.state)
    return found


def refusals(name: str, seen: dict[str, Any], wanted: Wanted, allow_stop: bool, prefix: str = "") -> list[str]:
    """The wishes that an existing machine cannot be granted, each as one line.

    Args:
        name: the machine's.
        seen: what observe() returned.
        wanted: what is asked for.
        allow_stop: whether a running machine may be stopped for a change that needs it.
        prefix: what stands before an option's name to make it the variable that the reader knows.
    """
    problems = []
    start_over = "or make a new machine: tear the project down and provision it again"
    if wanted.volume_size is not None and seen["volume_size"] and wanted.volume_size < seen["volume_size"]:
        problems.append(
            f"{prefix}volume_size is {wanted.volume_size}, but the disk of {name} has {seen['volume_size']} GiB and a "
            f"disk cannot shrink: set it to {seen['volume_size']} or more, {start_over}."
        )
    if wanted.image is not None and seen["image"] not in (None, wanted.image):
        problems.append(
            f"{prefix}image is '{wanted.image}', but {name} was made from '{seen['image']}' and a machine keeps its "
            f"image: set it to '{seen['image']}', {start_over}."
        )
    if wanted.spot is not None and wanted.spot != seen["spot"]:
        kind = "a spot machine" if seen["spot"] else "not a spot machine"
        problems.append(
            f"{prefix}spot is {str(wanted.spot).lower()}, but {name} is {kind}, which cannot change: "
            f"set it to {str(seen['spot']).lower()}, {start_over}."
        )
    if wanted.instance_type is not None and wanted.instance_type != seen["instance_type"]:
        change = f"{prefix}instance_type is '{wanted.instance_type}', but {name} is a {seen['instance_type']}"
        if architecture_of(wanted.instance_type) != architecture_of(seen["instance_type"]):
            problems.append(f"{change}, and its disk holds programs for another kind of processor: {start_over[3:]}.")
        elif seen["state"] in ("running", "pending") and not allow_stop:
            problems.append(
                f"{change}, and the change would stop it, with whatever runs on it: when it may stop, add "
                f"`-e {prefix}allow_stop=true`; or stop it first (playbooks/stop.yml)."
            )
    return problems


def summary(machine: dict, disk_gib: int = 0) -> dict[str, Any]:
    """A machine as our modules return it.

    Args:
        machine: as EC2 describes it.
        disk_gib: all its disks together, for the price; 0 when unknown.
    """
    tags = tags_as_dict(machine.get("Tags"))
    state = machine["State"]["Name"]
    price = estimate(machine["InstanceType"], disk_gib, public_ip=bool(machine.get("PublicIpAddress")))
    spot = machine.get("InstanceLifecycle") == "spot"
    return {
        "name": tags.get("Name", machine["InstanceId"]),
        "id": machine["InstanceId"],
        "project": tags.get(TAG_PROJECT),
        "owner": tags.get(TAG_OWNER),
        "state": state,
        "type": machine["InstanceType"],
        "spot": spot,
        "image_id": machine.get("ImageId"),
        "image": tags.get(TAG_IMAGE),
        "login_user": tags.get(TAG_USER),
        "public_ip": machine.get("PublicIpAddress"),
        "private_ip": machine.get("PrivateIpAddress"),
        "zone": machine.get("Placement", {}).get("AvailabilityZone"),
        "launched": machine["LaunchTime"].strftime("%Y-%m-%dT%H:%M:%SZ"),
        "expires": tags.get(TAG_EXPIRES),
        "disk_gib": disk_gib,
        "tags": tags,
        # A spot machine costs less than the table says, nobody here knows how much.
        "price": (price if not spot else estimate(None, disk_gib)).as_dict(),
    }
