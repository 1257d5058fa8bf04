"""A project in which everything is wrong: a judge that does not fail it proves nothing."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from judges.estate import TAG

PROJECT = "canary"
TAGS = [{"Key": TAG, "Value": PROJECT}]
NAME = "canary"
#: Anybody's; nobody logs in.
PUBLIC_KEY = b"ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJX2vEwRCe4C9ZVYpOJKLHVlkoQFWQX5sOLjVPGUtRLl canary"
EVERYBODY = {"IpRanges": [{"CidrIp": "0.0.0.0/0"}], "Ipv6Ranges": [{"CidrIpv6": "::/0"}]}
#: ssh, telnet, RDP, MySQL: admin's, high-risk, and any.
PORTS = (22, 23, 3389, 3306)
ANYTHING = json.dumps({"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "*", "Resource": "*"}]})
TRUST = json.dumps(
    {
        "Version": "2012-10-17",
        "Statement": [
            {
                "Effect": "Allow",
                "Principal": {"Service": ["ec2.amazonaws.com", "sagemaker.amazonaws.com"]},
                "Action": "sts:AssumeRole",
            }
        ],
    }
)


def tagged(kind: str) -> list[dict[str, Any]]:
    """For a call of EC2's that makes something of a kind."""
    return [{"ResourceType": kind, "Tags": TAGS}]


def plant(client: Callable[[str], Any]) -> None:
    """Make all of it, with clients of the local cloud; it ends with the cloud."""
    machine(client("ec2"), role(client("iam")))


def role(iam: Any) -> str:
    """A role that may do everything, and the profile of the same name; its ARN."""
    made = iam.create_role(RoleName=NAME, AssumeRolePolicyDocument=TRUST, Tags=TAGS)["Role"]["Arn"]
    iam.put_role_policy(RoleName=NAME, PolicyName=NAME, PolicyDocument=ANYTHING)
    managed = iam.create_policy(PolicyName="canary-managed", PolicyDocument=ANYTHING)["Policy"]["Arn"]
    for policy in (managed, "arn:aws:iam::aws:policy/AdministratorAccess"):
        iam.attach_role_policy(RoleName=NAME, PolicyArn=policy)
    iam.create_instance_profile(InstanceProfileName=NAME)
    iam.add_role_to_instance_profile(InstanceProfileName=NAME, RoleName=NAME)
    return made


def machine(ec2: Any, role: str) -> None:
    """A machine that is open to the world, allows IMDSv1 and leaves its plain disk behind; and an unused group."""
    groups = {
        name: ec2.create_security_group(GroupName=name, Description=name, TagSpecifications=tagged("security-group"))
        for name in ("canary-ports", "canary-all", "canary-unused")
    }
    ids = {name: group["GroupId"] for name, group in groups.items()}
    some = [{"IpProtocol": "tcp", "FromPort": port, "ToPort": port, **EVERYBODY} for port in PORTS]
    ec2.authorize_security_group_ingress(GroupId=ids["canary-ports"], IpPermissions=some)
    ec2.authorize_security_group_ingress(GroupId=ids["canary-all"], IpPermissions=[{"IpProtocol": "-1", **EVERYBODY}])
    (default,) = ec2.describe_security_groups(Filters=[{"Name": "group-name", "Values": ["default"]}])["SecurityGroups"]

    ec2.import_key_pair(KeyName=NAME, PublicKeyMaterial=PUBLIC_KEY)  # no tag
    (image,) = ec2.describe_images(Filters=[{"Name": "name", "Values": ["ubuntu*24.04*amd64*"]}])["Images"]
    disk = {"Encrypted": False, "DeleteOnTermination": False, "VolumeSize": 10}
    (made,) = ec2.run_instances(
        ImageId=image["ImageId"],
        MinCount=1,
        MaxCount=1,
        InstanceType="t3.medium",
        KeyName=NAME,
        SecurityGroupIds=[ids["canary-ports"], ids["canary-all"], default["GroupId"]],
        IamInstanceProfile={"Arn": role.replace(":role/", ":instance-profile/")},
        MetadataOptions={"HttpTokens": "optional", "HttpPutResponseHopLimit": 2, "HttpEndpoint": "enabled"},
        BlockDeviceMappings=[{"DeviceName": image["RootDeviceName"], "Ebs": disk}],
        TagSpecifications=[*tagged("instance"), *tagged("volume")],
    )["Instances"]
    second = ec2.create_network_interface(SubnetId=made["SubnetId"])["NetworkInterface"]["NetworkInterfaceId"]
    ec2.attach_network_interface(NetworkInterfaceId=second, InstanceId=made["InstanceId"], DeviceIndex=1)


def left_overs(ec2: Any) -> None:
    """What a careless teardown leaves: an address that nothing uses, and a snapshot that everybody may read."""
    ec2.allocate_address(Domain="vpc", TagSpecifications=tagged("elastic-ip"))
    (volume,) = ec2.describe_volumes(Filters=[{"Name": f"tag:{TAG}", "Values": [PROJECT]}])["Volumes"]
    snapshot = ec2.create_snapshot(VolumeId=volume["VolumeId"], TagSpecifications=tagged("snapshot"))["SnapshotId"]
    ec2.modify_snapshot_attribute(
        SnapshotId=snapshot, Attribute="createVolumePermission", OperationType="add", GroupNames=["all"]
    )


def notebook(sagemaker: Any, role: str) -> None:
    """A notebook on the open internet whose user is root, on an old platform, and whose disk has nobody's key."""
    sagemaker.create_notebook_instance(
        NotebookInstanceName=NAME,
        InstanceType="ml.t3.medium",
        RoleArn=role,
        DirectInternetAccess="Enabled",
        RootAccess="Enabled",
        PlatformIdentifier="notebook-al2-v2",
        InstanceMetadataServiceConfiguration={"MinimumInstanceMetadataServiceVersion": "1"},
        Tags=TAGS,
    )
