"""Placement groups, which moto lacks: made, tagged, listed, used by launches, and kept while machines are in them.

https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/placement-groups.html
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from typing import Any

from moto.core.responses import ActionResult, EmptyResult
from moto.ec2.exceptions import EC2ClientError
from moto.ec2.models import EC2Backend
from moto.ec2.models.core import TaggedEC2Resource
from moto.ec2.models.instances import Instance
from moto.ec2.responses.instances import InstanceResponse
from moto.ec2.utils import EC2_PREFIX_TO_RESOURCE, EC2_RESOURCE_TO_PREFIX, generic_filter, random_id

STRATEGIES = ("cluster", "spread", "partition")

#: How EC2 calls the kind in tag specifications, and how its ids begin.
KIND, PREFIX = "placement-group", "pg"


class PlacementGroupError(EC2ClientError):
    """EC2 refuses; the code says what."""

    def __init__(self, code: str, message: str) -> None:
        self.code = code
        super().__init__(code, message)


class PlacementGroup(TaggedEC2Resource):
    """One group; ``tags`` and the like are what the answer shows."""

    def __init__(self, backend: EC2Backend, name: str, strategy: str, tags: dict[str, str]) -> None:
        self.ec2_backend = backend
        self.id = self.group_id = random_id(prefix=PREFIX)
        self.group_name, self.strategy, self.state = name, strategy, "available"
        self.group_arn = f"arn:aws:ec2:{backend.region_name}:{backend.account_id}:{KIND}/{name}"
        self.add_tags(tags)

    @property
    def tags(self) -> list[dict[str, str]]:
        """As the answer holds them."""
        return [{"Key": tag["key"], "Value": tag["value"]} for tag in self.get_tags()]

    @property
    def members(self) -> Iterator[Instance]:
        """The machines in it that have not ended."""
        for reservation in list(self.ec2_backend.reservations.values()):
            for instance in reservation.instances:
                if instance.placement.group_name == self.group_name and instance.state != "terminated":
                    yield instance

    def admit(self, instance_type: str, zone: str) -> None:
        """Check that a machine can come in.

        Raises:
            PlacementGroupError: its type cannot, or the group is in another zone.
        """
        if self.strategy != "cluster":
            return
        kinds = self.ec2_backend.describe_instance_types()
        facts = next((kind for kind in kinds if kind.get("InstanceType") == instance_type), {})
        if "cluster" not in facts.get("PlacementGroupInfo", {}).get("SupportedStrategies", []):
            raise PlacementGroupError(
                "InvalidParameterCombination",
                f"Cluster placement groups are not supported by the '{instance_type}' instance type. Specify a "
                "supported instance type or change the placement group strategy, and try again.",
            )
        zones = {member.availability_zone for member in self.members}
        if zones - {zone}:
            raise PlacementGroupError(
                "InvalidParameterCombination",
                f"The placement group '{self.group_name}' is in {', '.join(zones)} and cannot span into {zone}.",
            )


def groups_of(backend: EC2Backend) -> dict[str, PlacementGroup]:
    """The groups of an account and region, by name; gone when moto is reset."""
    return vars(backend).setdefault("placement_groups", {})


def group_named(backend: EC2Backend, name: str) -> PlacementGroup:
    """A group that must exist.

    Raises:
        PlacementGroupError: it does not.
    """
    try:
        return groups_of(backend)[name]
    except KeyError:
        raise PlacementGroupError(
            "InvalidPlacementGroup.Unknown", f"The Placement Group '{name}' is unknown."
        ) from None


def create(response: InstanceResponse) -> ActionResult:
    """CreatePlacementGroup."""
    name, strategy = response._get_param("GroupName"), response._get_param("Strategy", "cluster")
    tags = response._parse_tag_specification(KIND).get(KIND, {})
    if strategy not in STRATEGIES:
        raise PlacementGroupError("InvalidParameterValue", f"Value ({strategy}) for parameter strategy is invalid.")
    if name in groups_of(response.ec2_backend):
        raise PlacementGroupError("InvalidPlacementGroup.Duplicate", f"The Placement Group '{name}' already exists.")
    response.error_on_dryrun()
    made = groups_of(response.ec2_backend)[name] = PlacementGroup(response.ec2_backend, name, strategy, tags)
    return ActionResult({"PlacementGroup": made})


def describe(response: InstanceResponse) -> ActionResult:
    """DescribePlacementGroups, by names, ids and filters."""
    backend = response.ec2_backend
    names, ids = response._get_param("GroupNames", []), response._get_param("GroupIds", [])
    found = [group_named(backend, name) for name in names] or list(groups_of(backend).values())
    found = [group for group in found if not ids or group.id in ids]
    response.error_on_dryrun()
    return ActionResult({"PlacementGroups": generic_filter(response._filters_from_querystring(), found)})


def delete(response: InstanceResponse) -> EmptyResult:
    """DeletePlacementGroup: not while a machine is in it."""
    group = group_named(response.ec2_backend, response._get_param("GroupName"))
    response.error_on_dryrun()
    if any(group.members):
        raise PlacementGroupError(
            "InvalidPlacementGroup.InUse", f"The placement group '{group.group_name}' is in use and may not be deleted."
        )
    del groups_of(response.ec2_backend)[group.group_name]
    return EmptyResult()


def move(response: InstanceResponse) -> ActionResult:
    """ModifyInstancePlacement: a stopped machine goes into another group, or into none."""
    instance = response.ec2_backend.get_instance(response._get_param("InstanceId"))
    name = response._get_param("GroupName")
    if instance.state != "stopped":
        raise PlacementGroupError(
            "IncorrectInstanceState", f"The instance '{instance.id}' is not in the stopped state."
        )
    if name:
        group_named(response.ec2_backend, name).admit(instance.instance_type, instance.availability_zone)
    response.error_on_dryrun()
    if name is not None:
        instance.placement.group_name = name
    return ActionResult({"Return": True})


def install(zone_of: Callable[[InstanceResponse], str], put: Callable[[Any, str, Any], None] = setattr) -> None:
    """Teach moto.

    Args:
        zone_of: the zone that a launch asks for.
        put: sets an attribute; a test gives one that takes it back.
    """
    launch = InstanceResponse.run_instances

    @functools.wraps(launch)
    def run(response: InstanceResponse) -> Any:
        name = response._get_param("Placement.GroupName")
        if name:
            group_named(response.ec2_backend, name).admit(response._get_param("InstanceType"), zone_of(response))
        answer = launch(response)
        if name:
            for instance in answer.result.instances:
                instance.placement.group_name = name
        return answer

    put(InstanceResponse, "run_instances", run)
    put(InstanceResponse, "create_placement_group", create)
    put(InstanceResponse, "describe_placement_groups", describe)
    put(InstanceResponse, "delete_placement_group", delete)
    put(InstanceResponse, "modify_instance_placement", move)
    EC2_RESOURCE_TO_PREFIX[KIND] = PREFIX
    EC2_PREFIX_TO_RESOURCE[PREFIX] = KIND
