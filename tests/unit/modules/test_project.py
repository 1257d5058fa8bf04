"""Only ours go, all of ours go, and what is left is said with its reason."""

from __future__ import annotations

from typing import Any

import boto3
import pytest
from ansible_collections.lightsout.aws.plugins.module_utils.resources import KINDS, Resource, Scope
from ansible_collections.lightsout.aws.plugins.module_utils.teardown import delete_one
from ansible_collections.lightsout.aws.plugins.modules import project_info, project_teardown

TRUST = '{"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "s3:GetObject", "Resource": "*"}]}'


def tags(project: str) -> list[dict[str, str]]:
    return [{"Key": "lightsout:project", "Value": project}, {"Key": "Name", "Value": f"lightsout-{project}-machine-1"}]


def furnish(aws, project: str) -> None:
    """One of each kind, tied to each other as in life."""
    ec2, iam, ours = aws.ec2, aws.client("iam"), tags(project)

    def tagged(*kinds: str) -> list[dict[str, Any]]:
        return [{"ResourceType": kind, "Tags": ours} for kind in kinds]

    subnet = ec2.describe_subnets()["Subnets"][0]["SubnetId"]
    group = ec2.create_security_group(
        GroupName=f"lightsout-{project}-access", Description="d", TagSpecifications=tagged("security-group")
    )["GroupId"]
    instance = ec2.run_instances(
        ImageId=aws.ec2.describe_images(Owners=["self"])["Images"][0]["ImageId"],
        MinCount=1,
        MaxCount=1,
        ClientToken=project,
        SecurityGroupIds=[group],
        TagSpecifications=tagged("instance", "volume"),
    )["Instances"][0]["InstanceId"]
    volume = ec2.create_volume(AvailabilityZone="us-east-1a", Size=1, TagSpecifications=tagged("volume"))["VolumeId"]
    snapshot = ec2.create_snapshot(VolumeId=volume)["SnapshotId"]
    interface = ec2.create_network_interface(SubnetId=subnet, Groups=[group])["NetworkInterface"]["NetworkInterfaceId"]
    ec2.create_tags(Resources=[snapshot, interface], Tags=ours)
    address = ec2.allocate_address(Domain="vpc", TagSpecifications=tagged("elastic-ip"))["AllocationId"]
    ec2.associate_address(AllocationId=address, InstanceId=instance)
    ec2.create_placement_group(GroupName=f"lightsout-{project}-group", TagSpecifications=tagged("placement-group"))
    ec2.create_key_pair(KeyName=f"lightsout-{project}-key", TagSpecifications=tagged("key-pair"))
    name, path = f"lightsout-{project}-machine", "/lightsout/us-east-1/"
    iam.create_role(RoleName=name, Path=path, AssumeRolePolicyDocument=TRUST, Tags=ours)
    iam.put_role_policy(RoleName=name, PolicyName="own", PolicyDocument=TRUST)
    iam.create_instance_profile(InstanceProfileName=name, Path=path, Tags=ours)
    iam.add_role_to_instance_profile(InstanceProfileName=name, RoleName=name)
    scheduler = aws.client("scheduler")
    scheduler.create_schedule_group(Name=f"lightsout-{project}", Tags=ours)
    scheduler.create_schedule(
        Name=f"lightsout-{project}-machine-1",
        GroupName=f"lightsout-{project}",
        ScheduleExpression="at(2026-11-23T17:00:00)",
        FlexibleTimeWindow={"Mode": "OFF"},
        Target={"Arn": "arn:aws:scheduler:::aws-sdk:ec2:stopInstances", "RoleArn": f"arn:aws:iam::1:role/{name}"},
    )


def everything(aws) -> dict[str, set[str]]:
    """All that the account holds of the kinds we can delete, ours or not."""
    ec2, iam = aws.ec2, aws.client("iam")
    return {
        "instance": {
            i["InstanceId"]
            for r in ec2.describe_instances()["Reservations"]
            for i in r["Instances"]
            if i["State"]["Name"] != "terminated"
        },
        "volume": {v["VolumeId"] for v in ec2.describe_volumes()["Volumes"]},
        "snapshot": {s["SnapshotId"] for s in ec2.describe_snapshots(OwnerIds=["self"])["Snapshots"]},
        # A machine's own interface goes with it on AWS; moto keeps it, unattached and without a tag.
        "interface": {
            n["NetworkInterfaceId"] for n in ec2.describe_network_interfaces()["NetworkInterfaces"] if n["TagSet"]
        },
        "address": {a["AllocationId"] for a in ec2.describe_addresses()["Addresses"]},
        "group": {g["GroupId"] for g in ec2.describe_security_groups()["SecurityGroups"]},
        "placement": {g["GroupId"] for g in ec2.describe_placement_groups()["PlacementGroups"]},
        "key": {k["KeyPairId"] for k in ec2.describe_key_pairs()["KeyPairs"]},
        "schedule": {s["Name"] for s in aws.client("scheduler").list_schedules()["Schedules"]},
        "schedule group": {g["Name"] for g in aws.client("scheduler").list_schedule_groups()["ScheduleGroups"]},
        "role": {r["RoleName"] for r in iam.list_roles()["Roles"]},
        "profile": {p["InstanceProfileName"] for p in iam.list_instance_profiles()["InstanceProfiles"]},
    }


KINDS_MADE = {
    "instance",
    "address",
    "network_interface",
    "volume",
    "snapshot",
    "security_group",
    "placement_group",
    "key_pair",
    "instance_profile",
    "schedule_group",
    "role",
}


class TestImages:
    def test_images_go_before_the_snapshots_that_they_are_made_of(self, aws, run) -> None:
        image = aws.image("lightsout-images-1")
        (mapping,) = aws.ec2.describe_images(ImageIds=[image])["Images"][0]["BlockDeviceMappings"]
        aws.ec2.create_tags(Resources=[image, mapping["Ebs"]["SnapshotId"]], Tags=tags("images"))
        result = run(project_teardown, project="images")
        assert {r["kind"] for r in result["deleted"]} == {"image", "snapshot"}
        assert [call for call in aws.calls if call.startswith(("Dereg", "Delete"))] == [
            "DeregisterImage",
            "DeleteSnapshot",
        ]


class TestInfo:
    def test_lists_every_kind_of_one_project_and_of_no_other(self, aws, run) -> None:
        furnish(aws, "lab")
        furnish(aws, "other")
        result = run(project_info, project="lab")
        assert {r["kind"] for r in result["resources"]} == KINDS_MADE
        assert {r["project"] for r in result["resources"]} == {"lab"}
        (machine,) = result["machines"]
        assert machine["disk_gib"] == 8 and machine["state"] == "running"

    def test_machines_come_in_the_order_of_their_numbers(self, aws, run) -> None:
        image = aws.ec2.describe_images(Owners=["self"])["Images"][0]["ImageId"]
        for number in (10, 2, 1):
            named = [*tags("lab")[:1], {"Key": "Name", "Value": f"lightsout-lab-machine-{number}"}]
            tagged = [{"ResourceType": "instance", "Tags": named}]
            aws.ec2.run_instances(
                ImageId=image, MinCount=1, MaxCount=1, ClientToken=str(number), TagSpecifications=tagged
            )
        names = [machine["name"] for machine in run(project_info, project="lab")["machines"]]
        assert names == [f"lightsout-lab-machine-{number}" for number in (1, 2, 10)]

    def test_without_a_project_it_counts_those_of_all(self, aws, run) -> None:
        furnish(aws, "lab")
        furnish(aws, "other")
        result = run(project_info)
        assert set(result["projects"]) == {"lab", "other"}

    def test_all_regions_are_looked_in_and_one_that_refuses_hides_no_other(self, aws, run) -> None:
        furnish(aws, "lab")
        far = boto3.client("ec2", region_name="eu-west-3")
        tagged = [{"ResourceType": "volume", "Tags": tags("lab")}]
        volume = far.create_volume(AvailabilityZone="eu-west-3a", Size=1, TagSpecifications=tagged)["VolumeId"]
        assert volume not in {r["id"] for r in run(project_info, project="lab")["resources"]}

        def regions(_request: dict, _go_on: Any) -> dict[str, Any]:
            return {"Regions": [{"RegionName": name} for name in ("us-east-1", "eu-west-3", "ap-south-1")]}

        aws.on("DescribeRegions", regions, times=2)
        result = run(project_info, project="lab", all_regions=True, kinds=["instance", "volume"])
        assert result["regions"] == ["ap-south-1", "eu-west-3", "us-east-1"]
        assert {r["region"] for r in result["resources"]} == {"us-east-1", "eu-west-3"}
        assert result["machines"][0]["region"] == "us-east-1"
        assert volume in {r["id"] for r in result["resources"]}
        # Where a region is not for everyone, credentials that are right elsewhere are refused.
        aws.refuse("DescribeVolumes", "AuthFailure", times=3)
        result = run(project_info, project="lab", all_regions=True, kinds=["instance", "volume"], region="us-west-1")
        assert set(result["unlisted"]) == {f"volumes in {name}" for name in result["regions"]}
        assert [machine["region"] for machine in result["machines"]] == ["us-east-1"]

    def test_a_kind_that_may_not_be_listed_is_said_and_hides_nothing(self, aws, run) -> None:
        furnish(aws, "lab")
        aws.refuse("ListRoles", "AccessDenied")
        result = run(project_info, project="lab")
        assert set(result["unlisted"]) == {"roles in us-east-1"}
        assert "ListRoles" in result["unlisted"]["roles in us-east-1"]
        assert {r["kind"] for r in result["resources"]} == KINDS_MADE - {"role"}

    def test_bad_credentials_are_one_sentence(self, aws, run) -> None:
        aws.refuse("DescribeInstances", "AuthFailure", times=9)
        assert "does not know this access key" in run(project_info, project="lab")["msg"]


class TestTeardown:
    def test_takes_all_of_ours_and_nothing_else(self, aws, run) -> None:
        furnish(aws, "other")
        before = everything(aws)
        furnish(aws, "lab")
        result = run(project_teardown, wait_timeout=5, project="lab")
        assert not result["failed"], result
        assert {r["kind"] for r in result["deleted"]} == KINDS_MADE
        assert result["remaining"] == []
        assert everything(aws) == before

    def test_a_placement_group_goes_after_its_machines(self, aws, run) -> None:
        tagged = [{"ResourceType": kind, "Tags": tags("lab")} for kind in ("placement-group", "instance")]
        aws.ec2.create_placement_group(GroupName="lightsout-lab-group", TagSpecifications=tagged[:1])
        aws.ec2.run_instances(
            ImageId=aws.ec2.describe_images(Owners=["self"])["Images"][0]["ImageId"],
            InstanceType="c5.large",
            MinCount=1,
            MaxCount=1,
            ClientToken="one",
            Placement={"GroupName": "lightsout-lab-group"},
            TagSpecifications=tagged[1:],
        )
        result = run(project_teardown, project="lab")
        assert not result["failed"] and {r["kind"] for r in result["deleted"]} >= {"instance", "placement_group"}
        changing = [call for call in aws.calls if call in ("TerminateInstances", "DeletePlacementGroup")]
        assert changing == ["TerminateInstances", "DeletePlacementGroup"]
        assert aws.ec2.describe_placement_groups()["PlacementGroups"] == []

    def test_a_second_time_changes_nothing(self, aws, run) -> None:
        furnish(aws, "lab")
        run(project_teardown, wait_timeout=5, project="lab")
        aws.calls.clear()
        assert not run(project_teardown, wait_timeout=5, project="lab")["changed"]
        assert all(call.startswith(("Describe", "List")) for call in aws.calls)

    def test_check_mode_lists_and_deletes_nothing(self, aws, run) -> None:
        furnish(aws, "lab")
        before = everything(aws)
        result = run(project_teardown, check=True, wait_timeout=5, project="lab")
        assert result["changed"] and {r["kind"] for r in result["deleted"]} == KINDS_MADE
        assert everything(aws) == before

    def test_a_half_made_project_goes_too(self, aws, run) -> None:
        own = [{"ResourceType": "key-pair", "Tags": tags("lab")}]
        aws.ec2.create_key_pair(KeyName="lightsout-lab-key", TagSpecifications=own)
        assert [r["kind"] for r in run(project_teardown, wait_timeout=5, project="lab")["deleted"]] == ["key_pair"]

    @pytest.mark.parametrize("project", ["", "*", "la?", "Lab", " lab"])
    def test_a_name_that_is_no_project_reaches_no_api(self, aws, run, project) -> None:
        result = run(project_teardown, project=project)
        assert result["failed"] and not aws.calls

    def test_what_is_still_in_use_is_tried_again(self, aws, run) -> None:
        furnish(aws, "lab")
        aws.refuse("DeleteSecurityGroup", "DependencyViolation", times=4)
        aws.refuse("DeleteVolume", "VolumeInUse", times=2)
        assert not run(project_teardown, wait_timeout=60, project="lab")["failed"]

    def test_one_refusal_stops_nothing_else_and_is_reported_with_its_reason(self, aws, run) -> None:
        furnish(aws, "lab")
        aws.refuse("DeleteKeyPair", "UnauthorizedOperation", times=99, message="You may not delete key pairs.")
        result = run(project_teardown, wait_timeout=5, project="lab")
        assert result["failed"]
        (left,) = result["remaining"]
        assert left["kind"] == "key_pair" and "You may not delete key pairs" in left["reason"]
        assert "1 resource of project lab left" in result["msg"]
        assert {r["kind"] for r in result["deleted"]} == KINDS_MADE - {"key_pair"}

    def test_a_protected_machine_is_left_and_named_and_ends_in_bounded_time(self, aws, run) -> None:
        furnish(aws, "lab")
        (machine,) = aws.machines()
        aws.ec2.modify_instance_attribute(InstanceId=machine["InstanceId"], DisableApiTermination={"Value": True})
        aws.refuse("DeleteSecurityGroup", "DependencyViolation", times=99)
        result = run(project_teardown, wait_timeout=5, project="lab")
        assert result["failed"] and machine["InstanceId"] in result["msg"]
        assert len(aws.machines()) == 1
        assert {"role", "key_pair", "snapshot"} <= {r["kind"] for r in result["deleted"]}

    def test_a_list_that_is_not_complete_proves_nothing(self, aws, run) -> None:
        aws.refuse("ListRoles", "AccessDenied", times=99)
        result = run(project_teardown, wait_timeout=5, project="lab")
        assert result["failed"] and "nobody knows about roles" in result["msg"]
        assert not run(project_teardown, wait_timeout=5, project="lab", exclude_kinds=["role"])["failed"]

    def test_a_persistent_spot_request_is_cancelled_before_its_machine_goes(self, aws, run) -> None:
        furnish(aws, "lab")
        requests = {
            "SpotInstanceRequests": [{"SpotInstanceRequestId": "sir-1", "State": "active", "Tags": tags("lab")}]
        }
        gone: dict[str, list] = {"SpotInstanceRequests": []}
        aws.on("DescribeSpotInstanceRequests", lambda *_: requests)
        aws.on("DescribeSpotInstanceRequests", lambda *_: gone, times=0)
        aws.on("CancelSpotInstanceRequests", lambda *_: {})
        assert not run(project_teardown, wait_timeout=5, project="lab")["failed"]
        assert aws.calls.index("CancelSpotInstanceRequests") < aws.calls.index("TerminateInstances")

    def test_a_thing_of_another_project_is_refused_at_the_last_moment(self, aws) -> None:
        """Whatever a fault in the listing might bring, the tag is compared before each deletion."""
        stranger = Resource("key_pair", "key-1", "k", "other", "us-east-1", tags={"lightsout:project": "other"})
        with pytest.raises(PermissionError, match="not ours"):
            delete_one(Scope(aws.client, "us-east-1", "lab"), stranger)
        assert "DeleteKeyPair" not in aws.calls


def test_every_kind_waits_only_for_kinds_that_exist_and_no_kind_for_itself() -> None:
    for name, kind in KINDS.items():
        assert set(kind.after) <= set(KINDS) - {name}
