# Copyright: The Lightsout authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Every kind of thing that a project can own on AWS: how to list it, how to delete it, and what must go before it.

A new kind is a new entry in KINDS at the end of this file. Listing (project_info), teardown (project_teardown) and
sweep (project_sweep) work from that table alone. SageMaker's kinds are in kinds_sagemaker.py, those that only hold data
in kinds_storage.py.
"""

from __future__ import annotations

import datetime
from collections.abc import Callable, Iterable
from typing import Any

from ansible_collections.lightsout.aws.plugins.module_utils.calls import Clients, at_once, pages
from ansible_collections.lightsout.aws.plugins.module_utils.kinds import Kind, Resource, Scope, asked_for_tags
from ansible_collections.lightsout.aws.plugins.module_utils.kinds_sagemaker import SAGEMAKER
from ansible_collections.lightsout.aws.plugins.module_utils.kinds_storage import STORAGE
from ansible_collections.lightsout.aws.plugins.module_utils.naming import TAG_PROJECT, iam_path, tags_as_dict
from ansible_collections.lightsout.aws.plugins.module_utils.prices import (
    GP3_GIB_MONTH,
    HOURS_PER_MONTH,
    IPV4_HOUR,
    ON_DEMAND,
    SNAPSHOT_GIB_MONTH,
)
from ansible_collections.lightsout.aws.plugins.module_utils.sentences import error_code


def tagged_in_ec2(
    kind: str,
    operation: str,
    items: str,
    id_key: str,
    name_key: str | None = None,
    state_key: str = "State",
    leaving: tuple[str, ...] = (),
    gone: tuple[str, ...] = (),
    **arguments: Any,
) -> Callable[[Scope], list[Resource]]:
    """The way to find one of EC2's many kinds that carry tags.

    Args:
        kind: the Kind's name.
        operation, items: the listing and the list's name in its answer.
        id_key, name_key, state_key: members of one item; the tag Name serves where ``name_key`` is None.
        leaving: states in which it is being deleted.
        gone: states in which it is only remembered.
        arguments: further arguments of the listing.
    """

    def find(scope: Scope) -> list[Resource]:
        wanted = (
            {"Name": "tag-key", "Values": [TAG_PROJECT]}
            if scope.project is None
            else {"Name": f"tag:{TAG_PROJECT}", "Values": [scope.project]}
        )
        found = []
        for item in pages(scope.client("ec2"), operation, items, Filters=[wanted], **arguments):
            for one in item["Instances"] if items == "Reservations" else [item]:
                tags = tags_as_dict(one.get("Tags") or one.get("TagSet"))
                state = one.get(state_key) or ""
                state = state["Name"] if isinstance(state, dict) else state
                if state in gone or not scope.covers(tags):
                    continue
                name = one.get(name_key) if name_key else tags.get("Name")
                found.append(
                    Resource(
                        kind=kind,
                        id=one[id_key],
                        name=name or one[id_key],
                        project=tags[TAG_PROJECT],
                        region=scope.region,
                        state=state,
                        leaving=state in leaving,
                        tags=tags,
                        raw=one,
                    )
                )
        return found

    return find


def tagged_in_iam(kind: str, operation: str, items: str, name_key: str, get: str) -> Callable:
    """The way to find roles and profiles, which a listing shows without their tags: our path narrows it down first."""

    def find(scope: Scope) -> list[Resource]:
        iam = scope.client("iam")
        path = iam_path(scope.region)
        # Looked at once more: whoever answers with another region's would lose that one's to our teardown.
        found = [one for one in pages(iam, operation, items, PathPrefix=path) if one["Path"].startswith(path)]
        names = [one[name_key] for one in found]
        asked = asked_for_tags(
            {
                name: lambda name=name: tags_as_dict(getattr(iam, get)(**{name_key: name})[items[:-1]].get("Tags"))
                for name in names
            },
            lambda error: error_code(error) == "NoSuchEntity",
        )
        resources = []
        for one in found:
            tags = asked.get(one[name_key], {})
            if scope.covers(tags):
                name, project = one[name_key], tags[TAG_PROJECT]
                resources.append(Resource(kind, name, name, project, scope.region, tags=tags, raw=one))
        return resources

    return find


def find_schedule_groups(scope: Scope) -> list[Resource]:
    """Groups of schedules; the schedules in them cannot carry tags, and go with them."""
    client = scope.client("scheduler")
    prefix = "lightsout-" if scope.project is None else f"lightsout-{scope.project}"
    found = pages(client, "list_schedule_groups", "ScheduleGroups", NamePrefix=prefix)
    arns = {one["Name"]: one["Arn"] for one in found}
    asked = asked_for_tags(
        {
            name: lambda arn=arn: tags_as_dict(client.list_tags_for_resource(ResourceArn=arn)["Tags"])
            for name, arn in arns.items()
        },
        lambda error: error_code(error) == "ResourceNotFoundException",
    )
    resources = []
    for one in found:
        name, tags = one["Name"], asked.get(one["Name"], {})
        if scope.covers(tags):
            state = one.get("State", "")
            resources.append(
                Resource(
                    kind="schedule_group",
                    id=name,
                    name=name,
                    project=tags[TAG_PROJECT],
                    region=scope.region,
                    state=state,
                    leaving=state == "DELETING",
                    tags=tags,
                    raw=one,
                )
            )
    return resources


def _delete_in_ec2(operation: str, key: str, many: bool = False) -> Callable[[Scope, Resource], Any]:
    """The deletion of one of EC2's kinds by its id."""
    return lambda scope, resource: getattr(scope.client("ec2"), operation)(
        **{key: [resource.id] if many else resource.id}
    )


def _release_address(scope: Scope, resource: Resource) -> None:
    ec2 = scope.client("ec2")
    association = resource.raw.get("AssociationId")
    if association:
        ec2.disassociate_address(AssociationId=association)
    ec2.release_address(AllocationId=resource.id)


def _delete_instance_profile(scope: Scope, resource: Resource) -> None:
    iam = scope.client("iam")
    for role in resource.raw["Roles"]:
        iam.remove_role_from_instance_profile(InstanceProfileName=resource.id, RoleName=role["RoleName"])
    iam.delete_instance_profile(InstanceProfileName=resource.id)


def _delete_role(scope: Scope, resource: Resource) -> None:
    iam, name = scope.client("iam"), resource.id
    for profile in pages(iam, "list_instance_profiles_for_role", "InstanceProfiles", RoleName=name):
        iam.remove_role_from_instance_profile(InstanceProfileName=profile["InstanceProfileName"], RoleName=name)
    for policy in pages(iam, "list_attached_role_policies", "AttachedPolicies", RoleName=name):
        iam.detach_role_policy(RoleName=name, PolicyArn=policy["PolicyArn"])
    for policy in pages(iam, "list_role_policies", "PolicyNames", RoleName=name):
        iam.delete_role_policy(RoleName=name, PolicyName=policy)
    iam.delete_role(RoleName=name)


def _running(resource: Resource) -> float | None:
    """The machine and an address that AWS lends it; disks and own addresses are things of their own."""
    if resource.state != "running":
        return 0.0
    raw = resource.raw
    spot = raw.get("InstanceLifecycle") == "spot"
    hourly = raw.get(SPOT_HOUR) if spot else ON_DEMAND.get(raw.get("InstanceType", ""))
    if hourly is None:
        return None
    lent = [
        interface
        for interface in raw.get("NetworkInterfaces", [])
        if interface.get("Association", {}).get("IpOwnerId") == "amazon"
    ]
    return (hourly + len(lent) * IPV4_HOUR) * HOURS_PER_MONTH


def _free(why: str) -> Callable[[Resource, list[Resource]], str]:
    """Of no use when AWS says that nothing uses it."""
    return lambda resource, _found: why if resource.state == "available" else ""


def _of_no_image(resource: Resource, found: list[Resource]) -> str:
    made_of = {
        mapping.get("Ebs", {}).get("SnapshotId")
        for image in found
        if image.kind == "image"
        for mapping in image.raw.get("BlockDeviceMappings", [])
    }
    return "" if resource.id in made_of else "no image is made of it any more"


#: Where ask_spot_prices leaves what a spot machine costs in an hour.
SPOT_HOUR = "SpotHour"

KINDS: dict[str, Kind] = {
    **SAGEMAKER,
    **STORAGE,
    # A persistent request would launch the machine anew, so it goes before the machine.
    "spot_request": Kind(
        "spot request",
        "ec2",
        tagged_in_ec2(
            "spot_request",
            "describe_spot_instance_requests",
            "SpotInstanceRequests",
            "SpotInstanceRequestId",
            gone=("cancelled", "closed", "failed", "completed"),
        ),
        _delete_in_ec2("cancel_spot_instance_requests", "SpotInstanceRequestIds", many=True),
        unused=lambda resource, _found: "it still waits for a machine" if resource.state == "open" else "",
        born="CreateTime",
    ),
    "instance": Kind(
        "machine",
        "ec2",
        tagged_in_ec2(
            "instance",
            "describe_instances",
            "Reservations",
            "InstanceId",
            leaving=("shutting-down",),
            gone=("terminated",),
        ),
        _delete_in_ec2("terminate_instances", "InstanceIds", many=True),
        after=("spot_request",),
        alive=True,
        born="LaunchTime",
        size=lambda resource: resource.raw["InstanceType"],
        month=_running,
    ),
    "address": Kind(
        "address",
        "ec2",
        tagged_in_ec2("address", "describe_addresses", "Addresses", "AllocationId", name_key="PublicIp"),
        _release_address,
        unused=lambda resource, _found: "" if resource.raw.get("AssociationId") else "no machine has it",
        month=lambda _resource: IPV4_HOUR * HOURS_PER_MONTH,
    ),
    "network_interface": Kind(
        "network interface",
        "ec2",
        tagged_in_ec2(
            "network_interface",
            "describe_network_interfaces",
            "NetworkInterfaces",
            "NetworkInterfaceId",
            state_key="Status",
        ),
        _delete_in_ec2("delete_network_interface", "NetworkInterfaceId"),
        after=("instance",),
        unused=_free("no machine has it"),
    ),
    "volume": Kind(
        "volume",
        "ec2",
        tagged_in_ec2("volume", "describe_volumes", "Volumes", "VolumeId", leaving=("deleting",), gone=("deleted",)),
        _delete_in_ec2("delete_volume", "VolumeId"),
        after=("instance",),
        unused=_free("no machine has it"),
        born="CreateTime",
        size=lambda resource: f"{resource.raw['Size']} GiB",
        month=lambda resource: resource.raw["Size"] * GP3_GIB_MONTH,
    ),
    "image": Kind(
        "image",
        "ec2",
        tagged_in_ec2("image", "describe_images", "Images", "ImageId", name_key="Name", Owners=["self"]),
        _delete_in_ec2("deregister_image", "ImageId"),
        alive=True,
        born="CreationDate",
    ),
    "snapshot": Kind(
        "snapshot",
        "ec2",
        tagged_in_ec2("snapshot", "describe_snapshots", "Snapshots", "SnapshotId", OwnerIds=["self"]),
        _delete_in_ec2("delete_snapshot", "SnapshotId"),
        after=("image",),
        unused=_of_no_image,
        born="StartTime",
        size=lambda resource: f"{resource.raw['VolumeSize']} GiB",
        month=lambda resource: resource.raw["VolumeSize"] * SNAPSHOT_GIB_MONTH,
    ),
    "security_group": Kind(
        "security group",
        "ec2",
        tagged_in_ec2("security_group", "describe_security_groups", "SecurityGroups", "GroupId", name_key="GroupName"),
        _delete_in_ec2("delete_security_group", "GroupId"),
        after=("instance", "network_interface", "notebook_instance", "studio_domain", "file_system"),
    ),
    "placement_group": Kind(
        "placement group",
        "ec2",
        tagged_in_ec2(
            "placement_group",
            "describe_placement_groups",
            "PlacementGroups",
            "GroupId",
            name_key="GroupName",
            leaving=("deleting",),
            gone=("deleted",),
        ),
        lambda scope, resource: scope.client("ec2").delete_placement_group(GroupName=resource.name),
        after=("instance",),
    ),
    "key_pair": Kind(
        "key pair",
        "ec2",
        tagged_in_ec2("key_pair", "describe_key_pairs", "KeyPairs", "KeyPairId", name_key="KeyName"),
        lambda scope, resource: scope.client("ec2").delete_key_pair(KeyName=resource.name),
        born="CreateTime",
    ),
    "instance_profile": Kind(
        "instance profile",
        "iam",
        tagged_in_iam(
            "instance_profile",
            "list_instance_profiles",
            "InstanceProfiles",
            "InstanceProfileName",
            "get_instance_profile",
        ),
        _delete_instance_profile,
        after=("instance",),
        born="CreateDate",
    ),
    # The deadlines of machines go after the machines: what could not be deleted shall at least be stopped.
    "schedule_group": Kind(
        "group of schedules",
        "scheduler",
        find_schedule_groups,
        lambda scope, resource: scope.client("scheduler").delete_schedule_group(Name=resource.id),
        after=("instance", "notebook_instance", "studio_app"),
    ),
    "role": Kind(
        "role",
        "iam",
        tagged_in_iam("role", "list_roles", "Roles", "RoleName", "get_role"),
        _delete_role,
        after=(
            "instance_profile",
            "schedule_group",
            "notebook_instance",
            "training_job",
            "endpoint",
            "studio_domain",
        ),
        born="CreateDate",
    ),
}


def as_dict(resource: Resource) -> dict[str, Any]:
    """A thing for a module's result."""
    return {
        "kind": resource.kind,
        "title": KINDS[resource.kind].title,
        "id": resource.id,
        "name": resource.name,
        "project": resource.project,
        "region": resource.region,
        "state": resource.state,
        "tags": resource.tags,
    }


def regions_of(clients: Clients) -> list[str]:
    """The names of all regions that the account may use, in the order of the alphabet."""
    return sorted(region["RegionName"] for region in clients("ec2").describe_regions()["Regions"])


def find_all(scope: Scope, kinds: Iterable[str]) -> tuple[list[Resource], dict[str, Exception]]:
    """Everything in scope, all kinds at the same time.

    Returns:
        what was found, in the order of the table, and for each kind that could not be listed the reason.
    """
    kinds = [kind for kind in kinds if scope.clients.offers(KINDS[kind].service, scope.region)]
    for service in {KINDS[kind].service for kind in kinds}:
        scope.client(service)  # one load of each service's model, before the threads want it
    answers = at_once({kind: lambda kind=kind: list(KINDS[kind].find(scope)) for kind in kinds})
    found, failed = [], {}
    for kind, answer in answers.items():
        if isinstance(answer, Exception):
            failed[kind] = answer
        else:
            found += answer
    return found, failed


def find_everywhere(
    clients: Clients, regions: Iterable[str], project: str | None, kinds: Iterable[str]
) -> tuple[list[Resource], dict[tuple[str, str], Exception]]:
    """The same in several regions, in all of them at the same time.

    Returns:
        what was found, and for each pair of kind and region that could not be listed the reason.
    """
    kinds = list(kinds)
    answers = at_once({name: lambda name=name: find_all(Scope(clients, name, project), kinds) for name in regions})
    found, failed = [], {}
    for region, answer in answers.items():
        if isinstance(answer, Exception):
            failed |= {(kind, region): answer for kind in kinds}
        else:
            found += answer[0]
            failed |= {(kind, region): error for kind, error in answer[1].items()}
    return found, failed


def ask_spot_prices(clients: Clients, found: Iterable[Resource]) -> None:
    """Learn what spot machines that run cost now, which is in no list; one question for each region that has some."""
    places: dict[str, list[Resource]] = {}
    for one in found:
        if one.kind == "instance" and one.state == "running" and one.raw.get("InstanceLifecycle") == "spot":
            places.setdefault(one.region, []).append(one)

    def ask(region: str) -> dict[tuple[str, str], float]:
        history = clients("ec2", region).describe_spot_price_history(
            InstanceTypes=sorted({one.raw["InstanceType"] for one in places[region]}),
            ProductDescriptions=["Linux/UNIX"],
            StartTime=datetime.datetime.now(datetime.UTC),
        )["SpotPriceHistory"]
        return {(one["InstanceType"], one["AvailabilityZone"]): float(one["SpotPrice"]) for one in history}

    for region, prices in at_once({region: lambda region=region: ask(region) for region in places}).items():
        for one in places[region] if isinstance(prices, dict) else ():
            one.raw[SPOT_HOUR] = prices.get((one.raw["InstanceType"], one.raw["Placement"]["AvailabilityZone"]))
