"""One of each thing that a project can leave behind: what a teardown or a sweep must be allowed to delete."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

#: What is attached to the role; any policy of AWS's own.
MANAGED = "arn:aws:iam::aws:policy/AmazonS3ReadOnlyAccess"


def leave(client: Callable[[str], Any], project: str, *, image: bool) -> None:
    """Make them.

    Args:
        client: gives the boto3 client of a service.
        project: whose tag they get.
        image: whether there is one, too. It keeps its project from being swept.
    """
    ec2, iam, name = client("ec2"), client("iam"), f"lightsout-{project}-stray"
    tags = [{"Key": "lightsout:project", "Value": project}]

    def tagged(kind: str) -> dict[str, Any]:
        return {"TagSpecifications": [{"ResourceType": kind, "Tags": tags}]}

    subnet = ec2.describe_subnets()["Subnets"][0]
    group = ec2.create_security_group(GroupName=name, Description=name, **tagged("security-group"))["GroupId"]
    interface = ec2.create_network_interface(
        SubnetId=subnet["SubnetId"], Groups=[group], **tagged("network-interface")
    )["NetworkInterface"]["NetworkInterfaceId"]
    address = ec2.allocate_address(Domain="vpc", **tagged("elastic-ip"))["AllocationId"]
    ec2.associate_address(AllocationId=address, NetworkInterfaceId=interface)
    disk = ec2.create_volume(AvailabilityZone=subnet["AvailabilityZone"], Size=1, **tagged("volume"))["VolumeId"]
    snapshot = ec2.create_snapshot(VolumeId=disk, **tagged("snapshot"))["SnapshotId"]
    if image:
        mapping = {"DeviceName": "/dev/sda1", "Ebs": {"SnapshotId": snapshot}}
        made = ec2.register_image(Name=name, RootDeviceName="/dev/sda1", BlockDeviceMappings=[mapping])["ImageId"]
        ec2.create_tags(Resources=[made], Tags=tags)
    ec2.create_placement_group(GroupName=name, Strategy="cluster", **tagged("placement-group"))
    ec2.create_key_pair(KeyName=name, **tagged("key-pair"))

    trust = {"Effect": "Allow", "Principal": {"Service": "ec2.amazonaws.com"}, "Action": "sts:AssumeRole"}
    allowed = {"Effect": "Allow", "Action": "ec2:DescribeInstances", "Resource": "*"}
    document, own = (json.dumps({"Version": "2012-10-17", "Statement": [one]}) for one in (trust, allowed))
    iam.create_role(RoleName=name, Path="/lightsout/us-east-1/", AssumeRolePolicyDocument=document, Tags=tags)
    iam.attach_role_policy(RoleName=name, PolicyArn=MANAGED)
    iam.put_role_policy(RoleName=name, PolicyName=name, PolicyDocument=own)
    iam.create_instance_profile(InstanceProfileName=name, Path="/lightsout/us-east-1/", Tags=tags)
    iam.add_role_to_instance_profile(InstanceProfileName=name, RoleName=name)
    client("scheduler").create_schedule_group(Name=name, Tags=tags)
