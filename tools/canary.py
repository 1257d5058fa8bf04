"""Things on the local cloud that are wrong in every way we look for: they prove that each judge can fail here."""

from __future__ import annotations

import base64
import json
import secrets
import string
import zlib
from collections.abc import Callable
from typing import Any

PROJECT = "canary"
#: Of administrators, databases and others that nobody shows to the world.
PORTS = (20, 21, 22, 23, 25, 110, 135, 143, 445, 1433, 1434, 1521, 2483, 3000, 3306, 3389, 4333, 5000, 5432, 5500, 5601)
PORTS += (6379, 7199, 8080, 8088, 8888, 9092, 9160, 9200, 9300, 11211, 27017, 27018)
SERVICES = ["ec2.amazonaws.com", "sagemaker.amazonaws.com"]
TAGS = [{"Key": "lightsout:project", "Value": PROJECT}]


def tagged(kind: str) -> list[dict[str, Any]]:
    """For EC2's create calls."""
    return [{"ResourceType": kind, "Tags": TAGS}]


def token() -> str:
    """A secret that scanners know: like a GitHub token, whose last six letters are the checksum of the others."""
    letters = string.digits + string.ascii_uppercase + string.ascii_lowercase
    random = "".join(secrets.choice(letters) for _ in range(30))
    number, end = zlib.crc32(random.encode()), ""
    for _ in range(6):
        number, rest = divmod(number, 62)
        end = letters[rest] + end
    return f"ghp_{random}{end}"


def make(client: Callable[[str], Any], image: str) -> None:
    """Make them.

    Args:
        client: makes boto3 clients of the local cloud.
        image: what the machine boots from.
    """
    ec2, iam = client("ec2"), client("iam")
    vpc = ec2.describe_vpcs(Filters=[{"Name": "isDefault", "Values": ["true"]}])["Vpcs"][0]["VpcId"]
    subnets = [one["SubnetId"] for one in ec2.describe_subnets()["Subnets"]]

    def group(name: str, *rules: tuple[str, int, int, str]) -> str:
        made = ec2.create_security_group(
            GroupName=name, Description="wrong", VpcId=vpc, TagSpecifications=tagged("security-group")
        )
        permissions = [
            {"IpProtocol": protocol, "FromPort": first, "ToPort": last, "IpRanges": [{"CidrIp": source}]}
            for protocol, first, last, source in rules
        ]
        ec2.authorize_security_group_ingress(GroupId=made["GroupId"], IpPermissions=permissions)
        return made["GroupId"]

    # A judge that sees a group which is open everywhere does not look for single ports in it: they are in others.
    used = group("canary-used", ("-1", -1, -1, "0.0.0.0/0"), ("tcp", 0, 65535, "0.0.0.0/0"))
    group("canary-unused", ("-1", -1, -1, "0.0.0.0/0"))
    group("canary-many", *(("tcp", port, port, "192.0.2.1/32") for port in range(1000, 1060)))
    ports = group("launch-wizard-1", *(("tcp", port, port, "0.0.0.0/0") for port in PORTS))
    wide = group("canary-wide", ("tcp", 22, 22, "80.0.0.0/4"))

    trust = {"Effect": "Allow", "Principal": {"Service": SERVICES}, "Action": "sts:AssumeRole"}
    role = iam.create_role(
        RoleName="lightsout-canary-machine",
        Path="/lightsout/us-east-1/",
        AssumeRolePolicyDocument=json.dumps({"Version": "2012-10-17", "Statement": [trust]}),
        Tags=TAGS,
    )["Role"]["Arn"]
    everything = {"Effect": "Allow", "Action": "*", "Resource": "*"}
    iam.put_role_policy(
        RoleName="lightsout-canary-machine",
        PolicyName="everything",
        PolicyDocument=json.dumps({"Version": "2012-10-17", "Statement": [everything]}),
    )
    iam.create_role(
        RoleName="lightsout-canary-stop",
        Path="/lightsout/us-east-1/",
        AssumeRolePolicyDocument=json.dumps(
            {"Version": "2012-10-17", "Statement": [{**trust, "Principal": {"Service": "scheduler.amazonaws.com"}}]}
        ),
        Tags=TAGS,
    )
    # Not below our path, and with a policy that it shares with others.
    iam.create_role(
        RoleName="lightsout-canary-stray",
        AssumeRolePolicyDocument=json.dumps({"Version": "2012-10-17", "Statement": [trust]}),
        Tags=TAGS,
    )
    shared = iam.create_policy(
        PolicyName="canary-shared", PolicyDocument=json.dumps({"Version": "2012-10-17", "Statement": [everything]})
    )["Policy"]["Arn"]
    iam.attach_role_policy(RoleName="lightsout-canary-stray", PolicyArn=shared)
    climbing = {"Effect": "Allow", "Action": ["iam:PutRolePolicy", "iam:AttachRolePolicy"], "Resource": "*"}
    iam.put_role_policy(
        RoleName="lightsout-canary-stop",
        PolicyName="climbing",
        PolicyDocument=json.dumps({"Version": "2012-10-17", "Statement": [climbing]}),
    )
    image_device = ec2.describe_images(ImageIds=[image])["Images"][0]["RootDeviceName"]
    ec2.run_instances(
        ImageId=image,
        InstanceType="t3.small",
        MinCount=1,
        MaxCount=1,
        UserData=f"#!/bin/sh\nexport GITHUB_TOKEN={token()}\n",
        NetworkInterfaces=[
            {"DeviceIndex": number, "SubnetId": subnets[0], "Groups": [ports, wide] if number else [used]}
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
    sagemaker = client("sagemaker")
    script = base64.b64encode(f"export GITHUB_TOKEN={token()}\n".encode()).decode()
    sagemaker.create_notebook_instance_lifecycle_config(
        NotebookInstanceLifecycleConfigName="canary", OnStart=[{"Content": script}]
    )
    sagemaker.create_notebook_instance(
        NotebookInstanceName="canary",
        InstanceType="ml.t3.medium",
        RoleArn=role,
        DirectInternetAccess="Enabled",
        RootAccess="Enabled",
        LifecycleConfigName="canary",
        PlatformIdentifier="notebook-al2-v2",
        InstanceMetadataServiceConfiguration={"MinimumInstanceMetadataServiceVersion": "1"},
        Tags=TAGS,
    )
    sagemaker.create_domain(
        DomainName="canary",
        AuthMode="IAM",
        AppNetworkAccessType="PublicInternetOnly",
        DefaultUserSettings={"ExecutionRole": role},
        VpcId=vpc,
        SubnetIds=subnets[:1],
        Tags=TAGS,
    )
