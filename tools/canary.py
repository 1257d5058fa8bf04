"""Things on the local cloud that are wrong in every way we look for: they prove that each judge can fail here."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

PROJECT = "canary"
TAGS = [{"Key": "lightsout:project", "Value": PROJECT}]


def tagged(kind: str) -> list[dict[str, Any]]:
    """For EC2's create calls."""
    return [{"ResourceType": kind, "Tags": TAGS}]


def make(client: Callable[[str], Any], image: str) -> None:
    """Make them.

    Args:
        client: makes boto3 clients of the local cloud.
        image: what the machine boots from.
    """
    ec2, iam = client("ec2"), client("iam")
    vpc = ec2.describe_vpcs(Filters=[{"Name": "isDefault", "Values": ["true"]}])["Vpcs"][0]["VpcId"]
    subnets = [one["SubnetId"] for one in ec2.describe_subnets()["Subnets"]]

    def group(name: str) -> str:
        made = ec2.create_security_group(
            GroupName=name, Description="wrong", VpcId=vpc, TagSpecifications=tagged("security-group")
        )
        everything = {"IpProtocol": "-1", "FromPort": -1, "ToPort": -1, "IpRanges": [{"CidrIp": "0.0.0.0/0"}]}
        every_port = {"IpProtocol": "tcp", "FromPort": 0, "ToPort": 65535, "IpRanges": [{"CidrIp": "0.0.0.0/0"}]}
        ec2.authorize_security_group_ingress(GroupId=made["GroupId"], IpPermissions=[everything, every_port])
        return made["GroupId"]

    used, _unused = group("canary-used"), group("canary-unused")
    trust = {"Effect": "Allow", "Principal": {"Service": "ec2.amazonaws.com"}, "Action": "sts:AssumeRole"}
    iam.create_role(
        RoleName="lightsout-canary-machine",
        Path="/lightsout/us-east-1/",
        AssumeRolePolicyDocument=json.dumps({"Version": "2012-10-17", "Statement": [trust]}),
        Tags=TAGS,
    )
    everything = {"Effect": "Allow", "Action": "*", "Resource": "*"}
    iam.put_role_policy(
        RoleName="lightsout-canary-machine",
        PolicyName="everything",
        PolicyDocument=json.dumps({"Version": "2012-10-17", "Statement": [everything]}),
    )
    image_device = ec2.describe_images(ImageIds=[image])["Images"][0]["RootDeviceName"]
    ec2.run_instances(
        ImageId=image,
        InstanceType="t3.small",
        MinCount=1,
        MaxCount=1,
        UserData="#!/bin/sh\nexport AWS_SECRET_ACCESS_KEY=wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY\n",
        NetworkInterfaces=[
            {"DeviceIndex": number, "SubnetId": subnets[0], "Groups": [used]}
            | ({"AssociatePublicIpAddress": True} if not number else {})
            for number in range(2)
        ],
        BlockDeviceMappings=[
            {"DeviceName": image_device, "Ebs": {"DeleteOnTermination": False, "Encrypted": False, "VolumeSize": 30}}
        ],
        MetadataOptions={"HttpTokens": "optional", "HttpPutResponseHopLimit": 2, "HttpEndpoint": "enabled"},
        TagSpecifications=tagged("instance") + tagged("volume"),
    )
    zone = ec2.describe_availability_zones()["AvailabilityZones"][0]["ZoneName"]
    ec2.create_volume(AvailabilityZone=zone, Size=1, Encrypted=False, TagSpecifications=tagged("volume"))
    client("sagemaker").create_notebook_instance(
        NotebookInstanceName="canary",
        InstanceType="ml.t3.medium",
        RoleArn="arn:aws:iam::123456789012:role/lightsout/us-east-1/lightsout-canary-machine",
        DirectInternetAccess="Enabled",
        RootAccess="Enabled",
        Tags=TAGS,
    )
