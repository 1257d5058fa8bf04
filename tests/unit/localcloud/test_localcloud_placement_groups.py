"""Placement groups, asked through boto3: moto alone knows none of it."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
from botocore.exceptions import ClientError
from moto import mock_aws
from moto.core import DEFAULT_ACCOUNT_ID
from moto.ec2.models import ec2_backends

from localcloud import moto_extensions


@pytest.fixture
def ec2(monkeypatch, restored_moto, client_of_moto):
    """A client of an extended moto in this process."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "testing")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "testing")
    monkeypatch.setenv("MOTO_EC2_LOAD_DEFAULT_AMIS", "false")
    monkeypatch.setattr(moto_extensions, "request", SimpleNamespace(environ={}))
    numbers = itertools.count(10)
    with mock_aws():
        moto_extensions.apply(SimpleNamespace(no_capacity=set()), lambda: f"10.213.7.{next(numbers)}")
        yield client_of_moto


@pytest.fixture
def launch(ec2) -> Callable[..., dict[str, Any]]:
    """Launches a machine that a cluster can hold, in a zone."""
    image = ec2.register_image(Name="unit")["ImageId"]
    registered = ec2_backends[DEFAULT_ACCOUNT_ID]["us-east-1"].amis[image]
    registered.architecture, registered.root_device_name = "x86_64", "/dev/xvda"
    subnets = {subnet["AvailabilityZone"]: subnet["SubnetId"] for subnet in ec2.describe_subnets()["Subnets"]}

    def launch(group: str = "", zone: str = "us-east-1a", **words: Any) -> dict[str, Any]:
        request = {"ImageId": image, "InstanceType": "c5.large", "MinCount": 1, "MaxCount": 1, **words}
        if group:
            request["Placement"] = {"GroupName": group}
        made = ec2.run_instances(SubnetId=subnets[zone], **request)["Instances"][0]["InstanceId"]
        return ec2.describe_instances(InstanceIds=[made])["Reservations"][0]["Instances"][0]

    return launch


def code(call: Callable[..., Any], **words: Any) -> str:
    with pytest.raises(ClientError) as error:
        call(**words)
    return error.value.response["Error"]["Code"]


def names(ec2, **words: Any) -> list[str]:
    return [group["GroupName"] for group in ec2.describe_placement_groups(**words)["PlacementGroups"]]


def test_a_group_is_made_once_and_found_by_name_and_by_tag(ec2):
    tagged = [{"ResourceType": "placement-group", "Tags": [{"Key": "project", "Value": "lab"}]}]
    made = ec2.create_placement_group(GroupName="one", Strategy="cluster", TagSpecifications=tagged)["PlacementGroup"]
    assert (made["State"], made["Strategy"], made["Tags"]) == ("available", "cluster", tagged[0]["Tags"])
    assert made["GroupId"].startswith("pg-")
    assert code(ec2.create_placement_group, GroupName="one") == "InvalidPlacementGroup.Duplicate"
    assert code(ec2.create_placement_group, GroupName="x", Strategy="pile") == "InvalidParameterValue"
    ec2.create_placement_group(GroupName="two", Strategy="spread")
    assert names(ec2) == ["one", "two"]
    assert names(ec2, GroupNames=["two"]) == names(ec2, Filters=[{"Name": "strategy", "Values": ["spread"]}]) == ["two"]
    assert names(ec2, Filters=[{"Name": "group-name", "Values": ["one"]}]) == names(ec2, GroupIds=[made["GroupId"]])
    assert names(ec2, Filters=[{"Name": "tag:project", "Values": ["lab"]}]) == ["one"]
    assert names(ec2, Filters=[{"Name": "tag-key", "Values": ["project"]}]) == ["one"]
    assert names(ec2, Filters=[{"Name": "tag:project", "Values": ["other"]}]) == []
    assert code(ec2.describe_placement_groups, GroupNames=["three"]) == "InvalidPlacementGroup.Unknown"


def test_tags_can_be_added_later(ec2):
    made = ec2.create_placement_group(GroupName="one")["PlacementGroup"]["GroupId"]
    ec2.create_tags(Resources=[made], Tags=[{"Key": "project", "Value": "lab"}])
    assert names(ec2, Filters=[{"Name": "tag:project", "Values": ["lab"]}]) == ["one"]
    (tag,) = ec2.describe_tags(Filters=[{"Name": "resource-type", "Values": ["placement-group"]}])["Tags"]
    assert tag["ResourceId"] == made


def test_a_machine_says_its_group_which_stays_as_long_as_the_machine(ec2, launch):
    ec2.create_placement_group(GroupName="one")
    machine = launch("one")
    assert machine["Placement"]["GroupName"] == "one"
    assert not launch()["Placement"].get("GroupName")
    ec2.stop_instances(InstanceIds=[machine["InstanceId"]])
    assert code(ec2.delete_placement_group, GroupName="one") == "InvalidPlacementGroup.InUse"
    ec2.terminate_instances(InstanceIds=[machine["InstanceId"]])
    ec2.delete_placement_group(GroupName="one")
    assert names(ec2) == []
    assert code(ec2.delete_placement_group, GroupName="one") == "InvalidPlacementGroup.Unknown"


def test_a_cluster_is_in_one_zone_and_not_for_every_type(ec2, launch):
    ec2.create_placement_group(GroupName="one")
    assert code(launch, group="none") == "InvalidPlacementGroup.Unknown"
    assert code(launch, group="one", InstanceType="t3.micro") == "InvalidParameterCombination"
    launch("one", "us-east-1b")
    assert code(launch, group="one") == "InvalidParameterCombination"
    launch("one", "us-east-1b")
    ec2.create_placement_group(GroupName="apart", Strategy="spread")
    launch("apart", InstanceType="t3.micro")


def test_a_stopped_machine_moves_into_a_group(ec2, launch):
    ec2.create_placement_group(GroupName="one")
    machine = launch()["InstanceId"]
    move = {"InstanceId": machine, "GroupName": "one"}
    assert code(ec2.modify_instance_placement, **move) == "IncorrectInstanceState"
    ec2.stop_instances(InstanceIds=[machine])
    assert ec2.modify_instance_placement(**move)["Return"] is True
    (shown,) = ec2.describe_instances(InstanceIds=[machine])["Reservations"][0]["Instances"]
    assert shown["Placement"]["GroupName"] == "one"
