"""A sweep finds what nobody uses, calls nothing so that is used or young, and deletes only what it has shown."""

from __future__ import annotations

from typing import Any

import boto3
import pytest
from ansible_collections.lightsout.aws.plugins.modules import project_sweep

from tests.unit.modules.test_project import everything, furnish, tags

NOW = {"min_age": "0s", "all_regions": False}


def volume(aws, project: str) -> str:
    """A disk without a machine."""
    tagged = [{"ResourceType": "volume", "Tags": tags(project)}]
    return aws.ec2.create_volume(AvailabilityZone="us-east-1a", Size=30, TagSpecifications=tagged)["VolumeId"]


def key(aws, project: str) -> str:
    """A key pair."""
    tagged = [{"ResourceType": "key-pair", "Tags": tags(project)}]
    return aws.ec2.create_key_pair(KeyName=f"lightsout-{project}-key", TagSpecifications=tagged)["KeyPairId"]


def machine(aws, project: str) -> str:
    """A machine of a project."""
    tagged = [{"ResourceType": "instance", "Tags": tags(project)}]
    image = aws.ec2.describe_images(Owners=["self"])["Images"][0]["ImageId"]
    made = aws.ec2.run_instances(ImageId=image, MinCount=1, MaxCount=1, ClientToken=project, TagSpecifications=tagged)
    return made["Instances"][0]["InstanceId"]


def found(result: dict[str, Any]) -> dict[str, str]:
    """Why each thing is left over, by its id."""
    return {one["id"]: one["why"] for one in result["leftovers"]}


def test_of_a_project_without_a_machine_everything_is_left_over(aws, run) -> None:
    ids = {volume(aws, "dead"), key(aws, "dead")}
    result = run(project_sweep, **NOW)
    assert set(found(result)) == ids and set(found(result).values()) == {"its project has no machine any more"}
    assert result["cost_month"] == pytest.approx(30 * 0.08)
    assert result["deleted"] == [] and not result["changed"]


def test_of_a_project_with_a_machine_only_what_nothing_uses(aws, run) -> None:
    furnish(aws, "lab")
    aws.ec2.stop_instances(InstanceIds=[machine["InstanceId"] for machine in aws.machines()])
    extra, address = volume(aws, "lab"), aws.ec2.allocate_address(Domain="vpc")["AllocationId"]
    aws.ec2.create_tags(Resources=[address], Tags=tags("lab"))
    result = found(run(project_sweep, **NOW))
    assert result[extra] == result[address] == "no machine has it"
    kinds = {one.split("-")[0] for one in result}
    assert kinds == {"vol", "eipalloc", "eni", "snap"}, result  # furnish leaves a loose disk, interface and snapshot


def test_an_image_keeps_its_project_and_its_snapshot(aws, run) -> None:
    image = aws.image("lightsout-images-1")
    (mapping,) = aws.ec2.describe_images(ImageIds=[image])["Images"][0]["BlockDeviceMappings"]
    snapshot = mapping["Ebs"]["SnapshotId"]
    aws.ec2.create_tags(Resources=[image, snapshot], Tags=tags("images"))
    loose = aws.ec2.create_snapshot(VolumeId=volume(aws, "images"))["SnapshotId"]
    aws.ec2.create_tags(Resources=[loose], Tags=tags("images"))
    result = found(run(project_sweep, **NOW))
    assert result[loose] == "no image is made of it any more"
    assert image not in result and snapshot not in result


def test_what_is_young_is_left_alone_and_named(aws, run) -> None:
    key(aws, "making")
    result = run(project_sweep, min_age="1h", all_regions=False)
    assert (result["leftovers"], result["young"]) == ([], ["making"])


def test_other_peoples_things_are_never_seen(aws, run) -> None:
    aws.ec2.create_volume(AvailabilityZone="us-east-1a", Size=1)
    aws.ec2.create_key_pair(KeyName="mine")
    assert run(project_sweep, **NOW)["leftovers"] == []


def test_every_region_is_swept(aws, run) -> None:
    far = boto3.client("ec2", region_name="eu-central-1")
    tagged = [{"ResourceType": "key-pair", "Tags": tags("dead")}]
    far.create_key_pair(KeyName="lightsout-dead-key", TagSpecifications=tagged)
    result = run(project_sweep, min_age="0s")
    assert [one["region"] for one in result["leftovers"]] == ["eu-central-1"]
    assert len(result["regions"]) > 10


def test_roles_and_profiles_of_a_living_project_are_not_left_over_in_other_regions(aws, run) -> None:
    """IAM is one for all regions, and moto lists the profiles of every path."""
    furnish(aws, "lab")
    result = run(project_sweep, min_age="0s")
    assert {one["region"] for one in result["leftovers"]} == {"us-east-1"}
    assert not {"role", "instance_profile"} & {one["kind"] for one in result["leftovers"]}


def test_only_what_was_shown_is_deleted_and_nothing_when_nobody_asked(aws, run) -> None:
    shown, later = volume(aws, "dead"), volume(aws, "dead")
    before = everything(aws)
    run(project_sweep, **NOW)
    predicted = run(project_sweep, check=True, delete=True, **NOW)
    assert predicted["changed"] and {one["id"] for one in predicted["deleted"]} == {shown, later}
    assert run(project_sweep, delete=True, only=[], **NOW)["deleted"] == []
    assert everything(aws) == before
    result = run(project_sweep, delete=True, only=[shown], **NOW)
    assert [one["id"] for one in result["deleted"]] == [shown] and result["changed"]
    assert everything(aws)["volume"] == before["volume"] - {shown}


def test_what_cannot_be_deleted_is_said_with_its_reason(aws, run) -> None:
    group = key(aws, "dead")
    aws.refuse("DeleteKeyPair", "UnauthorizedOperation", times=9, message="You are not authorized.")
    result = run(project_sweep, delete=True, **NOW)
    assert result["failed"] and group in result["msg"] and "not authorized" in result["msg"]


def test_where_machines_cannot_be_listed_nothing_is_called_left_over(aws, run) -> None:
    key(aws, "dead")
    aws.refuse("DescribeInstances", "UnauthorizedOperation", times=9)
    result = run(project_sweep, **NOW)
    assert result["leftovers"] == [] and any("machines in us-east-1" in place for place in result["unlisted"])


@pytest.mark.parametrize(
    ("given", "told"),
    [({"min_age": "soon"}, "min_age is 'soon'"), ({"project": "Not A Name"}, "is not a project name")],
)
def test_bad_input_is_refused_before_any_call(aws, run, given, told) -> None:
    result = run(project_sweep, **given)
    assert result["failed"] and told in result["msg"] and aws.calls == []
